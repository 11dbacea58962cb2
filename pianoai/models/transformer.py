"""A decoder-only Transformer over frames, with attention banded to a window and a step with a ring of keys."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pianoai.models.attention import SHARPNESS, banded_attention, normalise, rotate, rotations
from pianoai.models.base import FrameModel, State
from pianoai.models.frame import FEATURES, KINDS
from pianoai.models.heads import NoteByNote, PitchByPitch
from pianoai.models.recall import Recall
from pianoai.models.supervised import LikelihoodTraining
from pianoai.params import bounded
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES


@dataclass(frozen=True)
class Config:
    """The section `model` of params.yaml."""

    embed_dim: int = bounded(least=2, most=4096)
    heads: int = bounded(least=1)
    blocks: int = bounded(least=1, most=64)
    feedforward: int = bounded(least=1)
    head: str = bounded(choices=("nade", "independent"))
    head_units: int = bounded(least=1, most=1024)
    recall: int = bounded(least=1, most=64)
    dropout: float = bounded(least=0, most=0.9)
    learning_rate: float = bounded(least=0)

    def __post_init__(self) -> None:
        if self.embed_dim % self.heads:
            raise InputError(f"heads must divide model.embed_dim: {self.embed_dim} / {self.heads}")
        if self.embed_dim // self.heads % 2:
            raise InputError(
                f"heads must leave an even width per head: {self.embed_dim} / {self.heads} = "
                f"{self.embed_dim // self.heads}"
            )


Training = LikelihoodTraining
class Block(nn.Module):
    """Pre-norm block: attention, then a feed-forward layer, each added to its input.

    Queries and keys are normalised (Henry et al. 2020), with a learnt sharpness: attention then neither starts too
    flat to learn nor grows too steep.
    """

    def __init__(self, config: Config, window: int) -> None:
        super().__init__()
        width = config.embed_dim
        self.heads = config.heads
        self.window = window
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.sharpness = nn.Parameter(torch.full((2, 1, 1, width // config.heads), SHARPNESS))
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.feedforward),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.feedforward, width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """x (batch, time, width), turn (time, 2, width per head)."""
        batch, time, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, time, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, time, width / heads)
        q, k = normalise(q) * self.sharpness[0], normalise(k) * self.sharpness[1]
        out = banded_attention(rotate(q, turn), rotate(k, turn), v, self.window)
        x = x + self.dropout(self.mix(out.transpose(1, 2).reshape(batch, time, width)))
        added: Tensor = self.dropout(self.feedforward(x))
        return x + added

    def sharp(self) -> Tensor:
        """What multiplies normalised queries and keys, (2, 1, 1, width per head), with attention's scale in it."""
        scale = float(self.sharpness.shape[-1]) ** -0.5
        return torch.stack([self.sharpness[0] * scale, self.sharpness[1]])

    def step(self, x: Tensor, ring: Tensor, turn: Tensor, slot: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """One frame x (width,) against the ring (2, heads, window, width / heads) of keys and values.

        `slot` (1,) is the place of the oldest key, which this frame's replaces; `barred` (window,) is 0 at
        places that hold one and minus infinity at others.
        """
        qkv = self.qkv(self.attention_norm(x)).view(3, self.heads, -1)
        q, k = rotate(normalise(qkv[:2]) * self.sharp()[:, 0], turn).unbind(0)
        new = torch.stack([k, qkv[2]])  # (2, heads, width / heads)
        ring = ring.index_copy(2, slot, new.unsqueeze(2))
        scores = torch.matmul(q.unsqueeze(1), ring[0].transpose(1, 2)) + barred  # (heads, 1, window)
        out = torch.matmul(torch.softmax(scores, -1), ring[1])  # (heads, 1, width / heads)
        x = x + self.mix(out.reshape(-1))
        return x + self.feedforward(x), ring

    def read(self, x: Tensor, ring: Tensor, turn: Tensor, slots: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """A chunk of frames x (chunk, width) at once: what they become, and the ring with their keys and values.

        turn (chunk, 2, width per head), slots (chunk,), barred (chunk, window + chunk): 0 where a frame sees a
        place of the ring or a frame of the chunk, minus infinity elsewhere.
        """
        qkv = self.qkv(self.attention_norm(x)).view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)
        q, k = rotate(normalise(qkv[:2]) * self.sharp(), turn).unbind(0)  # (heads, chunk, width / heads)
        keys, values = torch.cat([ring[0], k], 1), torch.cat([ring[1], qkv[2]], 1)
        scores = torch.matmul(q, keys.transpose(1, 2)) + barred
        out = torch.matmul(torch.softmax(scores, -1), values).transpose(0, 1)
        x = x + self.mix(out.reshape(len(x), -1))
        return x + self.feedforward(x), ring.index_copy(2, slots, torch.stack([k, qkv[2]]))


class Model(FrameModel):
    """The Transformer: planes of a frame -> width -> blocks -> head, which may recall earlier planes."""

    head: NoteByNote | PitchByPitch

    def __init__(self, config: Config, window: int) -> None:
        super().__init__(window, latent=0)
        width = config.embed_dim
        self.ring = (2, config.heads, window, width // config.heads)
        self.embed = nn.Linear(FEATURES, width)
        self.blocks = nn.ModuleList(Block(config, window) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.recall = Recall(width, config.recall, window) if config.head == "nade" else None
        self.head = PitchByPitch(width)
        if self.recall is not None:
            self.head = NoteByNote(width, config.head_units, self.recall.channels)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("turns", rotations(window, width // config.heads), persistent=False)
        self.turns: Tensor

    @property
    def reach(self) -> int:
        """See FrameModel.reach: every block looks window - 1 frames further back, and so does recalling."""
        return (len(self.blocks) + (self.recall is not None)) * (self.window - 1) + 1

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """See FrameModel.forward; `latent` is not used."""
        time = features.shape[1]
        turn = self.turns[torch.arange(time) % len(self.turns)]
        x = self.dropout(self.embed(features))
        for block in self.blocks:
            x = block(x, turn)
        x = self.norm(x)
        return self.head.context(x, features, None if self.recall is None else self.recall(x, features))

    def initial_state(self) -> State:
        """Empty rings of every block, then the state of recalling, as one array: it is written in place."""
        return self.joined(self.parts()), torch.tensor(0), torch.zeros(PITCHES)

    def parts(self) -> list[Tensor]:
        """The memory before the first frame: rings (2, heads, window, width per head), and what recalling keeps."""
        rings = [torch.zeros(self.ring) for _ in self.blocks]
        return rings + ([] if self.recall is None else self.recall.initial_state())

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Parts of the memory one after the other."""
        return torch.cat([part.view(-1) for part in parts])

    def split(self, memory: Tensor) -> list[Tensor]:
        """The memory in parts."""
        found, begin = [], 0
        for part in self.parts():
            end = begin + math.prod(part.shape)
            found.append(memory[begin:end].view(part.shape))
            begin = end
        return found

    def step_context(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See FrameModel.step_context."""
        slot = (position % self.window).view(1)
        barred = torch.where(torch.arange(self.window) <= position, 0.0, float("-inf"))
        turn = torch.index_select(self.turns, 0, (position % (4 * self.window)).view(1))[0]
        x, parts, found = self.embed(features), self.split(memory), None
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, parts[index] = block.step(x, parts[index], turn, slot, barred)
        x = self.norm(x)
        if self.recall is not None:
            kept, seen = parts[len(self.blocks) :], features[: KINDS * PITCHES]
            found, parts[len(self.blocks) :] = self.recall.step(x, seen, kept, position, slot, barred)
        return self.head.context(x, features, found), self.joined(parts)

    def read(self, features: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        chunk = torch.arange(self.chunk)
        at = position + chunk
        slots, turn = at % self.window, torch.index_select(self.turns, 0, at % (4 * self.window))
        age = (position - 1 - torch.arange(self.window)) % self.window + 1  # frames from a place's to `position`
        distance = torch.cat([age, -chunk]) + chunk[:, None]  # (chunk, window + chunk)
        filled = torch.cat([age, torch.zeros_like(chunk)]) <= position
        seen = (distance >= 0) & (distance < self.window) & filled
        barred = torch.where(seen, 0.0, float("-inf"))
        x, parts = self.embed(features), self.split(memory)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, parts[index] = block.read(x, parts[index], turn, slots, barred)
        if self.recall is not None:
            kept, planes = parts[len(self.blocks) :], features[:, : KINDS * PITCHES]
            parts[len(self.blocks) :] = self.recall.read(self.norm(x), planes, kept, at, slots)
        return self.joined(parts)
