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
from pianoai.models.frame import FrameModel
from pianoai.params import bounded
from pianoai.runtime.roll import PITCHES


@dataclass(frozen=True)
class TrainConfig:
    """The section `train` of params.yaml: one budget for all models."""

    epochs: int = bounded(least=1)
    batch: int = bounded(least=1)
    weight_decay: float = bounded(least=0)
    warmup: int = bounded(least=0)
    clip: float = bounded(least=0)
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


def validation_nll(model: FrameModel, batch: Batch, samples: int) -> tuple[Tensor, int]:
    """Nats a frame of the mean probability over `samples` noise samples, and the number of frames."""
    total = torch.zeros(*batch.features.shape[:2], 2, PITCHES)
    for _ in range(samples):
        latent = torch.rand(*batch.features.shape[:2], model.latent)
        total += torch.sigmoid(model(batch.features, latent)[..., :2, :])
    p_sounds, p_struck = torch.logit((total / samples).clamp(1e-6, 1 - 1e-6)).unbind(-2)
    sounds, struck, _ = batch.targets.view(*batch.targets.shape[:2], 3, PITCHES).unbind(-2)
    nll = losses.sounding(p_sounds, sounds, batch.mask)
    nll = nll + losses.struck(p_struck, struck, sounds * before(batch), batch.mask)
    return nll, int(batch.mask.sum())


def schedule(optimizer: Optimizer, warmup: int, total: int) -> LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine from the full rate to a twentieth of it."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        return 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
