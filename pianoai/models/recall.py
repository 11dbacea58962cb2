"""Attention over what sounded: for every pitch, how much it sounded when the music was as it is now."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pianoai.models.attention import SHARPNESS, attention_weights, normalise, rotate, rotations, with_previous
from pianoai.models.frame import KINDS
from pianoai.runtime.roll import PITCHES

WIDTH = 16  # of a query and a key


class Recall(nn.Module):
    """Heads that look back at frames as they were, where a block's look at what it has made of them.

    What a head finds is the mean of the planes of sounding and struck over the frames of the window, weighed by
    attention. Pitches are not mixed, so that whatever is made of it can be tied over pitch, and a passage that comes
    again can be continued as it was (attention that points at inputs: Vinyals, Fortunato, Jaitly 2015).
    """

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.ask = nn.Linear(width, 2 * heads * WIDTH)
        self.sharpness = nn.Parameter(torch.full((2, WIDTH), SHARPNESS))
        self.register_buffer("turns", rotations(window, WIDTH), persistent=False)
        self.turns: Tensor

    @property
    def channels(self) -> int:
        """Numbers that are found of a pitch."""
        return KINDS * self.heads

    def asked(self, x: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, each (…, heads, time, WIDTH), from x (…, time, width) and turn (time, 2, WIDTH)."""
        parts = self.ask(x).view(*x.shape[:-1], 2, self.heads, WIDTH)
        q, k = (normalise(part) * sharp for part, sharp in zip(parts.unbind(-3), self.sharpness, strict=True))
        return rotate(q.transpose(-3, -2), turn) * WIDTH**-0.5, rotate(k.transpose(-3, -2), turn)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """What was found (batch, time, 88, channels), from x (batch, time, width) and planes (batch, time, 264)."""
        batch, time, _ = x.shape
        turn = self.turns[torch.arange(time) % len(self.turns)]
        weights = attention_weights(*self.asked(x, turn), self.window)  # (batch, chunks, heads, window, 2 * window)
        chunks = weights.shape[1]
        planes = F.pad(features[..., : KINDS * PITCHES], (0, 0, 0, chunks * self.window - time))
        seen = with_previous(planes.view(batch, chunks, self.window, -1))
        found = torch.matmul(weights.flatten(2, 3), seen).view(batch, chunks, self.heads, self.window, KINDS, PITCHES)
        return found.permute(0, 1, 3, 5, 2, 4).flatten(-2).flatten(1, 2)[:, :time]

    def initial_state(self) -> list[Tensor]:
        """No keys (heads, window, WIDTH) and no planes (window, 176)."""
        return [torch.zeros(self.heads, self.window, WIDTH), torch.zeros(self.window, KINDS * PITCHES)]

    def step(
        self, x: Tensor, seen: Tensor, state: list[Tensor], position: Tensor, slot: Tensor, barred: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The same for one frame x (width,), of which `seen` (176,) are the planes: (88, channels), and the state.

        `slot` and `barred` are as in Block.step.
        """
        turn = torch.index_select(self.turns, 0, (position % len(self.turns)).view(1))
        q, k = self.asked(x.unsqueeze(0), turn)  # each (heads, 1, WIDTH)
        keys, planes = state[0].index_copy(1, slot, k), state[1].index_copy(0, slot, seen.unsqueeze(0))
        weights = torch.softmax(torch.matmul(q, keys.transpose(1, 2)) + barred, -1)  # (heads, 1, window)
        found = torch.matmul(weights.squeeze(1), planes).view(self.channels, PITCHES)
        return found.transpose(0, 1), [keys, planes]

    def read(self, x: Tensor, seen: Tensor, state: list[Tensor], at: Tensor, slots: Tensor) -> list[Tensor]:
        """The state after a chunk of frames x (chunk, width) with planes (chunk, 176) at positions `at` (chunk,)."""
        _, k = self.asked(x, torch.index_select(self.turns, 0, at % len(self.turns)))
        return [state[0].index_copy(1, slots, k), state[1].index_copy(0, slots, seen)]
