"""Operators that work element by element, on tensors or on TorchScript's plain numbers."""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

import math
import operator
from typing import Any

import numpy as np

from pianoai.runtime.operators.promotion import (
    BOOL,
    FLOAT32,
    Array,
    Operator,
    array,
    as_dtype,
    floating,
    in_place,
    promoted,
    result_dtype,
)

ndarray = np.ndarray


def binary(ufunc: Any, plain: Operator) -> Operator:
    """An operator from a ufunc for tensors and a function for two plain values."""

    def apply(a: Any, b: Any) -> Any:
        if type(a) is ndarray:
            if type(b) is ndarray:
                if a.dtype != b.dtype:
                    a, b = promoted(a, b)
            elif a.dtype.kind != "f":
                a, b = promoted(a, b)
        elif type(b) is ndarray:
            if b.dtype.kind != "f":
                a, b = promoted(a, b)
        else:
            return plain(a, b)
        result = ufunc(a, b)
        return result if type(result) is ndarray else np.asarray(result)

    return apply


def unary(ufunc: Any, plain: Operator) -> Operator:
    """An operator with floating-point results from a ufunc and a function for a plain number."""

    def apply(x: Any) -> Any:
        if type(x) is not ndarray:
            return plain(x)
        result = ufunc(x if x.dtype.kind == "f" else x.astype(FLOAT32))
        return result if type(result) is ndarray else np.asarray(result)

    return apply


def whole(ufunc: Any, plain: Operator) -> Operator:
    """An operator such as floor, which leaves tensors of whole numbers as they are."""

    def apply(x: Any, *, decimals: int = 0) -> Any:
        if type(x) is not ndarray:
            return plain(x)
        if x.dtype.kind != "f":
            return x.copy()
        return array(np.round(x, decimals) if decimals else ufunc(x))

    return apply


_add = binary(np.add, operator.add)
_sub = binary(np.subtract, operator.sub)
mul = binary(np.multiply, operator.mul)
floor_divide = binary(np.floor_divide, operator.floordiv)
maximum = binary(np.maximum, max)
minimum = binary(np.minimum, min)


def _scaled(a: Any, b: Any, alpha: Any) -> tuple[Any, Any]:
    """`a`, and `b` times `alpha` in the dtype of both."""
    if type(a) is not ndarray and type(b) is not ndarray:
        return a, b * alpha
    a, b = promoted(a, b)
    return a, b * as_dtype(alpha, b.dtype)


def add(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    return _add(a, b) if alpha == 1 else _add(*_scaled(a, b, alpha))


def sub(a: Any, b: Any, *, alpha: Any = 1) -> Any:
    return _sub(a, b) if alpha == 1 else _sub(*_scaled(a, b, alpha))


def rsub(a: Any, b: Any, alpha: Any = 1) -> Any:
    return sub(b, a, alpha=alpha)


def div(a: Any, b: Any, *, rounding_mode: str | None = None) -> Any:
    if type(a) is not ndarray and type(b) is not ndarray:
        return a / b
    if rounding_mode == "floor":
        return floor_divide(a, b)
    if rounding_mode == "trunc":
        dtype = result_dtype(a, b)
        return array(np.trunc(div(a, b))).astype(dtype) if dtype.kind == "f" else _truncate(a, b)
    a, b = promoted(a, b)
    if a.dtype.kind != "f":
        a, b = a.astype(FLOAT32), b.astype(FLOAT32)
    return array(np.true_divide(a, b))


def _truncate(a: Any, b: Any) -> Array:
    a, b = promoted(a, b)
    return array((a - np.fmod(a, b)) // b)


def _square(x: Array) -> Array:
    return array(np.square(x.astype(np.int64) if x.dtype == BOOL else x))


def pow(a: Any, b: Any) -> Any:
    if type(a) is not ndarray and type(b) is not ndarray:
        return float(a) ** b
    if type(b) is not ndarray and type(a) is ndarray and a.dtype.kind == "f":
        if b == 2:
            return _square(a)
        if b == 0.5:
            return array(np.sqrt(a))
    a, b = promoted(a, b)
    return array(np.power(a, b))


def clamp(x: Array, min: Any = None, max: Any = None) -> Array:
    if min is not None:
        x = maximum(x, min)
    return x.copy() if max is None and min is None else x if max is None else minimum(x, max)


def clamp_max(x: Array, max: Any) -> Array:
    return clamp(x, None, max)


def where(condition: Array, a: Any = None, b: Any = None) -> Any:
    if a is None:
        return list(np.nonzero(condition))
    if type(a) is not ndarray or type(b) is not ndarray or a.dtype != b.dtype:
        a, b = promoted(a, b)
    return array(np.where(condition if condition.dtype == BOOL else condition != 0, a, b))


def masked_fill(x: Array, mask: Array, value: Any) -> Array:
    return np.where(mask, as_dtype(value, x.dtype), x)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    return add(a, mul(weight, sub(b, a)))


def addcmul(x: Array, a: Array, b: Array, *, value: Any = 1) -> Any:
    return add(x, mul(mul(a, b), value))


def addcdiv(x: Array, a: Array, b: Array, *, value: Any = 1) -> Any:
    return add(x, mul(div(a, b), value))


def _rsqrt(x: Array) -> Any:
    return 1 / np.sqrt(x)


def _reciprocal(x: Array) -> Any:
    return 1 / x


def nan_to_num(x: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Array:
    if x.dtype.kind != "f":
        return x.copy()
    return array(np.nan_to_num(x, nan=nan or 0.0, posinf=posinf, neginf=neginf))


def logical(ufunc: Any) -> Operator:
    """An operator whose result is bool for every dtype."""

    def apply(*operands: Array) -> Array:
        return array(ufunc(*operands))

    return apply


def absolute(x: Any) -> Any:
    return array(np.abs(x)) if type(x) is ndarray else abs(x)


def neg(x: Any) -> Any:
    return array(np.negative(x)) if type(x) is ndarray else -x


def sign(x: Array) -> Array:
    if x.dtype == BOOL:
        return x.copy()
    return array(np.where(np.isnan(x), x.dtype.type(0), np.sign(x)))


def bitwise_not(x: Any) -> Any:
    return array(np.invert(x)) if type(x) is ndarray else ~x


def is_finite(x: Array) -> Array:
    return array(np.isfinite(x))


FUNCTIONS: dict[str, Operator] = {
    "add": add,
    "sub": sub,
    "rsub": rsub,
    "mul": mul,
    "div": div,
    "true_divide": div,
    "floor_divide": floor_divide,
    "remainder": binary(np.remainder, operator.mod),
    "fmod": binary(np.fmod, math.fmod),
    "pow": pow,
    "maximum": maximum,
    "minimum": minimum,
    "atan2": binary(lambda a, b: np.arctan2(floating(a), floating(b)), math.atan2),
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": clamp,
    "clamp_max": clamp_max,
    "masked_fill": masked_fill,
    "lerp": lerp,
    "addcmul": addcmul,
    "addcdiv": addcdiv,
    "abs": absolute,
    "neg": neg,
    "sign": sign,
    "square": lambda x: _square(x),
    "exp": unary(np.exp, math.exp),
    "exp2": unary(np.exp2, lambda x: 2.0**x),
    "expm1": unary(np.expm1, math.expm1),
    "log": unary(np.log, math.log),
    "log2": unary(np.log2, math.log2),
    "log10": unary(np.log10, math.log10),
    "log1p": unary(np.log1p, math.log1p),
    "sqrt": unary(np.sqrt, math.sqrt),
    "rsqrt": unary(_rsqrt, lambda x: 1 / math.sqrt(x)),
    "reciprocal": unary(_reciprocal, lambda x: 1 / x),
    "sin": unary(np.sin, math.sin),
    "cos": unary(np.cos, math.cos),
    "tan": unary(np.tan, math.tan),
    "atan": unary(np.arctan, math.atan),
    "tanh": unary(np.tanh, math.tanh),
    "floor": whole(np.floor, math.floor),
    "ceil": whole(np.ceil, math.ceil),
    "trunc": whole(np.trunc, math.trunc),
    "round": whole(np.rint, lambda x: float(round(x))),
    "frac": unary(lambda x: x - np.trunc(x), lambda x: math.fmod(x, 1)),
    "nan_to_num": nan_to_num,
    "logical_and": logical(np.logical_and),
    "logical_or": logical(np.logical_or),
    "logical_xor": logical(np.logical_xor),
    "logical_not": logical(np.logical_not),
    "bitwise_and": binary(np.bitwise_and, operator.and_),
    "bitwise_or": binary(np.bitwise_or, operator.or_),
    "bitwise_xor": binary(np.bitwise_xor, operator.xor),
    "bitwise_not": bitwise_not,
    "eq": binary(np.equal, operator.eq),
    "ne": binary(np.not_equal, operator.ne),
    "lt": binary(np.less, operator.lt),
    "le": binary(np.less_equal, operator.le),
    "gt": binary(np.greater, operator.gt),
    "ge": binary(np.greater_equal, operator.ge),
}
NEVER_IN_PLACE = {"rsub", "maximum", "minimum"}
ELEMENTWISE: dict[str, Operator] = {f"torch.{name}": function for name, function in FUNCTIONS.items()}
ELEMENTWISE |= {
    f"torch.{name}_": in_place(function) for name, function in FUNCTIONS.items() if name not in NEVER_IN_PLACE
}
OTHERS: dict[str, Operator] = {
    "torch.where": where,
    "torch.isnan": lambda x: array(np.isnan(x)),
    "torch.isinf": lambda x: array(np.isinf(x)),
    "torch.isfinite": is_finite,
    "torch.__lshift__": binary(np.left_shift, operator.lshift),
    "torch.__rshift__": binary(np.right_shift, operator.rshift),
    "torch.__and__": binary(np.bitwise_and, operator.and_),
    "torch.__or__": binary(np.bitwise_or, operator.or_),
    "torch.__xor__": binary(np.bitwise_xor, operator.xor),
}
ELEMENTWISE |= OTHERS
