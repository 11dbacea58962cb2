"""Continues a prompt with a model, frame by frame; the same seed gives the same music."""

import os
from collections.abc import Callable

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model
from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, LOUDEST, PITCHES, SILENT, Floats, Roll, velocities

MOST_FRAMES = 100_000
TEMPERATURE = 0.9  # unless another is asked for; at 1 long continuations grow denser than music is
HOTTEST = 5.0
LARGEST_SEED = 2**63 - 1
COLDEST = 1e-3  # a lower temperature is 0: divided by it, logits leave the range of float32
PROMPT_WINDOWS = 8  # of a longer prompt only so many windows are heard


def check(frames: int, temperature: float, seed: int) -> None:
    """Raises InputError that begins with the name of the argument that is out of range."""
    if type(frames) is not int or not 1 <= frames <= MOST_FRAMES:
        raise InputError(f"frames must be a whole number from 1 to {MOST_FRAMES}, not {frames!r}")
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not 0 <= temperature <= HOTTEST:
        raise InputError(f"temperature must be a number from 0 to {HOTTEST:g}, not {temperature!r}")
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed must be a whole number from 0 to {LARGEST_SEED}, not {seed!r}")


def generate(
    model: Model,
    prompt: Roll | None,
    frames: int,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Roll:
    """The `frames` frames, ``(frames, 88)``, that follow `prompt` ``(any, 88)``.

    Without a prompt the music follows one silent frame. Every prompt frame is fed, because old
    frames speak through the deeper layers; of a prompt longer than 8 windows only the last 8 windows are.
    A held cell in the first generated frame belongs to a note of the prompt (see `alone`).
    Temperature 0 takes whatever has a probability above 1/2, and no chance is left, so the seed
    does not matter. `progress` is told how many frames are done.

    Raises InputError: see `check`; and if the model computes something that is no number.
    """
    check(frames, temperature, seed)
    metadata = model.metadata
    middle = np.full(metadata.noise, 0.5, np.float32)
    certain = temperature < COLDEST
    heat = np.array(1.0 if certain else temperature, np.float32)
    chance = np.random.Generator(np.random.PCG64(seed))
    state = model.start()
    current: Floats = np.zeros(PITCHES, np.float32)
    if prompt is not None and len(prompt):
        fed = prompt[-PROMPT_WINDOWS * metadata.window :].astype(np.float32)
        for frame in fed[:-1]:
            state = model.step(frame, state, middle, heat)[2]
        current = fed[-1]
    roll = np.empty((frames, PITCHES), np.uint8)
    for at in range(frames):
        noise = middle if certain else chance.random(metadata.noise, np.float32)
        following, _, state = model.step(current, state, noise, heat)
        current = _consistent(following, current)
        roll[at] = current
        if progress is not None:
            progress(at + 1)
    return roll


def _consistent(frame: Floats, before: Floats) -> Floats:
    """A frame with whole cell values in which nothing is held that did not sound before."""
    if not np.isfinite(frame).all():
        raise InputError("the model computed a frame that is not made of finite numbers; train it anew")
    cells = np.clip(np.rint(frame), SILENT, LOUDEST).astype(np.float32)
    cells[(cells == HELD) & (before == SILENT)] = DEFAULT_VELOCITY
    return cells


def alone(prompt: Roll | None, generated: Roll) -> Roll:
    """The generated roll cut off from its prompt: notes that the prompt left sounding are struck anew.

    They get the velocity that they had in the prompt.
    """
    roll = generated.copy()
    if prompt is not None and len(prompt):
        loudness = velocities(prompt)[-1]
        roll[0] = np.where((roll[0] == HELD) & (loudness > 0), loudness, roll[0])
    return roll


def new_seed() -> int:
    """A seed of 32 bits from the operating system: short enough to type, and exact in any JSON reader."""
    return int.from_bytes(os.urandom(4), "big")
