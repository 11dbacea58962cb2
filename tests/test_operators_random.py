"""Families of operators against PyTorch's own, over random shapes, dtypes, layouts and values."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pianoai.runtime.operators import OPERATORS
from tests.test_operators import agree, arrays, numpy_value, reference, torch_value

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
Draw = Callable[[st.SearchStrategy[Any]], Any]
FLOATS = ["float32", "float64"]
WHOLE = ["int64", "int32", "uint8"]
ALL = [*FLOATS, "float16", *WHOLE, "bool"]
sizes = st.integers(0, 3)
numbers = st.sampled_from([2, -1, 0, 3, 0.5, -1.5, True])


def random(examples: int) -> Callable[[Any], Any]:
    """A test with drawn data: the same in every run, and as many examples as that."""
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

    def decorate(test: Any) -> Any:
        chosen = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=health,
        )
        return chosen(given(data=st.data())(test))

    return decorate


def values(draw: Draw, shape: tuple[int, ...], dtype: str, special: bool = False) -> np.ndarray[Any, Any]:
    """Values that differ, some of them not numbers if asked; every other array is a view that is not contiguous."""
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    wide = shape and draw(st.booleans())
    full = (*shape[:-1], 2 * shape[-1]) if wide else shape
    x: np.ndarray[Any, Any]
    if dtype == "bool":
        x = rng.random(full) > 0.5
    elif dtype in WHOLE:
        x = rng.integers(1 if dtype == "uint8" else -6, 7, full)
    else:
        x = np.round(rng.normal(size=full) * 2, 2)
        if special:
            x = np.where(rng.random(full) > 0.7, rng.choice([math.nan, math.inf, -math.inf, -0.0], full), x)
    x = np.asarray(x).astype(dtype)
    return x[..., ::2] if wide else x


def shape_of(draw: Draw, low: int = 0, high: int = 3, least: int = 0) -> tuple[int, ...]:
    return tuple(draw(st.lists(st.integers(least, 3), min_size=low, max_size=high)))


def partner(draw: Draw, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that can be broadcast with `shape`."""
    ones = tuple(1 if draw(st.booleans()) else size for size in shape)
    return ones[draw(st.integers(0, len(ones))) :]


def compare(name: str, *arguments: Any, **options: Any) -> None:
    """The operator and PyTorch's; what PyTorch refuses is not asked of ours."""
    mine, theirs_given = numpy_value(list(arguments)), torch_value(list(arguments))
    try:
        theirs = reference(name)(*theirs_given, **options)
    except (RuntimeError, IndexError, ValueError):
        return
    with np.errstate(all="ignore"):
        try:
            agree(OPERATORS[f"torch.{name}"](*mine, **{k: numpy_value(v) for k, v in options.items()}), theirs)
            agree(arrays(mine, np.ndarray), arrays(theirs_given, torch.Tensor))
        except Exception as error:
            raise AssertionError(f"{name}{arguments} {options}: {error}") from error


def compare_both(name: str, *arguments: Any, **options: Any) -> None:
    """The operator, and the one that writes its result into its first argument."""
    compare(name, *arguments, **options)
    if f"torch.{name}_" in OPERATORS:
        compare(f"{name}_", *arguments, **options)


BINARY = "add sub rsub mul div true_divide maximum minimum eq ne lt le gt ge"


@pytest.mark.parametrize("name", BINARY.split())
@random(60)
def test_binary(name: str, data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw)
    a = values(draw, shape, draw(st.sampled_from(ALL)), special=True)
    alpha = draw(st.sampled_from([None, 2, -1, 0.5, True])) if name in ("add", "sub", "rsub") else None
    options = {} if alpha is None else {"alpha": alpha}
    if draw(st.booleans()) and name not in ("maximum", "minimum"):
        compare_both(name, a, draw(numbers), **options)
    else:
        compare_both(name, a, values(draw, partner(draw, shape), draw(st.sampled_from(ALL)), special=True), **options)


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod", "pow", "atan2", "div"])
@random(40)
def test_division_and_powers(name: str, data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw)
    a, b = (
        np.asarray(np.abs(values(draw, s, draw(st.sampled_from(FLOATS + WHOLE)))) + 1)
        for s in (shape, partner(draw, shape))
    )
    options = {"rounding_mode": draw(st.sampled_from(["floor", "trunc", None]))} if name == "div" else {}
    compare_both(name, a, b if name == "atan2" else draw(st.sampled_from([b, 2, 3, 0.5, 2.5])), **options)


TRUTH = (
    "bitwise_and bitwise_or bitwise_xor logical_and logical_or logical_xor __and__ __or__ __xor__ __lshift__ __rshift__"
)


@pytest.mark.parametrize("name", TRUTH.split())
@random(30)
def test_bits_and_truth(name: str, data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw)
    kinds = ALL if name.startswith("logical") else [*WHOLE, "bool"]
    a, b = (values(draw, s, draw(st.sampled_from(kinds))) for s in (shape, partner(draw, shape)))
    if "shift" in name:
        a, b = (np.asarray(x.astype("int64" if x.dtype == bool else x.dtype) % 7) for x in (a, b))
    compare_both(name, a, b if name.startswith("logical") else draw(st.sampled_from([b, 3, 0])))


UNARY = """abs neg sign exp expm1 log log2 log10 log1p sqrt rsqrt reciprocal sin cos tanh sigmoid erf square floor ceil
trunc round relu silu relu6 hardtanh leaky_relu elu softplus log_sigmoid gelu isnan isinf isfinite logical_not
nan_to_num atan exp2 tan frac bitwise_not"""
FLOATING_ONLY = {"silu", "leaky_relu", "elu", "softplus", "log_sigmoid", "gelu", "relu6", "hardtanh"}
# float16 is computed in float16 here and in float32 by PyTorch: others may differ in the last place.
HALVES = {"abs", "neg", "sign", "floor", "ceil", "trunc", "round", "relu", "isnan", "isinf", "isfinite", "logical_not"}


@pytest.mark.parametrize("name", UNARY.split())
@random(30)
def test_unary(name: str, data: Any) -> None:
    draw = data.draw
    kinds = FLOATS if name in FLOATING_ONLY else ALL if name in HALVES else [*FLOATS, *WHOLE, "bool"]
    x = values(draw, shape_of(draw), draw(st.sampled_from(kinds)), special=True)
    compare_both(name, x)


@pytest.mark.parametrize(
    "name", ["clamp", "clip", "clamp_min", "clamp_max", "where", "masked_fill", "lerp", "addcmul", "addcdiv"]
)
@random(40)
def test_several_operands(name: str, data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw)
    kind = draw(st.sampled_from(FLOATS))
    x, a, b = (
        values(draw, s, kind, special=name != "lerp") for s in (shape, partner(draw, shape), partner(draw, shape))
    )
    match name:
        case "clamp" | "clip":
            x = draw(st.sampled_from([x, values(draw, shape, draw(st.sampled_from(WHOLE)))]))
            compare_both(name, x, draw(st.sampled_from([None, -1.0, 0, a])), draw(st.sampled_from([None, 1.0, 2, b])))
        case "clamp_min" | "clamp_max":
            x = draw(st.sampled_from([x, values(draw, shape, draw(st.sampled_from(WHOLE)))]))
            compare_both(name, x, draw(st.sampled_from([-1.0, 0, 2, 1.5, a])))
        case "where":
            compare(name, values(draw, shape, "bool"), a, draw(st.sampled_from([b, 2.5, 1])))
        case "masked_fill":
            compare_both(name, x, values(draw, partner(draw, shape), "bool"), draw(st.sampled_from([2, -math.inf])))
        case "lerp":
            compare_both(name, x, values(draw, shape, kind), draw(st.sampled_from([0.25, 0.75])))
        case _:
            compare_both(name, x, a, b, value=draw(st.sampled_from([1, 0.5])))


def dims_of(draw: Draw, shape: tuple[int, ...]) -> list[int]:
    ndim = max(len(shape), 1)
    chosen = draw(st.sets(st.integers(0, ndim - 1), min_size=1))
    return [dim - ndim if draw(st.booleans()) else dim for dim in chosen]


@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "logsumexp", "var", "std", "any", "all"])
@random(40)
def test_reductions_over_several(name: str, data: Any) -> None:
    draw = data.draw
    # The variance of a single value less one is 0 / 0, and of more than PyTorch says.
    shape = shape_of(draw, least=2 if name in ("var", "std") else 0)
    dims, keep = dims_of(draw, shape), draw(st.booleans())
    special = name not in ("logsumexp", "var", "std")
    x = values(
        draw, shape, draw(st.sampled_from(FLOATS if name in ("mean", "var", "std") else [*FLOATS, *WHOLE])), special
    )
    match name:
        case "any" | "all":
            compare(name, x, dims[0], keep)
        case "var" | "std":
            compare(name, x, dims, correction=draw(st.sampled_from([0, 1])), keepdim=keep)
        case _:
            compare(name, x, dims, keep)


@pytest.mark.parametrize("name", ["prod", "max", "min", "argmax", "argmin", "cumsum", "cumprod"])
@random(40)
def test_reductions_over_one(name: str, data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw)
    x = values(draw, shape, draw(st.sampled_from([*FLOATS, *WHOLE])))
    if "m" in name and "cum" not in name and x.size:
        # Where several are the largest, PyTorch may name another one.
        x = np.asarray(np.random.default_rng(x.size).permutation(x.size).reshape(shape) - 2).astype(x.dtype)
    (dim, *_) = dims_of(draw, shape)
    compare(name, x, dim, *([] if name.startswith("cum") else [draw(st.booleans())]))


@pytest.mark.parametrize("name", ["sort", "argsort", "topk"])
@random(30)
def test_order(name: str, data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw, least=1)
    x = np.asarray(np.random.default_rng(3).permutation(math.prod(shape)).reshape(shape))
    x = x.astype(draw(st.sampled_from([*FLOATS, "int64", "int32", "uint8"])))
    (dim, *_) = dims_of(draw, shape)
    first = [draw(st.integers(0, 3))] if name == "topk" else []
    compare(name, x, *first, dim, draw(st.booleans()))


@random(250)
def test_shapes(data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw)
    x = values(draw, shape, draw(st.sampled_from(ALL)))
    ndim = max(len(shape), 1)
    dim, other = (draw(st.integers(-ndim, ndim - 1)) for _ in range(2))
    low, high = (draw(st.integers(-4, 4)) for _ in range(2))
    few = st.integers(0, 3)
    parts = [draw(few) for _ in range(3)]
    cases: list[tuple[Any, ...]] = [
        ("select", x, dim, low),
        (
            "slice",
            x,
            dim,
            draw(st.sampled_from([None, low])),
            draw(st.sampled_from([None, high])),
            draw(st.integers(1, 3)),
        ),
        ("narrow", x, dim, low, abs(high)),
        ("unbind", x, dim),
        ("chunk", x, draw(st.integers(1, 4)), dim),
        ("split", x, draw(st.integers(1, 4)), dim),
        ("unsqueeze", x, draw(st.integers(-ndim - 1, ndim))),
        ("squeeze", x),
        ("squeeze", x, dim),
        ("squeeze", x, [dim]),
        ("transpose", x, dim, other),
        ("permute", x, draw(st.permutations(range(x.ndim)))),
        ("reshape", x, [-1]),
        ("reshape", x, [*shape, 1]),
        ("reshape", x, [x.size]),
        ("flatten", x, dim, other),
        ("expand", x, [draw(st.sampled_from([2, -1])), *shape]),
        ("expand", x[..., :1] if x.ndim else x, [*([3] if not x.ndim else [-1] * (x.ndim - 1)), 3]),
        ("repeat", x, [draw(few) for _ in range(x.ndim + draw(st.integers(0, 1)))]),
        ("repeat_interleave", x, draw(few), dim),
        ("flip", x, dims_of(draw, shape)),
        ("roll", x, [low], [dim]),
        ("roll", x, [low]),
        ("cat", [x, x[..., ::-1] if x.ndim else x, x], dim),
        ("stack", [x, x], dim),
        ("constant_pad_nd", x, [draw(st.integers(-1, 2)) for _ in range(2 * draw(st.integers(0, x.ndim)))], 2),
        ("tril", x, low),
        ("triu", x, low),
        ("tril_", x, low),
        ("triu_", x, low),
        ("t", x),
        ("numpy_T", x),
        ("mT", x),
        ("split_with_sizes", x, [1, 0, (x.shape[dim] if x.ndim else 1) - 1], dim),
        ("split_with_sizes", x, parts, dim),
        ("tile", x, [draw(few) for _ in range(draw(st.integers(0, 4)))]),
        ("view", x, [*shape, 1]),
        ("view_as", x, np.zeros((1, *shape))),
        ("unflatten", x, dim, [-1, *parts[:1]]),
        ("unflatten", x, dim, [1, -1]),
        ("expand_as", x, np.zeros((2, *shape))),
        ("expand_as", x[..., :1], np.zeros(shape)) if x.ndim else ("expand_as", x, np.zeros(shape)),
        ("concat", [x, x], dim),
        ("copy_", x, values(draw, partner(draw, shape), draw(st.sampled_from([*WHOLE, "float16", "bool"])))),
        ("fill_", x, draw(st.sampled_from([2, True, np.array(3)]))),
        ("zero_", x),
        ("type_as", x, values(draw, shape, draw(st.sampled_from(ALL)))),
        ("detach", x),
        ("alias", x),
        ("size", x),
        ("size", x, dim),
        ("dim", x),
        ("numel", x),
        ("is_floating_point", x),
        ("equal", x, x.copy()),
        ("equal", x, values(draw, shape_of(draw), "float32").astype(x.dtype)),
        ("item", x),
        ("clone", x),
        ("contiguous", x),
        ("to", x, draw(st.sampled_from([torch.float32, torch.int64, torch.float64, torch.bool]))),
    ]
    for case in cases:
        compare(*case)


@random(200)
def test_indexing(data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw, 1, 3, 1)
    kind = draw(st.sampled_from(ALL))
    x = values(draw, shape, kind)
    dim = draw(st.integers(-x.ndim, x.ndim - 1))
    count = draw(st.integers(0, 4))
    chance = np.random.default_rng(draw(st.integers(0, 999)))
    index = chance.integers(0, shape[dim], count)
    rows = np.moveaxis(np.zeros((*np.delete(shape, dim), count), kind), -1, dim)
    rows = rows + np.asarray(chance.integers(0, 2, rows.shape)).astype(kind)
    distinct = chance.permutation(shape[dim])[:count]
    short = np.take(rows, range(min(len(distinct), count)), dim)
    along = chance.integers(0, shape[dim], shape)
    each = [chance.integers(-size, size, (count, 1) if at % 2 else (2,)) for at, size in enumerate(shape)]
    mask = values(draw, shape[: draw(st.integers(1, x.ndim))], "bool")
    for case in (
        ("index_select", x, dim, index),
        ("embedding", x if x.ndim == 2 else np.zeros((3, 2), kind), np.abs(each[0]) % 3),
        ("index_put", x, [index % shape[0]], np.ones((), kind), True),
        ("scatter", x, dim, along[..., :1], np.asarray(chance.integers(0, 5, shape)).astype(kind)),
        ("scatter_add", x, dim, along, np.asarray(chance.integers(0, 2, shape)).astype(kind)),
        ("scatter_add", x, dim, along[..., :1], np.asarray(chance.integers(0, 2, shape)).astype(kind)),
        ("index_copy", x, dim, distinct, short),
        ("index_fill", x, dim, index, 1),
        ("index_add", x, dim, index, rows),
        ("gather", x, dim, along),
        ("scatter", x, dim, along[..., :1], 1),
        ("index", x, each),
        ("index", x, [None] * (x.ndim - 1) + [index % shape[-1]]),
        ("index", x, [mask]),
        ("index_put", x, [mask], np.ones((), kind)),
        ("index_put", x, [index % shape[0]], np.ones((1,) * x.ndim, kind)),
        ("masked_select", x, values(draw, partner(draw, shape), "bool")),
        ("nonzero", x),
        ("masked_fill", x, values(draw, shape, "bool"), 1),
    ):
        compare_both(*case)


@random(150)
def test_products(data: Any) -> None:
    draw = data.draw
    kind = draw(st.sampled_from([*FLOATS, "int64", "int32"]))
    n, k, m = draw(sizes), draw(sizes), draw(sizes)
    batch = shape_of(draw, 0, 2)
    a, b = values(draw, (*batch, n, k), kind), values(draw, (*partner(draw, batch), k, m), kind)
    vector, weight = values(draw, (k,), kind), values(draw, (m, k), kind)
    bias = draw(st.sampled_from([None, values(draw, (m,), kind)]))
    flat = a[(0,) * len(batch)] if a.size else np.zeros((n, k), kind)
    for case in (
        ("matmul", a, b),
        ("matmul", a, vector),
        ("matmul", vector, b),
        ("matmul", vector, vector),
        ("linear", a, weight, bias),
        ("linear", vector, weight, bias),
        ("outer", vector, values(draw, (m,), kind)),
        ("mm", flat, weight.T),
        ("mv", flat, vector),
        ("dot", vector, vector),
        ("addmm", values(draw, (m,), kind), flat, weight.T),
        ("einsum", "ij,kj->ik", [flat, weight]),
        ("einsum", "ij,j", [flat, vector]),
        ("einsum", "ij->ji", [flat]),
    ):
        compare(*case)


@random(150)
def test_softmax_and_norms(data: Any) -> None:
    draw = data.draw
    kind = draw(st.sampled_from(FLOATS))
    shape = shape_of(draw)
    x = values(draw, shape, kind, special=True)
    (dim, *_) = dims_of(draw, shape)
    for name in ("softmax", "log_softmax"):
        compare(name, x, dim)
        compare(name, x, dim, draw(st.sampled_from([None, torch.float64, torch.float32])))
    shape = shape_of(draw, 1, 3, 1)
    x, last = values(draw, shape, kind), [*shape[draw(st.integers(0, len(shape) - 1)) :]]
    weight, bias = (draw(st.sampled_from([None, values(draw, tuple(last), kind)])) for _ in range(2))
    eps = draw(st.sampled_from([1e-5, 0.1]))
    compare("layer_norm", x, last, weight, bias, eps)
    compare("rms_norm", x, last, weight, eps)
    channels = values(draw, (2, 4, *shape[:1]), kind)
    # PyTorch subtracts the scaled mean, which is off by more than a rounding where the deviation is next to nothing.
    compare("group_norm", channels, draw(st.sampled_from([1, 2, 4])), None, values(draw, (4,), kind), 0.1)
    mean, spread = values(draw, (4,), kind), np.abs(values(draw, (4,), kind)) + 1
    compare("batch_norm", channels, None, mean, mean, spread, False, 0.1, eps, False)
    heads = [values(draw, (*shape[:1], draw(st.integers(1, 3)), 2), kind)]
    heads += [values(draw, (*shape[:1], 3, 2), kind) for _ in range(2)]
    compare("scaled_dot_product_attention", *heads, None, 0.0, draw(st.booleans()))


@random(100)
def test_creation(data: Any) -> None:
    draw = data.draw
    shape = list(shape_of(draw))
    dtype = draw(
        st.sampled_from([None, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool, torch.float16])
    )
    x = values(draw, shape_of(draw), draw(st.sampled_from(ALL)))
    fill = draw(st.sampled_from([0, 1, 3, 2.5, True]))
    start, end, step = draw(st.integers(-5, 5)), draw(st.integers(-5, 5)), draw(st.sampled_from([1, 2, -1, -3]))
    rows, columns = draw(sizes), draw(sizes)
    given: dict[str, Any] = {"dtype": dtype} if dtype else {}
    for case in (
        ("zeros", shape), ("ones", shape), ("full", shape, fill), ("zeros_like", x), ("ones_like", x),
        ("full_like", x, fill), ("new_zeros", x, shape), ("new_ones", x, shape), ("new_full", x, shape, fill),
        ("arange", end), ("arange", start, end), ("arange", start, end, step), ("eye", rows), ("eye", rows, columns),
        ("scalar_tensor", fill),
    ):  # fmt: skip
        compare(*case, **given)
    compare("arange", start / 4, end / 2, abs(step) / 8)
    compare("linspace", start, end, rows + 1, dtype=draw(st.sampled_from([torch.float32, torch.float64])))
    compare("one_hot", np.abs(np.asarray(np.random.default_rng(rows).integers(0, 4, (columns, 2)))), 4 + rows)
