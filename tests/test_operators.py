"""Every operator of the NumPy runtime against PyTorch's own, dtype and shape included."""

import copy
import itertools
import math
from typing import Any, cast

import numpy as np
import pytest
import torch

from pianoai.runtime.errors import InputError
from pianoai.runtime.operators import OPERATORS
from pianoai.runtime.operators.promotion import CODES, code_of, dtype_of, result_dtype

rng = np.random.default_rng(7)
F = rng.normal(size=(3, 4)).astype(np.float32)
G = rng.normal(size=(3, 4)).astype(np.float32)
CUBE = rng.normal(size=(2, 3, 4)).astype(np.float32)
ROW = rng.normal(size=4).astype(np.float32)
COLUMN = rng.normal(size=(3, 1)).astype(np.float32)
POSITIVE = np.abs(F) + np.float32(0.1)
BELOW_ONE = np.tanh(F)
DOUBLE = rng.normal(size=(3, 4))
HALF = F.astype(np.float16)
I = np.array([[5, -7, 3, 0], [2, 9, -1, 4], [-3, -8, 6, 1]])  # noqa: E741
J = np.array([[2, 3, -2, 5], [-3, 4, 7, 1], [2, -5, 3, -1]])
INT32, BYTE = J.astype(np.int32), np.abs(I).astype(np.uint8)
B, C = I > 2, J > 1
NOTHING = np.zeros((0, 4), np.float32)
F0, D0, I0, B0 = np.array(1.5, np.float32), np.array(-2.5), np.array(3), np.array(True)
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.5, -0.0, 2.5], np.float32)
ORDER = np.array([2, 0])
WEIGHT, BIAS = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=5).astype(np.float32)
KERNEL = rng.normal(size=(5, 3, 2)).astype(np.float32)
MIXED = [F, G, DOUBLE, HALF, I, INT32, BYTE, B, F0, D0, I0, B0, ROW, COLUMN, NOTHING]
FLOATS = [F, DOUBLE, CUBE, F0, NOTHING, F.T]

Case = tuple[Any, ...]  # (name, arguments…), the last one a dict where there are keyword arguments
CASES: list[Case] = []


def each(names: str, *argument_lists: Any) -> None:
    CASES.extend((name, *arguments) for name in names.split() for arguments in argument_lists)


PAIRS = [(a, b) for a, b in itertools.product(MIXED, MIXED) if NOTHING.shape not in (a.shape, b.shape)]
PAIRS += [(NOTHING, ROW), (NOTHING, F0), (NOTHING, NOTHING)]
SCALARS = [(a, s) for a in MIXED for s in (2, 2.5)]
each("mul", *PAIRS, *SCALARS, *[(a, True) for a in MIXED])
each("eq ne lt le gt ge", *PAIRS, *SCALARS)
each("maximum minimum", *PAIRS)
each(
    "add sub",
    *[p for p in PAIRS if bool not in (p[0].dtype, p[1].dtype)],
    *[(a, s) for a, s in SCALARS if a.dtype != bool],
)
each("add sub", (F, G, {"alpha": 2}), (I, J, {"alpha": 3}), (F, 1.5, {"alpha": 2}))
each("add", (B, C), (B0, B), (HALF, 1000.5), (BYTE, 250))
each("add sub rsub", (F0, BYTE[0, 0], {"alpha": -1}), (BYTE, I, {"alpha": 300}))
each("rsub", (F, 2), (I, 2.5), (F, G), (F, 1, 2))
each("div true_divide", *PAIRS, *SCALARS)
each(
    "div",
    *[(a, b, {"rounding_mode": m}) for a, b in ((F, G), (I, J), (I, 2), (F, 0.7), (I, F)) for m in ("floor", "trunc")],
)
each("floor_divide remainder fmod", (F, G), (I, J), (I, 3), (F, 0.7), (I, 2.5), (I0, 4), (F, I0), (F, J), (DOUBLE, 2))
each("remainder floor_divide", (I0, 2.5), (D0, 2), (F, COLUMN))
each(
    "pow",
    (F, 2),
    (F, 3),
    (POSITIVE, 0.5),
    (POSITIVE, G),
    (I, 2),
    (BYTE, 2.5),
    (2, POSITIVE),
    (2.5, J),
    (2, np.abs(I)),
    (F0, 2),
)
each("pow", (POSITIVE, -1.5), (POSITIVE, D0), (I, np.abs(J)))
each("atan2", (F, G), (I, F), (I, J))
each("abs neg", (F,), (I,), (F0,), (DOUBLE,), (NOTHING,), (HALF,))
each("sign", (F,), (I,), (B,), (F0,))
each("exp expm1 exp2 sin cos tan tanh sigmoid atan erf", *[(x,) for x in (*FLOATS, I, B, SPECIAL)])
each("square", *[(x,) for x in (F, I, F0)])
each("sigmoid tanh exp", (HALF,))
each("log log2 log10 log1p sqrt rsqrt", (POSITIVE,), (np.abs(I) + 1,), (np.abs(F0),), (SPECIAL,), (NOTHING,))
each("reciprocal", (F,), (J,), (F0,), (DOUBLE,))
each("floor ceil trunc", *[(x,) for x in (F, DOUBLE, F0, SPECIAL, I, NOTHING)])
each("round", (F * 3,), (SPECIAL,), (I,), (np.array([0.5, 1.5, -2.5], np.float32),), (F, {"decimals": 2}))
each("frac", (F * 3,), (F0,))
each("relu silu", *[(x,) for x in (F, DOUBLE, F0, CUBE, NOTHING)])
each("relu", (I,), (SPECIAL,))
each("leaky_relu", (F,), (F, 0.2), (F0, 0.1), (DOUBLE, 0.3))
each("elu", (F,), (F, 1.5), (F0, 2.0), (F, 1.5, 1.2, 0.7))
each("softplus", (F,), (F * 30,), (F, 2), (F0,))
each("log_sigmoid", (F * 20,), (F0,))
each("prelu", (F, np.array([0.3], np.float32)), (F, ROW), (NOTHING.T[:, :0], NOTHING[:, 0]))
each("hardtanh", (F,), (F, -0.5, 0.25))
each("gelu", *[(x, {"approximate": m}) for x in (F, F0, CUBE, DOUBLE, NOTHING) for m in ("tanh", "none")], (F,))
each("nan_to_num", (SPECIAL,), (I,), (SPECIAL, 1.0, 2.0, -3.0))
each(
    "clamp clip",
    (F, -0.5, 0.5),
    (F, None, 0.2),
    (F, 0.2),
    (I, 0, 3),
    (I, 0.5),
    (F, ROW),
    (F, ROW, COLUMN),
    (F0, 0.0, 1.0),
)
each("clamp_min clamp_max", (F, 0.1), (I, 2), (F, ROW), (I, 2.5))
each("masked_fill", (F, B, 0.5), (F, B[0], -math.inf), (I, B, 7), (F, B, F0), (ROW, B, 1.0), (F, B0, 2))
each("lerp", (F, G, 0.3), (F, G, np.abs(BELOW_ONE)))
each("addcmul", (F, G, F), (F, G, ROW, {"value": 0.5}))
each("addcdiv", (F, G, POSITIVE), (F, G, POSITIVE, {"value": 0.5}))
each("logical_and logical_or logical_xor", (B, C), (I, J), (F, B), (B0, B))
each("logical_not", (B,), (I,), (F,), (B0,))
each(
    "bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__", (B, C), (I, J), (I, 6), (B0, B), (INT32, I), (BYTE, I0)
)
each("bitwise_not", (B,), (I,), (BYTE,), (I0,))
each("isnan isinf isfinite", (SPECIAL,), (I,), (F0,))
each(
    "where",
    (B, F, G),
    (B, F, I),
    (B[:, :1], F, ROW),
    (B0, F0, D0),
    (B, F, F0),
    (B, I, 0.5),
    (B, F, 2),
    (B, 1, 2),
    (B, 1.0, F),
    (B, HALF, D0),
)

each("select", (F, 0, 1), (F, -1, -1), (ROW, 0, 2), (CUBE, 1, 2))
each(
    "slice",
    (F,),
    (F, 1, 1, 3),
    (F, 0, -2),
    (CUBE, -1, 0, 9223372036854775807, 2),
    (F, 1, 3, 2),
    (CUBE, 1, None, -1),
    (F, 0, 0, 99),
)
each("narrow", (F, 1, 1, 2), (F, 0, -2, 1), (CUBE, -1, 0, 4))
each("numpy_T", (F,), (CUBE,), (ROW,))
each("mT", (F,), (CUBE,), (F0,))
each("tile", (F, [2, 1]), (ROW, [2, 3]))
each("outer", (ROW, ROW), (I[0], ROW))
each("relu6", (F * 5,), (F0,))
each("__lshift__ __rshift__", (I, 2), (np.abs(I), np.abs(J)))
each("where", (B,))
each("unbind", (F,), (F, 1), (CUBE, -1))
each("chunk", (F, 2, 1), (F, 2), (CUBE, 3, -1), (ROW, 3), (NOTHING, 2))
each("split", (F, 2), (F, 3, 1), (F, 5), (CUBE, 1, -1), (NOTHING, 2))
each("split_with_sizes", (F, [1, 3], 1), (CUBE, [2, 0, 1], 1))
each("unsqueeze", (F, 0), (F, 1), (F, -1), (F, -3), (F0, 0), (F0, -1))
each(
    "squeeze", (COLUMN,), (COLUMN, 1), (COLUMN, 0), (COLUMN, -1), (F0, 0), (F[None, :, None], [0, 2]), (F[None], [0, 1])
)
each("transpose", (F, 0, 1), (CUBE, -1, -2), (CUBE, 0, 2), (F0, 0, -1))
each("t", (F,), (ROW,), (F0,))
each("permute", (CUBE, [2, 0, 1]), (CUBE, [0, -1, 1]))
each(
    "reshape",
    (CUBE, [-1, 4]),
    (F, [2, 6]),
    (F0, [1, 1]),
    (CUBE.transpose(2, 0, 1), [4, 6]),
    (np.array([3], np.float32), []),
    (NOTHING, [2, 0]),
)
each("view", (CUBE, [6, -1]), (F, [12]))
each("view_as", (F, rng.normal(size=(2, 6))))
each("flatten", (CUBE,), (CUBE, 1), (CUBE, 0, 1), (F0,), (F, -1))
each("unfold", (F, 1, 2, 1), (CUBE, -1, 2, 2), (CUBE, 0, 1, 1), (CUBE, 1, 3, 1))
each("unflatten", (F, 1, [2, 2]), (CUBE, -1, [-1, 2]), (CUBE, 1, [3, 1]))
each("expand", (COLUMN, [3, 5]), (COLUMN, [2, -1, 4]), (F0, [2, 2]), (ROW, [3, -1]))
each("expand_as", (COLUMN, F), (F0, CUBE))
each("repeat", (F, [2, 1]), (ROW, [2, 3]), (F0, [3]), (CUBE, [1, 1, 1]))
each("repeat_interleave", (F, 2), (F, 2, 1), (F, np.array([1, 0, 2]), 0))
each("flip", (F, [0]), (CUBE, [0, -1]))
each("roll", (F, [1], [0]), (F, [1, -2], [0, 1]), (F, [5]))
each(
    "cat concat",
    ([F, G],),
    ([F, G], 1),
    ([F, I], -1),
    ([CUBE, CUBE, CUBE], 1),
    ([ROW, NOTHING[:, 0]],),
    ([HALF, F],),
    ([NOTHING[:, 0], F], 1),
)
each("stack", ([F, G],), ([F, G], 1), ([F, G], -1), ([F0, F0],), ([F, I],))
each(
    "pad",
    (F, [1, 2]),
    (F, [1, 0, 0, 2], "constant", 0.5),
    (F, [-1, 2]),
    (CUBE, [2, 1], "replicate"),
    (CUBE, [2, 1], "reflect"),
    (CUBE, [1, 2], "circular"),
    *[
        (CUBE, amounts, mode)
        for amounts in ([-2, 1], [1, -2], [-1, -1])
        for mode in ("replicate", "reflect", "circular")
    ],
)
each("constant_pad_nd", (F, [1, 2, 1, 0], 0.5), (I, [1, 1], 3))
each("tril triu tril_ triu_", (F,), (F, 1), (F, -1))
each(
    "index",
    (F, [ORDER]),
    (F, [None, ORDER]),
    (F, [ORDER, np.array([1, 3])]),
    (F, [B]),
    (F, [I0 - 1]),
    (CUBE, [None, I0 - 3, ORDER]),
    (CUBE, [ORDER - 1, None, ORDER]),
    (I, [ORDER]),
)
each("index_put index_put_", (F, [ORDER], G[:2]), (F, [B], F0), (F, [I0 - 1], ROW), (F, [None, ORDER], COLUMN))
each("index_put index_put_", (F, [np.array([1, 1])], G[:2], True), (F, [np.array([1, 1])], F0, True))
each("index_select", (F, 0, ORDER), (F, -1, ORDER), (F, 1, I0), (CUBE, 1, np.array([2, 2, 0])))
each("index_copy index_copy_", (F, 0, ORDER, G[:2]), (F, 1, np.array([3]), COLUMN), (F, -1, np.array([0, 3]), G[:, :2]))
each("index_fill index_fill_", (F, 0, ORDER, 0.5), (F, 1, ORDER, F0))
each("index_add index_add_", (F, 0, np.array([1, 1]), G[:2]), (F, 1, ORDER, G[:, :2], {"alpha": 2}))
each(
    "gather", (F, 1, np.array([[0, 3], [1, 1]])), (F, 0, np.array([[2, 0, 1, 1]])), (CUBE, -1, np.zeros((2, 3, 1), int))
)
each(
    "scatter scatter_",
    (F, 1, np.array([[0, 3], [1, 2]]), G),
    (F, 0, np.array([[2, 0, 1, 1]]), 0.5),
    (I, 1, np.array([[1]]), 7),
)
each("scatter_add scatter_add_", (F, 1, np.array([[0, 0], [1, 2]]), G))
each("masked_select", (F, B), (F, B[0]))
each("nonzero", (B,), (I,), (ROW,))
each("copy_", (F, G), (F, ROW), (I, F * 5), (F, I), (F0, D0), (BYTE, I), (B, F))
each("fill_", (F, 0.5), (I, 3), (F, I0), (F0, 2))
each("zero_", (F,), (I,), (B0,))

AXES: list[Any] = [(), (0,), (-1,), ([0, 1],), ([1], True)]
each(
    "sum",
    (F,),
    (I,),
    (B,),
    (F0,),
    (F, [0]),
    (CUBE, [0, -1], True),
    (F, {"dtype": torch.float64}),
    (B, [1]),
    (NOTHING, [0]),
    (BYTE,),
    (F, []),
    (INT32, [0]),
    (HALF,),
)
each("mean", (F,), (F, [0]), (CUBE, [0, -1], True), (F0,), (I, {"dtype": torch.float32}), (F, [-1], True))
each("prod", (F,), (F, 0), (I, 1, True))
each(
    "var std",
    (F,),
    (F, False),
    (F, [1]),
    (F, [0, 1], False, True),
    (F, [1], {"correction": 0, "keepdim": True}),
    (F, [1], True),
)
each("max min", (F,), (I,), (F0,), (F, 1), (CUBE, -2, True), (F, G), (I, 0), (I, F))
each("argmax argmin", (F,), (F, 1), (CUBE, -1, True), (I, 0), (F0,))
each("amax amin", (F,), (F, [1]), (CUBE, [0, 2], True), (I, [0]))
each("cumsum", (F, 0), (F, 1), (CUBE, -1), (I, 0), (B, 1), (F0, 0), (F, 1, {"dtype": torch.float64}))
each("cumprod", (F, 0), (I, 1))
each("any all", (B,), (I,), (F,), (B, 1), (B, 0, True), (BYTE,), (B0,), (NOTHING,))
each("logsumexp", (F, [1]), (CUBE, [0, 1], True), (SPECIAL[1:], [0]))
each("sort", (F,), (F, 0), (F, 1, True), (I, 0, True))
each("argsort", (F,), (F, 0, True))
each("topk", (F, 2), (F, 3, 0), (CUBE, 2, -1, False))

BATCH = rng.normal(size=(2, 4, 3)).astype(np.float32)
each(
    "matmul",
    (F, BATCH[0]),
    (CUBE, BATCH),
    (F, ROW),
    (ROW, ROW),
    (ROW, BATCH),
    (CUBE, ROW),
    (CUBE[:, None], BATCH),
    (I, J.T),
    (HALF, HALF.T),
    (F[:, :0], ROW[:0]),
    (DOUBLE, DOUBLE.T),
)
each("mm", (F, WEIGHT.T))
each("bmm", (CUBE, BATCH))
each("mv", (F, ROW))
each("dot", (ROW, ROW))
each(
    "linear",
    (F, WEIGHT),
    (F, WEIGHT, BIAS),
    (CUBE, WEIGHT, BIAS),
    (ROW, WEIGHT, BIAS),
    (CUBE.transpose(1, 0, 2), WEIGHT),
    (NOTHING, WEIGHT, BIAS),
)
each("addmm", (BIAS, F, WEIGHT.T), (BIAS, F, WEIGHT.T, {"beta": 0.5, "alpha": 2}))
each("baddbmm", (np.zeros((2, 3, 3), np.float32), CUBE, BATCH), (F0, CUBE, BATCH))
each("baddbmm", (B[0, :2], np.zeros((3, 0, 3), bool), np.ones((3, 3, 2), bool), {"alpha": 2, "beta": 0.5}))
each("einsum", ("bij,bjk->bik", [CUBE, BATCH]), ("ij,j->i", [F, ROW]), ("ij->", [F]))
each(
    "softmax log_softmax",
    (F, -1),
    (CUBE, 1),
    (F0, 0),
    (I, 0, torch.float32),
    (np.array([-np.inf, 1, 2], np.float32), 0),
    (F * 100, 0),
    (NOTHING, 0),
    (NOTHING, 1),
)
each(
    "layer_norm",
    (F, [4]),
    (F, [4], ROW, ROW),
    (CUBE, [3, 4], F, G, 1e-3),
    (ROW, [4], ROW, None),
    (CUBE, [4], ROW, ROW, 1e-6),
    (DOUBLE, [4]),
)
each("rms_norm", (F, [4], ROW), (CUBE, [3, 4], F, 1e-3))
each("group_norm", (rng.normal(size=(2, 4, 3)).astype(np.float32), 2, ROW, ROW), (F, 2))
each(
    "batch_norm",
    (F, ROW, ROW, ROW, POSITIVE[0], False, 0.1, 1e-5, False),
    (BATCH, None, None, ROW, POSITIVE[0], False, 0.1, 1e-3, False),
)
SEQUENCE = rng.normal(size=(2, 3, 11)).astype(np.float32)
each(
    "conv1d",
    (SEQUENCE, KERNEL),
    (SEQUENCE[:0], KERNEL),
    (SEQUENCE, KERNEL, BIAS),
    (SEQUENCE, KERNEL, BIAS, [2], [1], [3]),
    (SEQUENCE[0], KERNEL, BIAS),
    (SEQUENCE, KERNEL, BIAS, [1], "same", [3]),
    (SEQUENCE, KERNEL, None, [3], "valid"),
    (
        rng.normal(size=(1, 6, 5)).astype(np.float32),
        rng.normal(size=(4, 3, 3)).astype(np.float32),
        None,
        [1],
        [2],
        [1],
        2,
    ),
)
each(
    "_convolution",
    (SEQUENCE, KERNEL, BIAS, [2], [1], [3], False, [0], 1, False, False, False, False),
    (SEQUENCE, KERNEL, None, [1], [0], [1], False, [0], 1, False, False, False, False),
)
HEADS = rng.normal(size=(2, 2, 5, 4)).astype(np.float32)
each(
    "scaled_dot_product_attention",
    (HEADS, HEADS, HEADS),
    (HEADS, HEADS, HEADS, None, 0.0, True),
    (HEADS[:, :, :2], HEADS, HEADS, rng.random((2, 5)) > 0.3),
    (HEADS, HEADS, HEADS, rng.normal(size=(5, 5)).astype(np.float32), 0.0, False, {"scale": 0.3}),
)
each("embedding", (F, ORDER), (F, np.array([[0, 1], [2, 2]])), (F, I0 - 1))
each("one_hot", (ORDER,), (np.array([[0, 3]]), 5))
each("dropout dropout_ feature_dropout", (F, 0.5, False))
each("glu", (F,), (F.T, 0))

each(
    "zeros ones",
    ([2, 3],),
    ([],),
    ([2], {"dtype": torch.int64}),
    ([0, 2], {"dtype": torch.bool, "device": torch.device("cpu"), "pin_memory": False}),
)
each(
    "full", ([2, 2], 0.5), ([2], 3), ([2], True), ([], 1.5, {"dtype": torch.float64}), ([2], -1, {"dtype": torch.uint8})
)
each("zeros_like ones_like", (F,), (I,), (F0,), (F, {"dtype": torch.int32}), (B,))
each("full_like", (F, 2), (I, 7), (F, 0.5, {"dtype": torch.float64}), (B, 1))
each("new_zeros new_ones", (F, [2]), (I, [1, 2]), (F, [2], {"dtype": torch.bool}))
each("new_full", (F, [2], 3), (I, [2], 4))
each(
    "arange",
    (5,),
    (5.5,),
    (2, 7),
    (0, 1.0, 0.3),
    (7, 1, -2),
    (4, {"dtype": torch.float32}),
    (1, 4, {"dtype": torch.int64, "device": torch.device("cpu")}),
    (0,),
)
each("linspace", (0, 1, 5), (-2.0, 3.5, 4), (0, 1, 1))
each("eye", (3,), (2, 4), (2, {"dtype": torch.int64}))
each("scalar_tensor", (2.5,), (3,), (3, {"dtype": torch.int64}))
each(
    "to",
    (F, torch.float64),
    (F * 9, torch.int64),
    (I, torch.uint8),
    (F, torch.float32),
    (B, torch.float32),
    (I, F),
    (SPECIAL[3:], torch.bool),
    (F, torch.device("cpu"), torch.float16),
    (F0, torch.int32),
    (F, {"dtype": torch.float64}),
    (F, torch.int64, False, True),
)
each("type_as", (F, I), (I, HALF))
each("contiguous clone detach alias", (F,), (F.T,), (F0,))
each("size", (F,), (F, 1), (F0,), (CUBE, -3))
each("dim numel is_floating_point", (F,), (I,), (F0,), (NOTHING,))
each("equal", (F, F), (F, G), (F, ROW), (NOTHING, NOTHING))
each("item", (F0,), (I0,), (B0,), (np.array([[2.5]], np.float32),))

# These are not operators of torch.ops.aten, or cannot be compared there; tests below do.
OTHERS = {
    "torch.empty", "torch.empty_like", "torch.new_empty", "torch.tensor", "torch.as_tensor",
    "torch.IntImplicit", "torch.FloatImplicit", "torch.ScalarImplicit", "int", "float", "bool",
    "torch.device", "torch.len", "torch.list", "torch.append", "torch.__range_length", "torch.__derive_index",
    "torch.is_grad_enabled", "torch._set_item", "torch.extend", "torch.pop", "torch.floordiv",
    "torch.__not__", "torch.__is__", "torch.__isnot__", "torch.__contains__", "torch.format", "torch.warn",
}  # fmt: skip


def torch_value(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.array(value))
    return list(map(torch_value, value)) if isinstance(value, list) else value


def numpy_value(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return next(code for code in CODES if getattr(torch, str(CODES[code])) == value)
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, np.ndarray) and not value.flags.forc:
        return spread(value)
    return list(map(numpy_value, value)) if isinstance(value, list) else copy.copy(value)


def spread(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy that is not contiguous."""
    room = np.zeros((*value.shape[:-1], 2 * value.shape[-1]), value.dtype)
    room[..., ::2] = value
    return room[..., ::2]


def agree(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, np.ndarray)
        expected = theirs.numpy()
        assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
        tolerance = {2: 2e-3, 4: 2e-6, 8: 3e-7}[ours.dtype.itemsize] if ours.dtype.kind == "f" else 0
        np.testing.assert_allclose(ours, expected, tolerance * 2, tolerance, equal_nan=True)
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            agree(one, other)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs or math.isclose(ours, theirs, rel_tol=1e-9)


def arrays(values: Any, kind: type) -> list[Any]:
    if isinstance(values, list):
        return [array for value in values for array in arrays(value, kind)]
    return [values] if isinstance(values, kind) else []


def reference(name: str) -> Any:
    if name == "one_hot":
        return torch.nn.functional.one_hot
    return getattr(torch.ops.aten, name)


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES}))
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_agrees_with_torch(name: str) -> None:
    for _, *arguments in (case for case in CASES if case[0] == name):
        options = arguments.pop() if isinstance(arguments[-1], dict) else {}
        given, ours_given = torch_value(arguments), numpy_value(arguments)
        theirs = reference(name)(*given, **options)
        ours = OPERATORS[f"torch.{name}"](*ours_given, **{k: numpy_value(v) for k, v in options.items()})
        try:
            agree(ours, theirs)
            # Nobody writes where the other does not.
            agree(arrays(ours_given, np.ndarray), arrays(given, torch.Tensor))
        except AssertionError as error:
            raise AssertionError(f"{name}{arguments} {options}: {error}") from error


IN_PLACE = {
    "add_": (F, G), "sub_": (F, ROW), "mul_": (F, 2), "div_": (F, POSITIVE), "true_divide_": (F, 2),
    "floor_divide_": (I, 3), "remainder_": (I, 4), "fmod_": (F, 0.7), "pow_": (POSITIVE, 0.5), "atan2_": (F, G),
    "clamp_": (F, -0.5, 0.5), "clip_": (F, None, 0.5), "clamp_min_": (F, 0.1), "clamp_max_": (F, 0.1),
    "masked_fill_": (F, B, 0.5), "lerp_": (F, G, 0.3), "addcmul_": (F, G, F), "addcdiv_": (F, G, POSITIVE),
    "leaky_relu_": (F, 0.2), "elu_": (F, 1.5), "hardtanh_": (F,), "logical_and_": (B, C), "logical_or_": (B, C),
    "logical_xor_": (B, C), "logical_not_": (B,), "bitwise_and_": (I, J), "bitwise_or_": (I, J), "bitwise_xor_": (I, 6),
    "bitwise_not_": (I,), "eq_": (F, F), "ne_": (F, F), "lt_": (F, G), "le_": (F, 0.5), "gt_": (I, J), "ge_": (F, 0.1),
    "log_": (POSITIVE,), "log2_": (POSITIVE,), "log10_": (POSITIVE,), "log1p_": (POSITIVE,), "sqrt_": (POSITIVE,),
    "rsqrt_": (POSITIVE,),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_is_tested(name: str) -> None:
    short = name.removeprefix("torch.")
    if short in {case[0] for case in CASES} or name in OTHERS or name.startswith("ops.prim."):
        return
    arguments = IN_PLACE.get(short, (F,))
    assert short.endswith("_")
    given, ours_given = torch_value(list(arguments)), numpy_value(list(arguments))
    target = ours_given[0]
    result = OPERATORS[name](*ours_given)
    theirs = reference(short)(*given)
    agree(result, theirs)
    agree(target, given[0])
    assert result is target


def test_in_place_refuses_a_result_that_does_not_fit() -> None:
    for x, y in ((I, 2.5), (B, 3), (I, F)):
        with pytest.raises(TypeError, match="does not fit"):
            OPERATORS["torch.add_"](x.copy(), y)
    with pytest.raises(RuntimeError):
        torch.from_numpy(I.copy()).add_(2.5)


def test_result_dtypes_are_torch_s() -> None:
    tensors = [np.zeros(shape, dtype) for dtype in CODES.values() for shape in ((), (2,))]
    for a, b in itertools.product(tensors, [*tensors, True, 2, 2.5]):
        other = torch.from_numpy(b) if isinstance(b, np.ndarray) else b
        assert (
            result_dtype(a, b)
            == torch.zeros((), dtype=torch.result_type(torch.from_numpy(a), cast(Any, other))).numpy().dtype
        )


def test_dtype_codes() -> None:
    assert [code_of(dtype_of(code)) for code in CODES] == list(CODES)
    with pytest.raises(InputError, match="15"):
        dtype_of(15)
    with pytest.raises(InputError, match="uint16"):
        code_of(np.dtype(np.uint16))


def test_views_share_memory_as_in_torch() -> None:
    names = "select slice narrow unsqueeze squeeze transpose t permute view reshape expand flatten unbind chunk split "
    arguments: dict[str, list[Any]] = {
        "select": [0, 1], "slice": [1, 1, 3], "narrow": [0, 1, 2], "unsqueeze": [1], "transpose": [0, 1],
        "permute": [[1, 0]], "view": [[2, 6]], "reshape": [[6, 2]], "expand": [[2, 3, 4]], "chunk": [2], "split": [2],
    }  # fmt: skip
    for name in [*names.split(), "detach", "contiguous"]:
        ours, theirs = F.copy(), torch.from_numpy(F.copy())
        view = OPERATORS[f"torch.{name}"](ours, *arguments.get(name, []))
        reference(name)(theirs, *arguments.get(name, []))
        assert np.shares_memory(view[0] if isinstance(view, list) else view, ours), name
    for name in ["index", "index_select", "repeat", "cat", "stack", "clone", "flip", "gather"]:
        given: dict[str, list[Any]] = {
            "index": [ours, [I0 - 1]], "index_select": [ours, 0, ORDER], "repeat": [ours, [1, 1]], "cat": [[ours]],
            "stack": [[ours]], "clone": [ours], "flip": [ours, [0]], "gather": [ours, 0, np.array([[0]])],
        }  # fmt: skip
        assert not np.shares_memory(OPERATORS[f"torch.{name}"](*given[name]), ours), name


def test_plain_values() -> None:
    call = OPERATORS
    assert [call["int"](x) for x in (F0, 2.9, I0, True)] == [1, 2, 3, 1]
    assert [call["float"](x) for x in (F0, 2, I0)] == [1.5, 2.0, 3.0]
    assert [call["bool"](x) for x in (B0, np.array([0]), 0.5)] == [True, False, True]
    assert call["torch.IntImplicit"](I0) == 3
    assert call["torch.FloatImplicit"](F0) == 1.5
    assert call["torch.ScalarImplicit"](F0) == 1.5
    assert [call["torch.__range_length"](*limits) for limits in ((2, 9, 3), (9, 2, -1), (3, 1, 1))] == [3, 7, 0]
    assert call["torch.__derive_index"](2, 10, -3) == 4
    assert call["torch.is_grad_enabled"]() is False
    assert call["torch.floordiv"](-7, 2) == -4
    assert call["torch.remainder"](-7, 3) == 2
    assert call["torch.add"](3, 4) == 7
    assert call["torch.mul"](2.5, 2) == 5.0
    assert call["torch.pow"](2, 3) == 8.0
    assert isinstance(call["torch.pow"](2, 3), float)
    assert call["torch.div"](7, 2) == 3.5
    assert call["torch.sqrt"](16) == 4.0
    assert call["torch.floor"](2.7) == 2
    assert call["torch.round"](2.5) == 2.0
    assert call["torch.__not__"](False) is True
    assert call["torch.__is__"](None, None) is True
    assert call["torch.__isnot__"](None, None) is False
    assert call["torch.__contains__"]({"a": 1}, "a") is True
    assert call["torch.format"]("{} of {}", 1, "two") == "1 of two"
    assert call["torch.device"]("cpu") == "cpu"
    assert call["torch.slice"]([1, 2, 3, 4], 1, 3) == [2, 3]
    assert call["torch.add"]([1], [2]) == [1, 2]
    values = call["torch.list"]((1, 2))
    call["torch.append"](values, 3)
    call["torch.extend"](values, [4])
    call["torch._set_item"](values, 0, 9)
    assert call["torch.pop"](values) == 4
    assert (values, call["torch.len"](values)) == ([9, 2, 3], 3)
    with pytest.warns(UserWarning, match="careful"):
        call["torch.warn"]("careful")


def test_prim() -> None:
    call = {name.removeprefix("ops.prim."): function for name, function in OPERATORS.items()}
    assert (call["min"](3, 2), call["max"]([1, 5]), call["abs"](-3)) == (2, 5, 3)
    assert (call["dtype"](F), call["device"](F), call["shape"](F)) == (6, "cpu", [3, 4])
    assert call["data"](F) is F
    assert call["requires_grad"](F) is False
    agree(call["NumToTensor"](3), torch.tensor(3))
    with pytest.raises(InputError, match=r"^must be four$"):
        call["RaiseException"]("must be four")


def test_tensors_from_values() -> None:
    for data in (1, 1.5, True, [1.5, 2.0], [[1, 2], [3, 4]], []):
        agree(OPERATORS["torch.tensor"](data), torch.tensor(data))
    agree(OPERATORS["torch.tensor"](2, dtype=6, device="cpu"), torch.tensor(2, dtype=torch.float32))
    agree(OPERATORS["torch.as_tensor"](2.5, dtype=4), torch.tensor(2, dtype=torch.int64))
    for name, arguments in (("empty", ([2, 3],)), ("empty_like", (F[:2, :3],)), ("new_empty", (F, [2, 3]))):
        agree(OPERATORS[f"torch.{name}"](*arguments), torch.zeros(2, 3))


def test_refusals() -> None:
    cases: tuple[Case, ...] = (
        ("dropout", F, 0.5, True),
        ("batch_norm", F, None, None, None, None, True, 0.1, 1e-5, False),
        ("scaled_dot_product_attention", F, F, F, None, 0.5),
        ("scatter", F, 0, I0, F, {"reduce": "add"}),
        ("mean", I),
        ("select", F, 2, 0),
        ("select", F, 0, 3),
        ("view", F, [5]),
        ("split_with_sizes", F, [1, 1], 1),
        ("narrow", F, 0, 2, 2),
        ("conv1d", SEQUENCE[:, :, :1], KERNEL),
        ("_convolution", SEQUENCE, KERNEL, None, [1], [0], [1], True, [0], 1),
        ("item", F),
    )
    for name, *arguments in cases:
        options: dict[str, Any] = arguments.pop() if isinstance(arguments[-1], dict) else {}
        with pytest.raises((TypeError, ValueError, IndexError)):
            OPERATORS[f"torch.{name}"](*arguments, **options)
