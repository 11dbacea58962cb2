"""What a request to compose may say, checked field by field."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pianoai.runtime import prompts, sampling, token
from pianoai.runtime.errors import InputError
from pianoai.runtime.events import RequestError, field_name
from pianoai.runtime.model import Metadata
from pianoai.runtime.prompts import FASTEST, SLOWEST
from pianoai.runtime.roll import HELD, Roll
from pianoai.runtime.sampling import Settings, shown

FRAMES = 128  # unless another number is asked for
MOST_FRAMES = 2048  # in one answer, all variations together
MOST_VARIATIONS = 8
MOST_NOTES = 8000  # in one answer: 0.7 MB of the 6 that Lambda sends
FORMATS = ("notes", "midi", "roll")
FIELDS = (
    *("prompt", "state", "frames", "beats", "temperature", "top_p", "min_p"),
    *("seed", "tempo", "variations", "format", "include_prompt"),
)


@dataclass(frozen=True)
class Request:
    """A checked request."""

    heard: Roll  # (n, 88), n >= 0: what the model hears first
    resumed: token.Token | None  # where the piece stood, if this goes on with one
    frames: int  # to add, in every variation
    settings: Settings
    seed: int | None
    tempo: float  # quarter notes a minute
    variations: int | None
    format: str
    include_prompt: bool

    @property
    def repeats(self) -> int:
        """How often the answer holds the prompt."""
        return (self.variations or 1) if self.include_prompt else 0

    @property
    def repeated_notes(self) -> int:
        """Notes of the prompt in the answer, each as often as it is there."""
        return self.repeats * int(np.count_nonzero(self.heard > HELD))


def read(fields: dict[str, Any], metadata: Metadata, model: str) -> Request:
    """The request in some fields; `model` is the checksum of the model's file. Raises RequestError."""
    for name in fields:
        if name not in FIELDS:
            raise RequestError(400, field_name(name), f"unknown field {shown(name)}", f"known are {', '.join(FIELDS)}")
    # None stands for an absent field everywhere.
    given = {name: value for name, value in fields.items() if value is not None}
    frames = _frames(given, metadata.frames_per_beat)
    settings = _settings(given)
    seed = _whole(given, "seed", 0, sampling.LARGEST_SEED)
    variations = _whole(given, "variations", 1, MOST_VARIATIONS)
    if variations is not None and variations * frames > MOST_FRAMES:
        error = f"{variations} variations of {frames} frames are {variations * frames} frames"
        raise RequestError(400, "variations", error, f"ask for at most {MOST_FRAMES} in all")
    if variations is not None and variations > 1 and settings.certain:
        error = "variations at temperature 0 are all the same"
        raise RequestError(400, "variations", error, "ask for one, or for a higher temperature")
    form = given.get("format", "notes")
    if not isinstance(form, str) or form not in FORMATS:
        raise RequestError(400, "format", f"format is {shown(form)}", f"choose one of {', '.join(FORMATS)}")
    include = given.get("include_prompt", False)
    if not isinstance(include, bool):
        raise RequestError(400, "include_prompt", f"include_prompt is {shown(include)}", "send true or false")
    tempo = given.get("tempo")
    if tempo is not None and (type(tempo) not in (int, float) or not SLOWEST <= tempo <= FASTEST):
        hint = f"a number of quarter notes a minute from {SLOWEST} to {FASTEST}"
        raise RequestError(400, "tempo", f"tempo is {shown(tempo)}", hint)
    resumed = _resumed(given, include, metadata, model)
    heard, own = prompts.read(given.get("prompt"), metadata)
    if resumed is not None:
        heard, own = resumed.frames, resumed.tempo
    tempo = own if tempo is None else tempo
    request = Request(heard, resumed, frames, settings, seed, tempo, variations, form, include)
    if (notes := request.repeated_notes) > MOST_NOTES:
        error = f"an answer has at most {MOST_NOTES} notes, and those of the prompt alone would be {notes}"
        raise RequestError(400, "include_prompt", error, "leave it out and put the prompt before the answer yourself")
    return request


def _frames(given: dict[str, Any], frames_per_beat: int) -> int:
    if "frames" in given and "beats" in given:
        raise RequestError(400, "beats", "both frames and beats are given", "send one of them")
    if "beats" not in given:
        frames = _whole(given, "frames", 1, MOST_FRAMES)
        return FRAMES if frames is None else frames
    beats = given["beats"]
    number = type(beats) in (int, float) and 0 < beats <= MOST_FRAMES / frames_per_beat
    if not number or beats * frames_per_beat % 1:
        hint = f"a multiple of {1 / frames_per_beat:g} up to {MOST_FRAMES / frames_per_beat:g}"
        raise RequestError(400, "beats", f"beats is {shown(beats)}", hint)
    return int(beats * frames_per_beat)


def _whole(given: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = given.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise RequestError(400, name, f"{name} is {shown(value)}", f"a whole number from {least} to {most}")
    return value


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**{name: given[name] for name in ("temperature", "top_p", "min_p") if name in given})
    except InputError as error:
        # The message begins with the setting: top_p must be …
        name, _, rule = str(error).partition(" must be ")
        raise RequestError(400, name, str(error), rule.partition(",")[0]) from None


def _resumed(given: dict[str, Any], include: bool, metadata: Metadata, model: str) -> token.Token | None:
    if "state" not in given:
        return None
    if "prompt" in given:
        raise RequestError(400, "state", "both state and prompt are given", "send one of them")
    if include:
        hint = "join the pieces: a tied note goes on with the one before"
        raise RequestError(400, "include_prompt", "a state does not hold the whole piece before it", hint)
    try:
        return token.read(given["state"], model, metadata.reach)
    except token.OtherModelError as error:
        raise RequestError(409, "state", str(error), "send notes of the piece as prompt instead") from None
    except InputError as error:
        raise RequestError(400, "state", str(error), "send the state of an answer, unchanged") from None


def limits(metadata: Metadata) -> dict[str, int]:
    """What a request may ask for at most, as `GET /health` says it."""
    return {
        "frames": MOST_FRAMES,
        "variations": MOST_VARIATIONS,
        "notes": MOST_NOTES,
        "heard_frames": sampling.PROMPT_WINDOWS * metadata.window,
        "prompt_frames": prompts.MOST_FRAMES,
        "prompt_notes": prompts.MOST_NOTES,
        "prompt_midi_bytes": prompts.MOST_MIDI,
        "slowest_tempo": SLOWEST,
        "fastest_tempo": FASTEST,
    }
