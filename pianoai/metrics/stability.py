"""How a model behaves when it hears only itself: long roll-outs, and what repeats."""

import numpy as np
from tqdm import tqdm

from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model
from pianoai.runtime.roll import Roll, runs
from pianoai.runtime.sampling import generate


def roll_outs(model: Model, prompts: list[Roll], frames: int, temperature: float, seed: int) -> list[Roll]:
    """A continuation of `frames` frames for each prompt."""
    numbered = enumerate(tqdm(prompts, desc="continuing prompts", unit="prompt"))
    return [generate(model, prompt, frames, temperature, seed + at) for at, prompt in numbered]


LASTING = 4  # beats after which the same notes are a standstill


def behaviour(rolls: list[Roll], real: list[Roll], frames_per_beat: int) -> dict[str, float]:
    """Density and silence of generated rolls (frames, 88), their drift, and how much they stand still.

    density: notes that sound, per frame; density_ratio: that of the roll-outs over that of real music.
    Drift is the last quarter of a roll-out less its first quarter. standstill and long_silence: see there, and what
    both are in real music; longest_repeat: the longest run of frames with the same notes in any roll-out.
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
        "standstill": standstill(rolls, frames_per_beat),
        "real_standstill": standstill(real, frames_per_beat),
        "long_silence": long_silence(rolls, frames_per_beat),
        "real_long_silence": long_silence(real, frames_per_beat),
        "longest_repeat": max(int(runs(roll).max(initial=0)) for roll in rolls),
    }


def density(rolls: list[Roll]) -> float:
    """Mean number of pitches that sound in a frame."""
    return sum(int((roll > 0).sum()) for roll in rolls) / sum(len(roll) for roll in rolls)


def silence(rolls: list[Roll]) -> float:
    """Share of frames in which nothing sounds."""
    return sum(int((~roll.any(axis=1)).sum()) for roll in rolls) / sum(len(roll) for roll in rolls)


def standstill(rolls: list[Roll], frames_per_beat: int) -> float:
    """Share of frames in runs of over 4 beats in which the same pitches sound, however often they are struck."""
    lengths = np.concatenate([runs(roll) for roll in rolls])
    return float(lengths[lengths > LASTING * frames_per_beat].sum() / max(lengths.sum(), 1))


def long_silence(rolls: list[Roll], frames_per_beat: int) -> float:
    """Share of frames in silences of over 4 beats."""
    lost = 0
    for roll in rolls:
        quiet = np.pad(~roll.any(axis=1), 1).astype(np.int8)
        begins, ends = np.flatnonzero(np.diff(quiet)).reshape(-1, 2).T
        lengths = ends - begins
        lost += int(lengths[lengths > LASTING * frames_per_beat].sum())
    return lost / max(sum(map(len, rolls)), 1)
