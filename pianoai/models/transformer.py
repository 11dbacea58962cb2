"""A decoder-only Transformer over frames, with attention banded to a window and a step with a ring of keys."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pianoai.models.base import FrameModel, State
from pianoai.models.frame import FEATURES
from pianoai.models.heads import NoteByNote, PitchByPitch
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
SHARPNESS = 1.5  # of queries and of keys, at first


def rotations(window: int, width: int) -> Tensor:
    """Cosines and sines (4 * window, 2, width) of rotary positions (Su et al. 2021), as `rotate` takes them.

    The original's frequencies are replaced by whole turns per 4 * window frames, spaced geometrically
    from one turn up to one turn in two frames: positions then repeat exactly after 4 * window frames, so that
    generation goes on for ever without a growing number, and no two distances within the band look alike.
    """
    period = 4 * window
    turns = torch.logspace(0, torch.log2(torch.tensor(period / 2)).item(), width // 2, 2).round()
    parts = torch.arange(period)[:, None] * turns.long() % period  # whole numbers, so that repeats are exact
    angles = 2 * torch.pi * parts.double() / period
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)], 1).float()


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the pairs (first half, second half) of x (…, width) by turn (…, 2, width)."""
    first, second = x.chunk(2, -1)
    cos, sin = turn.unbind(-2)
    return x * cos + torch.cat([second, first], -1) * sin


def banded_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention in which a frame sees itself and the window - 1 frames before it.

    q, k, v (batch, heads, time, width). Time is cut into chunks of `window`; a chunk attends to itself and the
    chunk before, so the cost grows with time and not with its square.
    """
    batch, heads, time, width = q.shape
    chunks = -(-time // window)
    pad = chunks * window - time

    def chunked(x: Tensor) -> Tensor:  # -> (batch, chunks, heads, window, width)
        return F.pad(x, (0, 0, 0, pad)).view(batch, heads, chunks, window, width).transpose(1, 2)

    def with_previous(x: Tensor) -> Tensor:  # -> (batch * chunks, heads, 2 * window, width)
        return torch.cat([F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1], x], -2).flatten(0, 1)

    at = torch.arange(window, device=q.device)[:, None]
    of = torch.arange(2 * window, device=q.device)
    band = (of > at) & (of <= at + window)  # (window, 2 * window)
    real = (torch.arange(chunks, device=q.device)[:, None] > 0) | (of >= window)  # (chunks, 2 * window)
    mask = (band & real[:, None, :])[:, None].repeat(batch, 1, 1, 1)
    out = F.scaled_dot_product_attention(
        chunked(q).flatten(0, 1), with_previous(chunked(k)), with_previous(chunked(v)), attn_mask=mask
    )
    return out.view(batch, chunks, heads, window, width).transpose(1, 2).flatten(2, 3)[:, :, :time]


def normalise(x: Tensor) -> Tensor:
    """x (…, width) scaled to a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


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
    """The Transformer: planes of a frame -> width -> blocks -> head."""

    head: NoteByNote | PitchByPitch

    def __init__(self, config: Config, window: int) -> None:
        super().__init__(window, latent=0)
        self.shape = (config.blocks, 2, config.heads, window, config.embed_dim // config.heads)
        self.embed = nn.Linear(FEATURES, config.embed_dim)
        self.blocks = nn.ModuleList(Block(config, window) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.embed_dim)
        width = config.embed_dim
        self.head = NoteByNote(width, config.head_units) if config.head == "nade" else PitchByPitch(width)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("turns", rotations(window, config.embed_dim // config.heads), persistent=False)
        self.turns: Tensor

    @property
    def reach(self) -> int:
        """See FrameModel.reach: every block looks window - 1 frames further back."""
        return len(self.blocks) * (self.window - 1) + 1

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """See FrameModel.forward; `latent` is not used."""
        time = features.shape[1]
        turn = self.turns[torch.arange(time) % len(self.turns)]
        x = self.dropout(self.embed(features))
        for block in self.blocks:
            x = block(x, turn)
        return self.head.context(self.norm(x), features)

    def initial_state(self) -> State:
        """Empty rings (blocks, 2, heads, window, width per head)."""
        return torch.zeros(self.shape), torch.tensor(0), torch.zeros(PITCHES)

    def step_context(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See FrameModel.step_context."""
        slot = (position % self.window).view(1)
        barred = torch.where(torch.arange(self.window) <= position, 0.0, float("-inf"))
        turn = torch.index_select(self.turns, 0, (position % (4 * self.window)).view(1))[0]
        x = self.embed(features)
        rings: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, ring = block.step(x, memory[index], turn, slot, barred)
            rings.append(ring)
        return self.head.context(self.norm(x), features), torch.stack(rings)

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
        x = self.embed(features)
        rings: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, ring = block.read(x, memory[index], turn, slots, barred)
            rings.append(ring)
        return torch.stack(rings)
