"""The Lambda function: continues a prompt; the model is loaded while Lambda starts it up."""

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Any

from pianoai.runtime import midi, model, sampling
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import TICKS_PER_BEAT, Notes, Roll, notes_to_roll, read_frames, roll_to_notes

MOST_FRAMES = 2048  # in one answer
MOST_MIDI = 128 * 1024  # bytes; reading them takes some 130 times as much memory
MOST_NOTES = 20_000  # in one answer: 1.6 MB of the 6 that Lambda sends, and some 30 of its memory
FIELDS = ("prompt", "frames", "temperature", "seed")

MODEL = model.load(Path(os.environ.get("PIANOAI_MODEL") or Path(__file__).with_name("model.ts")))


def lambda_handler(event: Any, context: object) -> dict[str, Any]:
    """The music that follows ``prompt``, or ``{"error": one line, "field": the field at fault}``.

    ``prompt``: a list of frames, each a list of MIDI pitches, or a MIDI file in base64, or absent.
    ``frames``: how many to add (128). ``temperature`` (0.9). ``seed``: drawn when absent. The answer
    has ``notes`` (start and duration in beats; without the prompt), the same as ``midi`` in base64,
    ``frames``, ``seed``, and ``tempo`` in quarter notes a minute.
    """
    try:
        return answer(event)
    except InputError as error:
        # Every message begins with the name of the field.
        field = re.match(r"\w+", str(error))
        return {"error": str(error), "field": field[0] if field else "event"}


def answer(event: Any) -> dict[str, Any]:
    """The answer to a valid event. Raises InputError that begins with the name of the field at fault."""
    if not isinstance(event, dict):
        raise InputError(f"event must be a JSON object with some of {', '.join(FIELDS)}")
    for name in event:
        if name not in FIELDS:
            raise InputError(f"event has the unknown field {name!r}; known are {', '.join(FIELDS)}")
    frames = event.get("frames", 128)
    if type(frames) is int and frames > MOST_FRAMES:
        raise InputError(f"frames must be at most {MOST_FRAMES} in one answer, not {frames}")
    temperature = event.get("temperature", sampling.TEMPERATURE)
    seed = event.get("seed")
    if seed is None:
        seed = sampling.new_seed()
    sampling.check(frames, temperature, seed)
    prompt, tempo = read_prompt(event.get("prompt"))
    roll = sampling.generate(MODEL, prompt, frames, temperature, seed)
    notes = roll_to_notes(sampling.alone(prompt, roll), MODEL.metadata.frames_per_beat)
    if len(notes) > MOST_NOTES:
        raise InputError(
            f"frames: {frames} frames came to {len(notes)} notes, more than the {MOST_NOTES} that fit in one"
            " answer; ask for fewer frames or a lower temperature"
        )
    return {
        "notes": [
            {
                "pitch": pitch,
                "start": start / TICKS_PER_BEAT,
                "duration": duration / TICKS_PER_BEAT,
                "velocity": velocity,
            }
            for start, duration, pitch, velocity in notes.tolist()
        ],
        "midi": base64.b64encode(midi.write(notes, tempo)).decode("ascii"),
        "frames": frames,
        "seed": seed,
        "tempo": tempo,
    }


def read_prompt(prompt: Any) -> tuple[Roll | None, float]:
    """The part of the prompt that the model hears, and its tempo. Raises InputError about "prompt"."""
    heard = sampling.PROMPT_WINDOWS * MODEL.metadata.window
    if prompt is None:
        return None, midi.DEFAULT_TEMPO
    if isinstance(prompt, list) and len(prompt) > heard:
        raise InputError(f"prompt has {len(prompt)} frames; send the last {heard}, the model hears no more")
    if not isinstance(prompt, str):
        return read_frames(prompt), midi.DEFAULT_TEMPO
    if len(prompt) > MOST_MIDI * 4 // 3:
        raise InputError(f"prompt must be a MIDI file of at most {MOST_MIDI} bytes")
    try:
        data = base64.b64decode(prompt, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("prompt must be a list of frames or a MIDI file in base64") from None
    notes, tempo = midi.read(data, "prompt")
    return notes_to_roll(last(notes, heard), MODEL.metadata.frames_per_beat), tempo


def last(notes: Notes, frames: int) -> Notes:
    """The notes that sound in the last `frames` frames, so that a long file does not fill the memory."""
    ticks = TICKS_PER_BEAT // MODEL.metadata.frames_per_beat
    end = notes["start"] + notes["duration"]
    # Whole beats are cut off, so that the notes stay where they are on the grid.
    cut = max(0, int(end.max()) // TICKS_PER_BEAT - frames * ticks // TICKS_PER_BEAT - 1) * TICKS_PER_BEAT
    kept: Notes = notes[end > cut]
    shifted = kept["start"].clip(min=cut)
    kept["duration"] -= shifted - kept["start"]
    kept["start"] = shifted - cut
    return kept
