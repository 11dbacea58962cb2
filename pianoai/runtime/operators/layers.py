"""Matrix products and the layers of a network."""
# ruff: noqa: D103 (an operator does what PyTorch's of the same name does)

import math
from typing import Any

import numpy as np

from pianoai.runtime.operators.activations import softmax
from pianoai.runtime.operators.elementwise import mul
from pianoai.runtime.operators.promotion import FLOAT32, Array, Operator, array, as_dtype
from pianoai.runtime.operators.shapes import padded


def matmul(a: Array, b: Array) -> Array:
    if a.dtype == np.float16:
        # Half precision has no BLAS; PyTorch too adds up in single precision.
        return array(np.matmul(a.astype(FLOAT32), b.astype(FLOAT32)).astype(np.float16))
    return array(np.matmul(a, b))


def outer(a: Array, b: Array) -> Array:
    product: Array = mul(a[:, None], b)
    return product


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x @ weight.T + bias``: x ``(…, in)``, weight ``(out, in)``, bias ``(out,)``."""
    if x.ndim > 2:
        result = matmul(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), weight.T).reshape(*x.shape[:-1], len(weight))
    else:
        result = matmul(x, weight.T)
    if bias is not None:
        result += bias
    return result


def addmm(x: Array, a: Array, b: Array, *, beta: Any = 1, alpha: Any = 1) -> Array:
    product = matmul(a, b)
    scaled = product if alpha == 1 else product * as_dtype(alpha, product.dtype)
    return array((x if beta == 1 else x * as_dtype(beta, x.dtype)) + scaled)


def einsum(equation: str, operands: list[Array], *, path: object = None) -> Array:
    return array(np.einsum(equation, *operands))


def _scaled(x: Array, weight: Array | None, bias: Array | None) -> Array:
    if weight is not None:
        x *= weight
    if bias is not None:
        x += bias
    return x


def _normalise(x: Array, eps: float) -> Array:
    """Mean 0 and variance 1 along the last dimension."""
    count = x.shape[-1]
    mean = np.add.reduce(x, -1, keepdims=True)
    mean /= count
    centred: Array = x - mean
    variance = np.vecdot(centred, centred) / x.dtype.type(count) + x.dtype.type(eps)
    centred /= np.sqrt(variance)[..., None]
    return centred


def layer_norm(
    x: Array,
    shape: list[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-05,
    cudnn_enable: bool = True,
) -> Array:
    if len(shape) > 1:
        flat = x.reshape(*x.shape[: x.ndim - len(shape)], -1)
        return _scaled(_normalise(flat, eps).reshape(x.shape), weight, bias)
    return _scaled(_normalise(x, eps), weight, bias)


def rms_norm(x: Array, shape: list[int], weight: Array | None = None, eps: float | None = None) -> Array:
    dims = tuple(range(-len(shape), 0))
    mean = np.mean(x * x, dims, keepdims=True) + (np.finfo(x.dtype).eps if eps is None else x.dtype.type(eps))
    return _scaled(x / np.sqrt(mean), weight, None)


def group_norm(
    x: Array,
    groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-05,
    cudnn_enabled: bool = True,
) -> Array:
    parted = x.reshape(x.shape[0], groups, -1)
    return _by_channel(_normalise(parted, eps).reshape(x.shape), weight, bias)


def _by_channel(x: Array, weight: Array | None, bias: Array | None) -> Array:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return _scaled(x, None if weight is None else weight.reshape(shape), None if bias is None else bias.reshape(shape))


def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    mean: Array | None,
    variance: Array | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Array:
    if training or mean is None or variance is None:
        raise TypeError("batch_norm runs with stored statistics only; export the model after .eval()")
    shape = (1, -1) + (1,) * (x.ndim - 2)
    scale = 1 / np.sqrt(variance + x.dtype.type(eps))
    return _by_channel((x - mean.reshape(shape)) * scale.reshape(shape), weight, bias)


def conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: list[int] | None = None,
    padding: Any = None,
    dilation: list[int] | None = None,
    groups: int = 1,
) -> Array:
    """x ``(N, in, T)`` or ``(in, T)``, weight ``(out, in / groups, taps)`` -> ``(N, out, T')``."""
    if x.ndim == 2:
        return array(conv1d(x[None], weight, bias, stride, padding, dilation, groups)[0])
    (step,), (spread,) = stride or [1], dilation or [1]
    out, inner, taps = weight.shape
    reach = spread * (taps - 1)
    before, after = (reach // 2, reach - reach // 2) if padding == "same" else (0, 0)
    if isinstance(padding, list):
        before = after = padding[0]
    if before or after:
        x = padded(x, [(0, 0), (0, 0), (before, after)], 0)
    frames = (x.shape[2] - reach - 1) // step + 1
    if frames < 1:
        raise ValueError(f"conv1d: {x.shape[2]} frames are fewer than the kernel's {reach + 1}")
    rows = x.reshape(len(x), groups, inner, x.shape[2])
    kernel = weight.reshape(groups, out // groups, inner, taps)
    result = np.zeros((len(x), groups, out // groups, frames), x.dtype)
    for tap in range(taps):
        first = tap * spread
        result += np.matmul(kernel[..., tap], rows[..., first : first + (frames - 1) * step + 1 : step])
    result = result.reshape(len(x), out, frames)
    if bias is not None:
        result += bias[:, None]
    return result


def convolution(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *switches: bool,
) -> Array:
    """What a trace calls every convolution."""
    if transposed or weight.ndim != 3:
        raise TypeError("of the convolutions only conv1d is supported")
    return conv1d(x, weight, bias, stride, padding, dilation, groups)


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """Queries ``(…, L, E)``, keys ``(…, S, E)``, values ``(…, S, V)`` -> ``(…, L, V)``."""
    if dropout_p or enable_gqa:
        raise TypeError("attention with dropout or grouped queries is not supported")
    factor = query.dtype.type(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    weights = matmul(query * factor, key.swapaxes(-1, -2))
    if is_causal:
        attn_mask = np.tri(*weights.shape[-2:], dtype=bool)
    if attn_mask is not None:
        if attn_mask.dtype == bool:
            weights = np.where(attn_mask, weights, weights.dtype.type(-np.inf))
        else:
            weights = weights + attn_mask
    return matmul(softmax(weights, -1), value)


def embedding(
    weight: Array,
    indices: Array,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Array:
    return np.take(weight, indices, 0)


def one_hot(x: Array, num_classes: int = -1) -> Array:
    classes = int(x.max()) + 1 if num_classes == -1 else num_classes
    return array((x[..., None] == np.arange(classes)).astype(np.int64))


LAYERS: dict[str, Operator] = {
    "torch.matmul": matmul,
    "torch.mm": matmul,
    "torch.bmm": matmul,
    "torch.mv": matmul,
    "torch.dot": matmul,
    "torch.outer": outer,
    "torch.linear": linear,
    "torch.addmm": addmm,
    "torch.baddbmm": addmm,
    "torch.einsum": einsum,
    "torch.layer_norm": layer_norm,
    "torch.rms_norm": rms_norm,
    "torch.group_norm": group_norm,
    "torch.batch_norm": batch_norm,
    "torch.conv1d": conv1d,
    "torch._convolution": convolution,
    "torch.scaled_dot_product_attention": scaled_dot_product_attention,
    "torch.embedding": embedding,
    "torch.one_hot": one_hot,
}
