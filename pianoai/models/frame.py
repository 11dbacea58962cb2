"""Frames as models see them: the planes they read, the logits they answer with, how a frame is drawn."""

import torch
from torch import Tensor, nn

from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, LOUDEST, NOISE, PITCHES

FEATURES = 3 * PITCHES  # of a frame that a model reads: sounding, struck, intensity
KINDS = 2  # of what is seen of a pitch besides how loud it is: it sounds, it is struck
# Rows of logits: sounds, is struck again if it sounds and sounded before, and the median of its intensity if struck.
OUTPUTS = 3
RARELY = -3.0  # the logit of about one pitch in twenty


def planes(rolls: Tensor, velocities: Tensor) -> Tensor:
    """What a model reads of rolls and the velocities of their sounding cells, both uint8 (batch, time, 88).

    Returns float32 (batch, time, 264): sounding, struck, intensity.
    """
    sounding = (rolls > 0).float()
    struck = (rolls > HELD).float()
    return torch.cat([sounding, struck, velocities.float() / LOUDEST], -1)


def step_planes(frame: Tensor, intensity: Tensor) -> tuple[Tensor, Tensor]:
    """The planes (264,) of one roll row (88,) and the new intensities, from those of the frame before."""
    known = torch.where(intensity > 0, intensity, torch.full_like(intensity, DEFAULT_VELOCITY / LOUDEST))
    held = torch.where(frame > 0, known, torch.zeros_like(known))
    now = torch.where(frame > HELD, frame / LOUDEST, held)
    return torch.cat([(frame > 0).float(), (frame > HELD).float(), now]), now


def noise_quantiles(frame: Tensor, noise: Tensor, temperature: Tensor) -> Tensor:
    """What logits (3, 88) are drawn with: the values of a logistic distribution that random numbers stand for, (3, 88).

    `noise` (264 or more,) is uniform in [0, 1), and the scale of the distribution is `temperature`. A number u is
    below sigmoid(l / t) where the logit l is above t log(u / (1 - u)): so it is seen whether a pitch sounds, and is
    struck again, which one that did not sound in the row before always is. The third is for its velocity.
    """
    uniform = noise[:NOISE].view(3, PITCHES)
    sounds, again, loud = (temperature * torch.log(uniform / (1 - uniform))).unbind(0)
    return torch.stack([sounds, torch.where(frame > 0, again, torch.full_like(again, float("-inf"))), loud])


def output_layer(width: int) -> nn.Linear:
    """The layer to 264 logits; it begins by expecting few notes, as music has, which spares the first steps."""
    layer = nn.Linear(width, OUTPUTS * PITCHES)
    with torch.no_grad():
        layer.bias[:PITCHES] = RARELY
    return layer


def split_logits(out: Tensor) -> Tensor:
    """(…, 264) -> (…, 3, 88)."""
    return out.view(*out.shape[:-1], OUTPUTS, PITCHES)


def relative(logits: Tensor, features: Tensor) -> Tensor:
    """Logits (…, 3, 88) whose last row was meant relative to how loud it is now, from the planes (…, 264) of now.

    That is the mean intensity of what sounds, or the usual one where nothing does.
    """
    sounding, intensity = features[..., :PITCHES].sum(-1), features[..., 2 * PITCHES :].sum(-1)
    usual = torch.full_like(sounding, DEFAULT_VELOCITY / LOUDEST)
    mean = torch.where(sounding > 0, intensity / torch.clamp(sounding, 1, PITCHES), usual)
    mean = torch.clamp(mean, 0.5 / LOUDEST, 1 - 0.5 / LOUDEST)
    level = torch.log(mean / (1 - mean))
    added = level.unsqueeze(-1).unsqueeze(-1) * torch.tensor([[0.0], [0.0], [1.0]])
    return logits + added


def real_planes(logits: Tensor, before: Tensor, sounds: Tensor, again: Tensor) -> Tensor:
    """Planes (…, 264) of a frame that was drawn, differentiable in the logits (…, 3, 88).

    `sounds`, `again` (…, 88) are 0 or 1, `before` (…, 88) tells what sounded in the frame before. The
    forward value is the draw, the gradient that of the probability: the straight-through estimator of
    Bengio, Leonard, Courville 2013.
    """
    probabilities = torch.sigmoid(logits)
    p_sounds, p_again, intensity = probabilities.unbind(-2)
    sounds = sounds + p_sounds - p_sounds.detach()
    again = again + p_again - p_again.detach()
    struck = sounds * (1 - before + before * again)
    return torch.cat([sounds, struck, sounds * intensity], -1)
