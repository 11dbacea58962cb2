"""Operators that look at parts of a tensor, rearrange it or join tensors.

What is a view of its argument in PyTorch is one here, so writes reach the tensor behind it.
"""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

import math
from typing import Any

import numpy as np

from pianoai.runtime.operators.promotion import (
    Array,
    Operator,
    array,
    as_dtype,
    in_place,
    promoted,
    result_dtype,
)

ALL: tuple[Any, ...] = tuple((slice(None),) * dim for dim in range(65))  # ALL[dim]: the dimensions before `dim`, whole


def wrap(dim: int, ndim: int) -> int:
    """A dimension counted from the front; raises IndexError."""
    if not -max(ndim, 1) <= dim < max(ndim, 1):
        raise IndexError(f"dimension {dim} of a tensor with {ndim}")
    return dim + ndim if dim < 0 else dim


def part(x: Array, dim: int, index: Any) -> Array:
    """``x[:, …, index]`` with `index` at `dim`; always an array."""
    result: Array = x[(*(ALL[dim] if 0 <= dim < x.ndim else ALL[wrap(dim, x.ndim)]), index, ...)]
    return result


def select(x: Any, *args: int) -> Any:
    if isinstance(x, list):
        return x[args[0]]
    dim, index = args
    return part(x, dim, index)


def take(x: Any, *args: Any) -> Any:
    if not isinstance(x, np.ndarray):
        start, end, step = list(args) + [None, None, 1][len(args) :]
        return x[start:end:step]
    dim, start, end, step = list(args) + [0, None, None, 1][len(args) :]
    if not start and step == 1 and (end is None or end >= x.shape[dim]):
        return x
    return part(x, dim, slice(start, end, step))


def narrow(x: Array, dim: int, start: Any, length: int) -> Array:
    start = int(start)
    start += x.shape[dim] if start < 0 else 0
    if start + length > x.shape[dim]:
        raise IndexError(f"narrow: {start} + {length} is beyond {x.shape[dim]}")
    return part(x, dim, slice(start, start + length))


def unbind(x: Array, dim: int = 0) -> list[Array]:
    return [part(x, dim, index) for index in range(x.shape[dim])]


def split_with_sizes(x: Array, sizes: list[int], dim: int = 0) -> list[Array]:
    ends = np.cumsum(sizes).tolist()
    if ends[-1] != x.shape[dim]:
        raise ValueError(f"split: the sizes {sizes} do not add up to {x.shape[dim]}")
    return [part(x, dim, slice(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def split(x: Array, size: Any, dim: int = 0) -> list[Array]:
    if isinstance(size, list):
        return split_with_sizes(x, size, dim)
    return [part(x, dim, slice(at, at + size)) for at in range(0, max(x.shape[dim], 1), size)]


def chunk(x: Array, chunks: int, dim: int = 0) -> list[Array]:
    if x.shape[dim] == 0:
        return [x] * chunks
    return split(x, -(-x.shape[dim] // chunks), dim)


def unsqueeze(x: Array, dim: int) -> Array:
    result: Array = x[(*ALL[wrap(dim, x.ndim + 1)], None, ...)]
    return result


def squeeze(x: Array, dim: Any = None) -> Array:
    if dim is None:
        return x.squeeze()
    dims = dim if isinstance(dim, list) else [dim]
    return x.squeeze(tuple(d for d in (wrap(d, x.ndim) for d in dims) if x.ndim and x.shape[d] == 1))


def transpose(x: Array, dim0: int, dim1: int) -> Array:
    return x.swapaxes(dim0, dim1) if x.ndim else x


def t(x: Array) -> Array:
    return x.T


def matrix_transpose(x: Array) -> Array:
    return x.swapaxes(-1, -2) if x.ndim else x


def permute(x: Array, dims: list[int]) -> Array:
    return x.transpose(dims)


def reshape(x: Array, shape: list[int]) -> Array:
    return x.reshape(shape)


def view_as(x: Array, other: Array) -> Array:
    return x.reshape(other.shape)


def flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    if x.ndim == 0:
        return x.reshape(1)
    start, end = wrap(start_dim, x.ndim), wrap(end_dim, x.ndim)
    return x.reshape((*x.shape[:start], int(np.prod(x.shape[start : end + 1])), *x.shape[end + 1 :]))


def unflatten(x: Array, dim: int, sizes: list[int]) -> Array:
    dim = wrap(dim, x.ndim)
    known = -int(np.prod(sizes))
    sizes = [x.shape[dim] // known if size == -1 else size for size in sizes]
    return x.reshape((*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


def unfold(x: Array, dim: int, size: int, step: int) -> Array:
    """Windows of `size` along a dimension, which become the last one: a view, as in PyTorch."""
    if not x.ndim:  # PyTorch takes a number for a vector of one
        x = x.reshape(1)
    dim = wrap(dim, x.ndim)
    if not 0 <= size <= x.shape[dim] or step < 1:
        raise ValueError(f"unfold: windows of {size} in steps of {step} do not fit into {x.shape[dim]}")
    count = (x.shape[dim] - size) // step + 1
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :], size)
    if 0 in shape:
        return np.empty(shape, x.dtype)
    whole = x if x.flags.c_contiguous else x.copy()
    strides = (*whole.strides[:dim], step * whole.strides[dim], *whole.strides[dim + 1 :], whole.strides[dim])
    return np.ndarray(shape, x.dtype, whole, 0, strides)


def expand(x: Array, sizes: list[int], *, implicit: bool = False) -> Array:
    own = (1,) * (len(sizes) - x.ndim) + x.shape
    return broadcast(x, tuple(had if want == -1 else want for had, want in zip(own, sizes, strict=True)))


def expand_as(x: Array, other: Array) -> Array:
    return broadcast(x, other.shape)


def broadcast(x: Array, shape: tuple[int, ...]) -> Array:
    """`numpy.broadcast_to` by NumPy's core alone: a view that cannot be written to. Raises ValueError."""
    if min(shape, default=0) < 0 or len(shape) < x.ndim:
        raise ValueError(f"expand: {x.shape} to {shape}")
    with np.nditer(x, ["multi_index", "refs_ok", "zerosize_ok"], ["readonly"], itershape=shape, order="C") as iterator:
        result: Array = iterator.itviews[0]
    return result


def repeat(x: Array, repeats: list[int]) -> Array:
    return np.tile(x, repeats)


def repeat_interleave(x: Array, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Array:
    return np.repeat(x, repeats, dim)


def flip(x: Array, dims: list[int]) -> Array:
    result: Array = np.flip(x, tuple(dims)).copy() if x.ndim else x.copy()
    return result


def roll(x: Array, shifts: list[int], dims: list[int] | None = None) -> Array:
    return np.roll(x, shifts, dims) if dims else np.roll(x, shifts)


def cat(tensors: list[Array], dim: int = 0) -> Array:
    # An empty one-dimensional tensor joins with anything, by an old rule of PyTorch's.
    kept = [x for x in tensors if x.shape != (0,)] or tensors
    dtype = kept[0].dtype
    if any(x.dtype != dtype for x in tensors):
        kept = [as_dtype(x, result_dtype(*tensors)) for x in kept]
    return np.concatenate(kept, dim)


def stack(tensors: list[Array], dim: int = 0) -> Array:
    return np.stack(promoted(*tensors), dim)


def _places(size: int, before: int, after: int, mode: str) -> Array:
    """Where each element of a padded dimension comes from; negative amounts cut off."""
    first, last = max(-before, 0), size - max(-after, 0)  # of those that are not cut off
    most = {"reflect": size - 1, "circular": max(last - first, 0)}.get(mode, math.inf)
    if max(before, after) > most:
        raise ValueError(f"pad: {before} and {after} for {size} elements")
    places = np.arange(-before, size + after)
    if mode == "replicate":
        return places.clip(0, size - 1)
    if mode == "reflect":
        return array(size - 1 - np.abs(size - 1 - np.abs(places)))
    return (places - first) % max(last - first, 1) + first


def pad(x: Array, pad: list[int], mode: str = "constant", value: Any = None) -> Array:
    """`pad` counts from the last dimension: before, after, before, after, …"""
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    if not widths:
        return x.copy()
    if mode != "constant":
        for d, (before, after) in enumerate(widths):
            if before or after:
                x = np.take(x, _places(x.shape[d], before, after, mode), d)
        return x
    x = x[tuple(slice(max(-a, 0), x.shape[d] + min(b, 0)) for d, (a, b) in enumerate(widths))]
    return padded(x, [(max(before, 0), max(after, 0)) for before, after in widths], value or 0)


def padded(x: Array, widths: list[tuple[int, int]], value: Any) -> Array:
    """`numpy.pad` with one value, by NumPy's core alone."""
    result = np.full(
        [before + size + after for size, (before, after) in zip(x.shape, widths, strict=True)], value, x.dtype
    )
    result[tuple(slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True))] = x
    return result


def constant_pad_nd(x: Array, padding: list[int], value: Any = 0) -> Array:
    return pad(x, padding, "constant", value)


def tril(x: Array, diagonal: int = 0) -> Array:
    return np.tril(x, diagonal)


def triu(x: Array, diagonal: int = 0) -> Array:
    return np.triu(x, diagonal)


FUNCTIONS: dict[str, Operator] = {
    "select": select,
    "slice": take,
    "narrow": narrow,
    "unbind": unbind,
    "split": split,
    "split_with_sizes": split_with_sizes,
    "chunk": chunk,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "transpose": transpose,
    "t": t,
    "numpy_T": t,
    "mT": matrix_transpose,
    "tile": repeat,
    "permute": permute,
    "reshape": reshape,
    "view": reshape,
    "view_as": view_as,
    "flatten": flatten,
    "unflatten": unflatten,
    "unfold": unfold,
    "expand": expand,
    "expand_as": expand_as,
    "repeat": repeat,
    "repeat_interleave": repeat_interleave,
    "flip": flip,
    "roll": roll,
    "cat": cat,
    "concat": cat,
    "stack": stack,
    "pad": pad,
    "constant_pad_nd": constant_pad_nd,
    "tril": tril,
    "triu": triu,
    "tril_": in_place(tril),
    "triu_": in_place(triu),
}
SHAPES = {f"torch.{name}": function for name, function in FUNCTIONS.items()}
