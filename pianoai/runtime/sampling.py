"""Continues a prompt with a model, frame by frame; the same seed gives the same music."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from pianoai.runtime import chance
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model, State
from pianoai.runtime.roll import (
    DEFAULT_VELOCITY,
    HELD,
    LOUDEST,
    NOISE,
    PITCHES,
    SILENT,
    Bools,
    Floats,
    Roll,
    runs,
    velocities,
)

MOST_FRAMES = 100_000
TEMPERATURE = 1.0  # unless another is asked for: the model as it was trained
HOTTEST = 5.0
LARGEST_SEED = 2**63 - 1
COLDEST = 1e-3  # a lower temperature is 0: divided by it, logits leave the range of float32
CALM = 2.0  # see Settings.calm
PROMPT_WINDOWS = 8  # of a longer prompt only so many windows are heard


@dataclass(frozen=True)
class Settings:
    """How frames are drawn. Raises InputError that begins with the name of the setting that is out of range."""

    temperature: float = TEMPERATURE  # 0 to 5; at 0 whatever has a probability above 1/2 is taken
    top_p: float = 1.0  # above 0, up to 1
    min_p: float = 0.0  # 0 to 1
    calm: float = CALM  # beats for which the same notes may sound before a change is made likelier; 0 to infinity

    def __post_init__(self) -> None:
        ranges = {"temperature": HOTTEST, "top_p": 1.0, "min_p": 1.0, "calm": math.inf}
        for name, most in ranges.items():
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= most:
                raise InputError(f"{name} must be a number from 0 to {most:g}, not {shown(value)}")
        if not self.top_p:
            raise InputError("top_p must be above 0: nothing may be drawn from an empty nucleus")

    @property
    def certain(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature < COLDEST

    @property
    def edge(self) -> float:
        """How near to 0 and 1 the random numbers of notes are not let: top-p and min-p sampling of which notes sound.

        A pitch is a choice between two outcomes, taken when a uniform number is below p, its tempered
        probability. Of two outcomes with probabilities q <= 1 - q, nucleus sampling (Holtzman et al. 2020)
        drops the less likely one when the other alone has the mass top_p: when q <= 1 - top_p. Min-p sampling
        (Nguyen et al. 2024) drops it when q < min_p * (1 - q): when q < min_p / (1 + min_p). Both rules
        have the form q < edge. With the uniform number clipped into [edge, 1 - edge], p <= edge never
        happens, p > 1 - edge always, and between them the chance stays p, so no probability need be touched. At
        an edge of 1/2 the likelier outcome is always taken.
        """
        return min(max(1 - self.top_p, self.min_p / (1 + self.min_p)), 0.5)

    @property
    def tail(self) -> float:
        """The share of either end of the distribution that moves loudness that is not drawn.

        That is a Laplace distribution: its nucleus is the middle with the mass top_p, and where the share u lies below,
        up to half, its density is 2 u times its peak, of which min-p sampling keeps what is at least min_p. What is
        drawn of velocities then is the middle of theirs, as the one grows with the other.
        """
        return max(1 - self.top_p, self.min_p) / 2


USUAL = Settings()


def shown(value: object) -> str:
    """A value as a message may quote it: one short line, whatever it is."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of over 20 digits"
    if value is None or isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else f"{value[:40]!r}…"
    return "a list" if isinstance(value, list) else "an object"


def check(frames: int, seed: int) -> None:
    """Raises InputError that begins with the name of the argument that is out of range."""
    if type(frames) is not int or not 1 <= frames <= MOST_FRAMES:
        raise InputError(f"frames must be a whole number from 1 to {MOST_FRAMES}, not {shown(frames)}")
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed must be a whole number from 0 to {LARGEST_SEED}, not {shown(seed)}")


def generate(
    model: Model,
    prompt: Roll | None,
    frames: int,
    settings: Settings = USUAL,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Roll:
    """The `frames` frames, ``(frames, 88)``, that follow `prompt` ``(any, 88)``.

    Without a prompt the music follows one silent frame. Every prompt frame is fed, because old
    frames speak through the deeper layers; of a prompt longer than 8 windows only the last 8 windows are.
    A held cell in the first generated frame belongs to a note of the prompt (see `alone`).
    At temperature 0 no chance is left, so the seed does not matter. `progress` is told how many frames are done.

    Raises InputError: see `check`; and if the model computes something that is no number.
    """
    check(frames, seed)
    heard = np.zeros((1, PITCHES), np.uint8) if prompt is None or not len(prompt) else prompt
    heard = heard[-PROMPT_WINDOWS * model.metadata.window :]
    state = model.read(heard[:-1], model.start())
    roll = np.empty((frames, PITCHES), np.uint8)
    drawn = play(model, state, heard, settings, seed)
    for at, (cells, _) in zip(range(frames), drawn, strict=False):
        roll[at] = cells
        if progress is not None:
            progress(at + 1)
    return roll


def play(
    model: Model, state: State, heard: Roll, settings: Settings, seed: int, drawn: int = 0
) -> Iterator[tuple[Roll, Floats]]:
    """Frames ``(88,)`` without end and the probabilities ``(3, 88)`` of each, as the model says them at temperature 1.

    `state` is the model's after all frames of `heard` ``(n, 88)`` but the last; it is used up. Of `heard` the last
    window matters. With `drawn`, the random numbers are those after so many frames of the seed; at temperature 0 none
    is taken. Once the same pitches, or none, have sounded for `calm` beats, changes become likelier: see `restless`.
    """
    metadata = model.metadata
    middle = np.full(metadata.noise, 0.5, np.float32)
    heat = np.array(1.0 if settings.certain else settings.temperature, np.float32)
    edge, tail = np.float32(settings.edge), np.float32(settings.tail)
    current = heard[-1].astype(np.float32)
    sounded, still = current > SILENT, int(runs(heard[-metadata.window :])[-1])
    for at in count(drawn):
        noise = middle
        if not settings.certain:
            noise = chance.uniform(metadata.noise, seed, at)
            choices, loud = noise[: 2 * PITCHES], noise[2 * PITCHES : NOISE]
            beyond = still / metadata.frames_per_beat - settings.calm
            if beyond > 0:
                choices[:PITCHES] = restless(choices[:PITCHES], current, 1 + beyond)
            # The numbers after these are a GAN's hidden noise, which is no choice.
            if edge:
                np.clip(choices, edge, 1 - edge, out=choices)
            if tail:
                loud[...] = tail + (1 - 2 * tail) * loud
        following, probabilities, state = model.step(current, state, noise, heat)
        current = _consistent(following, sounded)
        before, sounded = sounded, current > SILENT
        still = min(still + 1, metadata.window) if (sounded == before).all() else 1
        yield current.astype(np.uint8), probabilities


def restless(uniform: Floats, frame: Floats, factor: float) -> Floats:
    """Numbers ``(88,)`` that begin or end pitches after `frame` ``(88,)`` as if their odds were `factor` times as high.

    A pitch sounds where its number u is below its probability p: where u / (1 - u) is below the odds of p. To multiply
    those of a silent pitch, u / (1 - u) is divided, and to divide those of a sounding one, it is multiplied. Which
    changes are likelier than others stays as the model has it.
    """
    factors = np.where(frame > SILENT, factor, 1 / factor).astype(np.float32)
    scaled = uniform * factors
    tilted: Floats = scaled / (scaled + (1 - uniform))
    return tilted


def _consistent(frame: Floats, sounded: Bools) -> Floats:
    """A frame with whole cell values in which nothing is held that did not sound before."""
    if not np.isfinite(frame).all():
        raise InputError("the model computed a frame that is not made of finite numbers; train it anew")
    cells = np.minimum(np.maximum(np.rint(frame), SILENT), LOUDEST).astype(np.float32, copy=False)
    cells[(cells == HELD) & ~sounded] = DEFAULT_VELOCITY
    return cells


def alone(prompt: Roll | None, generated: Roll) -> Roll:
    """The generated roll cut off from its prompt: notes that the prompt left sounding are struck anew.

    They get the velocity that they had in the prompt.
    """
    roll = generated.copy()
    if prompt is not None and len(prompt) and len(roll):
        loudness = velocities(prompt)[-1]
        roll[0] = np.where((roll[0] == HELD) & (loudness > 0), loudness, roll[0])
    return roll


def new_seed() -> int:
    """A seed of 32 bits from the operating system: short enough to type, and exact in any JSON reader."""
    return int.from_bytes(os.urandom(4), "big")
