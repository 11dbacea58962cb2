"""What the next frame is compared with: the weighted loss, validation likelihood, mode coverage; and the schedule."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pianoai import losses
from pianoai.dataset import Batch
from pianoai.losses import LossConfig
from pianoai.models.base import FrameModel
from pianoai.models.frame import expected_intensity, level_before, split_planes
from pianoai.models.heads import Head
from pianoai.params import bounded
from pianoai.runtime.roll import CERTAIN, LOUDEST, LOWEST_PITCH, PITCHES

OCTAVE = 12  # pitch classes


@dataclass(frozen=True)
class TrainConfig:
    """The section `train` of params.yaml: one budget for all models."""

    epochs: int = bounded(least=1)
    batch: int = bounded(least=1)
    weight_decay: float = bounded(least=0)
    warmup: int = bounded(least=0)
    clip: float = bounded(least=0)
    averaging: float = bounded(least=0, most=0.9999)
    patience: int = bounded(least=1)
    transpose: int = bounded(least=0, most=11)
    seed: int = bounded(least=0, most=2**32 - 1)
    accelerator: str = bounded(choices=("cpu", "gpu"))
    devices: int = bounded(least=1)
    num_nodes: int = bounded(least=1)
    strategy: str = bounded(choices=("auto", "ddp"))
    precision: str = bounded(choices=("32-true", "bf16-mixed"))


def before(batch: Batch) -> Tensor:
    """Which pitches sounded in the frame before the predicted one: (batch, time, 88)."""
    return batch.features[..., :PITCHES]


def frame_losses(logits: Tensor, batch: Batch, weights: LossConfig, head: Head) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the terms for logits (batch, time, 3, 88), and each term by name, unweighted.

    The `head` that they come from says how velocities are distributed around theirs.
    """
    sounds, struck, intensity = split_planes(batch.targets).unbind(-2)
    logits_sounds, logits_struck, logits_intensity = logits.unbind(-2)
    level = level_before(batch.features)
    loud = head.velocity(logits_intensity, level) / LOUDEST
    predicted = torch.sigmoid(logits_sounds) * expected_intensity(logits, split_planes(batch.features), loud)
    terms = {
        "sounding": losses.sounding(logits_sounds, sounds, batch.mask),
        "struck": losses.struck(logits_struck, struck, sounds * before(batch), batch.mask),
        "mse": losses.mse(predicted, intensity, batch.mask),
        "cosine": losses.cosine(predicted, intensity, batch.mask),
        "variance": losses.variance(predicted, intensity, batch.mask),
        "velocity": losses.velocity(logits_intensity, level, head, LOUDEST * intensity, struck, batch.mask),
    }
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    return total, {name: value.detach() for name, value in terms.items()}


def mixture_losses(logits: Tensor, batch: Batch, weights: LossConfig, head: Head) -> tuple[Tensor, dict[str, Tensor]]:
    """The same for noise samples of every frame, logits (samples, batch, time, 3, 88), so that noise comes to matter.

    A sample counts by its share in the likelihood of the frame that came, r_k = p_k / sum_j p_j. With r held constant,
    the gradient of sum_k r_k (-log p_k) is that of -log sum_k p_k, the likelihood of the mixture (the maximisation
    step of EM: Dempster, Laird, Rubin 1977). Were every sample asked to predict the frame, none would differ from
    the mean of all (Mathieu, Couprie, LeCun 2016); so each frame trains the samples that are nearest to it.
    """
    samples = len(logits)
    with torch.no_grad():
        share = torch.softmax(-torch.stack([frame_nats(each, batch) for each in logits]), 0)
    repeated = Batch(
        batch.features.repeat(samples, 1, 1), batch.targets.repeat(samples, 1, 1), (share * batch.mask).flatten(0, 1)
    )
    return frame_losses(logits.flatten(0, 1), repeated, weights, head)


def frame_nats(logits: Tensor, batch: Batch) -> Tensor:
    """Nats (batch, time) of the frames that came, from logits (batch, time, 3, 88); probabilities are kept within 1e-6.

    The sum over pitches of sounding or not, and of being struck again where a pitch sounds and sounded before.
    """
    sounds, struck, _ = split_planes(batch.targets).unbind(-2)
    chance = torch.sigmoid(logits[..., :2, :]).clamp(CERTAIN, 1 - CERTAIN)
    happened = torch.stack([sounds, struck], -2)
    nats = -torch.log(torch.where(happened > 0, chance, 1 - chance))  # what is no number stays so
    counted: Tensor = (nats[..., 0, :] + nats[..., 1, :] * sounds * before(batch)).sum(-1)
    return counted


def validation_nll(
    model: FrameModel, batch: Batch, samples: int, generator: torch.Generator | None = None
) -> tuple[Tensor, int]:
    """Nats a frame of the mean likelihood over `samples` noise samples, and the number of frames."""
    contexts = model.imagine(batch.features, samples, generator)
    nats = [frame_nats(model.head(each, batch.targets).float(), batch) for each in contexts]
    return mixture_nll(nats, batch.mask), int(batch.mask.sum())


def mixture_nll(nats: list[Tensor], mask: Tensor) -> Tensor:
    """Nats a frame of the mean likelihood over noise samples, from the nats (batch, time) under each."""
    return losses.masked_mean(math.log(len(nats)) - torch.logsumexp(-torch.stack(nats), 0), mask)


def pitch_class_sets(sounds: Tensor) -> Tensor:
    """Which of the 12 pitch classes sound, from which pitches do (…, 88): whole numbers (…,), C the lowest bit."""
    below = LOWEST_PITCH % OCTAVE  # pitches between a C and the first
    padded = F.pad(sounds.long(), (below, -(below + PITCHES) % OCTAVE))
    octaves = padded.view(*sounds.shape[:-1], padded.shape[-1] // OCTAVE, OCTAVE)  # of frames there may be none
    sets: Tensor = (octaves.amax(-2) << torch.arange(OCTAVE, device=sounds.device)).sum(-1)
    return sets


class Coverage:
    """Compares drawn frames with those that came in their places, by the sets of pitch classes that sound in them.

    distinct: how many sets were drawn, over how many the data has. covered: share of the data's sets that were drawn.
    entropy: that of the sets drawn less that of the data's, in nats; below 0 a model draws fewer than there are.
    density: drawn notes over the data's. A generator that has collapsed is far below 1, 1, 0 and 1.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(2, 2**OCTAVE)  # of the sets, drawn and real
        self.notes = torch.zeros(2)

    def add(self, drawn: Tensor, real: Tensor, mask: Tensor) -> None:
        """Frames (batch, time, 88), above 0 where a pitch sounds; those count whose mask (batch, time) is 1."""
        for at, frames in enumerate((drawn, real)):
            sounds = frames[mask > 0] > 0
            self.counts[at] += torch.bincount(pitch_class_sets(sounds), minlength=2**OCTAVE).cpu()
            self.notes[at] += sounds.sum().cpu()

    def scores(self) -> dict[str, float]:
        """The four figures."""
        drawn, real = self.counts > 0
        entropies = torch.special.entr(self.counts / self.counts.sum(1, keepdim=True)).sum(1)
        return {
            "distinct": float(drawn.sum() / real.sum()),
            "covered": float((drawn & real).sum() / real.sum()),
            "entropy": float(entropies[0] - entropies[1]),
            "density": float(self.notes[0] / self.notes[1].clamp(min=1)),
        }


def schedule(optimizer: Optimizer, warmup: int, total: int) -> LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine from the full rate to a twentieth of it."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
