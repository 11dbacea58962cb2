"""What the next frame is compared with: batches, the weighted loss, validation likelihood, the schedule."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pianoai import losses
from pianoai.dataset import Batch
from pianoai.losses import LossConfig
from pianoai.models.base import FrameModel
from pianoai.params import bounded
from pianoai.runtime.roll import CERTAIN, PITCHES


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


def before(batch: Batch) -> Tensor:
    """Which pitches sounded in the frame before the predicted one: (batch, time, 88)."""
    return batch.features[..., :PITCHES]


def frame_losses(logits: Tensor, batch: Batch, weights: LossConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the terms for logits (batch, time, 3, 88), and each term by name, unweighted."""
    sounds, struck, intensity = batch.targets.view(*batch.targets.shape[:2], 3, PITCHES).unbind(-2)
    logits_sounds, logits_struck, logits_intensity = logits.unbind(-2)
    predicted = torch.sigmoid(logits_sounds) * torch.sigmoid(logits_intensity)
    terms = {
        "sounding": losses.sounding(logits_sounds, sounds, batch.mask),
        "struck": losses.struck(logits_struck, struck, sounds * before(batch), batch.mask),
        "mse": losses.mse(predicted, intensity, batch.mask),
        "cosine": losses.cosine(predicted, intensity, batch.mask),
        "variance": losses.variance(predicted, intensity, batch.mask),
    }
    total = sum((getattr(weights, name) * value for name, value in terms.items()), torch.zeros(()))
    return total, {name: value.detach() for name, value in terms.items()}


def frame_nats(logits: Tensor, batch: Batch) -> Tensor:
    """Nats (batch, time) of the frames that came, from logits (batch, time, 3, 88); probabilities are kept within 1e-6.

    The sum over pitches of sounding or not, and of being struck again where a pitch sounds and sounded before.
    """
    sounds, struck, _ = batch.targets.view(*batch.targets.shape[:2], 3, PITCHES).unbind(-2)
    chance = torch.sigmoid(logits[..., :2, :]).clamp(CERTAIN, 1 - CERTAIN)
    happened = torch.stack([sounds, struck], -2)
    nats = -torch.log(torch.where(happened > 0, chance, 1 - chance))  # what is no number stays so
    counted: Tensor = (nats[..., 0, :] + nats[..., 1, :] * sounds * before(batch)).sum(-1)
    return counted


def validation_nll(model: FrameModel, batch: Batch, samples: int) -> tuple[Tensor, int]:
    """Nats a frame of the mean likelihood over `samples` noise samples, and the number of frames."""
    nats = []
    for _ in range(samples):
        latent = torch.rand(*batch.features.shape[:2], model.latent)
        nats.append(frame_nats(model.head(model(batch.features, latent), batch.targets), batch))
    mixture = math.log(samples) - torch.logsumexp(-torch.stack(nats), 0)
    return losses.masked_mean(mixture, batch.mask), int(batch.mask.sum())


def schedule(optimizer: Optimizer, warmup: int, total: int) -> LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine from the full rate to a twentieth of it."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
