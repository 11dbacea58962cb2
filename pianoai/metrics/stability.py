"""How a model behaves when it hears only itself: long roll-outs, and what repeats."""

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model
from pianoai.runtime.roll import Roll
from pianoai.runtime.sampling import generate


def roll_outs(model: Model, prompts: list[Roll], frames: int, temperature: float, seed: int) -> list[Roll]:
    """A continuation of `frames` frames for each prompt."""
    return [generate(model, prompt, frames, temperature, seed + at) for at, prompt in enumerate(prompts)]


def behaviour(rolls: list[Roll], real: list[Roll]) -> dict[str, float]:
    """Density and silence of generated rolls (frames, 88), their drift, and the longest standstill.

    density: notes that sound, per frame; density_ratio: that of the roll-outs over that of real music.
    Drift is the last quarter of a roll-out less its first quarter. longest_repeat: frames in a row, over
    all roll-outs, in which the same pitches sound (a note struck again is a repeat as well).
    """
    if not density(real):
        raise InputError(
            "evaluate: the passages after the prompts are silent; raise evaluate.rollouts or give more music"
        )
    quarter = len(rolls[0]) // 4
    first = [roll[:quarter] for roll in rolls]
    last = [roll[-quarter:] for roll in rolls]
    return {
        "density": density(rolls),
        "density_ratio": density(rolls) / density(real),
        "density_drift": density(last) - density(first),
        "silence": silence(rolls),
        "silence_drift": silence(last) - silence(first),
        "longest_repeat": max(longest_repeat(roll) for roll in rolls),
    }


def density(rolls: list[Roll]) -> float:
    """Mean number of pitches that sound in a frame."""
    return sum(int((roll > 0).sum()) for roll in rolls) / sum(len(roll) for roll in rolls)


def silence(rolls: list[Roll]) -> float:
    """Share of frames in which nothing sounds."""
    return sum(int((~roll.any(axis=1)).sum()) for roll in rolls) / sum(len(roll) for roll in rolls)


def longest_repeat(roll: Roll) -> int:
    """The longest run of frames in which the same pitches sound; 0 for an empty roll."""
    if not len(roll):
        return 0
    sounding = roll > 0
    breaks = np.flatnonzero((sounding[1:] != sounding[:-1]).any(axis=1)) + 1
    edges = np.concatenate([[0], breaks, [len(roll)]])
    return int(np.diff(edges).max())
