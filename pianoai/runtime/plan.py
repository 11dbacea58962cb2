"""A recorded function as a plan: a list of NumPy calls, each with its operands and its place to write.

Where NumPy has a call that writes into given memory, the plan makes that call; for anything else it calls the
operator and copies its result. What PyTorch computes in one operator may be several calls here, in another order of
additions, so results agree to rounding.
"""

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pianoai.runtime.limits import KEPT
from pianoai.runtime.operators.promotion import FLOAT32, Array, as_dtype, result_dtype
from pianoai.runtime.recording import Call, Recording, arrays, owner, writes

Step = tuple[Callable[..., Any], tuple[Any, ...]]
Emit = Callable[[Call, "Uses"], list[Step] | None]
Turned = dict[int, tuple[Array, Array]]  # constant matrices and their transposes, by identity

BINARY: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "remainder": np.remainder,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
UNARY: dict[str, Any] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "square": np.square,
    "neg": np.negative,
    "abs": np.absolute,
    "round": np.rint,
    "floor": np.floor,
}
MAXIMUM: Any = np.maximum.reduce


class Uses:
    """Who reads what."""

    def __init__(self, recording: Recording, turned: Turned):
        self._count = Counter(id(owner(x)) for call in recording.calls for x in call.inputs())
        self._out = {id(owner(x)) for x in recording.outputs}
        self._live = recording.live
        self._turned = turned
        self._room = KEPT - sum(copy.nbytes for _, copy in turned.values())

    def room(self, count: int) -> bool:
        """Whether the plan may keep so many numbers more; it then does."""
        fits = 4 * count <= self._room
        self._room -= 4 * count if fits else 0
        return fits

    def turned(self, weight: Array) -> Array | None:
        """A constant matrix (out, in) as (in, out), one copy for all plans of a script; None where it is too large."""
        if id(weight) not in self._turned:
            if not self.room(weight.size):
                return None
            self._turned[id(weight)] = weight, _aligned(weight.T.shape)
            self._turned[id(weight)][1][...] = weight.T
        return self._turned[id(weight)][1]

    def once(self, x: Array) -> bool:
        """Whether one call alone reads `x`, and it is no output."""
        return self._count[id(owner(x))] == 1 and id(owner(x)) not in self._out

    def constant(self, x: Array) -> bool:
        """Whether `x` is the same in every run."""
        return id(owner(x)) not in self._live


class Plan:
    """A recorded function, ready to run.

    Attributes:
        inputs: Where to put what it works on.
        outputs: Where its results stand after a run; an output may be an input that was written into.
    """

    def __init__(self, recording: Recording, turned: Turned | None = None):
        self.inputs = recording.inputs
        self.outputs = recording.outputs
        self._recording = recording  # its arrays are the memory
        self._steps = steps(recording, {} if turned is None else turned)

    def run(self) -> None:
        """Compute the outputs from the inputs."""
        # PyTorch says nothing about overflow or division by zero either.
        with np.errstate(all="ignore"):
            for call, arguments in self._steps:
                call(*arguments)


def steps(recording: Recording, turned: Turned) -> list[Step]:
    """The NumPy calls that compute a recording anew from what its inputs hold, in order."""
    uses = Uses(recording, turned)
    found: list[Step] = []
    waiting: dict[int, Call] = {}  # what its one reader may take over, by the owner of its result, until it is read
    for call in recording.calls:
        if writes(call.name):  # perhaps into what a waiting one reads
            for each in waiting.values():
                found += _planned(each, uses)
            waiting.clear()
        if call.name in FUSED and uses.once(call.result) and FUSED[call.name][0](call, uses):
            waiting[id(owner(call.result))] = call
            continue
        before = [waiting.pop(key) for x in call.inputs() if (key := id(owner(x))) in waiting]
        if len(before) == 1 and (fused := FUSED[before[0].name][1](before[0], call, uses)):
            found += fused
            continue
        for each in (*before, call):
            found += _planned(each, uses)
    return found


def _planned(call: Call, uses: Uses) -> list[Step]:
    emit = EMITTERS.get(call.name)
    return (emit(call, uses) if emit else None) or _general(call)


def _general(call: Call) -> list[Step]:
    """The operator itself, and a copy of what it returns."""
    function, args, kwargs = call.function, call.args, call.kwargs
    if writes(call.name):
        return [(lambda: function(*args, **kwargs), ())]
    result = call.result

    def again() -> None:
        for place, value in zip(arrays(result), arrays(function(*args, **kwargs)), strict=True):
            place[...] = value

    return [(again, ())]


def _plain(x: Any) -> bool:
    return type(x) is np.ndarray and x.dtype == FLOAT32


def _number(value: Any, like: Array) -> Array:
    """A number as an array without dimensions, which NumPy takes in less time."""
    return np.array(value, like.dtype)


def _binary(ufunc: Any) -> Emit:
    def emit(call: Call, uses: Uses) -> list[Step] | None:
        if len(call.args) != 2 or call.kwargs.get("alpha", 1) != 1 or call.kwargs.get("rounding_mode"):
            return None
        result = call.result
        kind = result.dtype
        if kind.kind == "b":  # a comparison
            kind = result_dtype(*call.args)
            if kind.kind != "f" and not all(type(x) is int or x.dtype == kind for x in call.args):
                return None
        operands = []
        for x in call.args:
            if type(x) is not np.ndarray or (not x.ndim and x.dtype != kind and uses.constant(x)):
                x = as_dtype(x, kind)
            if x.dtype != kind:
                return None
            operands.append(x)
        if ufunc in (np.maximum, np.minimum):  # they want the place to write by its name
            return [(partial(ufunc, *operands, out=result), ())]
        return [(ufunc, (*operands, result))]

    return emit


def _rsub(call: Call, uses: Uses) -> list[Step] | None:
    x, other, *rest = call.args
    if not _plain(x) or type(other) not in (int, float) or call.kwargs or rest not in ([], [1]):
        return None
    return [(np.subtract, (_number(other, x), x, call.result))]


def _unary(ufunc: Any) -> Emit:
    def emit(call: Call, uses: Uses) -> list[Step] | None:
        if len(call.args) != 1 or call.kwargs or not _plain(call.args[0]):
            return None
        return [(ufunc, (call.args[0], call.result))]

    return emit


def _logical_not(call: Call, uses: Uses) -> list[Step] | None:
    return [(np.logical_not, (call.args[0], call.result))]


def _sigmoid(call: Call, uses: Uses) -> list[Step] | None:
    x, result = call.args[0], call.result
    if not _plain(x):
        return None
    one = _number(1, x)
    return [
        (np.negative, (x, result)),
        (np.exp, (result, result)),
        (np.add, (result, one, result)),
        (np.divide, (one, result, result)),
    ]


def _rsqrt(call: Call, uses: Uses) -> list[Step] | None:
    x, result = call.args[0], call.result
    if not _plain(x):
        return None
    return [(np.sqrt, (x, result)), (np.divide, (_number(1, x), result, result))]


def _gelu(call: Call, uses: Uses) -> list[Step] | None:
    """x / (1 + exp(-2 u)), which is x (1 + tanh u) / 2, with u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    x, result = call.args[0], call.result
    if not _plain(x) or call.kwargs.get("approximate") != "tanh":
        return None
    slope = -2 * math.sqrt(2 / math.pi)
    one = _number(1, x)
    return [
        (np.multiply, (x, x, result)),
        (np.multiply, (result, _number(0.044715 * slope, x), result)),
        (np.add, (result, _number(slope, x), result)),
        (np.multiply, (result, x, result)),
        (np.exp, (result, result)),
        (np.add, (result, one, result)),
        (np.divide, (x, result, result)),
    ]


def _relu(call: Call, uses: Uses) -> list[Step] | None:
    x, result = call.args[0], call.result
    if not _plain(x):
        return None
    return [(partial(np.maximum, x, _number(0, x), out=result), ())]


def _softmax(call: Call, uses: Uses) -> list[Step] | None:
    x, dim, *rest = call.args
    result = call.result
    if not _plain(x) or dim not in (-1, x.ndim - 1) or any(part is not None for part in rest) or call.kwargs:
        return None
    if not x.ndim or not x.size:
        return None
    if not uses.room(x.size // x.shape[-1] + x.shape[-1]):
        return None
    peak = np.empty((*x.shape[:-1], 1), FLOAT32)
    return [
        (MAXIMUM, (x, -1, None, peak, True)),
        (np.subtract, (x, peak, result)),
        (np.exp, (result, result)),
        _summed(result, 1, peak),
        (np.divide, (result, peak, result)),
    ]


def _mean(call: Call, uses: Uses) -> list[Step] | None:
    x, dims, *_ = (*call.args, None)
    if not _plain(x) or call.kwargs or not x.flags.c_contiguous or dims not in ([-1], [x.ndim - 1]):
        return None
    if not x.ndim or not x.size or not uses.room(x.shape[-1]):
        return None
    return [_summed(x, 1 / x.shape[-1], call.result)]


def _extreme(reduce: Any) -> Emit:
    """The smallest or largest of all."""

    def emit(call: Call, uses: Uses) -> list[Step] | None:
        x = call.args[0]
        if len(call.args) > 1 or call.kwargs or not x.size:
            return None
        return [(reduce, (x, None, None, call.result))]

    return emit


def _sum(call: Call, uses: Uses) -> list[Step] | None:
    x = call.args[0]
    if not _plain(x) or len(call.args) > 1 or any(value is not None for value in call.kwargs.values()):
        return None
    return [(np.add.reduce, (x, None, None, call.result))]


def _summed(x: Array, factor: float, result: Array) -> Step:
    """The sum over the last dimension times a factor, as a product with a vector: quicker than a sum for short rows."""
    return x.reshape(-1, x.shape[-1]).dot, (np.full(x.shape[-1], factor, FLOAT32), result.reshape(-1))


def _aligned(shape: tuple[int, ...]) -> Array:
    """Memory for float32 on a boundary of 64 bytes, as vector units like it."""
    size = 4 * math.prod(shape)
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(FLOAT32).reshape(shape)


def _linear(call: Call, uses: Uses) -> list[Step] | None:
    x, weight, *rest = call.args
    bias = rest[0] if rest else None
    if not _plain(x) or not _plain(weight) or x.ndim > 2 or call.kwargs:
        return None
    turned = uses.turned(weight) if uses.constant(weight) else None
    if turned is None or not (x.flags.c_contiguous or uses.room(x.size)):
        return None
    if x.flags.c_contiguous:
        return _product(x, turned, bias, call.result)
    rows = np.empty(x.shape, FLOAT32)
    return [_copied(x, rows), *_product(rows, turned, bias, call.result)]


def _product(x: Array, turned: Array, bias: Array | None, result: Array) -> list[Step]:
    """result = x @ turned + bias, for one row or several; `turned` is the same in every run."""
    found: list[Step] = [(x.dot, (turned, result))]  # quicker than a function
    if bias is not None:
        found.append((np.add, (result, bias, result)))
    return found


def _layer_norm(call: Call, uses: Uses) -> list[Step] | None:
    x, _, scale, shift, eps = (*call.args, *(None, None, 1e-5)[len(call.args) - 2 :])[:5]
    if not _vector(x) or call.kwargs or not uses.room(2 * x.size):
        return None
    if not all(_plain(part) for part in (scale, shift) if part is not None):
        return None
    found = [_normalised(x, call.result, eps)]
    found += [] if scale is None else [(np.multiply, (call.result, scale, call.result))]
    return found + ([] if shift is None else [(np.add, (call.result, shift, call.result))])


def _normalised(x: Array, result: Array, eps: float) -> Step:
    """Less its mean, over its deviation."""
    number, count = np.empty((), FLOAT32), x.size
    mean_of, square_of = np.full(x.shape, 1 / count, FLOAT32).dot, result.dot

    def normalise() -> None:
        number.fill(mean_of(x))
        np.subtract(x, number, result)
        number.fill(1 / math.sqrt(square_of(result) / count + eps))
        np.multiply(result, number, result)

    return normalise, ()


def _vector(x: Any) -> bool:
    return bool(_plain(x) and x.ndim == 1 and x.size and x.flags.c_contiguous)


def _vector_norm(call: Call, uses: Uses) -> bool:
    """Whether a layer norm is over one vector, and its weight and bias are the same in every run."""
    x, _, scale, shift = (*call.args, None, None)[:4]
    if not _vector(x) or call.kwargs or scale is None:
        return False
    return all(_plain(part) and uses.constant(part) for part in (scale, shift) if part is not None)


def _normed_linear(norm: Call, linear: Call, uses: Uses) -> list[Step] | None:
    """A layer norm and the linear layer after it: the norm's weight and bias go into the layer's.

    W (w n + b) + c = (W w) n + (W b + c), where n is the input less its mean, over its deviation.
    """
    if linear.name != "torch.linear" or linear.args[0] is not norm.result or linear.kwargs:
        return None
    _, weight, bias = (*linear.args, None)[:3]
    if weight.ndim != 2 or (bias is not None and bias.ndim != 1):
        return None
    if not all(_plain(part) and uses.constant(part) for part in (weight, bias) if part is not None):
        return None
    if not uses.room(weight.size + len(weight)):
        return None
    x, scale = norm.args[0], norm.args[2]
    shift = norm.args[3] if len(norm.args) > 3 else None
    eps = norm.args[4] if len(norm.args) > 4 else 1e-5
    constant = np.zeros(len(weight), FLOAT32) if bias is None else bias.copy()
    if shift is not None:
        constant += weight @ shift
    # The constant is one more row, which a number that is always 1 multiplies.
    turned = _aligned((x.size + 1, len(weight)))
    np.multiply(weight.T, scale[:, None], turned[:-1])
    turned[-1] = constant
    padded = np.ones(x.size + 1, FLOAT32)
    return [_normalised(x, padded[: x.size], eps), *_product(padded, turned, None, linear.result)]


def _matmul(call: Call, uses: Uses) -> list[Step] | None:
    a, b = call.args
    if not _plain(a) or not _plain(b):
        return None
    return [(np.matmul, (a, b, call.result))]


def _where(call: Call, uses: Uses) -> list[Step] | None:
    condition, *choices = call.args
    result = call.result
    a, b = (x if type(x) is np.ndarray else _number(x, result) for x in choices)
    if condition.dtype != bool or a.dtype != result.dtype or b.dtype != result.dtype:
        return None
    return [_copied(b, result), (np.copyto, (result, a, "same_kind", condition))]


def _cat(call: Call, uses: Uses) -> list[Step] | None:
    parts, dim = (*call.args, 0)[:2]
    dim = call.kwargs.get("dim", dim)
    result = call.result
    if any(x.dtype != result.dtype or x.ndim != result.ndim for x in parts):
        return None
    if len(parts) > 4:
        return [(np.concatenate, (parts, dim, result))]
    found, places, end = [], np.moveaxis(result, dim, 0), 0
    for x in parts:
        begin, end = end, end + x.shape[dim]
        found.append(_copied(np.moveaxis(x, dim, 0), places[begin:end]))
    return found


def _stack(call: Call, uses: Uses) -> list[Step] | None:
    parts, dim = (*call.args, 0)[:2]
    result = call.result
    if any(x.dtype != result.dtype for x in parts) or call.kwargs:
        return None
    places = np.moveaxis(result, dim, 0)
    return [_copied(x, places[at, ...]) for at, x in enumerate(parts)]


def _copied(x: Array, place: Array) -> Step:
    return place.__setitem__, (..., x)


def _anew(call: Call, uses: Uses) -> list[Step] | None:
    """A copy, perhaps in another shape."""
    x, result = call.args[0], call.result
    if x.dtype != result.dtype or not result.flags.c_contiguous:
        return None
    return [_copied(x, result.reshape(x.shape))]


def _pad(call: Call, uses: Uses) -> list[Step] | None:
    """What is around the middle stays as it was recorded."""
    x, amounts, mode = (*call.args, "constant")[:3]
    if call.name == "torch.pad" and (mode != "constant" or call.kwargs.get("mode", mode) != mode):
        return None
    if any(amount < 0 for amount in amounts) or len(amounts) > 2 * x.ndim:
        return None
    before = [0] * x.ndim
    before[x.ndim - len(amounts) // 2 :] = amounts[-2::-2]
    middle = tuple(slice(start, start + size) for start, size in zip(before, x.shape, strict=True))
    return [_copied(x, call.result[middle])]


def _to(call: Call, uses: Uses) -> list[Step] | None:
    return [(np.copyto, (call.result, call.args[0], "unsafe"))]


def _clamp(call: Call, uses: Uses) -> list[Step] | None:
    x, low, high = (*call.args, None, None)[:3]
    if not _plain(x) or call.kwargs or low is None or high is None:
        return None
    if any(type(limit) not in (int, float) for limit in (low, high)):
        return None
    return [
        (partial(np.maximum, x, _number(low, x), out=call.result), ()),
        (partial(np.minimum, call.result, _number(high, x), out=call.result), ()),
    ]


def _index_select(call: Call, uses: Uses) -> list[Step] | None:
    x, dim, index = call.args
    if dim or not x.ndim or index.ndim != 1 or not x.flags.c_contiguous:
        return None
    return [(x.take, (index, 0, call.result))]


def _index_copy(call: Call, uses: Uses) -> list[Step] | None:
    """In place, at one index."""
    x, dim, index, source = call.args
    if index.size != 1 or x.dtype != source.dtype or not x.ndim or source.ndim != x.ndim:
        return None
    places, place = np.moveaxis(x, dim, 0), index.reshape(())
    row = np.moveaxis(source, dim, 0)[0, ...]

    def put() -> None:
        places[int(place)] = row

    return [(put, ())]


def _divided(root: Call, product: Call, uses: Uses) -> list[Step] | None:
    """x rsqrt(y) is x / sqrt(y)."""
    if product.name != "torch.mul" or not all(map(_plain, product.args)) or product.args[1] is not root.result:
        return None
    return [(np.sqrt, (root.args[0], root.result)), (np.divide, (product.args[0], root.result, product.result))]


# Calls that wait for their only reader: when they may, and the steps of both.
FUSED: dict[str, tuple[Callable[[Call, Uses], bool], Callable[[Call, Call, Uses], list[Step] | None]]] = {
    "torch.layer_norm": (_vector_norm, _normed_linear),
    "torch.rsqrt": (lambda call, uses: _plain(call.args[0]), _divided),
}
EMITTERS: dict[str, Emit] = {
    **{f"torch.{name}": _binary(ufunc) for name, ufunc in BINARY.items()},
    **{f"torch.{name}": _unary(ufunc) for name, ufunc in UNARY.items()},
    **{f"torch.{name}": _anew for name in ("clone", "contiguous", "flatten", "reshape")},
    "torch.rsub": _rsub,
    "torch.pad": _pad,
    "torch.constant_pad_nd": _pad,
    "torch.amin": _extreme(np.minimum.reduce),
    "torch.amax": _extreme(MAXIMUM),
    "torch.layer_norm": _layer_norm,
    "torch.logical_not": _logical_not,
    "torch.sigmoid": _sigmoid,
    "torch.rsqrt": _rsqrt,
    "torch.gelu": _gelu,
    "torch.relu": _relu,
    "torch.softmax": _softmax,
    "torch.mean": _mean,
    "torch.sum": _sum,
    "torch.linear": _linear,
    "torch.matmul": _matmul,
    "torch.where": _where,
    "torch.cat": _cat,
    "torch.stack": _stack,
    "torch.to": _to,
    "torch.clamp": _clamp,
    "torch.index_select": _index_select,
    "torch.index_copy_": _index_copy,
}
