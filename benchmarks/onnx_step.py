"""The Transformer's step as an ONNX graph with as few and as large operators as ONNX Runtime has for it.

Keys and values lie in a bag of `window` places whose order does not matter, since positions are turned into them. The
attention operator writes the new ones into the bag it was given, and reads it where it is.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianoai.models.transformer import Model
from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, LOUDEST, NOISE, PITCHES

CONTRIB = "com.microsoft"
OPSETS = {"": 21, CONTRIB: 1}


class Graph:
    """Collects the nodes, constants, inputs and outputs of a graph."""

    def __init__(self, half: bool) -> None:
        """With `half` matrices are stored in half precision, and converted when a session is made."""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._half = half

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """An array by name."""
        from onnx import TensorProto, numpy_helper

        value = np.ascontiguousarray(value)
        half = self._half and value.ndim == 2 and value.dtype == np.float32 and value.size > 10_000
        if half:
            self.constants.append(numpy_helper.from_array(value.astype(np.float16), f"{name}.half"))
            return self.add("Cast", f"{name}.half", to=TensorProto.FLOAT)
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def input(self, name: str, shape: Sequence[int], kind: str = "FLOAT") -> str:
        """An input by name."""
        from onnx import TensorProto, helper

        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), shape))
        return name

    def output(self, name: str, shape: Sequence[int]) -> str:
        """An output by name; some node must have it."""
        from onnx import TensorProto, helper

        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def several(self, operator: str, *inputs: str, names: Sequence[str], domain: str = "", **attributes: Any) -> None:
        """A node whose results are called `names`."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, names, domain=domain, **attributes))

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one result, and the name of that."""
        name = f"{operator}_{len(self.nodes)}"
        self.several(operator, *inputs, names=[name], domain=domain, **attributes)
        return name

    def split(self, x: str, count: int, axis: int) -> list[str]:
        """Equal parts of x."""
        names = [f"part_{len(self.nodes)}_{index}" for index in range(count)]
        self.several("Split", x, names=names, axis=axis, num_outputs=count)
        return names

    def serialised(self) -> bytes:
        """The model file."""
        from onnx import helper

        graph = helper.make_graph(self.nodes, "step", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        data: bytes = model.SerializeToString()
        return data


def build(model: Model, half: bool = True) -> bytes:
    """An ONNX model that computes `FrameModel.step` of the Transformer.

    Inputs: frame (1, 88), loudness (1, 89), noise (177,), temperature (), position (1, 1) modulo the period of the
    rotations, filled (1,) places of the bag before this frame and total (1,) after it, and for each block b its keys_b
    and values_b (1, heads, window, width). Outputs: drawn (1, 88), probabilities (3, 88), now (1, 89), which is the
    new loudness, and new_keys_b and new_values_b, to be bound to the memory of keys_b and values_b.
    """
    _, heads, window, width = model.ring
    blocks = len(model.blocks)
    wide = heads * width
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    graph = Graph(half)
    quietest, loudest = weights["head.velocities"]
    for name, value in {
        "zero": 0.0,
        "one": 1.0,
        "held": HELD,
        "silence": DEFAULT_VELOCITY / LOUDEST,
        "full": LOUDEST,
        "quietest": quietest,
        "loudest": loudest,
        "scale": np.exp(weights["head.log_scale"]),
        "friction": np.exp(weights["head.log_friction"]),
        "least": -np.exp(weights["head.log_friction"]),
        "two": 2.0,
    }.items():
        graph.constant(name, np.array(value, np.float32))
    for name, shape in {
        "heads": (1, 2 * heads, 1, width),
        "flat": (1, 1, 2 * wide),
        "sequence": (1, 1, wide),
        "rows": (3, PITCHES),
        "choices": (2, PITCHES),
    }.items():
        graph.constant(name, np.array(shape, np.int64))
    graph.constant("attended", np.array([2 * wide, wide], np.int64))
    graph.constant("first two", np.array([2, 1], np.int64))
    graph.constant("all but one", np.array([2 * PITCHES, 1], np.int64))
    graph.constant("ones", np.ones(width, np.float32))
    turns = model.turns.numpy()
    graph.constant("cos", turns[:, 0, : width // 2])
    graph.constant("sin", turns[:, 1, width // 2 :])
    graph.input("position", (1, 1), "INT64")
    graph.input("filled", (1,), "INT32")
    graph.input("total", (1,), "INT32")

    def linear(x: str, name: str) -> str:
        """A matrix product; its bias is the next operator's business."""
        return graph.add("MatMul", x, graph.constant(f"{name}.weight", weights[f"{name}.weight"].T))

    def vector(name: str) -> str:
        return graph.constant(name, weights[name])

    features = planes(graph)
    x = graph.add("Reshape", graph.add("Add", linear(features, "embed"), vector("embed.bias")), "sequence")
    added, bias = "", ""
    for index in range(blocks):
        name = f"blocks.{index}"
        x, y = normed(
            graph, x, added, bias, vector(f"{name}.attention_norm.weight"), vector(f"{name}.attention_norm.bias")
        )
        qkv = graph.add("Add", linear(y, f"{name}.qkv"), vector(f"{name}.qkv.bias"))
        graph.several("Split", qkv, "attended", names=[f"{name}.qk", f"{name}.v"], axis=2)
        qk = graph.add("Reshape", f"{name}.qk", "heads")
        qk = graph.add("SimplifiedLayerNormalization", qk, "ones", axis=-1, epsilon=1e-6)
        sharpness = np.repeat(weights[f"{name}.sharpness"].reshape(2, 1, width), heads, 1).reshape(
            1, 2 * heads, 1, width
        )
        qk = graph.add("Mul", qk, graph.constant(f"{name}.sharpness", sharpness))
        qk = graph.add("RotaryEmbedding", qk, "position", "cos", "sin", domain=CONTRIB)
        q, k = graph.split(graph.add("Reshape", qk, "flat"), 2, 2)
        places = [graph.input(f"{what}_{index}", (1, heads, window, width)) for what in ("keys", "values")]
        new = [graph.output(f"new_{place}", (1, heads, window, width)) for place in places]
        graph.several(
            "GroupQueryAttention",
            *(q, k, f"{name}.v", *places, "filled", "total"),
            names=[f"{name}.out", *new],
            domain=CONTRIB,
            num_heads=heads,
            kv_num_heads=heads,
            scale=width**-0.5,
        )
        added, bias = linear(f"{name}.out", f"{name}.mix"), vector(f"{name}.mix.bias")
        name = f"{name}.feedforward"
        x, y = normed(graph, x, added, bias, vector(f"{name}.0.weight"), vector(f"{name}.0.bias"))
        y = graph.add("FastGelu", linear(y, f"{name}.1"), vector(f"{name}.1.bias"), domain=CONTRIB)
        added, bias = linear(y, f"{name}.3"), vector(f"{name}.3.bias")
    _, y = normed(graph, x, added, bias, vector("norm.weight"), vector("norm.bias"))
    logits = graph.add("Add", linear(y, "head.out"), vector("head.out.bias"))
    before = level(graph)
    logits = graph.add("Reshape", logits, "rows")
    third = graph.constant("third", (1 - weights["head.pull"]) * np.array([[0], [0], [1]], np.float32))
    draw(graph, graph.add("Add", logits, graph.add("Mul", before, third)), before)
    return graph.serialised()


def normed(graph: Graph, x: str, added: str, bias: str, weight: str, shift: str) -> tuple[str, str]:
    """x + added + bias, and its layer norm; without `added`, x and its layer norm."""
    if not added:
        return x, graph.add("LayerNormalization", x, weight, shift, axis=-1, epsilon=1e-5)
    names = [f"norm_{len(graph.nodes)}", "", "", f"sum_{len(graph.nodes)}"]
    graph.several("SkipLayerNormalization", x, added, weight, shift, bias, names=names, domain=CONTRIB, epsilon=1e-5)
    return names[3], names[0]


def planes(graph: Graph) -> str:
    """The planes (1, 264) of the frame, and its level (1, 1) by that name; see models.frame.step_features."""
    from onnx import TensorProto

    graph.input("frame", (1, PITCHES))
    graph.input("loudness", (1, PITCHES + 1))
    graph.output("now", (1, PITCHES + 1))
    graph.constant("pitches", np.array([PITCHES, 1], np.int64))
    known = graph.add("Where", graph.add("Greater", "loudness", "zero"), "loudness", "silence")
    graph.several("Split", known, "pitches", names=["heard", "before"], axis=1)
    sounds, strikes = graph.add("Greater", "frame", "zero"), graph.add("Greater", "frame", "held")
    held = graph.add("Where", sounds, "heard", "zero")
    intensity = graph.add("Where", strikes, graph.add("Div", "frame", "full"), held)
    sounding, struck = (graph.add("Cast", flag, to=TensorProto.FLOAT) for flag in (sounds, strikes))
    count, total = (graph.add("ReduceSum", plane, keepdims=1) for plane in (struck, graph.add("Mul", struck, "frame")))
    mean = graph.add("Div", graph.add("Round", graph.add("Div", total, graph.add("Max", count, "one"))), "full")
    graph.several("Where", graph.add("Greater", count, "zero"), mean, "before", names=["level"])
    graph.several("Concat", intensity, "level", names=["now"], axis=1)
    return graph.add("Concat", sounding, struck, intensity, axis=1)


def level(graph: Graph) -> str:
    """The logit (1, 1) of the level; see models.frame.level_logit."""
    for name, value in {"softest": 0.25 / LOUDEST, "hardest": 1 - 0.25 / LOUDEST}.items():
        graph.constant(name, np.array(value, np.float32))
    mean = graph.add("Clip", "level", "softest", "hardest")
    return graph.add("Log", graph.add("Div", mean, graph.add("Sub", "one", mean)))


def draw(graph: Graph, logits: str, level: str) -> None:
    """The outputs drawn and probabilities from logits (3, 88) and that of the level; see models.heads.Head.cells."""
    from onnx import TensorProto

    graph.input("noise", (NOISE,))
    graph.input("temperature", ())
    graph.output("drawn", (1, PITCHES))
    graph.output("probabilities", (3, PITCHES))
    graph.several("Sigmoid", logits, names=["probabilities"])
    graph.several("Split", logits, "first two", names=["chosen", "middle"], axis=0)
    graph.several("Split", "noise", "all but one", names=["choosing", "loud"], axis=0)
    uniform = graph.add("Reshape", "choosing", "choices")
    limits = graph.add("Log", graph.add("Div", uniform, graph.add("Sub", "one", uniform)))
    sounds, again = graph.split(graph.add("Greater", "chosen", graph.add("Mul", "temperature", limits)), 2, 0)
    sides = ("loud", graph.add("Sub", "one", "loud"))
    below, above = (graph.add("Log", graph.add("Min", graph.add("Mul", "two", side), "one")) for side in sides)
    swing = graph.add("Mul", graph.add("Mul", "temperature", "scale"), graph.add("Sub", below, above))
    moved = graph.add("Add", "middle", swing)
    stays = graph.add("Clip", graph.add("Sub", moved, level), "least", "friction")
    loudness = graph.add("Sigmoid", graph.add("Sub", moved, stays))
    strike = graph.add("And", sounds, graph.add("Or", again, graph.add("LessOrEqual", "frame", "zero")))
    velocity = graph.add("Round", graph.add("Clip", graph.add("Mul", loudness, "full"), "quietest", "loudest"))
    graph.several("Where", strike, velocity, graph.add("Cast", sounds, to=TensorProto.FLOAT), names=["drawn"])
