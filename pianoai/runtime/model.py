"""A trained model as its users meet it: one step function, and what the archive says about it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.operators.promotion import Array
from pianoai.runtime.roll import NOISE, PITCHES, TICKS_PER_BEAT, Floats, Roll

METADATA = "pianoai.json"  # the name of the archive's extra file
FORMAT = 6
LARGEST = 2**22  # elements of one array of a state
MOST = 2**16  # of any count in the metadata but that of parameters

State = tuple[Array, ...]
# step(frame (88,), state, noise (N,), temperature ()) -> next frame (88,), probabilities (3, 88), state
Step = Callable[[Floats, State, Floats, Floats], tuple[Floats, Floats, State]]
# reader(rolls of Metadata.read frames (frames, 88), state) -> state
Reader = Callable[[Roll, State], State]
# given(frame (88,), state, noise (N,), next frame (88,)) -> probabilities (3, 88), state
Given = Callable[[Floats, State, Floats, Floats], tuple[Floats, State]]
# sampler(frame (88,), state, noise (samples, N)) -> probabilities (samples, 3, 88), state
Sampler = Callable[[Floats, State, Floats], tuple[Floats, State]]


@dataclass(frozen=True)
class Metadata:
    """What `pianoai.json` in the archive says; `read_metadata` checks it."""

    version: str
    family: str
    frames_per_beat: int
    window: int  # frames
    noise: int  # uniform numbers that a step takes
    read: int  # frames that `read` takes at once
    reach: int  # frames, the last one included, that can make a difference to the next
    state: tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of every array of the state
    samples: int  # noise samples whose probabilities are averaged in a score
    calibration: dict[str, tuple[float, float]]  # "sounding", "struck": scale and offset of logits
    thresholds: dict[str, float]  # "sounding", "onset"
    flip_rates: dict[str, Floats]  # "on", "stay", "struck": (88,), of the copy baseline
    data: str  # checksum of the training data
    parameters: int


@dataclass(frozen=True)
class Model:
    """A step function, its metadata, and what else an archive may have: a faster way to hear many frames; where the
    notes of a frame hang on each other, the probabilities of each given the lower ones of a frame that is known, and a
    faster way to draw a frame several times.

    A state is good for one `step` or `read`, which may use its memory for the next, and only until another state is
    given to either; `keep` makes one that lasts.
    """

    metadata: Metadata
    step: Step
    reader: Reader | None = None
    given: Given | None = None
    sampler: Sampler | None = None

    def start(self) -> State:
        """The state before the first frame: zeros."""
        return tuple(np.zeros(shape, dtype) for shape, dtype in self.metadata.state)

    def keep(self, state: State) -> State:
        """A copy of a state."""
        return tuple(part.copy() for part in state)

    def read(self, frames: Roll, state: State) -> State:
        """The state after hearing the frames of a roll (frames, 88), without drawing any."""
        chunk, whole = self.metadata.read, 0
        while self.reader is not None and whole + chunk <= len(frames):
            state = self.reader(frames[whole : whole + chunk], state)
            whole += chunk
        noise, one = np.full(self.metadata.noise, 0.5, np.float32), np.array(1, np.float32)
        for frame in frames[whole:].astype(np.float32):
            state = self.step(frame, state, noise, one)[2]
        return state


def load(source: bytes | Path) -> Model:
    """The model in a TorchScript archive. Raises InputError if it is none, or not one of PianoAI."""
    from pianoai.runtime import stepping, torchscript

    name = str(source) if isinstance(source, Path) else "the archive"
    if isinstance(source, Path) and not source.is_file():
        raise InputError(f"{name}: no such file; the pipeline's stage 'export' makes a model")
    script = torchscript.load(source)
    if METADATA not in script.extra:
        raise InputError(f"{name} is not a PianoAI model: no extra/{METADATA}")
    metadata = read_metadata(script.extra[METADATA], name)
    return stepping.model(script, metadata)


def read_metadata(text: bytes, name: str) -> Metadata:
    """The checked content of `pianoai.json`. Raises InputError that names the archive and the key."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{name}: extra/{METADATA} is not valid JSON") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{name}: extra/{METADATA} is not of format {FORMAT}; export the model anew")

    def check(key: str, fits: bool, wanted: str) -> None:
        if not fits:
            raise InputError(f"{name}: {key} in extra/{METADATA} must be {wanted}")

    def numbers(section: str, key: str, length: int) -> list[float]:
        inner = values.get(section)
        found = inner.get(key) if isinstance(inner, dict) else None
        fits = isinstance(found, list) and len(found) == length and all(map(_finite, found))
        check(f"{section}.{key}", fits, f"a list of {length} numbers")
        return found  # type: ignore[return-value]

    for key in ("version", "family", "data"):
        check(key, isinstance(values.get(key), str), "a text")
    for key, least in {
        "frames_per_beat": 1,
        "window": 1,
        "reach": 1,
        "noise": NOISE,
        "read": 0,
        "samples": 1,
        "parameters": 0,
    }.items():
        value: Any = values.get(key)
        fits = type(value) is int and value >= least and (value <= MOST or key == "parameters")
        check(
            key, fits, f"a whole number of at least {least}" + (f" and at most {MOST}" if key != "parameters" else "")
        )
    check(
        "frames_per_beat",
        TICKS_PER_BEAT % values["frames_per_beat"] == 0,
        f"a divisor of {TICKS_PER_BEAT}",
    )
    state = values.get("state")
    few = isinstance(state, list) and len(state) <= 16 and all(map(_array, state))
    check("state", few, f"a list of at most 16 {{shape, dtype}}, each of at most {LARGEST} elements")
    thresholds = values.get("thresholds")
    for key in ("sounding", "onset"):
        found: Any = thresholds.get(key) if isinstance(thresholds, dict) else None
        check(f"thresholds.{key}", _finite(found) and 0 <= found <= 1, "a number from 0 to 1")
    calibration = {}
    for key in ("sounding", "struck"):
        scale, offset = numbers("calibration", key, 2)
        calibration[key] = (float(scale), float(offset))
    rates = {}
    for key in ("on", "stay", "struck"):
        rates[key] = np.array(numbers("flip_rates", key, PITCHES), np.float32)
        check(f"flip_rates.{key}", bool(((rates[key] >= 0) & (rates[key] <= 1)).all()), "from 0 to 1")
    return Metadata(
        version=values["version"],
        family=values["family"],
        frames_per_beat=values["frames_per_beat"],
        window=values["window"],
        noise=values["noise"],
        read=values["read"],
        reach=values["reach"],
        state=tuple((tuple(array["shape"]), array["dtype"]) for array in values["state"]),
        samples=values["samples"],
        calibration=calibration,
        thresholds={key: float(values["thresholds"][key]) for key in ("sounding", "onset")},
        flip_rates=rates,
        data=values["data"],
        parameters=values["parameters"],
    )


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _array(value: Any) -> bool:
    """Whether a value is {"shape": [whole numbers], "dtype": a numeric dtype}, and no giant."""
    if not isinstance(value, dict) or not isinstance(value.get("shape"), list):
        return False
    if value.get("dtype") not in ("float32", "float64", "int64", "int32", "bool"):
        return False
    sizes = value["shape"]
    return all(type(size) is int and 0 <= size <= LARGEST for size in sizes) and math.prod(sizes) <= LARGEST
