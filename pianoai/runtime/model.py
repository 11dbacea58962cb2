"""A trained model as its users meet it: one step function, and what the archive says about it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES, TICKS_PER_BEAT, Floats

METADATA = "pianoai.json"  # the name of the archive's extra file
FORMAT = 1

State = tuple[NDArray[Any], ...]
# step(frame (88,), state, noise (N,), temperature ()) -> next frame (88,), probabilities (3, 88), state
Step = Callable[[Floats, State, Floats, Floats], tuple[Floats, Floats, State]]


@dataclass(frozen=True)
class Metadata:
    """What `pianoai.json` in the archive says; `read_metadata` checks it."""

    version: str
    family: str
    frames_per_beat: int
    window: int  # frames
    noise: int  # uniform numbers that a step takes
    state: tuple[tuple[tuple[int, ...], str], ...]  # shape and dtype of every array of the state
    samples: int  # noise samples whose probabilities are averaged in a score
    calibration: dict[str, tuple[float, float]]  # "sounding", "struck": scale and offset of logits
    thresholds: dict[str, float]  # "sounding", "onset"
    flip_rates: dict[str, Floats]  # "on", "stay", "struck": (88,), of the copy baseline
    data: str  # checksum of the training data
    parameters: int


@dataclass(frozen=True)
class Model:
    """A step function and its metadata."""

    metadata: Metadata
    step: Step

    def start(self) -> State:
        """The state before the first frame: zeros."""
        return tuple(np.zeros(shape, dtype) for shape, dtype in self.metadata.state)

    def read(self, frames: Floats, state: State) -> State:
        """The state after hearing `frames` ``(n, 88)`` without drawing any; `state` is used up."""
        middle = np.full(self.metadata.noise, 0.5, np.float32)
        temperature = np.array(1.0, np.float32)
        for frame in frames:
            state = self.step(frame, state, middle, temperature)[2]
        return state

    def keep(self, state: State) -> State:
        """A copy of a state that outlasts the next step, which may write over the state it is given."""
        return tuple(array.copy() for array in state)


def load(source: bytes | Path) -> Model:
    """The model in a TorchScript archive. Raises InputError if it is none, or not one of PianoAI."""
    from pianoai.runtime import torchscript

    name = str(source) if isinstance(source, Path) else "the archive"
    if isinstance(source, Path) and not source.is_file():
        raise InputError(f"{name}: no such file; the pipeline's stage 'export' makes a model")
    script = torchscript.load(source)
    if METADATA not in script.extra:
        raise InputError(f"{name} is not a PianoAI model: no extra/{METADATA}")
    return Model(read_metadata(script.extra[METADATA], name), script)


def read_metadata(text: bytes, name: str) -> Metadata:
    """The checked content of `pianoai.json`. Raises InputError that names the archive and the key."""
    try:
        values = json.loads(text)
    except ValueError:
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
    for key, least in {"frames_per_beat": 1, "window": 1, "noise": 0, "samples": 1, "parameters": 0}.items():
        value: Any = values.get(key)
        check(key, type(value) is int and value >= least, f"a whole number of at least {least}")
    check(
        "frames_per_beat",
        TICKS_PER_BEAT % values["frames_per_beat"] == 0,
        f"a divisor of {TICKS_PER_BEAT}",
    )
    state = values.get("state")
    check("state", isinstance(state, list) and all(map(_array, state)), "a list of {shape, dtype}")
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
    """Whether a value is {"shape": [whole numbers], "dtype": a numeric dtype}."""
    if not isinstance(value, dict) or not isinstance(value.get("shape"), list):
        return False
    if value.get("dtype") not in ("float32", "float64", "int64", "int32", "bool"):
        return False
    return all(type(size) is int and size >= 0 for size in value["shape"])
