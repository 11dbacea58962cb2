"""Frames as models see them: the planes they read, the logits they answer with, how a frame is drawn."""

import torch
from torch import Tensor, nn

from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, LOUDEST, PITCHES

PLANES = 3 * PITCHES  # of a frame: sounding, struck, intensity
FEATURES = PLANES + 1  # of a frame that a model reads: its planes, and its level
KINDS = 2  # of what is seen of a pitch besides how loud it is: it sounds, it is struck
# Rows of logits: sounds; is struck again if it sounds and sounded before; what its intensity is drawn around if struck.
OUTPUTS = 3
RARELY = -3.0  # the logit of about one pitch in twenty


def read_features(rolls: Tensor, velocities: Tensor, levels: Tensor) -> Tensor:
    """What a model reads, (batch, time, 265), of rolls and the velocities of their sounding cells.

    Both are uint8 (batch, time, 88); `levels` (batch, time) are those of `roll.levels`. The first 264 are planes of
    float32: sounding, struck, intensity.
    """
    sounding = (rolls > 0).float()
    struck = (rolls > HELD).float()
    return torch.cat([sounding, struck, velocities.float() / LOUDEST, levels.unsqueeze(-1)], -1)


def step_features(frame: Tensor, loudness: Tensor) -> tuple[Tensor, Tensor]:
    """The features (265,) of one roll row (88,) and the new loudness, from that of the frame before.

    Loudness (89,) is how loud every pitch sounds, and the level; 0 where it is not known.
    """
    known = torch.where(loudness > 0, loudness, torch.full_like(loudness, DEFAULT_VELOCITY / LOUDEST))
    sounding, struck = (frame > 0).float(), (frame > HELD).float()
    intensity = torch.where(frame > HELD, frame / LOUDEST, sounding * known[:PITCHES])
    strikes = struck.sum()
    mean = torch.round((struck * frame).sum() / torch.clamp(strikes, 1, PITCHES)) / LOUDEST
    now = torch.cat([intensity, torch.where(strikes > 0, mean, known[PITCHES]).view(1)])
    return torch.cat([sounding, struck, now]), now


def split_planes(features: Tensor) -> Tensor:
    """Planes (…, 3, 88) of features (…, 265), or of planes (…, 264) that stand in one row."""
    return features[..., :PLANES].view(*features.shape[:-1], 3, PITCHES)


def noise_quantiles(frame: Tensor, noise: Tensor, temperature: Tensor) -> Tensor:
    """What logits (3, 88) are drawn with: the values of two distributions that random numbers stand for, (3, 88).

    `noise` (177 or more,) is uniform in [0, 1), and the scale of the distributions is `temperature`. A number u is
    below sigmoid(l / t) where the logit l is above t log(u / (1 - u)), a logistic distribution: so it is seen whether a
    pitch sounds, and is struck again, which one that did not sound in the row before always is. The third, the same
    for all pitches, is for their velocities, of a Laplace distribution.
    """
    choices, loud = noise[: KINDS * PITCHES].view(KINDS, PITCHES), noise[KINDS * PITCHES]
    sounds, again = (temperature * torch.log(choices / (1 - choices))).unbind(0)
    louder = (temperature * laplace_quantile(loud)).expand(PITCHES)
    return torch.stack([sounds, torch.where(frame > 0, again, torch.full_like(again, float("-inf"))), louder])


def laplace_quantile(uniform: Tensor) -> Tensor:
    """Log 2u below the middle, -log 2 (1 - u) above."""
    below, above = torch.log(torch.clamp(2 * torch.stack([uniform, 1 - uniform]), 0, 1)).unbind(0)
    return below - above


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


def level_logit(level: Tensor) -> Tensor:
    """The logit of an intensity; that of the loudest velocity is finite, and still rounded to it."""
    level = torch.clamp(level, 0.25 / LOUDEST, 1 - 0.25 / LOUDEST)
    return torch.log(level / (1 - level))


def level_before(features: Tensor) -> Tensor:
    """The logit (…, 1) of the level, from features (…, 265) of a frame."""
    return level_logit(features[..., PLANES:])


def relative(logits: Tensor, features: Tensor, pull: Tensor) -> Tensor:
    """Logits (…, 3, 88) whose last row was relative to the level of the last frame, and that level: (…, 4, 88).

    Of the level's own logit the share `pull` is taken off: where it is high, what comes is rather lower.
    """
    before = level_before(features).unsqueeze(-1).expand_as(logits[..., KINDS:, :])
    return torch.cat([logits[..., :KINDS, :], logits[..., KINDS:, :] + (1 - pull) * before, before], -2)


def expected_intensity(logits: Tensor, planes: Tensor, loud: Tensor) -> Tensor:
    """Intensities (…, 88) of pitches if they sound, from logits (…, 3, 88) and planes (…, 3, 88) of the frame before.

    Those that are struck have the intensities `loud` (…, 88); what sounds already and is not struck again stays as
    loud as it is.
    """
    again = torch.sigmoid(logits[..., 1, :])
    before, _, now = planes.unbind(-2)
    return loud + before * (1 - again) * (now - loud)


def drawn_planes(logits: Tensor, before: Tensor, sounds: Tensor, again: Tensor) -> Tensor:
    """Planes (…, 176) of sounding and struck of a frame whose notes were drawn, differentiable in logits (…, 3, 88).

    `sounds`, `again` (…, 88) are 0 or 1; `before` (…, 88) is 1 where a pitch sounded in the frame before. A plane has
    the value of the draw and the gradient of the probability: the straight-through estimator of Bengio, Leonard,
    Courville 2013.
    """
    p_sounds, p_again = torch.sigmoid(logits[..., :KINDS, :]).unbind(-2)
    sounds = sounds + p_sounds - p_sounds.detach()
    again = again + p_again - p_again.detach()
    return torch.cat([sounds, sounds * (1 - before + before * again)], -1)
