"""Operators that read and write elements by index or mask, and whole tensors in place."""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

from typing import Any

import numpy as np

from pianoai.runtime.operators.promotion import Array, Operator, array, as_dtype
from pianoai.runtime.operators.shapes import ALL, wrap


def _indices(indices: list[Array | None]) -> Any:
    return tuple(slice(None) if i is None else i.astype(bool) if i.dtype == np.uint8 else i for i in indices)


def index(x: Array, indices: list[Array | None]) -> Array:
    # NumPy takes a 0-dimensional index for a number and gives a view; PyTorch always copies.
    return np.array(x[_indices(indices)])


def index_put_(x: Array, indices: list[Array | None], values: Array, accumulate: bool = False) -> Array:
    if accumulate:
        np.add.at(x, _indices(indices), values)
    else:
        x[_indices(indices)] = values
    return x


def index_select(x: Array, dim: int, index: Array) -> Array:
    return np.take(x, index.reshape(-1), dim) if x.ndim else x.copy()


def _at(x: Array, dim: int, index: Array) -> Any:
    return (*ALL[wrap(dim, x.ndim)], index.reshape(-1))


def index_copy_(x: Array, dim: int, index: Array, source: Array) -> Array:
    x[_at(x, dim, index)] = source
    return x


def index_fill_(x: Array, dim: int, index: Array, value: Any) -> Array:
    x[_at(x, dim, index)] = as_dtype(value, x.dtype)
    return x


def index_add_(x: Array, dim: int, index: Array, source: Array, *, alpha: Any = 1) -> Array:
    np.add.at(x, _at(x, dim, index), as_dtype(source * alpha, x.dtype))
    return x


def _along(index: Array, dim: int) -> tuple[Array, ...]:
    places = list(np.ogrid[tuple(slice(n) for n in index.shape)])
    places[wrap(dim, index.ndim)] = index
    return tuple(places)


def gather(x: Array, dim: int, index: Array, *, sparse_grad: bool = False) -> Array:
    return array(x[_along(index, dim)])


def _source(source: Any, index: Array) -> Any:
    return source[tuple(slice(n) for n in index.shape)] if isinstance(source, np.ndarray) and source.ndim else source


def scatter_(x: Array, dim: int, index: Array, source: Any, *, reduce: str | None = None) -> Array:
    if reduce is not None:
        raise TypeError("scatter with reduce is not supported; use scatter_add")
    x[_along(index, dim)] = as_dtype(_source(source, index), x.dtype)
    return x


def scatter_add_(x: Array, dim: int, index: Array, source: Array) -> Array:
    np.add.at(x, _along(index, dim), _source(source, index))
    return x


def masked_select(x: Array, mask: Array) -> Array:
    both: tuple[Array, ...] = np.broadcast_arrays(x, mask)
    return both[0][both[1]]


def nonzero(x: Array) -> Array:
    return np.argwhere(x)


def copy_(x: Array, source: Any, non_blocking: bool = False) -> Array:
    x[...] = source
    return x


def fill_(x: Array, value: Any) -> Array:
    x[...] = as_dtype(value, x.dtype)
    return x


def zero_(x: Array) -> Array:
    x[...] = 0
    return x


def _on_a_copy(function: Operator) -> Operator:
    def apply(x: Array, *args: Any, **kwargs: Any) -> Array:
        result: Array = function(x.copy(), *args, **kwargs)
        return result

    return apply


WRITES: dict[str, Operator] = {
    "index_put": index_put_,
    "index_copy": index_copy_,
    "index_fill": index_fill_,
    "index_add": index_add_,
    "scatter": scatter_,
    "scatter_add": scatter_add_,
}
FUNCTIONS: dict[str, Operator] = {
    "index": index,
    "index_select": index_select,
    "gather": gather,
    "masked_select": masked_select,
    "nonzero": nonzero,
    "copy_": copy_,
    "fill_": fill_,
    "zero_": zero_,
}
INDEXING = {f"torch.{name}": function for name, function in FUNCTIONS.items()}
INDEXING |= {f"torch.{name}_": function for name, function in WRITES.items()}
INDEXING |= {f"torch.{name}": _on_a_copy(function) for name, function in WRITES.items()}
