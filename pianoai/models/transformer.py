"""A decoder-only Transformer over frames, with attention banded to a window and a step with a ring of keys."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pianoai.models.base import FrameModel, State
from pianoai.models.frame import KINDS, PLANES
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
    recall_heads: int = bounded(least=1, most=64)
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
KEY_WIDTH = 16  # of a head that recalls planes


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


def normalise(x: Tensor) -> Tensor:
    """x (…, width) scaled to a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def sharp(sharpness: Tensor) -> Tensor:
    """What multiplies normalised queries and keys, (2, …, width of a head), with attention's scale in it."""
    return torch.stack([sharpness[0] * float(sharpness.shape[-1]) ** -0.5, sharpness[1]])


def chunked(x: Tensor, window: int) -> Tensor:
    """(batch, heads, time, width) -> (batch, chunks, heads, window, width), with zeros after the end."""
    batch, heads, time, width = x.shape
    chunks = -(-time // window)
    return F.pad(x, (0, 0, 0, chunks * window - time)).view(batch, heads, chunks, window, width).transpose(1, 2)


def with_previous(chunks: Tensor) -> Tensor:
    """Every chunk (batch, chunks, …, window, width) after the one before it: (…, 2 * window, width)."""
    before = torch.cat([torch.zeros_like(chunks[:, :1]), chunks[:, :-1]], 1)
    return torch.cat([before, chunks], -2)


def band(chunks: int, window: int, device: torch.device) -> Tensor:
    """Which frame of a chunk sees which of it and of the chunk before: (chunks, window, 2 * window).

    Each sees itself and the window - 1 frames before it, and nothing before the first chunk.
    """
    at, of = torch.arange(window, device=device)[:, None], torch.arange(2 * window, device=device)
    real = (torch.arange(chunks, device=device)[:, None, None] > 0) | (of >= window)
    return (of > at) & (of <= at + window) & real


def attention_weights(q: Tensor, k: Tensor, window: int) -> Tensor:
    """Causal attention in which a frame sees itself and the window - 1 frames before it.

    q, k (batch, heads, time, width). Time is cut into chunks of `window`; a chunk attends to itself and the
    chunk before, so the cost grows with time and not with its square. Returns the shares that each frame of a chunk
    gives to those of both, (batch, chunks, heads, window, 2 * window).
    """
    q, k = chunked(q, window), with_previous(chunked(k, window))
    barred = torch.where(band(q.shape[1], window, q.device), 0.0, float("-inf"))[:, None]
    return torch.softmax(torch.matmul(q, k.transpose(-2, -1)) + barred, -1)


def banded_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """The same with what it finds in v (batch, heads, time, width): (batch, heads, time, width)."""
    batch, heads, time, width = q.shape
    q, k, v = chunked(q, window), with_previous(chunked(k, window)), with_previous(chunked(v, window))
    mask = band(q.shape[1], window, q.device)[:, None].repeat(batch, 1, 1, 1)
    found = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask)
    return found.view(batch, -1, heads, window, width).transpose(1, 2).flatten(2, 3)[:, :, :time]


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

    def step(self, x: Tensor, ring: Tensor, turn: Tensor, slot: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """One frame x (width,) against the ring (2, heads, window, width / heads) of keys and values.

        `slot` (1,) is the place of the oldest key, which this frame's replaces; `barred` (window,) is 0 at
        places that hold one and minus infinity at others.
        """
        qkv = self.qkv(self.attention_norm(x)).view(3, self.heads, -1)
        q, k = rotate(normalise(qkv[:2]) * sharp(self.sharpness)[:, 0], turn).unbind(0)
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
        q, k = rotate(normalise(qkv[:2]) * sharp(self.sharpness), turn).unbind(0)  # (heads, chunk, width / heads)
        keys, values = torch.cat([ring[0], k], 1), torch.cat([ring[1], qkv[2]], 1)
        scores = torch.matmul(q, keys.transpose(1, 2)) + barred
        out = torch.matmul(torch.softmax(scores, -1), values).transpose(0, 1)
        x = x + self.mix(out.reshape(len(x), -1))
        return x + self.feedforward(x), ring.index_copy(2, slots, torch.stack([k, qkv[2]]))


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
        self.ask = nn.Linear(width, 2 * heads * KEY_WIDTH)
        self.sharpness = nn.Parameter(torch.full((2, KEY_WIDTH), SHARPNESS))
        self.register_buffer("turns", rotations(window, KEY_WIDTH), persistent=False)
        self.turns: Tensor

    @property
    def channels(self) -> int:
        """Numbers that are found of a pitch."""
        return KINDS * self.heads

    def asked(self, x: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys, each (…, heads, time, KEY_WIDTH), from x (…, time, width) and turn (time, 2, KEY_WIDTH)."""
        parts = self.ask(x).view(*x.shape[:-1], 2, self.heads, KEY_WIDTH)
        both = normalise(parts) * sharp(self.sharpness).unsqueeze(1)
        q, k = rotate(both.transpose(-4, -3).transpose(-3, -2), turn).unbind(-4)
        return q, k

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """What was found (batch, time, 88, channels), from x (batch, time, width) and features (batch, time, 265)."""
        batch, time, _ = x.shape
        turn = self.turns[torch.arange(time) % len(self.turns)]
        weights = attention_weights(*self.asked(x, turn), self.window)  # (batch, chunks, heads, window, 2 * window)
        chunks = weights.shape[1]
        planes = F.pad(features[..., : KINDS * PITCHES], (0, 0, 0, chunks * self.window - time))
        seen = with_previous(planes.view(batch, chunks, self.window, -1))
        found = torch.matmul(weights.flatten(2, 3), seen).view(batch, chunks, self.heads, self.window, KINDS, PITCHES)
        return found.permute(0, 1, 3, 5, 2, 4).flatten(-2).flatten(1, 2)[:, :time]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Those of its state: keys and planes."""
        return [(self.heads, self.window, KEY_WIDTH), (self.window, KINDS * PITCHES)]

    def step(
        self, x: Tensor, seen: Tensor, state: list[Tensor], position: Tensor, slot: Tensor, barred: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The same for one frame x (width,), of which `seen` (176,) are the planes: (88, channels), and the state.

        `slot` and `barred` are as in Block.step.
        """
        turn = torch.index_select(self.turns, 0, (position % len(self.turns)).view(1))
        q, k = self.asked(x.unsqueeze(0), turn)  # each (heads, 1, KEY_WIDTH)
        keys, planes = state[0].index_copy(1, slot, k), state[1].index_copy(0, slot, seen.unsqueeze(0))
        weights = torch.softmax(torch.matmul(q, keys.transpose(1, 2)) + barred, -1)  # (heads, 1, window)
        found = torch.matmul(weights.squeeze(1), planes).view(self.channels, PITCHES)
        return found.transpose(0, 1), [keys, planes]

    def read(self, x: Tensor, seen: Tensor, state: list[Tensor], at: Tensor, slots: Tensor) -> list[Tensor]:
        """The state after a chunk of frames x (chunk, width) with planes (chunk, 176) at positions `at` (chunk,)."""
        _, k = self.asked(x, torch.index_select(self.turns, 0, at % len(self.turns)))
        return [state[0].index_copy(1, slots, k), state[1].index_copy(0, slots, seen)]


def joined(parts: list[Tensor]) -> Tensor:
    """Parts of the memory one after the other."""
    return torch.cat([part.view(-1) for part in parts])


class Model(FrameModel):
    """The Transformer: planes of a frame -> width -> blocks -> head, which may recall earlier planes."""

    head: NoteByNote | PitchByPitch

    def __init__(self, config: Config, window: int) -> None:
        super().__init__(window, latent=0)
        width = config.embed_dim
        self.ring = (2, config.heads, window, width // config.heads)
        self.embed = nn.Linear(PLANES, width)
        self.blocks = nn.ModuleList(Block(config, window) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.recall = Recall(width, config.recall_heads, window) if config.head == "nade" else None
        if self.recall is None:
            self.head = PitchByPitch(width)
        else:
            self.head = NoteByNote(width, config.head_units, self.recall.channels)
        self.shapes = [self.ring] * config.blocks + ([] if self.recall is None else self.recall.shapes)  # of the memory
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
        x = self.dropout(self.embed(features[..., :PLANES]))
        for block in self.blocks:
            x = block(x, turn)
        x = self.norm(x)
        return self.head.context(x, features, None if self.recall is None else self.recall(x, features))

    def initial_state(self) -> State:
        """Empty rings of every block, then the state of recalling, as one array: it is written in place."""
        return torch.zeros(sum(map(math.prod, self.shapes))), torch.tensor(0), torch.zeros(PITCHES + 1)

    def split(self, memory: Tensor) -> list[Tensor]:
        """The memory in parts: rings (2, heads, window, width per head), and what recalling keeps."""
        parts = torch.split(memory, [math.prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def step_context(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See FrameModel.step_context."""
        slot = (position % self.window).view(1)
        barred = torch.where(torch.arange(self.window) <= position, 0.0, float("-inf"))
        turn = torch.index_select(self.turns, 0, (position % (4 * self.window)).view(1))[0]
        x, parts, found = self.embed(features[:PLANES]), self.split(memory), None
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, parts[index] = block.step(x, parts[index], turn, slot, barred)
        x = self.norm(x)
        if self.recall is not None:
            kept, seen = parts[len(self.blocks) :], features[: KINDS * PITCHES]
            found, parts[len(self.blocks) :] = self.recall.step(x, seen, kept, position, slot, barred)
        return self.head.context(x, features, found), joined(parts)

    def read(self, planes: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        chunk = torch.arange(self.chunk)
        at = position + chunk
        slots, turn = at % self.window, torch.index_select(self.turns, 0, at % (4 * self.window))
        age = (position - 1 - torch.arange(self.window)) % self.window + 1  # frames from a place's to `position`
        distance = torch.cat([age, -chunk]) + chunk[:, None]  # (chunk, window + chunk)
        filled = torch.cat([age, torch.zeros_like(chunk)]) <= position
        seen = (distance >= 0) & (distance < self.window) & filled
        barred = torch.where(seen, 0.0, float("-inf"))
        x, parts = self.embed(planes), self.split(memory)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, parts[index] = block.read(x, parts[index], turn, slots, barred)
        if self.recall is not None:
            kept, seen = parts[len(self.blocks) :], planes[:, : KINDS * PITCHES]
            parts[len(self.blocks) :] = self.recall.read(self.norm(x), seen, kept, at, slots)
        return joined(parts)
