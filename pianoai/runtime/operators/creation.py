"""Operators that make tensors. Layout, device, pinned memory and memory format mean nothing to NumPy."""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

from typing import Any

import numpy as np

from pianoai.runtime.operators.promotion import FLOAT32, Array, DType, Operator, as_dtype, dtype_of, scalar_dtype


def _dtype(code: int | None, default: DType = FLOAT32) -> DType:
    return default if code is None else dtype_of(code)


def zeros(
    size: list[int],
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Array:
    return np.zeros(size, _dtype(dtype))


def ones(
    size: list[int],
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Array:
    return np.ones(size, _dtype(dtype))


def empty(
    size: list[int],
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> Array:
    return np.zeros(size, _dtype(dtype))  # so that the same input gives the same output


def full(
    size: list[int],
    value: Any,
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Array:
    default = value.dtype if isinstance(value, np.ndarray) else scalar_dtype(value)
    return np.full(size, as_dtype(value, _dtype(dtype, default)))


def full_like(
    x: Array,
    value: Any,
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> Array:
    return np.full(x.shape, as_dtype(value, _dtype(dtype, x.dtype)))


def zeros_like(x: Array, **options: Any) -> Array:
    return full_like(x, 0, **options)


def ones_like(x: Array, **options: Any) -> Array:
    return full_like(x, 1, **options)


def new_full(
    x: Array,
    size: list[int],
    value: Any,
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Array:
    return np.full(size, as_dtype(value, _dtype(dtype, x.dtype)))


def new_zeros(x: Array, size: list[int], **options: Any) -> Array:
    return new_full(x, size, 0, **options)


def new_ones(x: Array, size: list[int], **options: Any) -> Array:
    return new_full(x, size, 1, **options)


def arange(
    *limits: Any, dtype: int | None = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> Array:
    limits = tuple(limit.item() if isinstance(limit, np.ndarray) else limit for limit in limits)
    start, end, step = (0, *limits, 1) if len(limits) == 1 else (*limits, 1)[:3]
    default = FLOAT32 if any(isinstance(limit, float) for limit in limits) else np.dtype(np.int64)
    return np.arange(start, end, step).astype(_dtype(dtype, default))


def linspace(
    start: Any,
    end: Any,
    steps: int,
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Array:
    return np.linspace(start, end, steps).astype(_dtype(dtype))


def eye(
    rows: int,
    columns: int | None = None,
    *,
    dtype: int | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Array:
    return np.eye(rows, columns, dtype=_dtype(dtype))


def tensor(data: Any, *, dtype: int | None = None, device: Any = None, requires_grad: bool = False) -> Array:
    value = np.array(data)
    if value.dtype.kind not in "biuf":
        raise TypeError(f"a tensor of {type(data).__name__}")
    default = FLOAT32 if value.dtype.kind == "f" and not isinstance(data, np.ndarray) else value.dtype
    return value.astype(_dtype(dtype, default))


def scalar_tensor(value: Any, *, dtype: int | None = None, **options: Any) -> Array:
    return np.array(value).astype(_dtype(dtype))


def num_to_tensor(value: Any) -> Array:
    return np.array(value)


CREATION: dict[str, Operator] = {
    "torch.zeros": zeros,
    "torch.ones": ones,
    "torch.empty": empty,
    "torch.full": full,
    "torch.zeros_like": zeros_like,
    "torch.ones_like": ones_like,
    "torch.empty_like": zeros_like,
    "torch.full_like": full_like,
    "torch.new_zeros": new_zeros,
    "torch.new_ones": new_ones,
    "torch.new_empty": new_zeros,
    "torch.new_full": new_full,
    "torch.arange": arange,
    "torch.linspace": linspace,
    "torch.eye": eye,
    "torch.tensor": tensor,
    "torch.scalar_tensor": scalar_tensor,
    "torch.as_tensor": tensor,
    "ops.prim.NumToTensor": num_to_tensor,
}
