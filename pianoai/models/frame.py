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
    """The layer to 264 logits; it begins by expecting few notes, as music has, and no change of loudness."""
    layer = nn.Linear(width, OUTPUTS * PITCHES)
    with torch.no_grad():
        layer.bias[:PITCHES] = RARELY
        layer.weight[KINDS * PITCHES :] = layer.bias[KINDS * PITCHES :] = 0
    return layer


def split_logits(out: Tensor) -> Tensor:
    """(…, 264) -> (…, 3, 88)."""
    return out.view(*out.shape[:-1], OUTPUTS, PITCHES)


def relative(logits: Tensor, features: Tensor) -> Tensor:
    """Logits (…, 3, 88) whose last row was meant relative to how loud it is now, from the planes (…, 264) of now.

    That is the mean intensity of what is struck; of what sounds where nothing is; the usual one in silence.
    """
    sounding, struck, intensity = features.view(*features.shape[:-1], 3, PITCHES).unbind(-2)
    heard, new = sounding.sum(-1), struck.sum(-1)
    usual = torch.full_like(heard, DEFAULT_VELOCITY / LOUDEST)
    mean = torch.where(heard > 0, intensity.sum(-1) / torch.clamp(heard, 1, PITCHES), usual)
    mean = torch.where(new > 0, (intensity * struck).sum(-1) / torch.clamp(new, 1, PITCHES), mean)
    mean = torch.clamp(mean, 0.5 / LOUDEST, 1 - 0.5 / LOUDEST)
    level = torch.log(mean / (1 - mean))
    added = level.unsqueeze(-1).unsqueeze(-1) * torch.tensor([[0.0], [0.0], [1.0]])
    return logits + added


def expected_intensity(logits: Tensor, features: Tensor) -> Tensor:
    """Intensities (…, 88) of pitches if they sound, from logits (…, 3, 88) and planes (…, 3, 88) of the frame before.

    What sounds already and is not struck again stays as loud as it is.
    """
    _, again, intensity = torch.sigmoid(logits).unbind(-2)
    before, _, now = features.unbind(-2)
    return intensity + before * (1 - again) * (now - intensity)


def real_planes(logits: Tensor, features: Tensor, sounds: Tensor, again: Tensor) -> Tensor:
    """Planes (…, 264) of a frame whose notes were drawn, differentiable in the logits (…, 3, 88).

    `sounds`, `again` (…, 88) are 0 or 1; `features` (…, 264) are the planes of the frame before. Which notes
    sound and are struck has the value of the draw and the gradient of the probability: the straight-through
    estimator of Bengio, Leonard, Courville 2013. What is struck is as loud as predicted, what is held as it was.
    """
    before, _, now = features.view(*features.shape[:-1], 3, PITCHES).unbind(-2)
    probabilities = torch.sigmoid(logits)
    p_sounds, p_again, intensity = probabilities.unbind(-2)
    sounds = sounds + p_sounds - p_sounds.detach()
    again = again + p_again - p_again.detach()
    struck = sounds * (1 - before + before * again)
    return torch.cat([sounds, struck, struck * intensity + (sounds - struck) * now], -1)
