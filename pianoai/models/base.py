"""What every model is: a whole pass over frames in training, a step of one frame at a time in use, and a head."""

import torch
from torch import Tensor, nn

from pianoai.models.frame import step_features
from pianoai.models.heads import Head, Independent
from pianoai.runtime.roll import NOISE

READ = 16  # frames that are read at once, if the window is not shorter
State = tuple[Tensor, Tensor, Tensor]  # a model's memory, frames seen, loudness now


class FrameModel(nn.Module):
    """A model of the next frame given the frames before it, as a whole pass and as a step.

    `forward` and `step` agree: both see at most `window` frames at a time, and nothing before a piece.
    """

    head: Head

    def __init__(self, window: int, latent: int) -> None:
        super().__init__()
        self.head = Independent()
        self.window = window
        self.latent = latent  # uniform numbers a frame that the prediction itself depends on

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """The context (batch, time, …) of the frame after each, for `head`, from features (batch, time, 265).

        `latent` (batch, time, self.latent) is uniform in [0, 1).
        """
        raise NotImplementedError

    def imagine(self, features: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Contexts (samples, batch, time, …) for as many draws of noise; `forward` says what they are of.

        A model without noise of its own has a single one.
        """
        samples = samples if self.latent else 1
        shape = samples, *features.shape[:2], self.latent
        latent = torch.rand(shape, generator=generator, device=features.device)
        repeated = features.expand(samples, *features.shape).flatten(0, 1)
        contexts: Tensor = self(repeated, latent.flatten(0, 1))
        return contexts.view(samples, -1, *contexts.shape[1:])

    def initial_state(self) -> State:
        """The state before the first frame of a piece: all zeros."""
        raise NotImplementedError

    def step(self, frame: Tensor, state: State, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, State]:
        """Read one roll row (88,), draw the next: its row, its probabilities (3, 88), the new state."""
        context, left = self.hear(frame, state, noise)
        drawn, probabilities = self.head.draw(context, frame, noise, temperature)
        return drawn, probabilities, left

    def hear(self, frame: Tensor, state: State, noise: Tensor) -> tuple[Tensor, State]:
        """Read one roll row (88,): the context of the next, and the new state."""
        memory, position, loudness = state
        features, loudness = step_features(frame, loudness)
        context, memory = self.step_context(features, memory, position, noise[NOISE:])
        return context, (memory, position + 1, loudness)

    def step_context(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The context of the next frame from the features (265,) of this one, and the new memory."""
        raise NotImplementedError

    def read(self, planes: Tensor, memory: Tensor, position: Tensor) -> Tensor:
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
        return NOISE + self.latent
