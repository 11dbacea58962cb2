"""PyTorch's numbers for dtypes, and its rules for the dtype of a result.

A tensor is always an ``ndarray``, 0-dimensional ones included; a TorchScript number is a Python one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]
DType = np.dtype[Any]
Operator = Callable[..., Any]

BOOL, INT64, FLOAT32 = np.dtype(bool), np.dtype(np.int64), np.dtype(np.float32)
CODES: dict[int, DType] = {
    0: np.dtype(np.uint8),
    1: np.dtype(np.int8),
    2: np.dtype(np.int16),
    3: np.dtype(np.int32),
    4: INT64,
    5: np.dtype(np.float16),
    6: FLOAT32,
    7: np.dtype(np.float64),
    11: BOOL,
}


def dtype_of(code: int) -> DType:
    """The dtype that PyTorch numbers `code`."""
    if code not in CODES:
        raise InputError(f"dtype number {code} is not supported (15 is bfloat16); use float32")
    return CODES[code]


def code_of(dtype: DType) -> int:
    """PyTorch's number of a dtype."""
    for code, known in CODES.items():
        if known == dtype:
            return code
    raise InputError(f"dtype {dtype} is not supported; use float32, int64 or bool")


def category(dtype: DType) -> int:
    """0 for bool, 1 for whole numbers, 2 for floating point."""
    return {"b": 0, "f": 2}.get(dtype.kind, 1)


def promote(one: DType, other: DType) -> DType:
    """The dtype of two tensors of the same rank class; floating point wins whatever its width."""
    if category(one) == category(other):
        return np.promote_types(one, other)
    return one if category(one) > category(other) else other


def scalar_dtype(value: Any) -> DType:
    """The dtype of a Python number in an expression with tensors."""
    if isinstance(value, bool):
        return BOOL
    return FLOAT32 if isinstance(value, float) else INT64


def result_dtype(*operands: Any) -> DType:
    """The dtype of an operation on tensors and numbers.

    Tensors with dimensions decide; 0-dimensional tensors, and after them Python numbers, only
    raise the category (https://pytorch.org/docs/stable/tensor_attributes.html).
    """
    found: list[DType | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, np.ndarray):
            rank, dtype = (0 if operand.ndim else 1), operand.dtype
        else:
            rank, dtype = 2, scalar_dtype(operand)
        seen = found[rank]
        found[rank] = dtype if seen is None else promote(seen, dtype)
    result: DType | None = None
    for lower in found:
        if result is None:
            result = lower
        elif lower is not None and category(result) < 2 and (category(result) == 0 or category(lower) == 2):
            result = promote(result, lower)
    if result is None:
        raise TypeError("an operator needs at least one tensor or number")
    return result


def as_dtype(value: Any, dtype: DType) -> Array:
    """A tensor or number as an array of `dtype`; integers wrap around as in PyTorch."""
    return np.asarray(value).astype(dtype, copy=False)


def promoted(*operands: Any) -> list[Array]:
    """All operands in the dtype of the result."""
    dtype = result_dtype(*operands)
    return [as_dtype(operand, dtype) for operand in operands]


def floating(x: Array) -> Array:
    """`x` itself if floating point, else as float32."""
    return x if x.dtype.kind == "f" else x.astype(FLOAT32)


def array(x: Any) -> Array:
    """A NumPy scalar as a 0-dimensional array; arrays pass."""
    return x if type(x) is np.ndarray else np.asarray(x)


def write(x: Array, result: Any) -> Array:
    """Writes `result` into `x`, as every in-place operator does; returns `x`."""
    if category(array(result).dtype) > category(x.dtype):
        raise TypeError(f"a result of {array(result).dtype} does not fit into a tensor of {x.dtype}")
    x[...] = result
    return x


def in_place(operator: Operator) -> Operator:
    """The operator that writes its result into its first argument."""

    def apply(x: Array, *args: Any, **kwargs: Any) -> Array:
        return write(x, operator(x, *args, **kwargs))

    return apply
