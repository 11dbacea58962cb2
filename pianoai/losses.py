"""Every term of the training loss, one function each.

Shapes: logits and targets (batch, time, 88); `mask` (batch, time) is 1 where a frame counts. Real numbers
of a frame are its *intensity*: velocity / 127 of every sounding note, 0 elsewhere.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pianoai.models.heads import Head
from pianoai.params import bounded
from pianoai.runtime.roll import CERTAIN, LOUDEST


@dataclass(frozen=True)
class LossConfig:
    """The section `loss` of params.yaml: the weight of each term."""

    sounding: float = bounded(least=0)
    struck: float = bounded(least=0)
    mse: float = bounded(least=0)
    cosine: float = bounded(least=0)
    variance: float = bounded(least=0)
    velocity: float = bounded(least=0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of values (batch, time) over the frames that count."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def sounding(logits: Tensor, sounds: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of which pitches sound: nats a frame, summed over pitches.

    -sum_p [s_p log q_p + (1 - s_p) log(1 - q_p)], q = sigmoid(logits).
    """
    return masked_mean(F.binary_cross_entropy_with_logits(logits, sounds, reduction="none").sum(-1), mask)


def struck(logits: Tensor, again: Tensor, possible: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of which pitches are struck again: nats a frame.

    Only where that is a question: `possible` is 1 where a pitch sounds now and sounded before.
    """
    cost = F.binary_cross_entropy_with_logits(logits, again, reduction="none")
    return masked_mean((cost * possible).sum(-1), mask)


def mse(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of intensity: mean over pitches and frames of (x - y)^2."""
    return masked_mean((predicted - true).square().mean(-1), mask)


def cosine(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Cosine distance 1 - x.y / (|x| |y|) of intensities, mean over frames in which something sounds."""
    heard = mask * (true.sum(-1) > 0)
    return masked_mean(1 - F.cosine_similarity(predicted, true, dim=-1, eps=1e-6), heard)


def variance(predicted: Tensor, true: Tensor, mask: Tensor) -> Tensor:
    """Against collapse: mean over pitches of max(0, std(true) - std(predicted)) over all frames.

    The hinge of VICReg (Bardes, Ponce, LeCun 2022, eq. 1), with the data's own deviation as the margin.
    """
    return F.relu(_deviation(true, mask) - _deviation(predicted, mask)).mean()


def velocity(logits: Tensor, level: Tensor, head: Head, true: Tensor, struck: Tensor, mask: Tensor) -> Tensor:
    """Nats a frame of a velocity `true` (batch, time, 88), 2 to 127, of pitches that are `struck` (1, else 0).

    One random number moves all pitches of a frame, so the mean over them counts: a chord says no more than a note.
    They are drawn as the `head` draws them, from `logits` and the logit of the level (batch, time, 1): what a Laplace
    distribution around `logits` moves beyond the friction is added to the level, the velocity is rounded and brought
    between the extremes. What is beyond these is thus theirs (as in Salimans et al. 2017, eq. 2, of a logistic
    distribution), and where they are the same the loss is 0.
    """
    lowest, highest = head.velocities.unbind(0)
    counted = struck * mask[..., None] / struck.sum(-1, keepdim=True).clamp(min=1)
    at = counted > 0
    middle, before = logits[at], level.expand_as(logits)[at]
    real = torch.minimum(torch.maximum(true[at], lowest), highest)

    def border(half: float) -> Tensor:
        """What must be drawn for a border of a velocity, halfway to a neighbour, in scales from the middle."""
        moved = torch.logit(((real + half) / LOUDEST).clamp(max=1 - CERTAIN)) - before
        return (before + moved + torch.sign(moved) * head.log_friction.exp() - middle) / head.log_scale.exp()

    lower, upper = border(-0.5), border(0.5)
    lower = lower.masked_fill(real <= lowest, -math.inf)
    upper = upper.masked_fill(real >= highest, math.inf)
    # Of what lies to one side of the middle the border that is nearer to it counts, and of what lies on both, both.
    beside = torch.minimum(lower.abs(), upper.abs()) - torch.log(-torch.expm1(lower - upper))
    around = -torch.log(-torch.expm1(lower.clamp(max=0)) - torch.expm1(-upper.clamp(min=0)))
    nats = math.log(2) + torch.where((lower < 0) & (upper > 0), around, beside)
    return (nats * counted[at]).sum() / mask.sum().clamp(min=1)


def _deviation(values: Tensor, mask: Tensor) -> Tensor:
    weight = mask[..., None]
    total = weight.sum().clamp(min=1)
    mean = (values * weight).sum((0, 1)) / total
    spread = ((values - mean).square() * weight).sum((0, 1)) / total
    return root(spread + 1e-8)


def gan_discriminator(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Logistic loss of a discriminator's logits, -log D(real) - log(1 - D(fake)).

    Goodfellow et al. 2014, eq. 1.
    """
    return masked_mean(F.softplus(-real) + F.softplus(fake), mask)


def gan_generator(fake: Tensor, mask: Tensor) -> Tensor:
    """Non-saturating loss of a generator, -log D(fake). Goodfellow et al. 2014, section 3."""
    return masked_mean(F.softplus(-fake), mask)


def wgan_critic(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Negative estimate of the Wasserstein distance, E[f(fake)] - E[f(real)]. Arjovsky et al. 2017."""
    return masked_mean(fake - real, mask)


def wgan_generator(fake: Tensor, mask: Tensor) -> Tensor:
    """-E[f(fake)]. Arjovsky et al. 2017, algorithm 1."""
    return -masked_mean(fake, mask)


def gradient_penalty(slopes: Tensor, mask: Tensor) -> Tensor:
    """Mean of (|slope| - 1)^2; slopes (batch, time, features) of the critic between real and fake.

    Gulrajani et al. 2017, eq. 3.
    """
    return masked_mean(root(slopes.square().sum(-1) + 1e-12).sub(1).square(), mask)


def root(x: Tensor) -> Tensor:
    """Square root, the same on every CPU.

    MKL, which computes PyTorch's own, starts from an approximation that makers of CPUs are free to choose.
    """
    return x.rsqrt().reciprocal()
