"""What attention over a window of frames is made of: rotary positions, normalised queries and keys, and the band."""

import torch
from torch import Tensor
from torch.nn import functional as F

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


def normalise(x: Tensor) -> Tensor:
    """x (…, width) scaled to a root mean square of 1."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def chunked(x: Tensor, window: int) -> Tensor:
    """(batch, heads, time, width) -> (batch, chunks, heads, window, width), with zeros after the end."""
    batch, heads, time, width = x.shape
    chunks = -(-time // window)
    return F.pad(x, (0, 0, 0, chunks * window - time)).view(batch, heads, chunks, window, width).transpose(1, 2)


def with_previous(chunks: Tensor) -> Tensor:
    """Every chunk (batch, chunks, …, window, width) after the one before it: (…, 2 * window, width)."""
    before = torch.cat([torch.zeros_like(chunks[:, :1]), chunks[:, :-1]], 1)
    return torch.cat([before, chunks], -2)


def band(chunks: int, window: int) -> Tensor:
    """Which frame of a chunk sees which of it and of the chunk before: (chunks, window, 2 * window).

    Each sees itself and the window - 1 frames before it, and nothing before the first chunk.
    """
    at, of = torch.arange(window)[:, None], torch.arange(2 * window)
    real = (torch.arange(chunks)[:, None, None] > 0) | (of >= window)
    return (of > at) & (of <= at + window) & real


def attention_weights(q: Tensor, k: Tensor, window: int) -> Tensor:
    """Causal attention in which a frame sees itself and the window - 1 frames before it.

    q, k (batch, heads, time, width). Time is cut into chunks of `window`; a chunk attends to itself and the
    chunk before, so the cost grows with time and not with its square. Returns the shares that each frame of a chunk
    gives to those of both, (batch, chunks, heads, window, 2 * window).
    """
    q, k = chunked(q, window), with_previous(chunked(k, window))
    barred = torch.where(band(q.shape[1], window), 0.0, float("-inf"))[:, None]
    return torch.softmax(torch.matmul(q, k.transpose(-2, -1)) + barred, -1)


def banded_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """The same with what it finds in v (batch, heads, time, width): (batch, heads, time, width)."""
    batch, heads, time, width = q.shape
    q, k, v = chunked(q, window), with_previous(chunked(k, window)), with_previous(chunked(v, window))
    mask = band(q.shape[1], window)[:, None].repeat(batch, 1, 1, 1)
    found = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask)
    return found.view(batch, -1, heads, window, width).transpose(1, 2).flatten(2, 3)[:, :, :time]
