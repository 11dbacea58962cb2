"""The non-linear functions of networks."""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

import math
from typing import Any

import numpy as np

from pianoai.runtime.operators.elementwise import clamp, unary
from pianoai.runtime.operators.promotion import Array, Operator, array, dtype_of, in_place


def _sigmoid(x: Array) -> Array:
    one = x.dtype.type(1)
    result: Array = one / (one + np.exp(-x))
    return result


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _log_sigmoid(x: Array) -> Any:
    return -np.logaddexp(x.dtype.type(0), -x)


def _erf(x: Array) -> Array:
    """Abramowitz and Stegun 7.1.26; its error is below 1.5e-7."""
    size = np.abs(x.astype(np.float64))
    t = 1 / (1 + 0.3275911 * size)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    return np.asarray(np.copysign(1 - series * np.exp(-size * size), x)).astype(x.dtype)


def gelu(x: Array, *, approximate: str = "none") -> Array:
    if approximate == "none":
        return array(x * (1 + _erf(x * math.sqrt(0.5))) * 0.5)
    inner = x * x
    inner *= 0.044715
    inner += 1.0
    inner *= x
    inner *= math.sqrt(2 / math.pi)
    result = np.tanh(inner)
    result += 1.0
    result *= x
    result *= 0.5
    return array(result)


def relu(x: Array) -> Array:
    return array(np.maximum(x, x.dtype.type(0)))


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    return np.where(x > 0, x, x * x.dtype.type(negative_slope))


def elu(x: Array, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Array:
    kind = x.dtype.type
    low = kind(alpha * scale) * np.expm1(np.minimum(x, kind(0)) * kind(input_scale))
    return array(np.where(x > 0, x * kind(scale), low))


def softplus(x: Array, beta: float = 1, threshold: float = 20) -> Array:
    scaled = x * beta
    return np.where(scaled > threshold, x, np.logaddexp(x.dtype.type(0), scaled) / beta)


def relu6(x: Array) -> Array:
    return clamp(x, 0, 6)


def hardtanh(x: Array, min_val: float = -1, max_val: float = 1) -> Array:
    return clamp(x, min_val, max_val)


def _prelu(x: Array, weight: Array) -> Array:
    shape = (1, -1) + (1,) * (x.ndim - 2) if x.ndim > 1 else (-1,)
    return np.where(x > 0, x, x * (weight.reshape(()) if weight.size == 1 else weight.reshape(shape)))


def softmax(x: Array, dim: int, dtype: int | None = None) -> Array:
    if dtype is not None:
        x = x.astype(dtype_of(dtype))
    if not x.ndim:
        return softmax(x[None], 0)[0, ...]
    powers = np.exp(x - np.maximum.reduce(x, dim, keepdims=True, initial=-np.inf))
    powers /= np.add.reduce(powers, dim, keepdims=True)
    return array(powers)


def log_softmax(x: Array, dim: int, dtype: int | None = None) -> Array:
    if dtype is not None:
        x = x.astype(dtype_of(dtype))
    if not x.ndim:
        return log_softmax(x[None], 0)[0, ...]
    shifted = x - np.maximum.reduce(x, dim, keepdims=True, initial=-np.inf)
    return array(shifted - np.log(np.add.reduce(np.exp(shifted), dim, keepdims=True)))


def dropout(x: Array, p: float, train: bool) -> Array:
    if train:
        raise TypeError("dropout in training mode is not supported; export the model after .eval()")
    return x


def glu(x: Array, dim: int = -1) -> Array:
    value, gate = np.split(x, 2, dim)
    return array(value / (1 + np.exp(-gate)))


FUNCTIONS: dict[str, Operator] = {
    "sigmoid": unary(_sigmoid, lambda x: 1 / (1 + math.exp(-x))),
    "erf": unary(_erf, math.erf),
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "silu": unary(_silu, float),
    "hardtanh": hardtanh,
    "relu6": relu6,
}
ACTIVATIONS = {f"torch.{name}": function for name, function in FUNCTIONS.items()}
ACTIVATIONS |= {f"torch.{name}_": in_place(function) for name, function in FUNCTIONS.items()}
ACTIVATIONS |= {
    "torch.gelu": gelu,
    "torch.softplus": softplus,
    "torch.log_sigmoid": unary(_log_sigmoid, float),
    "torch.prelu": _prelu,
    "torch.softmax": softmax,
    "torch.log_softmax": log_softmax,
    "torch.dropout": dropout,
    "torch.dropout_": dropout,
    "torch.feature_dropout": dropout,
    "torch.glu": glu,
}
