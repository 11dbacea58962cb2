"""Operators that sum, compare or count along dimensions."""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

from typing import Any

import numpy as np

from pianoai.runtime.operators.elementwise import maximum, minimum
from pianoai.runtime.operators.promotion import (
    BOOL,
    INT64,
    Array,
    DType,
    Operator,
    array,
    dtype_of,
    floating,
)
from pianoai.runtime.operators.shapes import part

Dims = list[int] | int | None

# Their stubs know no dtype together with keepdims.
_ADD: Any = np.add.reduce
_MULTIPLY: Any = np.multiply.reduce
_MAXIMUM: Any = np.maximum.reduce
_MINIMUM: Any = np.minimum.reduce


def axes(dim: Dims, x: Array) -> Any:
    """NumPy's axis argument; no dimension, or an empty list, means all of them. A number has dimension 0 in PyTorch."""
    if not x.ndim and dim in (0, -1, [0], [-1]):
        return None
    if isinstance(dim, list):
        return tuple(dim) or None
    return None if dim is None else (dim,)


def _wide(x: Array, dtype: int | None) -> DType:
    """The dtype in which PyTorch adds: int64 for whole numbers unless told otherwise."""
    if dtype is not None:
        return dtype_of(dtype)
    return x.dtype if x.dtype.kind == "f" else INT64


def sum(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    return array(_ADD(x, axes(dim, x), _wide(x, dtype), keepdims=keepdim))


def prod(x: Array, dim: int | None = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    return array(_MULTIPLY(x, axes(dim, x), _wide(x, dtype), keepdims=keepdim))


def mean(x: Array, dim: Dims = None, keepdim: bool = False, *, dtype: int | None = None) -> Array:
    if dtype is not None:
        x = x.astype(dtype_of(dtype))
    if x.dtype.kind != "f":
        raise TypeError("mean needs a floating-point tensor")
    return array(np.mean(x, axes(dim, x), keepdims=keepdim))


def _variance(x: Array, args: tuple[Any, ...], correction: float | None, keepdim: bool) -> Array:
    """Overloads: (unbiased), (dim, unbiased, keepdim) and (dim, *, correction, keepdim)."""
    dim: Dims = None
    if len(args) == 1 and isinstance(args[0], bool):
        correction = float(args[0])
    elif args:
        dim = args[0]
        correction = float(args[1]) if len(args) > 1 else correction
        keepdim = args[2] if len(args) > 2 else keepdim
    return array(np.var(x, axes(dim, x), ddof=1.0 if correction is None else correction, keepdims=keepdim))


def var(x: Array, *args: Any, correction: float | None = None, keepdim: bool = False) -> Array:
    return _variance(x, args, correction, keepdim)


def std(x: Array, *args: Any, correction: float | None = None, keepdim: bool = False) -> Array:
    return array(np.sqrt(_variance(x, args, correction, keepdim)))


def _extreme(reduce: Any, argument: Operator, pairwise: Operator) -> Operator:
    def apply(x: Array, other: Any = None, keepdim: bool = False) -> Any:
        if other is None:
            return array(reduce(x))
        if isinstance(other, np.ndarray):
            return pairwise(x, other)
        return array(reduce(x, other if x.ndim else None, keepdims=keepdim)), argument(x, other, keepdim)

    return apply


def argmax(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return array(np.argmax(x, dim if x.ndim else None, keepdims=keepdim))


def argmin(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return array(np.argmin(x, dim if x.ndim else None, keepdims=keepdim))


def amax(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    return array(_MAXIMUM(x, axes(dim, x), keepdims=keepdim))


def amin(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
    return array(_MINIMUM(x, axes(dim, x), keepdims=keepdim))


def cumsum(x: Array, dim: int, *, dtype: int | None = None) -> Array:
    return np.cumsum(x, dim if x.ndim else None, _wide(x, dtype)).reshape(x.shape)


def cumprod(x: Array, dim: int, *, dtype: int | None = None) -> Array:
    return np.cumprod(x, dim if x.ndim else None, _wide(x, dtype)).reshape(x.shape)


def _truth(reduce: Any) -> Operator:
    def apply(x: Array, dim: Dims = None, keepdim: bool = False) -> Array:
        # By an old rule of PyTorch's, bytes give bytes.
        result = reduce(x, axes(dim, x), BOOL, keepdims=keepdim)
        return array(result).astype(x.dtype if x.dtype == np.uint8 else BOOL, copy=False)

    return apply


def logsumexp(x: Array, dim: Dims, keepdim: bool = False) -> Array:
    x = floating(x)
    largest = np.max(x, axes(dim, x), keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, x.dtype.type(0))
    total = np.log(np.sum(np.exp(x - shift), axes(dim, x), keepdims=True)) + shift
    return array(total if keepdim else np.squeeze(total, axes(dim, x)))


def sort(x: Array, *args: Any, **options: Any) -> tuple[Array, Array]:
    """Overloads: (dim, descending) and (*, stable, dim, descending). Always stable."""
    dim, descending = list(args) + [-1, False][len(args) :]
    dim, descending = options.get("dim", dim), options.get("descending", descending)
    if not x.ndim:
        return x.copy(), np.zeros((), np.int64)
    if descending:  # bytes cannot be negated, and what is not a number is the largest
        order = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), dim, kind="stable"), dim)
    else:
        order = np.argsort(x, dim, kind="stable")
    return np.take_along_axis(x, order, dim), order


def argsort(x: Array, dim: int = -1, descending: bool = False) -> Array:
    return sort(x, dim, descending)[1]


def topk(x: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Array, Array]:
    if not 0 <= k <= (x.shape[dim] if x.ndim else 1):
        raise ValueError(f"topk: {k} of {x.shape}")
    values, order = sort(x, dim, largest)
    if not x.ndim:
        return values, order
    return part(values, dim, slice(k)), part(order, dim, slice(k))


REDUCTIONS: dict[str, Operator] = {
    "torch.sum": sum,
    "torch.prod": prod,
    "torch.mean": mean,
    "torch.var": var,
    "torch.std": std,
    "torch.max": _extreme(np.max, argmax, maximum),
    "torch.min": _extreme(np.min, argmin, minimum),
    "torch.argmax": argmax,
    "torch.argmin": argmin,
    "torch.amax": amax,
    "torch.amin": amin,
    "torch.cumsum": cumsum,
    "torch.cumprod": cumprod,
    "torch.any": _truth(np.logical_or.reduce),
    "torch.all": _truth(np.logical_and.reduce),
    "torch.logsumexp": logsumexp,
    "torch.sort": sort,
    "torch.argsort": argsort,
    "torch.topk": topk,
}
