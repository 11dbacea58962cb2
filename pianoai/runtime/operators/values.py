"""Operators that make tensors, convert them, ask about them, and those on plain values."""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

import warnings
from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.operators.promotion import (
    Array,
    Operator,
    code_of,
    dtype_of,
)


def to(x: Array, *args: Any, dtype: int | None = None, copy: bool = False, **options: Any) -> Array:
    """Overloads begin with a dtype, a device (a string), a device and a dtype, or a tensor to be like."""
    args = args[1:] if args and isinstance(args[0], str) else args
    wanted = x.dtype if dtype is None else dtype_of(dtype)
    if args and isinstance(args[0], np.ndarray):
        wanted = args[0].dtype
    elif args and args[0] is not None and type(args[0]) is not bool:
        wanted = dtype_of(args[0])
    flags = args[1:] if args and type(args[0]) is not bool else args
    return x.astype(wanted, copy=copy or flags[1:2] == (True,))


def type_as(x: Array, other: Array) -> Array:
    return x.astype(other.dtype, copy=False)


def contiguous(x: Array, *, memory_format: Any = None) -> Array:
    return x if x.flags.c_contiguous else x.copy()


def clone(x: Array, *, memory_format: Any = None) -> Array:
    return x.copy()


def same(x: Any) -> Any:
    return x


def size(x: Array, dim: int | None = None) -> Any:
    return list(x.shape) if dim is None else x.shape[dim]


def dim(x: Array) -> int:
    return x.ndim


def numel(x: Array) -> int:
    return x.size


def is_floating_point(x: Array) -> bool:
    return x.dtype.kind == "f"


def equal(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b))


def item(x: Any) -> Any:
    return x.item() if isinstance(x, np.ndarray) else x


def to_int(x: Any) -> int:
    return int(item(x))


def to_float(x: Any) -> float:
    return float(item(x))


def to_bool(x: Any) -> bool:
    return bool(item(x))


def device(name: str) -> str:
    return name


def device_of(x: Array) -> str:
    return "cpu"


def prim_dtype(x: Array) -> int:
    return code_of(x.dtype)


def smallest(*values: Any) -> Any:
    return min(*values)


def largest(*values: Any) -> Any:
    return max(*values)


def append(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def key(value: Any) -> Any:
    """`value`, if it may be a dict's key; a tuple that doubles at every level would never be looked up."""
    if not isinstance(value, str | int | float):
        raise InputError("the keys of a dict must be texts or numbers")
    return value


def set_item(values: Any, at: Any, value: Any) -> Any:
    if not isinstance(values, list | dict):
        raise InputError("only lists and dicts are given items")
    values[key(at) if isinstance(values, dict) else at] = value
    return values


def extend(values: list[Any], more: list[Any]) -> None:
    values.extend(more)


def pop(values: list[Any] | dict[Any, Any], at: Any = -1) -> Any:
    return values.pop(key(at) if isinstance(values, dict) else at)


def format_text(template: str, *values: Any) -> str:
    # str.format would let a template reach into its arguments.
    parts = template.split("{}")
    return parts[0] + "".join(str(value) + rest for value, rest in zip(values, parts[1:], strict=True))


def warn(message: str, stacklevel: int = 2) -> None:
    warnings.warn(message, stacklevel=stacklevel)


def fail(message: str, kind: str = "") -> None:
    raise InputError(message)


VALUES: dict[str, Operator] = {
    "torch.to": to,
    "torch.type_as": type_as,
    "torch.contiguous": contiguous,
    "torch.clone": clone,
    "torch.detach": same,
    "torch.alias": same,
    "torch.size": size,
    "torch.dim": dim,
    "torch.numel": numel,
    "torch.is_floating_point": is_floating_point,
    "torch.equal": equal,
    "torch.item": item,
    "torch.IntImplicit": to_int,
    "torch.FloatImplicit": to_float,
    "torch.ScalarImplicit": item,
    "int": to_int,
    "float": to_float,
    "bool": to_bool,
    "torch.device": device,
    "ops.prim.device": device_of,
    "ops.prim.dtype": prim_dtype,
    "ops.prim.shape": size,
    "ops.prim.data": same,
    "ops.prim.abs": abs,
    "ops.prim.min": smallest,
    "ops.prim.max": largest,
    "torch.len": len,
    "torch.list": list,
    "torch.append": append,
    "torch._set_item": set_item,
    "torch.extend": extend,
    "torch.pop": pop,
    "torch.__range_length": lambda start, end, step: len(range(start, end, step)),
    "torch.__derive_index": lambda at, start, step: start + at * step,
    "torch.is_grad_enabled": lambda: False,
    "ops.prim.requires_grad": lambda x: False,
    "torch.floordiv": lambda a, b: a // b,
    "torch.__not__": lambda a: not a,
    "torch.__is__": lambda a, b: a is b,
    "torch.__isnot__": lambda a, b: a is not b,
    "torch.__contains__": lambda values, value: value in values,
    "torch.format": format_text,
    "torch.warn": warn,
    "ops.prim.RaiseException": fail,
}
