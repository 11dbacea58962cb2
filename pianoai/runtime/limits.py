"""What one call of a model may use up, so that no archive fills the memory or runs for ever.

An operator is refused before it runs when what it would make is too large, because NumPy would try.
"""

import math
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.operators.elementwise import ELEMENTWISE
from pianoai.runtime.operators.promotion import Array, Operator
from pianoai.runtime.operators.values import key

STEPS = 1_000_000  # iterations of loops and calls of functions
LARGEST = 2**25  # elements of one array
MADE = 2**30  # bytes of all that operators make
WORK = 2**32  # bytes that operators read and make, and multiply-adds
KEPT = 2**27  # bytes of copies of constants that a script keeps, and of what a plan keeps beside its results
LONGEST = 2**16  # items of a list or characters of a text, those of the lists in it included
CHARACTER = 16  # bytes that are counted for one character of code that runs

Size = tuple[float, float]  # elements of the result or of what is made on the way, multiply-adds


class Budget:
    """Counts what a call uses up; `start` begins a new call."""

    def __init__(self, steps: int = STEPS):
        self.limit = steps
        self.start()

    def start(self) -> None:
        """Everything is allowed anew."""
        self._steps = self.limit
        self._made: float = MADE
        self._work: float = WORK

    def tick(self, length: int) -> bool:
        """True, until there have been too many steps: InputError. `length` is that of the code of this one."""
        self._steps -= 1
        if self._steps < 0:
            raise InputError(
                f"the model loops more than {self.limit} times, or calls as many functions; it would not end"
            )
        self._make(CHARACTER * length)
        return True

    def range(self, count: int, length: int) -> Iterator[int]:
        """``range(count)``, counted."""
        return (i for i in range(count) if self.tick(length))

    def item(self, value: Any, index: Any) -> Any:
        """``value[index]`` of a list, tuple or dict."""
        if not isinstance(value, list | tuple | dict):
            raise InputError("only lists, tuples and dicts have items")
        return value[key(index) if isinstance(value, dict) else index]

    def part(self, value: Any, start: int | None, end: int | None) -> Any:
        """``value[start:end]`` of a list or tuple."""
        if not isinstance(value, list | tuple):
            raise InputError("only lists and tuples have parts")
        found = value[start:end]
        self._make(8 * len(found))
        return found

    def guard(self, name: str, operator: Operator) -> Operator:
        """The operator `name`, refused with an InputError where it would use up too much."""
        short = name.removeprefix("torch.").removesuffix("_") if not name.endswith("__") else name[6:]
        measure, plain = SIZES.get(short), name in ELEMENTWISE
        shallow = name in SHALLOW
        numbers = (plain and short not in JOINING) or short in PLAIN
        flat = short not in HOLDING and short not in JOINING

        def call(*args: Any, **kwargs: Any) -> Any:
            read: float = 64
            sizes = times = 1
            length = 0
            for value in (*args, *kwargs.values()) if kwargs else args:
                kind = type(value)
                if kind is np.ndarray:
                    read += value.nbytes
                    sizes *= value.size
                elif kind is int:
                    if not -(2**63) <= value < 2**63:
                        raise InputError(f"{name}: a whole number is beyond 64 bits")
                    times *= max(abs(value), 1)
                elif kind in NESTED and not shallow:
                    if numbers:
                        raise InputError(f"{name} takes neither lists nor texts")
                    more, held = weigh(value)
                    if held and flat and kind is not str:  # NumPy would make one array of it
                        raise InputError(f"{name} takes lists of numbers alone")
                    length += more
                    read += held
            if length:
                if length * (times if plain else 1) > LONGEST:
                    raise InputError(f"{name}: a list or text is longer than {LONGEST}")
                read += 8 * length
            if measure is not None:
                elements, work = measure(*args, **kwargs)
                if not elements <= LARGEST:
                    raise InputError(f"{name} would make an array of more than {LARGEST} elements")
                read += work
            elif sizes > LARGEST and not _broadcast((*args, *kwargs.values())) <= LARGEST:
                raise InputError(f"{name} would make an array of more than {LARGEST} elements")
            self._spend(read)
            result = operator(*args, **kwargs)
            self._made_is(name, args, result)
            return result

        return call

    def _made_is(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        kind = type(result)
        if kind is np.ndarray:
            if result.dtype.kind not in "biuf":
                raise InputError(f"{name}: the result is no tensor of numbers")
            self._make(64 + result.nbytes)
        elif kind is int:
            if not -(2**63) <= result < 2**63:
                raise InputError(f"{name}: the result, a whole number, is beyond 64 bits")
            self._make(64)
        elif kind is list or kind is tuple or kind is str:
            if len(result) > LONGEST:
                raise InputError(f"{name}: a list or text grows longer than {LONGEST}")
            known = args and result is args[0]
            self._make(64 if known else 64 + sum(map(_weight, result)) if kind is not str else len(result))
        else:
            self._make(64)
        if name == "torch.extend" and len(args[0]) > LONGEST:
            raise InputError(f"{name}: a list grows longer than {LONGEST}")

    def _make(self, count: float) -> None:
        self._made -= count
        if self._made < 0:
            raise InputError(f"the model makes more than {MADE >> 20} MB in one call")
        self._spend(count)

    def _spend(self, count: float) -> None:
        self._work -= count
        if self._work < 0:
            raise InputError(f"the model reads and computes more than {WORK >> 20} MB in one call")


def _weight(value: Any) -> int:
    return 128 + value.nbytes if type(value) is np.ndarray else 8


NESTED = {list, tuple, dict, str}
# They do not look into the lists that they are given.
SHALLOW = {f"torch.{name}" for name in ("append", "_set_item", "pop", "len", "__is__", "__isnot__")}
# Operators element by element that take lists or texts too; with others Python might compute what it likes.
JOINING = {"add", "mul", "eq", "ne", "lt", "le", "gt", "ge", "div"}
PLAIN = {"floordiv", "__derive_index", "__range_length"}  # further ones that take numbers alone
# They take lists of tensors or texts as they are.
HOLDING = {"cat", "concat", "stack", "einsum", "index", "index_put", "list", "extend", "select", "slice", "format"}
HOLDING |= {"__contains__", "__not__", "bool", "ops.prim.min", "ops.prim.max", "ops.prim.data"}


def weigh(value: Any) -> tuple[int, int]:
    """How many items nested lists have in all, at least LONGEST + 1 if there are more, and the bytes of what they hold.

    That is of arrays, and one for each character of a text.

    A list that stands in another twice counts twice: what walks through it would meet it twice.
    """
    items = held = 0
    waiting = [value]
    while waiting and items <= LONGEST:
        found = waiting.pop()
        items += 1
        if type(found) is np.ndarray:
            held += found.nbytes
        elif isinstance(found, str):
            items += len(found)
            held += len(found)
        elif isinstance(found, dict):
            items += len(found)
            waiting.extend(found.values())
        elif isinstance(found, list | tuple):
            if items + len(waiting) + len(found) > LONGEST:
                return LONGEST + 1, held
            waiting.extend(found)
    return items, held


def _broadcast(args: tuple[Any, ...]) -> float:
    """The elements of arrays put side by side."""
    try:
        return math.prod(_common(*(x.shape for x in args if type(x) is np.ndarray)))
    except ValueError:
        return 0  # they do not fit together, as the operator itself will say, or need not


def _common(*shapes: tuple[int, ...]) -> list[int]:
    """The shape that arrays of these shapes are broadcast to; `numpy.broadcast_shapes` takes ten times as long.

    Raises ValueError where they do not fit together.
    """
    common = []
    for sizes in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        wide = set(sizes) - {1}
        if len(wide) > 1:
            raise ValueError(f"shapes {shapes} cannot be broadcast")
        common.append(wide.pop() if wide else 1)
    return common[::-1]


def _product(sizes: Any) -> float:
    return float(math.prod(max(size, 0) for size in sizes))


def _sized(size: list[int], *_: Any, **__: Any) -> Size:
    return _product(size), 0


def _new(x: Array, size: list[int], *_: Any, **__: Any) -> Size:
    return _product(size), 0


def _arange(*limits: Any, **_: Any) -> Size:
    start, end, step = (0, *limits, 1) if len(limits) == 1 else (*limits, 1)[:3]
    return max(float(end) - float(start), float(start) - float(end)) / abs(float(step)), 0


def _linspace(start: Any, end: Any, steps: int, **_: Any) -> Size:
    return steps, 0


def _eye(rows: int, columns: int | None = None, **_: Any) -> Size:
    return _product((rows, rows if columns is None else columns)), 0


def _one_hot(x: Array, num_classes: int = -1) -> Size:
    return x.size * (float(x.max(initial=0)) + 1 if num_classes == -1 else num_classes), 0


def _expand(x: Array, sizes: list[int], **_: Any) -> Size:
    own = (1,) * (len(sizes) - x.ndim) + x.shape
    return _product(had if want == -1 else want for had, want in zip(own, sizes, strict=True)), 0


def _repeat(x: Array, repeats: list[int]) -> Size:
    return x.size * _product(repeats), 0


def _repeat_interleave(x: Array, repeats: Any, *_: Any, **__: Any) -> Size:
    return x.size * float(repeats.max(initial=0) if isinstance(repeats, np.ndarray) else repeats), 0


def _pad(x: Array, pad: list[int], *_: Any, **__: Any) -> Size:
    return math.prod(size + abs(a) + abs(b) for size, a, b in zip(x.shape[::-1], *_pairs(pad, x.ndim), strict=True)), 0


def _pairs(pad: list[int], ndim: int) -> tuple[list[int], list[int]]:
    filled = pad + [0] * (2 * ndim - len(pad))
    return filled[::2], filled[1::2]


def _constant_pad(x: Array, padding: list[int], *_: Any, **__: Any) -> Size:
    return _pad(x, padding)


def _outer(a: Array, b: Array) -> Size:
    return a.size * b.size, 0


def _multiplied(a: tuple[int, ...], b: tuple[int, ...], kind: str) -> Size:
    """Of a matrix product; vectors count as matrices of one row or column."""
    a, b = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    elements = math.prod(_common(a[:-2], b[:-2])) * a[-2] * b[-1]
    return elements, elements * a[-1] / (8 if kind == "f" else 1)


def _matmul(a: Array, b: Array) -> Size:
    return _multiplied(a.shape, b.shape, a.dtype.kind)


def _linear(x: Array, weight: Array, bias: Array | None = None) -> Size:
    return _multiplied((_rows(x), x.shape[-1]), weight.shape[::-1], x.dtype.kind)


def _rows(x: Array) -> int:
    return math.prod(x.shape[:-1])


def _addmm(x: Array, a: Array, b: Array, **_: Any) -> Size:
    elements, work = _matmul(a, b)
    if elements <= LARGEST:
        elements = math.prod(_common(x.shape, (*_common(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])))
    return elements, work


def _nonzero(x: Array) -> Size:
    return x.size * x.ndim, 0


def _where(condition: Array, *choices: Any) -> Size:
    return (_broadcast((condition, *choices)) if choices else condition.size * condition.ndim), 0


def _by_channel(x: Array, *parts: Any) -> Size:
    """Of what has a number for each channel, which may be more than `x` has."""
    channels = x.shape[1] if x.ndim > 1 else x.shape[0] if x.ndim else 1
    most = max((part.size for part in parts if isinstance(part, np.ndarray)), default=1)
    return x.size * (most if channels == 1 else 1), 0


def _einsum(equation: str, operands: list[Array], **_: Any) -> Size:
    if "." in equation:  # the largest that it could be
        every: float = math.prod(x.size for x in operands)
        return every, every
    left, arrow, right = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for labels, x in zip(left.split(","), operands, strict=True):
        for label, size in zip(labels, x.shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 0))
    kept = right if arrow else [label for label in sizes if left.count(label) == 1]
    return _product(sizes[label] for label in kept), _product(sizes.values())


def _attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None, *_: Any, **__: Any) -> Size:
    turned = (*key.shape[:-2], key.shape[-1], key.shape[-2])
    elements, work = _multiplied(query.shape, turned, query.dtype.kind)
    shape = (*_common(query.shape[:-2], key.shape[:-2]), query.shape[-2], key.shape[-2])
    if attn_mask is not None:
        shape = (*_common(shape, attn_mask.shape),)
    made, more = _multiplied(shape, value.shape, value.dtype.kind)
    return max(elements, made, math.prod(shape)), work + more


def _conv1d(
    x: Array,
    weight: Array,
    bias: Any = None,
    stride: Any = None,
    padding: Any = None,
    dilation: Any = None,
    *_: Any,
    **__: Any,
) -> Size:
    reach = (dilation or [1])[0] * (weight.shape[2] - 1)
    frames = x.shape[-1] + (2 * padding[0] if isinstance(padding, list) else reach if padding == "same" else 0)
    batch = 1 if x.ndim == 2 else len(x)
    elements = batch * max(x.shape[-2], len(weight)) * max(frames, 0)
    return elements, batch * max(frames, 0) * weight.size / 8


def _index(x: Array, indices: list[Array | None], *_: Any, **__: Any) -> Size:
    shapes, covered, dim, found = [], 1, 0, 0
    for each in indices:
        if each is None:
            dim += 1
        elif each.dtype.kind == "b" or each.dtype == np.uint8:
            shapes.append((int(np.count_nonzero(each)),))
            found = max(found, shapes[-1][0] * each.ndim)  # places that NumPy writes down
            covered *= math.prod(x.shape[dim : dim + each.ndim])
            dim += each.ndim
        else:
            shapes.append(each.shape)
            covered *= x.shape[dim]
            dim += 1
    return max(math.prod(_common(*shapes)) * (x.size // max(covered, 1)), found), 0


def _index_select(x: Array, dim: int, index: Array, *_: Any, **__: Any) -> Size:
    return (index.size * (x.size // max(x.shape[dim], 1)) if x.ndim else 1), 0


def _embedding(weight: Array, indices: Array, *_: Any, **__: Any) -> Size:
    return _index_select(weight, 0, indices)


def _joined(tensors: list[Array], dim: int = 0) -> Size:
    return sum(x.size for x in tensors), 0


def _parts(count: float) -> Size:
    if count > LONGEST:
        raise InputError(f"a list would be longer than {LONGEST}")
    return 0, 0


def _chunk(x: Array, chunks: int, dim: int = 0) -> Size:
    return _parts(chunks)


def _split(x: Array, size: Any, dim: int = 0) -> Size:
    return _parts(len(size) if isinstance(size, list) else x.shape[dim] / max(size, 1))


def _unbind(x: Array, dim: int = 0) -> Size:
    return _parts(x.shape[dim] if x.ndim else 0)


def _each(*values: Any) -> Size:
    """Of what goes through an array in Python."""
    return _parts(max(len(x) if isinstance(x, np.ndarray) and x.ndim else 0 for x in values))


def _format(template: str, *values: Any) -> Size:
    """An array is written in a few thousand characters; those in lists too."""
    return _parts(2**12 * sum(1 if isinstance(x, np.ndarray) else weigh(x)[0] for x in values if type(x) in WRITTEN))


WRITTEN = {list, tuple, dict, np.ndarray}


def _shift(a: Any, b: Any) -> Size:
    if type(b) is int and b > 63:
        raise InputError("a whole number is shifted by more than 63")
    return _broadcast((a, b)), 0


SIZES: dict[str, Callable[..., Size]] = {
    **dict.fromkeys(("zeros", "ones", "empty", "full"), _sized),
    **dict.fromkeys(("new_zeros", "new_ones", "new_empty", "new_full"), _new),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm"), _addmm),
    **dict.fromkeys(("conv1d", "_convolution"), _conv1d),
    **dict.fromkeys(("index", "index_put"), _index),
    **dict.fromkeys(("index_select", "index_copy", "index_fill", "index_add"), _index_select),
    **dict.fromkeys(("cat", "concat", "stack"), _joined),
    **dict.fromkeys(("repeat", "tile"), _repeat),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    **dict.fromkeys(("list", "extend", "__contains__", "ops.prim.min", "ops.prim.max"), _each),
    "arange": _arange,
    "linspace": _linspace,
    "eye": _eye,
    "one_hot": _one_hot,
    "nonzero": _nonzero,
    "where": _where,
    "batch_norm": _by_channel,
    "prelu": _by_channel,
    "expand": _expand,
    "repeat_interleave": _repeat_interleave,
    "pad": _pad,
    "constant_pad_nd": _constant_pad,
    "outer": _outer,
    "linear": _linear,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "embedding": _embedding,
    "chunk": _chunk,
    "unbind": _unbind,
    "format": _format,
    "__lshift__": _shift,
}
