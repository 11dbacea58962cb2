"""Frames as models see them: the planes they read, the logits they answer with, how a frame is drawn."""

import torch
from torch import Tensor, nn

from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, LOUDEST, PITCHES, SOFTEST

FEATURES = 3 * PITCHES  # of a frame that a model reads: sounding, struck, intensity
OUTPUTS = 3  # rows of logits: sounds, is struck again if it sounds and sounded before, intensity if struck
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


def draw(logits: Tensor, frame: Tensor, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """The next roll row (88,) and its probabilities (3, 88), from logits (3, 88) and the row before.

    `noise` (176,) is uniform in [0, 1): a pitch sounds where its number is below the probability.
    `temperature` divides the logits for drawing; the probabilities are those at temperature 1.
    """
    return cells(logits, limits(frame, noise, temperature))


def limits(frame: Tensor, noise: Tensor, temperature: Tensor) -> Tensor:
    """The logits (2, 88) above which a pitch sounds, and is struck again; see `draw`.

    A uniform number u is below sigmoid(l / t) where the logit l is above t log(u / (1 - u)). What did not sound in the
    row before is always struck.
    """
    uniform = noise[: 2 * PITCHES].view(2, PITCHES)
    sounds, again = (temperature * torch.log(uniform / (1 - uniform))).unbind(0)
    return torch.stack([sounds, torch.where(frame > 0, again, torch.full_like(again, float("-inf")))])


def cells(logits: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """The row (88,) of what is above the limits (2, 88), and the probabilities (3, 88)."""
    probabilities = torch.sigmoid(logits)
    velocity = torch.clamp(torch.round(probabilities[2] * LOUDEST), SOFTEST, LOUDEST)
    sounding = torch.where(logits[1] > limits[1], velocity, torch.full_like(velocity, HELD))
    return torch.where(logits[0] > limits[0], sounding, torch.zeros_like(sounding)), probabilities


def output_layer(width: int) -> nn.Linear:
    """The layer to 264 logits; it begins by expecting few notes, as music has, which spares the first steps."""
    layer = nn.Linear(width, OUTPUTS * PITCHES)
    with torch.no_grad():
        layer.bias[:PITCHES] = RARELY
    return layer


def split_logits(out: Tensor) -> Tensor:
    """(…, 264) -> (…, 3, 88)."""
    return out.view(*out.shape[:-1], OUTPUTS, PITCHES)


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
