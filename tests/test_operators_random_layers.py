"""Products, convolutions, padding and other layers against PyTorch's own, over random shapes, dtypes and values."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from pianoai.runtime.operators import OPERATORS
from tests.test_operators import agree, numpy_value, reference, torch_value
from tests.test_operators_random import ALL, FLOATS, compare, compare_both, dims_of, random, shape_of, sizes, values

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
few = st.integers(1, 3)


@random(200)
def test_batches_of_products(data: Any) -> None:
    draw = data.draw
    kind = draw(st.sampled_from([*FLOATS, "int64", "int32", "bool"]))
    batch, n, k, m = (draw(sizes) for _ in range(4))
    a, b = values(draw, (batch, n, k), kind), values(draw, (batch, k, m), kind)
    compare("bmm", a, b)
    x = values(draw, draw(st.sampled_from([(batch, n, m), (n, m), (m,), (1, n, 1), ()])), kind)
    factors = st.sampled_from([1, 2, 0, 0.5, True])
    options = {name: draw(factors) for name in ("alpha", "beta") if draw(st.booleans())}
    compare("baddbmm", x, a, b, **options)
    x = values(draw, draw(st.sampled_from([(n, m), (m,), (n, 1), ()])), kind)
    compare("addmm", x, values(draw, (n, k), kind), values(draw, (k, m), kind), **options)


@random(200)
def test_convolutions(data: Any) -> None:
    draw = data.draw
    kind = draw(st.sampled_from([*FLOATS, "int64"]))
    groups, inner, outer, taps = draw(few), draw(few), draw(few), draw(few)
    lead = draw(st.sampled_from([(), (1,), (2,), (0,)]))
    x = values(draw, (*lead, groups * inner, draw(st.integers(1, 9))), kind)
    weight = values(draw, (groups * outer, inner, taps), kind)
    bias = draw(st.sampled_from([None, values(draw, (groups * outer,), kind)]))
    stride, dilation, padding = [draw(few)], [draw(few)], draw(st.sampled_from([[0], [1], [4], "same", "valid"]))
    compare("conv1d", x, weight, bias, stride, padding, dilation, groups)
    if not isinstance(padding, str) and lead:
        switches = [False, True, False, True]
        compare("_convolution", x, weight, bias, stride, padding, dilation, False, [0], groups, *switches)


@random(250)
def test_padding(data: Any) -> None:
    draw = data.draw
    x = values(draw, shape_of(draw, 0, 4), draw(st.sampled_from(ALL)))
    amounts = [draw(st.integers(-2, 3)) for _ in range(2 * draw(st.integers(0, max(x.ndim, 1))))]
    compare("pad", x, amounts, "constant", draw(st.sampled_from([None, 2, 1.5])))
    for each in (amounts, amounts[:2], [abs(amount) for amount in amounts[:2]]):
        compare("pad", x, each, "replicate")
        compare("pad", x, each, "reflect")
        pairs = list(zip(x.shape[::-1], each[::2], each[1::2], strict=False))
        # Where less is left than comes again, PyTorch gives what was in memory before.
        if all(max(a, b) <= size + min(a, 0) + min(b, 0) for size, a, b in pairs):
            compare("pad", x, each, "circular")


@random(200)
def test_gates_and_slopes(data: Any) -> None:
    draw = data.draw
    shape = shape_of(draw)
    x = values(draw, shape, draw(st.sampled_from(FLOATS)), special=True)
    (dim, *_) = dims_of(draw, shape)
    compare("glu", x, dim)
    if x.ndim:
        compare("glu", np.concatenate([x, x[..., ::-1]], dim), dim)
    channels = shape[1] if x.ndim > 1 else 1
    for count in {1, channels, *shape[:1]}:
        compare("prelu", x, values(draw, (count,), x.dtype.name))
    compare("prelu", x, np.asarray(x.dtype.type(0.25)))
    for name in ("dropout", "feature_dropout"):
        compare_both(name, x, 0.5, False)


@random(100)
def test_tables(data: Any) -> None:
    draw = data.draw
    table = values(draw, (draw(few), *shape_of(draw, 1, 1)), draw(st.sampled_from(ALL)))
    chance = np.random.default_rng(draw(st.integers(0, 999)))
    index = np.asarray(chance.integers(0, len(table), shape_of(draw)))
    compare("embedding", table, index.astype(draw(st.sampled_from(["int64", "int32"]))))
    compare("one_hot", index)
    compare("one_hot", index, draw(st.integers(1, 5)))


@random(100)
def test_empty_tensors_have_their_shape_and_dtype(data: Any) -> None:
    draw = data.draw
    shape, dtype = list(shape_of(draw)), draw(st.sampled_from([None, torch.float64, torch.int64, torch.bool]))
    x = values(draw, shape_of(draw), draw(st.sampled_from(ALL)))
    given = {"dtype": dtype} if dtype else {}
    for name, *arguments in (("empty", shape), ("empty_like", x), ("new_empty", x, shape)):
        # PyTorch leaves in them what was there before; here they are zeros.
        theirs = reference(name.replace("empty", "zeros"))(*torch_value(arguments), **given)
        ours = OPERATORS[f"torch.{name}"](*arguments, **{key: numpy_value(value) for key, value in given.items()})
        agree(ours, theirs)
