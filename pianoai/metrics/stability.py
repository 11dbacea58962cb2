"""How a model behaves when it hears only itself: long roll-outs, and what repeats."""

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from pianoai.parallel import spread
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model
from pianoai.runtime.roll import HELD, LOUDEST, SILENT, Roll, levels, runs
from pianoai.runtime.sampling import Settings, generate

LASTING = 4  # beats after which the same notes are a standstill
TOGETHER = 8  # prompts that are worth a process of their own


def roll_outs(
    load: Callable[[], Model],
    prompts: Sequence[Roll | None],
    frames: int,
    settings: Settings,
    seed: int,
) -> list[Roll]:
    """A continuation of `frames` frames for each prompt, each with a seed of its own, made on all cores.

    `load` makes the model in each process; the first shows how far it is.
    """

    def continued(numbered: Sequence[tuple[int, Roll | None]]) -> list[Roll]:
        model = load()
        some = tqdm(numbered, desc="continuing prompts", unit="prompt", disable=numbered[0][0] > 0)
        return [generate(model, prompt, frames, settings, seed + at) for at, prompt in some]

    return spread(continued, list(enumerate(prompts)), TOGETHER)


def behaviour(rolls: list[Roll], real: list[Roll], frames_per_beat: int) -> dict[str, float]:
    """Density and silence of generated rolls (frames, 88), their drift, and how much they stand still.

    density: notes that sound, per frame; density_ratio: that of the roll-outs over that of real music.
    Drift is the last quarter of a roll-out less its first quarter. velocity (0 without strikes), its drift,
    velocity_moves, standstill and long_silence: see there, and what they are in real music; longest_repeat: the longest
    run of frames with the same notes in any roll-out.
    """
    if not density(real):
        raise InputError(
            "evaluate: the passages after the prompts are silent; raise evaluate.rollouts or give more music"
        )
    first, last = quarters(rolls)
    real_first, real_last = quarters(real)
    return {
        "density": density(rolls),
        "density_ratio": density(rolls) / density(real),
        "density_drift": density(last) - density(first),
        "silence": silence(rolls),
        "silence_drift": silence(last) - silence(first),
        "velocity": velocity(rolls),
        "real_velocity": velocity(real),
        "velocity_drift": velocity(last) - velocity(first),
        "real_velocity_drift": velocity(real_last) - velocity(real_first),
        "velocity_moves": velocity_moves(rolls),
        "real_velocity_moves": velocity_moves(real),
        "standstill": standstill(rolls, frames_per_beat),
        "real_standstill": standstill(real, frames_per_beat),
        "long_silence": long_silence(rolls, frames_per_beat),
        "real_long_silence": long_silence(real, frames_per_beat),
        "longest_repeat": max(int(runs(roll).max(initial=0)) for roll in rolls),
    }


def quarters(rolls: list[Roll]) -> tuple[list[Roll], list[Roll]]:
    """The first quarter of each roll, and the last."""
    parts = [max(1, len(roll) // 4) for roll in rolls]
    first = [roll[:part] for roll, part in zip(rolls, parts, strict=True)]
    return first, [roll[-part:] for roll, part in zip(rolls, parts, strict=True)]


def density(rolls: list[Roll]) -> float:
    """Mean number of pitches that sound in a frame."""
    return sum(int((roll > 0).sum()) for roll in rolls) / sum(len(roll) for roll in rolls)


def silence(rolls: list[Roll]) -> float:
    """Share of frames in which nothing sounds."""
    return sum(int((~roll.any(axis=1)).sum()) for roll in rolls) / sum(len(roll) for roll in rolls)


def velocity(rolls: list[Roll]) -> float:
    """Mean velocity of struck notes; 0 where there are none."""
    struck = np.concatenate([roll[roll > HELD] for roll in rolls])
    return float(struck.mean()) if len(struck) else 0.0


def velocity_moves(rolls: list[Roll]) -> float:
    """Mean change of the level, up or down, from one frame in which notes are struck to the next; 0 without any."""
    levels_of = [LOUDEST * levels(roll)[(roll > HELD).any(axis=1)].astype(np.float64) for roll in rolls]
    moves = np.concatenate([np.abs(np.diff(each)) for each in levels_of])
    return float(moves.mean()) if len(moves) else 0.0


def standstill(rolls: list[Roll], frames_per_beat: int) -> float:
    """Share of frames in runs of over 4 beats in which the same pitches sound, however often they are struck."""
    lengths = np.concatenate([runs(roll) for roll in rolls])
    return float(lengths[lengths > LASTING * frames_per_beat].sum() / max(lengths.sum(), 1))


def long_silence(rolls: list[Roll], frames_per_beat: int) -> float:
    """Share of frames in silences of over 4 beats."""
    lost = 0
    for roll in rolls:
        loudest: Roll = roll.max(axis=1, keepdims=True)
        lengths = runs(loudest)
        quiet = lengths[loudest[np.cumsum(lengths) - lengths, 0] == SILENT]
        lost += int(quiet[quiet > LASTING * frames_per_beat].sum())
    return lost / max(sum(map(len, rolls)), 1)
