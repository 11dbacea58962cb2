"""How well the next frame is predicted: likelihood, skill, precision and recall, regression of intensity."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve
from torch import Tensor

from pianoai.dataset import Batch, batches
from pianoai.models.base import FrameModel
from pianoai.models.frame import expected_intensity, level_before, split_planes
from pianoai.models.heads import NoteByNote
from pianoai.models.objective import frame_nats
from pianoai.runtime.roll import CERTAIN, HELD, LOUDEST, PITCHES, Floats, Roll, intensity, levels
from pianoai.runtime.scoring import cross_entropy
from pianoai.windows import Windows, changes

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Predictions:
    """What a model said of every frame of a split but each piece's first, and what came; (frames, 88).

    Probabilities are marginals, over a model's own noise and over the other notes of a frame; `nats` are not.
    """

    sounds: Floats  # probability of sounding
    again: Floats  # probability of being struck again, if it sounds and sounded before
    loudness: Floats  # expected intensity: probability of sounding times predicted intensity
    nats: NDArray[np.float64]  # (frames,) of the frame that came, all its pitches together
    sounded: Bools  # the pitch sounded in the frame before
    truth: Bools  # the pitch sounds
    struck: Bools  # the pitch is struck
    intensity: Floats  # velocity / 127 of what sounds
    changed: Bools  # (frames,) whether the frame differs from the one before
    velocity: Floats  # what is predicted of a pitch if it is struck, the lower notes of its frame known
    recent: Floats  # (frames,) mean velocity of what was struck in the beat before
    level: Floats  # (frames,) mean velocity of what was struck last
    dynamic: Bools  # (frames,) whether the velocities of the piece vary

    def onset(self) -> Floats:
        """Probability that a pitch is struck: it sounds, and is new or struck again."""
        onset: Floats = self.sounds * np.where(self.sounded, self.again, np.float32(1))
        return onset


@dataclass(frozen=True)
class Calibration:
    """Logits become scale * logit + offset (Platt 1999), one pair for sounding and one for struck again."""

    sounding: tuple[float, float] = (1.0, 0.0)
    struck: tuple[float, float] = (1.0, 0.0)

    def apply(self, predictions: Predictions) -> Predictions:
        """The same predictions with calibrated probabilities of sounding and struck again."""
        if self == Calibration():
            return predictions
        sounds = adjust(predictions.sounds, self.sounding)
        return replace(
            predictions,
            sounds=sounds,
            again=adjust(predictions.again, self.struck),
            loudness=(predictions.loudness * sounds / np.maximum(predictions.sounds, 1e-6)).astype(np.float32),
        )


@dataclass(frozen=True)
class Thresholds:
    """Probabilities from which a pitch is said to sound, or to be struck."""

    sounding: float
    onset: float


def predict(model: FrameModel, windows: Windows, split: str, samples: int, seed: int) -> Predictions:
    """Predictions for a split; marginals are the mean over `samples` draws of what a model leaves to chance."""
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[NDArray[np.generic]]] = []
    for batch, roll in zip(batches(windows, split), windows.rolls(split), strict=True):
        said = predict_window(model, batch, samples, generator)
        level = LOUDEST * levels(roll)[:-1]
        parts.append(
            [
                *said[:-1],
                *(roll[:-1] > 0, roll[1:] > 0, roll[1:] > HELD, intensity(np.asarray(roll))[1:], changes(roll)),
                *(said[-1], recent_velocity(roll, windows.frames_per_beat, level), level),
                np.full(len(roll) - 1, len(np.unique(roll[roll > HELD])) > 1),
            ]
        )
    return Predictions(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@torch.no_grad()
def predict_window(
    model: FrameModel, batch: Batch, samples: int, generator: torch.Generator
) -> tuple[Floats, Floats, Floats, NDArray[np.float64], Floats]:
    """For one window p(sounds), p(struck again if it sounds), p(sounds) * intensity, each (time, 88); nats (time,);
    velocities (time, 88) if struck.

    The second is the mean of p(sounds and is struck again) over that of p(sounds). The likelihood of a frame is the
    mean over the model's own noise of what it is under each: a mixture.
    """
    frames = batch.features.shape[1]
    total, velocity = torch.zeros(3, frames, PITCHES), torch.zeros(frames, PITCHES)
    nats: list[Tensor] = []
    for context in model.imagine(batch.features, samples, generator):
        logits = model.head(context, batch.targets)
        nats.append(frame_nats(logits, batch)[0])
        predicted = model.head.velocity(logits[0, :, 2], level_before(batch.features[0]))
        velocity += predicted
        if isinstance(model.head, NoteByNote):
            total += model.head.marginals(context[0], batch.features[0], samples, generator)
        else:
            sounds, again, _ = torch.sigmoid(logits)[0].unbind(-2)
            loud = expected_intensity(logits[0], split_planes(batch.features[0]), predicted / LOUDEST)
            total += torch.stack([sounds, sounds * again, sounds * loud])
    sounds, both, loudness = (total / len(nats)).numpy()
    mixture = np.log(len(nats)) - torch.logsumexp(-torch.stack(nats).double(), 0)
    return sounds, both / np.maximum(sounds, 1e-12), loudness, mixture.numpy(), (velocity / len(nats)).numpy()


def recent_velocity(roll: Roll, frames_per_beat: int, level: Floats) -> Floats:
    """Mean velocity of what is struck in the beat before each frame of a roll but the first, (frames - 1,).

    Where nothing is, that of what was struck last, `level` (frames - 1,): the baseline for predicted velocities.
    """
    struck = roll > HELD
    sums = np.cumsum([np.where(struck, roll, 0).sum(1), struck.sum(1)], 1, np.float64)  # (2, frames)
    total, count = sums[:, :-1] - np.pad(sums, ((0, 0), (frames_per_beat, 0)))[:, : len(roll) - 1]
    return np.where(count > 0, total / np.maximum(count, 1), level).astype(np.float32)


def nll(predictions: Predictions) -> NDArray[np.float64]:
    """Nats of each frame (frames,) if its pitches were drawn from their marginals; see `runtime.scoring.score`."""
    both = predictions.sounded & predictions.truth
    sounding = cross_entropy(predictions.sounds.astype(np.float64), predictions.truth).sum(1)
    again = np.where(both, cross_entropy(predictions.again.astype(np.float64), predictions.struck), 0).sum(1)
    nats: NDArray[np.float64] = sounding + again
    return nats


def calibrate(predictions: Predictions) -> Calibration:
    """The calibration that maximises the likelihood of these predictions' truth."""
    both = predictions.sounded & predictions.truth
    return Calibration(
        sounding=fit_logit(predictions.sounds.ravel(), predictions.truth.ravel()),
        struck=fit_logit(predictions.again[both], predictions.struck[both]),
    )


def fit_logit(chance: Floats, happened: Bools) -> tuple[float, float]:
    """Scale and offset of a logistic regression on the logit; (1, 0) where only one outcome was seen."""
    if happened.all() or not happened.any():
        return 1.0, 0.0
    fitted = LogisticRegression(C=np.inf).fit(logit(chance)[:, None], happened)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def logit(chance: Floats) -> NDArray[np.float64]:
    """log(p / (1 - p)), with p kept 1e-6 away from 0 and 1."""
    clipped = np.clip(chance.astype(np.float64), CERTAIN, 1 - CERTAIN)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds


def adjust(chance: Floats, calibration: tuple[float, float]) -> Floats:
    """Probabilities after scaling and shifting their logits."""
    if calibration == (1.0, 0.0):
        return chance
    scale, offset = calibration
    adjusted: Floats = (1 / (1 + np.exp(-(scale * logit(chance) + offset)))).astype(np.float32)
    return adjusted


def choose_thresholds(predictions: Predictions) -> Thresholds:
    """Where F1 is highest, for sounding and for onsets."""
    return Thresholds(
        sounding=best_threshold(predictions.sounds, predictions.truth),
        onset=best_threshold(predictions.onset(), predictions.struck),
    )


def best_threshold(chance: Floats, happened: Bools) -> float:
    """The probability from which saying yes gives the highest F1."""
    precision, recall, thresholds = precision_recall_curve(happened.ravel(), chance.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[int(np.argmax(f1[:-1]))])


def counts(chance: Floats, happened: Bools, threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 over all cells; 0 where undefined."""
    said = chance >= np.float32(threshold)
    hits = int((said & happened).sum())
    precision = hits / max(int(said.sum()), 1)
    recall = hits / max(int(happened.sum()), 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return precision, recall, f1


def scores(raw: Predictions, calibration: Calibration, thresholds: Thresholds, joint: bool) -> dict[str, Any]:
    """All scores of a split but skill, from a model's own probabilities, marginals once calibrated.

    `raw` holds those without calibration that a change of probabilities which keeps their order can change. The
    likelihood is that of frames as a whole (`joint`), or the product of their marginals.
    """
    predictions = calibration.apply(raw)
    precision, recall, f1 = counts(predictions.sounds, predictions.truth, thresholds.sounding)
    _, _, onset_f1 = counts(predictions.onset(), predictions.struck, thresholds.onset)
    return values(predictions, joint) | {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "onset_f1": onset_f1,
        "average_precision": float(average_precision_score(predictions.truth.ravel(), predictions.sounds.ravel())),
        "raw": values(raw, joint),
        **velocity_scores(predictions),
    }


def velocity_scores(predictions: Predictions) -> dict[str, float]:
    """Mean absolute errors of the velocity of struck notes, of 127: the model's, and those of two baselines.

    They say the mean of the last beat, and that of what was struck last, from which models start. Over pieces with
    dynamics; nothing where there are none.
    """
    struck = predictions.struck & predictions.dynamic[:, None]
    if not struck.any():
        return {}
    true = LOUDEST * predictions.intensity[struck]
    said = {
        "": predictions.velocity,
        "_recent": np.broadcast_to(predictions.recent[:, None], struck.shape),
        "_level": np.broadcast_to(predictions.level[:, None], struck.shape),
    }
    return {f"velocity_mae{name}": float(np.abs(each[struck] - true).mean()) for name, each in said.items()}


def values(predictions: Predictions, joint: bool) -> dict[str, float]:
    """The scores that depend on the probabilities themselves and not only on their order."""
    apart = nll(predictions)
    nats = predictions.nats if joint else apart
    return {
        "nll_joint": float(predictions.nats.mean()),
        "nll_marginals": float(apart.mean()),
        "nll": float(nats.mean()),
        "nll_changed": float(nats[predictions.changed].mean()),
        "mse": float(np.square(predictions.loudness - predictions.intensity).mean()),
        "cosine": cosine_distance(predictions.loudness, predictions.intensity),
    }


def cosine_distance(predicted: Floats, true: Floats) -> float:
    """Mean of 1 - x.y / (|x| |y|) over the frames in which something sounds."""
    heard = true.any(axis=1)
    x, y = predicted[heard].astype(np.float64), true[heard].astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean(1 - (x * y).sum(1) / np.maximum(norms, 1e-6)))
