"""What every model shares: the planes it reads, the logits it answers with, how a frame is drawn."""

import torch
from torch import Tensor, nn

from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, LOUDEST, PITCHES, SOFTEST

FEATURES = 3 * PITCHES  # of a frame that a model reads: sounding, struck, intensity
OUTPUTS = 3  # rows of logits: sounds, is struck again if it sounds and sounded before, intensity if struck
READ = 16  # frames that are read at once, if the window is not shorter
RARELY = -3.0  # the logit of about one pitch in twenty
State = tuple[Tensor, Tensor, Tensor]  # a model's memory, frames seen, intensities now


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
    probabilities = torch.sigmoid(logits)
    tempered = torch.sigmoid(logits / temperature)
    sounds = noise[:PITCHES] < tempered[0]
    again = noise[PITCHES : 2 * PITCHES] < tempered[1]
    strike = torch.logical_and(sounds, torch.logical_or(again, frame <= 0))
    velocity = torch.clamp(torch.round(probabilities[2] * LOUDEST), SOFTEST, LOUDEST)
    silent = torch.zeros_like(velocity)
    drawn = torch.where(strike, velocity, torch.where(sounds, torch.full_like(velocity, HELD), silent))
    return drawn, probabilities


def output_layer(width: int) -> nn.Linear:
    """The layer to 264 logits; it begins by expecting few notes, as music has, which spares the first steps."""
    layer = nn.Linear(width, OUTPUTS * PITCHES)
    with torch.no_grad():
        layer.bias[:PITCHES] = RARELY
    return layer


def split_logits(out: Tensor) -> Tensor:
    """(…, 264) -> (…, 3, 88)."""
    return out.view(*out.shape[:-1], OUTPUTS, PITCHES)


class FrameModel(nn.Module):
    """A model of the next frame given the frames before it, as a whole pass and as a step.

    `forward` and `step` agree: both see at most `window` frames at a time, and nothing before a piece.
    """

    def __init__(self, window: int, latent: int) -> None:
        super().__init__()
        self.window = window
        self.latent = latent  # uniform numbers a frame that the prediction itself depends on

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """Logits (batch, time, 3, 88) of the frame after each, from planes (batch, time, 264).

        `latent` (batch, time, self.latent) is uniform in [0, 1).
        """
        raise NotImplementedError

    def initial_state(self) -> State:
        """The state before the first frame of a piece: all zeros."""
        raise NotImplementedError

    def step(self, frame: Tensor, state: State, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read one roll row (88,), draw the next: its row, its probabilities (3, 88), the new state."""
        memory, position, intensity = state
        features, intensity = step_planes(frame, intensity)
        logits, memory = self.step_logits(features, memory, position, noise[2 * PITCHES :])
        drawn, probabilities = draw(logits, frame, noise, temperature)
        return drawn, probabilities, (memory, position + 1, intensity)

    def step_logits(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (3, 88) of the next frame from the planes (264,) of this one, and the new memory."""
        raise NotImplementedError

    def read(self, features: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """The memory after `chunk` more frames, from their planes (chunk, 264): what as many steps leave, at once."""
        raise NotImplementedError

    @property
    def chunk(self) -> int:
        """How many frames `read` takes."""
        return min(READ, self.window)

    @property
    def reach(self) -> int:
        """How many frames, the last one included, can make a difference to the next; `window`, unless layers chain."""
        return self.window

    @property
    def noise(self) -> int:
        """How many uniform numbers a step takes."""
        return 2 * PITCHES + self.latent


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
