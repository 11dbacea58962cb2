"""The three forms of a prompt: frames of pitches, notes in beats, a MIDI file in base64."""

import base64
import binascii
import math
import re
from typing import Any

import numpy as np

from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.runtime.events import RequestError
from pianoai.runtime.model import Metadata
from pianoai.runtime.roll import (
    DEFAULT_VELOCITY,
    LOUDEST,
    LOWEST_PITCH,
    PITCHES,
    TICKS_PER_BEAT,
    Notes,
    Roll,
    make_notes,
    notes_to_roll,
    read_frames,
)
from pianoai.runtime.sampling import PROMPT_WINDOWS, shown
from pianoai.runtime.token import ending

MOST_FRAMES = 16_384  # of a prompt, however few of them are heard
MOST_NOTES = 8192
FASTEST = 1000  # quarter notes a minute
SLOWEST = 4
MOST_PITCHES = 100_000  # in all frames of a prompt together
MOST_MIDI = 48 * 1024  # bytes: any 48 KB are refused within 50 ms, and reading them takes some 5 MB
NOTE_FIELDS = ("pitch", "start", "duration", "velocity", "tied")
FORMS = "send a list of frames, each a list of pitches; a list of notes; or a MIDI file in base64"


def read(prompt: Any, metadata: Metadata) -> tuple[Roll, float]:
    """The part of a prompt that the model hears ``(n, 88)``, and its tempo, or the nearest that an answer may have.

    Raises RequestError.
    """
    heard = PROMPT_WINDOWS * metadata.window
    if prompt is None or prompt == []:
        return np.zeros((0, PITCHES), np.uint8), midi.DEFAULT_TEMPO
    if isinstance(prompt, str):
        notes, tempo = _midi(prompt)
    elif isinstance(prompt, list) and isinstance(prompt[0], dict):
        notes, tempo = _notes(prompt), midi.DEFAULT_TEMPO
    elif isinstance(prompt, list):
        return ending(_frames(prompt), heard), midi.DEFAULT_TEMPO
    else:
        raise RequestError(400, "prompt", f"prompt is {shown(prompt)}", FORMS)
    frames = notes_to_roll(last(notes, heard, metadata.frames_per_beat), metadata.frames_per_beat)
    return ending(frames, heard), min(max(tempo, SLOWEST), FASTEST)


def last(notes: Notes, frames: int, frames_per_beat: int) -> Notes:
    """The notes that sound in the last `frames` frames, so that a long piece does not fill the memory."""
    ticks = TICKS_PER_BEAT // frames_per_beat
    end = notes["start"] + notes["duration"]
    # Whole beats are cut off, so that the notes stay where they are on the grid.
    cut = max(0, int(end.max()) // TICKS_PER_BEAT - frames * ticks // TICKS_PER_BEAT - 1) * TICKS_PER_BEAT
    kept: Notes = notes[end > cut]
    shifted = kept["start"].clip(min=cut)
    kept["duration"] -= shifted - kept["start"]
    kept["start"] = shifted - cut
    return kept


def _frames(prompt: list[Any]) -> Roll:
    if len(prompt) > MOST_FRAMES:
        raise RequestError(
            400, "prompt", f"prompt has {len(prompt)} frames", f"send the last {MOST_FRAMES}, or fewer: see limits"
        )
    if sum(len(frame) for frame in prompt if isinstance(frame, list)) > MOST_PITCHES:
        raise RequestError(400, "prompt", f"prompt has over {MOST_PITCHES} pitches", "send its end only")
    try:
        return read_frames(prompt)
    except InputError as error:
        # The message begins with the frame: prompt[3] must be …
        where = re.match(r"prompt(\[\d+\])?", str(error))
        assert where is not None
        raise RequestError(400, where[0], str(error), FORMS) from None


def _notes(prompt: list[Any]) -> Notes:
    """Notes {pitch, start, duration, velocity} with times in beats, in ticks; those of an answer will do."""
    if len(prompt) > MOST_NOTES:
        raise RequestError(400, "prompt", f"prompt has {len(prompt)} notes", f"send the last {MOST_NOTES} at most")
    return make_notes([_note(note, f"prompt[{at}]") for at, note in enumerate(prompt)])


def _note(note: Any, where: str) -> tuple[int, int, int, int]:
    if not isinstance(note, dict):
        raise RequestError(
            400, where, f"{where} is {shown(note)}", "send a list of notes or a list of frames, not both"
        )
    for name in note:
        if name not in NOTE_FIELDS:
            raise RequestError(400, where, f"{where} has the unknown field {shown(name)}", _known(NOTE_FIELDS))
    note = {name: value for name, value in note.items() if value is not None}
    for name in ("pitch", "start", "duration"):
        if name not in note:
            raise RequestError(400, f"{where}.{name}", f"{where} has no {name}", "a note has pitch, start and duration")
    pitch, velocity = note["pitch"], note.get("velocity", DEFAULT_VELOCITY)
    if type(pitch) is not int or not LOWEST_PITCH <= pitch < LOWEST_PITCH + PITCHES:
        raise RequestError(400, f"{where}.pitch", f"{where}.pitch is {shown(pitch)}", "a whole number from 21 to 108")
    if type(velocity) is not int or not 1 <= velocity <= LOUDEST:
        hint = f"a whole number from 1 to {LOUDEST}"
        raise RequestError(400, f"{where}.velocity", f"{where}.velocity is {shown(velocity)}", hint)
    if not isinstance(note.get("tied", False), bool):
        raise RequestError(400, f"{where}.tied", f"{where}.tied is {shown(note['tied'])}", "true or false")
    ticks = {}
    for name in ("start", "duration"):
        beats = note[name]
        if type(beats) not in (int, float) or not 0 <= beats <= midi.LONGEST or (name == "duration" and not beats):
            hint = f"a number of beats from 0 to {midi.LONGEST}; a duration is above 0"
            raise RequestError(400, f"{where}.{name}", f"{where}.{name} is {shown(beats)}", hint)
        ticks[name] = math.floor(beats * TICKS_PER_BEAT + 0.5)
    return ticks["start"], max(ticks["duration"], 1), pitch, velocity


def _known(names: tuple[str, ...]) -> str:
    return f"known are {', '.join(names)}"


def _midi(prompt: str) -> tuple[Notes, float]:
    if len(prompt) > -(-MOST_MIDI // 3) * 4:
        raise RequestError(413, "prompt", f"prompt is a MIDI file of over {MOST_MIDI} bytes", "send its end only")
    try:
        data = base64.b64decode(prompt.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(400, "prompt", "prompt is a text, but not base64", FORMS) from None
    try:
        return midi.read(data, "prompt")
    except InputError as error:
        raise RequestError(400, "prompt", str(error), "send a MIDI file of format 0 or 1 with piano notes") from None
