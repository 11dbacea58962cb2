"""How well a model predicts given rolls, frame by frame: likelihood, skill over copying, F1."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from pianoai.runtime import chance
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model, Sampler
from pianoai.runtime.roll import CERTAIN, HELD, PITCHES, SILENT, Roll

TINIEST = 1e-12  # keeps a division defined
SEED = 0  # of the noise, so that a score is the same each time

Outcomes = np.ndarray[Any, np.dtype[np.bool_]]
Probabilities = np.ndarray[Any, np.dtype[np.float64]]  # (frames, 88), or with sounding and struck (2, frames, 88)


@dataclass(frozen=True)
class Tally:
    """Sums over the predicted frames of some pieces; tallies add up to the tally of all pieces."""

    frames: int = 0
    nats: float = 0.0
    copy_nats: float = 0.0
    hits: int = 0  # cells that sound and were predicted to
    cells: int = 0  # cells that sound, plus cells that were predicted to
    onset_hits: int = 0
    onset_cells: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def summary(self) -> dict[str, float]:
        """The scores: nll and skill in nats a frame, f1, onset_f1 (0 where nothing sounds), frames.

        Raises InputError if no frame was predicted.
        """
        if not self.frames:
            raise InputError("nothing to score: a piece needs at least two frames")
        return {
            "nll": self.nats / self.frames,
            "skill": (self.copy_nats - self.nats) / self.frames,
            "f1": 2 * self.hits / max(self.cells, 1),
            "onset_f1": 2 * self.onset_hits / max(self.onset_cells, 1),
            "frames": self.frames,
        }


def score(model: Model, rolls: Iterable[Roll], restrikes: bool = True) -> dict[str, float]:
    """Scores of a model on rolls ``(frames, 88)``, every frame predicted from the true ones before it.

    nll: nats a frame, summed over pitches: cross-entropy of sounding and, with `restrikes`, where a pitch
    sounds and sounded before, of being struck again. The first frame of a piece is not predicted.
    skill: the nll of copying the frame before with the model's flip rates, minus nll. f1, onset_f1: over all
    cells, at the model's thresholds. Raises InputError if no roll has two frames.
    """
    return sum((tally(model, roll, restrikes) for roll in rolls), Tally()).summary()


def tally(model: Model, roll: Roll, restrikes: bool = True) -> Tally:
    """The sums behind the scores of one roll."""
    if len(roll) < 2:
        return Tally()
    before, now = roll[:-1] != SILENT, roll[1:] != SILENT
    onset = roll[1:] > HELD
    sounding, struck = predict(model, roll)
    rates = model.metadata.flip_rates
    copied = np.where(before, rates["stay"], rates["on"]).astype(np.float64)
    # Where notes hang on each other, a frame's likelihood is not the product of its marginals.
    chances = predict_given(model, roll) if model.given else np.stack([sounding, struck])
    nats = float(cross_entropy(chances[0], now).sum())
    copy_nats = float(cross_entropy(copied, now).sum())
    if restrikes:
        both = before & now
        nats += float(cross_entropy(chances[1], onset)[both].sum())
        again = np.full(now.shape, rates["struck"], np.float64)
        copy_nats += float(cross_entropy(again, onset)[both].sum())
    onset_chance = sounding * np.where(before, struck if restrikes else 0.0, 1.0)
    thresholds = model.metadata.thresholds
    heard = sounding >= thresholds["sounding"]
    begun = onset_chance >= thresholds["onset"]
    return Tally(
        frames=len(now),
        nats=nats,
        copy_nats=copy_nats,
        hits=int((heard & now).sum()),
        cells=int(heard.sum() + now.sum()),
        onset_hits=int((begun & onset).sum()),
        onset_cells=int(begun.sum() + onset.sum()),
    )


def predict(model: Model, roll: Roll) -> Probabilities:
    """Calibrated probabilities of sounding and of being struck again, ``(2, frames - 1, 88)``.

    They speak of the frames from the second on. With several samples, each is a run over the roll with
    noise of its own, and their probabilities are averaged before they are calibrated.
    """
    metadata = model.metadata
    total = sum_sampled(model, model.sampler, roll) if model.sampler else sum_runs(model, roll)
    # Marginals over the noise: struck again, given that it sounds.
    mean = np.stack([total[0] / metadata.samples, total[1] / np.maximum(total[0], TINIEST)])
    return np.stack(
        [
            _calibrate(mean[0], *metadata.calibration["sounding"]),
            _calibrate(mean[1], *metadata.calibration["struck"]),
        ]
    )


def sum_runs(model: Model, roll: Roll) -> Probabilities:
    """The sum over samples of p(sounds) and of p(sounds and is struck again), ``(2, frames - 1, 88)``."""
    temperature = np.array(1.0, np.float32)
    total = np.zeros((2, len(roll) - 1, PITCHES))
    for sample in range(model.metadata.samples):
        state = model.start()
        for at, frame in enumerate(roll[:-1].astype(np.float32)):
            noise = chance.uniform(model.metadata.noise, SEED, sample, at)
            _, probabilities, state = model.step(frame, state, noise, temperature)
            total[0, at] += probabilities[0]
            total[1, at] += probabilities[0] * probabilities[1]
    return total


def sum_sampled(model: Model, sampler: Sampler, roll: Roll) -> Probabilities:
    """The same where what is heard does not depend on the noise: in one run, in which every frame is drawn often."""
    state, samples = model.start(), range(model.metadata.samples)
    total = np.zeros((2, len(roll) - 1, PITCHES))
    for at, frame in enumerate(roll[:-1].astype(np.float32)):
        noise = np.stack([chance.uniform(model.metadata.noise, SEED, sample, at) for sample in samples])
        probabilities, state = sampler(frame, state, noise)
        total[0, at] = probabilities[:, 0].sum(0, np.float64)
        total[1, at] = (probabilities[:, 0] * probabilities[:, 1]).sum(0, np.float64)
    return total


def predict_given(model: Model, roll: Roll) -> Probabilities:
    """Probabilities of sounding and of being struck again given the lower notes of a frame, ``(2, frames - 1, 88)``."""
    assert model.given is not None
    noise, state = np.full(model.metadata.noise, 0.5, np.float32), model.start()
    found = np.zeros((2, len(roll) - 1, PITCHES))
    cells = roll.astype(np.float32)
    for at in range(len(roll) - 1):
        probabilities, state = model.given(cells[at], state, noise, cells[at + 1])
        found[:, at] = probabilities[:2]
    return found


def _calibrate(likely: Probabilities, scale: float, offset: float) -> Probabilities:
    """The probability whose logit is `scale` times the logit of `likely`, plus `offset`."""
    if (scale, offset) == (1.0, 0.0):
        return likely
    clipped = np.clip(likely, CERTAIN, 1 - CERTAIN)
    logit = scale * np.log(clipped / (1 - clipped)) + offset
    return 0.5 * (1 + np.tanh(0.5 * logit))  # the logistic function, without overflow


def cross_entropy(likely: Probabilities, happened: Outcomes) -> Probabilities:
    """Nats of every outcome, of the shape of both; probabilities are kept 1e-6 away from 0 and 1."""
    clipped = np.clip(likely, CERTAIN, 1 - CERTAIN)
    return -np.log(np.where(happened, clipped, 1 - clipped))
