"""The baseline: the next frame is the last one, but for per-pitch flip rates counted in the training split."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pianoai.models.base import FrameModel, State
from pianoai.models.frame import level_before, split_planes
from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, LOUDEST, PITCHES, Roll


@dataclass(frozen=True)
class Config:
    """Nothing can be set."""


class Model(FrameModel):
    """Reads one frame back; its parameters are log-odds by pitch, (4, 88), and the head's, which are not fitted.

    They are: sounds after silence, sounds after sounding, struck again, intensity when struck. The level has no hold on
    that: there is no friction.
    """

    def __init__(self, config: Config, window: int) -> None:
        super().__init__(window, latent=0)
        self.odds = torch.nn.Parameter(torch.zeros(4, PITCHES), requires_grad=False)
        torch.nn.init.constant_(self.head.log_friction, -math.inf)

    def logits(self, features: Tensor) -> Tensor:
        """(…, 265) -> (…, 4, 88)."""
        sounding, _, now = split_planes(features).unbind(-2)
        sounds = torch.where(sounding > 0, self.odds[1], self.odds[0])
        again = self.odds[2].expand_as(sounds)
        # A note that goes on keeps its intensity.
        kept = now.clamp(1e-3, 1 - 1e-3)
        loud = torch.where(now > 0, torch.log(kept / (1 - kept)), self.odds[3])
        return torch.stack([sounds, again, loud, level_before(features).expand_as(loud)], -2)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """See FrameModel.forward; `latent` is not used."""
        return self.logits(features)

    def initial_state(self) -> State:
        """Nothing is remembered but how loud it is."""
        return torch.zeros(1), torch.tensor(0), torch.zeros(PITCHES + 1)

    def step_context(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See FrameModel.step_context."""
        return self.logits(features), memory

    def read(self, planes: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        return memory.clone()


def count_rates(rolls: Iterable[Roll]) -> Tensor:
    """Rates (4, 88) as Model takes them, counted over consecutive frames of rolls (frames, 88).

    Each is (events + 1) / (chances + 2): Laplace's rule of succession, so none is 0 or 1.
    """
    events = np.zeros((3, PITCHES))
    chances = np.zeros((3, PITCHES))
    loudness = np.full(PITCHES, float(DEFAULT_VELOCITY))
    strikes = np.ones(PITCHES)
    for roll in rolls:
        sounded, sounds, struck = roll[:-1] > 0, roll[1:] > 0, roll[1:] > HELD
        events += [(sounds & ~sounded).sum(0), (sounds & sounded).sum(0), (struck & sounded).sum(0)]
        chances += [(~sounded).sum(0), sounded.sum(0), (sounds & sounded).sum(0)]
        loudness += np.where(roll > HELD, roll, 0).sum(0)
        strikes += (roll > HELD).sum(0)
    rates = np.vstack([(events + 1) / (chances + 2), np.clip(loudness / strikes / LOUDEST, 1e-3, 1 - 1e-3)])
    return torch.tensor(rates, dtype=torch.float32)
