"""Planned functions against PyTorch itself, on inputs other than those they were recorded with."""

import io
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pianoai.runtime import plan as planning
from pianoai.runtime import torchscript
from pianoai.runtime.errors import InputError
from pianoai.runtime.plan import Plan
from tests.test_translation import handmade, repeated

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
W, V = torch.linspace(-1, 1, 24).view(4, 6), torch.linspace(-2, 1, 6)
TABLE = torch.arange(20.0).view(5, 4)


class Function(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Any:
        return self.function(x, y, at)


def archive(module: torch.jit.ScriptModule) -> torchscript.Script:
    saved = io.BytesIO()
    torch.jit.save(torch.jit.freeze(module.eval()), saved)
    return torchscript.load(saved.getvalue())


def inputs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two vectors of 6 and an index from 0 to 4."""
    chance = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 6, generator=chance)
    return x, y, torch.randint(5, (), generator=chance)


def plan_of(script: torchscript.Script) -> Plan | None:
    return script.plan("forward", *(value.numpy().copy() for value in inputs(0)))


def in_place(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    total = torch.zeros(3, 6)  # what a run begins with must be there again in the next
    total[1] += x
    total[1:].mul_(y)
    return total * 2


def ring(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    rings = torch.stack([x, y]).repeat(5, 1, 1).transpose(0, 1)  # (2, 5, 6)
    new = [rings[i].index_copy(0, at.view(1), (x + y).view(1, 6)) for i in range(2)]
    return torch.stack(new) @ x


def read_afterwards(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    old = torch.stack([x, y, x, y, x])
    new = old.index_copy(0, at.view(1), y.view(1, 6))
    return new - old.flip(0)


def norm_of_what_is_overwritten(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    z = x + y
    normed = F.layer_norm(z, [6], V, V)
    z.mul_(y)
    return F.linear(normed, W) + z[:4]


def list_that_grows(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    parts = [x, x + y]
    first = torch.cat(parts)
    parts.append(y * 2)
    parts[0] = y
    return torch.cat([torch.cat(parts), first])


def not_numbers(z: Tensor) -> tuple[Tensor, ...]:
    compared = torch.maximum(z, z.flip(0)), torch.minimum(z, z.flip(0)), z < z.flip(0), z.clamp(-1, 1)
    return (*compared, torch.softmax(z, 0), F.gelu(z, approximate="tanh"), torch.sigmoid(z), z.round(), z.mean(0))


def row_into_itself(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    rows = torch.stack([x, y, x * y, x + y, x - y])
    return rows.index_copy(0, at.view(1), rows[2:3]).flip(1)


def overwritten_twice(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    rows = torch.stack([x, y, x * y, x + y, x - y])
    first = rows.index_copy(0, at.view(1), y.view(1, 6))
    second = first.index_copy(0, 4 - at.view(1), x.view(1, 6))
    return torch.cat([second, first.sum(0, keepdim=True)])


def parts_joined(x: Tensor, y: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    flat = torch.cat([x, y, x, y, x]) * 2
    kept = torch.cat([flat[:12], flat[12:]])
    changed = flat.index_copy(0, at.view(1), y[:1])
    return kept, changed


def parts_joined_otherwise(x: Tensor, y: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    flat = torch.cat([x, y]) * 2
    rows = torch.cat([x, y]).view(2, 6)
    changed = (flat * 3).index_copy(0, at.view(1), y[:1])
    return torch.cat([flat[6:], flat[:6]]), torch.cat([rows[:1], rows[1:]]), changed


def copied_and_then_copied_into(x: Tensor, y: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.stack([x, y, x, y, x])
    kept, viewed = rows.clone(), rows.t()
    changed = rows.index_copy(0, at.view(1), y.view(1, 6))
    return kept + changed, viewed * 2


def written_through_views(x: Tensor, y: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    table = torch.zeros(3, 6)
    column, row = table[:, 2], table[1]
    row += x
    column.copy_(y[:3])
    before = table * 1
    table.view(-1)[::5].add_(x[:4])
    column[0] = row.sum()
    return before, table


FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "arithmetic": lambda x, y, at: (x + y) * 2 - x / 3 + torch.maximum(x, y) - torch.minimum(x, 0 * y),
    "alpha": lambda x, y, at: torch.add(x, y, alpha=3) + torch.sub(x, y, alpha=2),
    "rounding": lambda x, y, at: torch.div(x, y, rounding_mode="floor"),
    "scalar tensors": lambda x, y, at: x * torch.tensor(2.0, dtype=torch.float64) + torch.tensor(3),
    "whole numbers": lambda x, y, at: (at + 3) % 4 * 2 - 1,
    "whole and broken": lambda x, y, at: x * at + at / 2,
    "comparisons": lambda x, y, at: torch.logical_or(x < y, torch.logical_and(x > 0, y >= 0.5)),
    "whole comparisons": lambda x, y, at: (torch.arange(5) <= at, at > 2, at == 1),
    "unary": lambda x, y, at: torch.exp(x) + torch.sqrt(x.abs()) + torch.tanh(y).square() + x.round() - (-x).floor(),
    "logarithm": lambda x, y, at: torch.log(x.abs() + 1) * torch.rsqrt(y.square() + 1),
    "divided by a root": lambda x, y, at: x * torch.rsqrt(y.square() + 1) + torch.rsqrt(x.square() + 1) * y,
    "root of rows": lambda x, y, at: torch.stack([x, y]) * torch.rsqrt(torch.stack([y, x]).square().mean(-1, True)),
    "negation": lambda x, y, at: torch.logical_not(x > 0),
    "sigmoid": lambda x, y, at: torch.sigmoid(torch.stack([x, y]) * 30),
    "gelu": lambda x, y, at: F.gelu(4 * x, approximate="tanh") + F.gelu(y),
    "relu": lambda x, y, at: F.relu(x - 0.3) - F.relu(y),
    "far gelu": lambda x, y, at: F.gelu(100 * x, approximate="tanh"),
    "softmax": lambda x, y, at: torch.softmax(torch.stack([x, y]), -1) + torch.softmax(torch.stack([x, y]), 0),
    "mean": lambda x, y, at: torch.stack([x, y]).mean(-1, keepdim=True) + torch.stack([x, y]).mean(0),
    "mean of all": lambda x, y, at: x.mean() + torch.stack([x, y]).mean([0, 1]),
    "linear": lambda x, y, at: F.linear(x, W) + F.linear(y, W, V[:4]) + F.linear(torch.stack([x, y]), W, V[:4])[1],
    "linear of three": lambda x, y, at: F.linear(torch.stack([x, y]).view(2, 2, 3), W[:, :3]),
    "linear of rows that overlap": lambda x, y, at: F.linear(torch.cat([x, y]).unfold(0, 6, 2), W),
    "linear of a column": lambda x, y, at: F.linear(torch.stack([x, y], 1)[:4, 0], W[:, :4]),
    "normed linear": lambda x, y, at: F.linear(F.layer_norm(x + 3, [6], V, V + 1), W, V[:4]),
    "normed without bias": lambda x, y, at: F.linear(F.layer_norm(x, [6], V), W),
    "norm read twice": lambda x, y, at: (lambda n: F.linear(n, W) + n.sum())(F.layer_norm(x, [6], V, V)),
    "norm alone": lambda x, y, at: F.layer_norm(x, [6], V, V) * y,
    "norm of rows": lambda x, y, at: F.linear(F.layer_norm(torch.stack([x, y]), [6], V, V), W),
    "norm seen through a view": lambda x, y, at: F.linear(F.layer_norm(x, [6], V, V).view(2, 3), W[:, :3]),
    "norm that is an output": lambda x, y, at: (F.layer_norm(x, [6], V, V), x),
    "matmul": lambda x, y, at: W @ x + torch.outer(x, y)[:4] @ y,
    "where": lambda x, y, at: torch.where(x > 0, x, y) + torch.where(y > 0, 0.0, float("inf")).clamp(0, 1),
    "joined": lambda x, y, at: (torch.cat([x, y, x])[3:9], torch.cat([x[:2]] * 6), torch.stack([x, y], 1)),
    "types": lambda x, y, at: (x > 0).float() + (x * 3).to(torch.int64) + at.to(torch.float32),
    "turned about": lambda x, y, at: (1 - x) * (2.5 - y) - torch.rsub(x, 3, alpha=2) - torch.rsub(x, y) - (3 - at),
    "extremes": lambda x, y, at: (x.amin(), torch.stack([x, y], 1)[1:].amax(), (x * 9).long().amin(), x.amin(0)),
    "padded": lambda x, y, at: (
        F.pad(torch.stack([x, y]), (1, 2)),
        F.pad(x.view(1, 2, 3), (0, 1, 2, 0), value=3.0),
        F.pad(y, (-1, 2)),
        F.pad(x.view(1, 6), (2, 3), "circular"),
        F.pad(at.view(1), (3, 0), value=2.5),
    ),
    "copied": lambda x, y, at: (
        torch.stack([x, y], 1).view(3, 4).t().clone(),
        torch.stack([x, y]).t().contiguous() * 2,
        torch.stack([x, y]).view(2, 3, 2).unfold(1, 2, 1).transpose(0, 1).flatten(1),
        torch.stack([x, y, x * y]).t().reshape(2, 9),
        at.clone(),
    ),
    "norms alone": lambda x, y, at: (
        F.layer_norm(x, [6]) * y,
        F.layer_norm(x, [6], y) * y,
        F.layer_norm(y, [6], V, x, eps=0.5),
        F.layer_norm(x.double(), [6]),
    ),
    "clamp": lambda x, y, at: x.clamp(-0.5, 0.5) + y.clamp(min=0) + x.clamp(max=0.1),
    "views": lambda x, y, at: torch.stack([x, y]).view(3, 2, 2).permute(2, 0, 1).reshape(-1)[2:].unsqueeze(0) + 1,
    "chosen row": lambda x, y, at: (
        torch.index_select(TABLE, 0, at.view(1)) + torch.index_select(TABLE, 1, at.view(1) % 4)
    ),
    "constant part": lambda x, y, at: x * torch.exp(V) + (V @ W.T.softmax(0)).sum(),
    "an input comes back": lambda x, y, at: (x, y * 2, at),
    "in place": in_place,
    "ring": ring,
    "read afterwards": read_afterwards,
    "live weight": lambda x, y, at: (
        F.linear(x, torch.outer(y, x)) + F.linear(torch.stack([x, y]), torch.outer(y, x))[0]
    ),
    "norm with a live weight": lambda x, y, at: F.linear(F.layer_norm(x, [6], y, V), W, V[:4]),
    "norm with a live bias": lambda x, y, at: F.linear(F.layer_norm(x, [6], V, y), W, V[:4]),
    "normed linear with a live bias": lambda x, y, at: F.linear(F.layer_norm(x, [6], V, V), W, y[:4]),
    "normed linear with a live weight": lambda x, y, at: F.linear(F.layer_norm(x, [6], V, V), torch.outer(y, x)),
    "norm as a bias of a norm": lambda x, y, at: F.linear(
        F.layer_norm(x, [6], V, V), torch.outer(V, V), F.layer_norm(y, [6], V)
    ),
    "norm in double": lambda x, y, at: F.linear(F.layer_norm(x.double(), [6], V.double()), W.double()),
    "norm of what is overwritten": norm_of_what_is_overwritten,
    "norm that is overwritten": lambda x, y, at: F.linear(F.layer_norm(x, [6], V, V).mul_(y), W),
    "list that grows": list_that_grows,
    "swapped": lambda x, y, at: (y, x),
    "views of an input": lambda x, y, at: (x[1:3], x.view(2, 3).t(), y),
    "one output twice": lambda x, y, at: (lambda z: (z, z, z[:2]))(x + y),
    "constant output": lambda x, y, at: (V * 2, x),
    "scalars of two widths": lambda x, y, at: (
        x[0] < torch.tensor(0.1, dtype=torch.float64),
        x[0] * torch.tensor(0.1, dtype=torch.float64),
        at * torch.tensor(0.5, dtype=torch.float64),
        x * y[0].double(),
        x > y[0].double(),
    ),
    "bytes": lambda x, y, at: ((x > 0).to(torch.uint8) + 250 < 251, (x > 0).to(torch.uint8) * 300),
    "nothing": lambda x, y, at: (
        torch.softmax(x[:0], 0),
        torch.softmax(x.view(6, 1)[:, :0], -1),
        x[:0].sum() + x.view(1, 6)[:0].mean(0),
        x[:0].clamp(0, 1),
        F.linear(x[:0], W[:, :0]),
        torch.cat([x[:0], y]),
        F.linear(x.view(1, 6)[:0], W),
    ),
    "scalars": lambda x, y, at: (
        torch.softmax(x[0], 0),
        x[0].mean(0),
        torch.sigmoid(x[0]),
        torch.index_select(x[0], 0, at.view(1) * 0),
        x[0].clamp(0, 1),
        x @ y,
        torch.cat([x[:1], y[:1]]),
        torch.stack([x[0], y[0]]),
        F.linear(x, V),
    ),
    "not numbers": lambda x, y, at: not_numbers(torch.log(x) * 0 + torch.where(y > 0, float("inf"), y)),
    "row into itself": row_into_itself,
    "overwritten through a wide view": lambda x, y, at: x.expand(5, 6).index_copy(0, at.view(1), y.view(1, 6)) * y,
    "overwritten twice": overwritten_twice,
    "parts joined, then overwritten": parts_joined,
    "parts joined in another way": parts_joined_otherwise,
    "copied and then copied into": copied_and_then_copied_into,
    "scattered": lambda x, y, at: torch.zeros(6).scatter(0, at.view(1), x[:1]) + x.scatter(0, at.view(1), y[:1]),
    "column copied": lambda x, y, at: torch.stack([x, y]).index_copy(1, at.view(1), y[:2].view(2, 1)) * x,
    "wide row": lambda x, y, at: torch.stack([x, y, x, y, x]).index_copy(0, at.view(1), y.double().float().view(1, 6)),
    "written through views": written_through_views,
    "shapes": lambda x, y, at: torch.zeros_like(x) + x.new_ones(6) + torch.full_like(y, x.size(0)) + y,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_plan_computes_what_pytorch_does(name: str) -> None:
    function = Function(FUNCTIONS[name])
    trace: Any = torch.jit.trace
    plan = plan_of(archive(trace(function, inputs(1))))
    assert plan is not None
    for seed in (2, 3, 4):
        given = inputs(seed)
        for place, value in zip(plan.inputs, given, strict=True):
            place[...] = value.numpy()
        plan.run()
        expected = function(*given)
        expected = expected if isinstance(expected, tuple) else (expected,)
        assert len(plan.outputs) == len(expected)
        for got, wanted in zip(plan.outputs, expected, strict=True):
            assert got.dtype == wanted.numpy().dtype
            np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-5, atol=2e-6)


def test_a_ring_that_is_not_read_afterwards_is_written_in_place() -> None:
    class Ring(nn.Module):
        def forward(self, memory: Tensor, slot: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
            first = memory[:12].view(4, 3).index_copy(0, slot, new)
            second = memory[12:].view(5, 3).index_copy(0, slot, new + first.sum())
            return second @ new[0], torch.cat([first.view(-1), second.view(-1)])

    example = torch.zeros(27), torch.tensor([1]), torch.ones(1, 3)
    trace: Any = torch.jit.trace
    script = archive(trace(Ring(), example))
    memory = np.zeros(27, np.float32)
    plan = script.plan("forward", memory, np.array([1]), np.ones((1, 3), np.float32))
    assert plan is not None
    assert plan.outputs[1] is memory
    expected = torch.arange(27.0)
    memory[...] = expected.numpy()
    for slot in (2, 0, 2):
        plan.inputs[1][...], plan.inputs[2][...] = slot, slot + 0.5
        said, expected = Ring()(expected, torch.tensor([slot]), torch.full((1, 3), slot + 0.5))
        plan.run()
        np.testing.assert_allclose(plan.outputs[0], said.numpy(), rtol=1e-6)
        np.testing.assert_allclose(memory, expected.numpy(), rtol=1e-6)


class JoinsConstants(nn.Module):
    """Parts of what is no input are joined as a copy, though a ring beside them is written in place."""

    def forward(self, memory: Tensor, slot: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        start = torch.zeros(4)
        changed = torch.cat([start[:2], start[2:]])
        changed.add_(1)
        ring = memory[:12].view(4, 3).index_copy(0, slot, new)
        return start.sum() * new[0] + changed.sum() * new[0], torch.cat([ring.view(-1), memory[12:]])


def test_only_memory_is_joined_without_a_copy() -> None:
    example = torch.zeros(27), torch.tensor([1]), torch.ones(1, 3)
    saved, trace = io.BytesIO(), torch.jit.trace
    torch.jit.save(trace(JoinsConstants(), example), saved)  # type: ignore[no-untyped-call]
    plan = torchscript.load(saved.getvalue()).plan("forward", *(x.numpy().copy() for x in example))
    assert plan is not None
    for _ in range(2):
        plan.run()
        assert plan.outputs[0].tolist() == [4, 4, 4]
    assert plan.outputs[1] is plan.inputs[0]


class Branches(nn.Module):
    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        return x + y if bool(x.sum() > 0) else x - y


class Loops(nn.Module):
    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        for _ in range(int(at)):
            x = x + y
        return x


class ChangesItsInput(nn.Module):
    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        x += y
        return x


class Counts(nn.Module):
    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        return x[x > 0].sum() + torch.nonzero(y).sum()


class LooksByValue(nn.Module):
    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        return torch.narrow(x, 0, at, 1) + torch.narrow(torch.ones(6), 0, at, 1)


class Remembers(nn.Module):
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(6))

    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        self.last = self.last + x
        return self.last * y


class Collects(nn.Module):
    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(6))

    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
        self.last += x
        return self.last * y


@pytest.mark.parametrize("kind", [Branches, Loops, ChangesItsInput, Counts, LooksByValue, Remembers, Collects])
def test_what_depends_on_values_is_not_planned(kind: type[nn.Module]) -> None:
    saved = io.BytesIO()
    script: Any = torch.jit.script
    torch.jit.save(script(kind()), saved)
    assert plan_of(torchscript.load(saved.getvalue())) is None
    # It runs all the same, as TorchScript does.
    loaded, module = torchscript.load(saved.getvalue()), kind()
    for seed in (5, 6):
        expected = module(*(value.clone() for value in inputs(seed)))
        found = loaded(*(value.numpy().copy() for value in inputs(seed)))
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_a_fixed_loop_is_unrolled() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
            total = torch.zeros(6)
            for i in range(5):
                total[i] = x[i] * i + total.sum()
            return total

    script: Any = torch.jit.script
    plan = plan_of(archive(script(Fixed().eval())))
    assert plan is not None
    for seed in (7, 8):
        plan.inputs[0][...] = inputs(seed)[0].numpy()
        plan.run()
        np.testing.assert_allclose(plan.outputs[0], Fixed()(*inputs(seed)).numpy(), rtol=1e-5)


def test_a_method_that_fails_or_is_not_there() -> None:
    trace: Any = torch.jit.trace
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = archive(trace(Function(lambda x, y, at: x + y), inputs(0)))
    assert script.plan("read", np.zeros(6, np.float32)) is None
    with pytest.raises(InputError, match="forward failed on inputs of zeros"):
        script.plan("forward", np.zeros(6, np.float32), np.zeros(5, np.float32), np.zeros(()))


X, Y = np.array([1.0, -2.0], np.float32), np.array([3.0, 5.0], np.float32)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # A list that changes after a call read it.
        ("l = [x]\na = torch.cat(l)\nb = torch.append(l, y)\nreturn (a, torch.cat(l))", ([1, -2], [1, -2, 3, 5])),
        ("l = [x, y]\na = torch.stack(l)\nb = torch._set_item(l, 0, y)\nreturn (a,)", ([[1, -2], [3, 5]],)),
        # What fills an array like another may itself depend on the inputs.
        ("return (torch.full_like(x, torch.select(y, 0, 1)),)", ([5, 5],)),
        ("return (torch.new_full(x, [2], torch.select(y, 0, 0)),)", ([3, 3],)),
        # A weight that is no input, and comes after its first reader.
        ("w = torch.zeros([2])\nz = torch.add_(w, y)\nreturn (torch.linear(x, torch.outer(w, x)),)", ([15, 25],)),
        # An array without dimensions that is compared in double precision.
        ("return (torch.gt(torch.select(x, 0, 0), torch.tensor(1.00000000001, dtype=7)),)", (False,)),
        # A scalar that waits: its root is read once, after the number under it has changed.
        (
            "a = torch.add(y, 1)\nr = torch.rsqrt(a)\nb = torch.zero_(a)\nreturn (torch.mul(x, r),)",
            ([0.5, -0.8164966],),
        ),
        ("a = torch.mul(y, y)\nr = torch.rsqrt(a)\nreturn (torch.mul(r, x), torch.mul(x, x))", ([1 / 3, -0.4], [1, 4])),
    ],
)
def test_plans_of_code_that_no_trace_writes(body: str, expected: tuple[Any, ...]) -> None:
    plan = torchscript.load(handmade(body, "x: Tensor, y: Tensor")).plan("forward", X * 0, Y * 0 + 1)
    assert plan is not None
    for _ in range(2):
        plan.inputs[0][...], plan.inputs[1][...] = X, Y
        plan.run()
        assert len(plan.outputs) == len(expected)
        for got, wanted in zip(plan.outputs, expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "return {'a': x}",
        "return torch.index(x, [torch.to(torch.gt(x, 0), 0)])",  # bytes are a mask
        "return torch.item(torch.sum(x))",
        "return [" + "x, " * 2000 + "]",
        "l = [x]\nwhile True:\n  m = torch.append(l, x)",
    ],
)
def test_code_that_no_trace_writes_and_no_plan_can_follow(body: str) -> None:
    try:
        assert torchscript.load(handmade(body, "x: Tensor, y: Tensor")).plan("forward", X * 0, Y * 0) is None
    except InputError as error:
        assert "longer than" in str(error)  # noqa: PT017


def test_a_list_of_the_module_s_own_is_not_changed_unseen() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = [1]

        def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Tensor:
            self.seen.append(2)
            return x * len(self.seen)

    saved = io.BytesIO()
    script: Any = torch.jit.script
    torch.jit.save(script(Keeps()), saved)
    ours = torchscript.load(saved.getvalue())
    assert plan_of(ours) is None
    for times in (2, 3):
        np.testing.assert_array_equal(ours(X, Y, np.array(0)), X * times)


def test_inputs_that_are_the_same_memory_are_not_planned() -> None:
    script = torchscript.load(handmade("return torch.add(x, y)", "x: Tensor, y: Tensor"))
    assert script.plan("forward", X, X) is None
    assert script.plan("forward", X[:1], X[:]) is None
    assert script.plan("forward", X[:1], X[1:]) is not None


def test_many_layers_on_one_weight_do_not_copy_it_each_time() -> None:
    body = "w = torch.ones([256, 256])\ny = torch.ones([256])\nx = torch.mul(y, torch.sum(x))\n"
    script = torchscript.load(handmade(body + "x = torch.linear(x, w)\n" * 2000 + "return x"))
    tracemalloc.start()
    plan = script.plan("forward", X)
    assert plan is not None
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        "return torch.linear(x, CONSTANTS.c0)",
        "return torch.linear(torch.layer_norm(x, [88], CONSTANTS.c1), CONSTANTS.c0)",
        "y = torch.mul(CONSTANTS.c2, torch.sum(x))\n" + "z = torch.mean(y, [-1])\n" * 200 + "return torch.add(x, z)",
        "y = torch.expand(torch.mul(x, 2), [99, 88])\n" + "z = torch.softmax(y, -1)\n" * 200 + "return x",
    ],
)
def test_what_a_plan_keeps_beside_its_results_is_bounded(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "KEPT", 2**16)
    constants = b"(" + repeated("Float", 2**18, 88) + repeated("Float", 88) + repeated("Float", 2**20) + b"t"
    script = torchscript.load(handmade(body, constants=constants, storage=np.float32(0.5).tobytes()))
    x = np.arange(88, dtype=np.float32)
    expected = script(x)
    tracemalloc.start()
    plan = script.plan("forward", np.ones(88, np.float32))
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()
    assert plan is not None
    plan.inputs[0][...] = x
    plan.run()
    np.testing.assert_allclose(plan.outputs[0], expected, rtol=1e-5, atol=1e-5)
