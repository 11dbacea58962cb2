"""Whole archives in the NumPy runtime against TorchScript itself, and archives that must be refused."""

import io
import json
import math
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pianoai.runtime.errors import InputError
from pianoai.runtime.torchscript import load, missing_operators

trace: Any = torch.jit.trace
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor, cache: Tensor, slot: Tensor, bias: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        batch, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, 3, self.heads, width // self.heads).unbind(1)
        cos, sin = turn
        q1, q2 = q.chunk(2, -1)
        k1, k2 = k.chunk(2, -1)
        q = torch.cat([q1 * cos - q2 * sin, q1 * sin + q2 * cos], -1)
        cache[0, :, :, int(slot)] = torch.cat([k1 * cos - k2 * sin, k1 * sin + k2 * cos], -1)
        cache[1].index_copy_(2, slot.reshape(1), v.unsqueeze(2))
        scores = q.unsqueeze(2) @ cache[0].transpose(-1, -2) / math.sqrt(width // self.heads) + bias
        x = x + self.out((torch.softmax(scores, -1) @ cache[1]).reshape(batch, width))
        y: Tensor = x + self.down(self.act(self.up(self.norm2(x))))
        return y


class Step(nn.Module):
    """One frame of a Transformer whose keys and values lie in a ring."""

    rates: Tensor

    def __init__(self, width: int = 16, blocks: int = 2, ring: int = 6, heads: int = 2):
        super().__init__()
        self.ring, self.heads, self.width = ring, heads, width
        self.embed, self.norm, self.head = nn.Linear(176, width), nn.LayerNorm(width), nn.Linear(width, 88)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(blocks)])
        self.register_buffer("rates", 1e4 ** -torch.arange(0, 1, 2 * heads / width))

    @torch.jit.export
    def initial(self, batch: int) -> tuple[Tensor, Tensor]:
        shape = [len(self.blocks), 2, batch, self.heads, self.ring, self.width // self.heads]
        return torch.zeros(shape), torch.zeros([], dtype=torch.int64)

    def forward(
        self, frame: Tensor, state: tuple[Tensor, Tensor], noise: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        caches, position = state
        caches = caches.clone()
        struck = (frame > 1).float()
        x = self.embed(torch.cat([struck, (frame > 0).to(struck.dtype)], -1))
        angle = position.float() * self.rates
        bias = torch.zeros(self.ring).masked_fill(torch.arange(self.ring) > position, float("-inf"))
        for i, block in enumerate(self.blocks):
            x = block(x, caches[i], position % self.ring, bias, (torch.cos(angle), torch.sin(angle)))
        p = torch.sigmoid(self.head(self.norm(x)))
        drawn = torch.where(noise < p, torch.full_like(p, 64.0), torch.zeros_like(p)).to(torch.uint8)
        return drawn, p, (caches, position + 1)


class Nade(nn.Module):
    """Draws 88 pitches one after the other, each given those below."""

    def __init__(self, width: int = 8, hidden: int = 4):
        super().__init__()
        self.inner, self.outer = nn.Parameter(torch.randn(88, hidden)), nn.Parameter(torch.randn(88, hidden))
        self.start, self.bias = nn.Linear(width, hidden), nn.Linear(width, 88)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, int]:
        hidden, bias = self.start(x), self.bias(x)
        p, drawn = torch.zeros(x.shape[0], 88), torch.zeros(x.shape[0], 88)
        for i in range(88):
            q = torch.sigmoid(bias[:, i] + (torch.sigmoid(hidden) * self.outer[i]).sum(-1))
            p[:, i] = q
            on = noise[:, i] < q
            drawn.view(-1, 8, 11)[:, i // 11, i % 11] = on.float()
            if bool(on.any()):  # noqa: SIM108 (TorchScript serialises a statement)
                hidden = hidden + on.float().unsqueeze(-1) * self.inner[i]
            else:
                hidden = hidden * 0.99
        k = 0
        while k < 60 and float(p[0, k]) > 0.02:
            k += 1
        return drawn, p, k


class Generator(nn.Module):
    """Dilated convolutions written as slices, after a real one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(10, 12, 3, padding=2, dilation=2)
        self.layers = nn.ModuleList([nn.Linear(36, 12) for _ in range(3)])
        self.last = nn.Linear(12, 10)
        self.norm = nn.BatchNorm1d(12)

    def forward(self, window: Tensor, z: Tensor) -> Tensor:
        x = self.norm(self.first(window.transpose(1, 2))).transpose(1, 2)
        for i, layer in enumerate(self.layers):
            d = 1 << i
            t = x.size(1)
            taps = torch.cat([x[:, : t - 2 * d], x[:, d : t - d], x[:, 2 * d :]], -1)
            x = nn.functional.leaky_relu(layer(taps), 0.2) + x[:, 2 * d :]
        return torch.sigmoid(self.last(x[:, -1]) + z)


class Mixed(nn.Module):
    """Everything else that scripted code contains."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.1))
        self.table = nn.ModuleList([nn.Embedding(9, 4)])
        self.register_buffer("calls", torch.zeros(4))
        self.factor = 3

    @torch.jit.export
    def containers(self, n: int, tensors: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor], str]:
        out: list[Tensor] = []
        for i in range(n):
            out.append(torch.ones(i))
        merged = [x + 1 for x in out] + tensors
        return merged[1:], {"first": merged[0], "last": merged[-1]}, f"{n} of {len(merged)}"

    def helper(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        if bias is not None:
            x = x + bias
        return x[:, None, ::2][..., -1]

    def forward(self, x: Tensor, i: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[int, float, bool]]:
        a, b = x.shape[0], x.size(-1)
        assert b == 4, "x must have four columns"
        y = self.stack(x) + self.table[0](ids).sum(0)
        z = x.clone()
        z[i] = 1.0
        z[ids[:2]] = y[ids[:2]]
        z[z > 0.5] = 0
        z[:, 1:3] += 2
        z[0] *= 2
        z[1, 2] = 5
        z.view(-1)[1::3] -= 0.25
        z.index_put_((ids[:2],), y[ids[:2]], accumulate=True)
        n = int(i.item()) + min(a, b, 7) - max(a, 2)
        q = (z.to(torch.float64) * 3).long() % 3
        q = torch.div(q // 2 + 5, 2, rounding_mode="floor")
        g = ~(q > 2) & (q < 3) | (q == 0)
        k = 0
        for j in range(10):
            if j > a:
                break
            k += j
        last: int | None = None
        if a > 1:
            last = 3
        v = 0
        if last is not None:
            v = last
        self.calls.add_(1)
        rate = float(a) ** 0.5 + a // 2 + a % 2 + a / 2 + abs(-a) + self.factor + math.sqrt(a)
        top, where = y.max(dim=-1)
        o = self.helper(x).sum() + self.helper(x, self.calls).sum() + top.sum() + where.sum()
        return z, g, o * rate * k + v + x.new_ones(2).sum(), (n, rate, not bool(g.any()))


def archive_of(module: nn.Module, frozen: bool = True, keep: list[str] | None = None) -> tuple[Any, bytes]:
    script = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module.eval())
    if frozen:
        script = torch.jit.freeze(script, preserved_attrs=keep)
    buffer = io.BytesIO()
    torch.jit.save(script, buffer, {"pianoai.json": json.dumps({"frames_per_beat": 4})})
    return script, buffer.getvalue()


def arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().numpy().copy()
    return type(value)(map(arrays, value)) if isinstance(value, tuple | list) else value


def agree(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, Tensor):
        expected = theirs.detach().numpy()
        assert (type(ours), ours.dtype, ours.shape) == (np.ndarray, expected.dtype, expected.shape)
        tolerance = 1e-5 if ours.dtype.kind == "f" else 0
        np.testing.assert_allclose(ours, expected, tolerance, tolerance)
    elif isinstance(theirs, tuple | list):
        assert (type(ours), len(ours)) == (type(theirs), len(theirs))
        for one, other in zip(ours, theirs, strict=True):
            agree(one, other)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        agree(list(ours.values()), list(theirs.values()))
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(11)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_transformer_step_round_and_round_its_ring(frozen: bool, batch: int) -> None:
    theirs, data = archive_of(Step(), frozen, ["initial"])
    ours = load(data)
    state, our_state = theirs.initial(batch), ours.method("initial")(batch)
    agree(our_state, state)
    for _ in range(40):
        frame, noise = torch.randint(0, 128, (batch, 88), dtype=torch.uint8), torch.rand(batch, 88)
        before = our_state[0].copy()
        expected, result = theirs(frame, state, noise), ours(frame.numpy(), our_state, noise.numpy())
        agree(result, expected)
        np.testing.assert_array_equal(our_state[0], before)  # the state handed in is left alone
        state, our_state = expected[2], result[2]
    assert int(our_state[1]) == 40


@pytest.mark.parametrize("frozen", [True, False])
def test_nade_loop(frozen: bool) -> None:
    theirs, data = archive_of(Nade(), frozen)
    ours = load(data)
    for batch in (1, 2, 5):
        x, noise = torch.randn(batch, 8), torch.rand(batch, 88)
        expected = theirs(x, noise)
        agree(ours(x.numpy(), noise.numpy()), expected)
        assert 0 < int(expected[0].sum()) < 88 * batch


@pytest.mark.parametrize("frozen", [True, False])
def test_dilated_convolutions(frozen: bool) -> None:
    theirs, data = archive_of(Generator(), frozen)
    for batch, frames in ((1, 20), (3, 33)):
        window, z = torch.rand(batch, frames, 10), torch.randn(batch, 10)
        agree(load(data)(window.numpy(), z.numpy()), theirs(window, z))


@pytest.mark.parametrize("frozen", [True, False])
def test_mixed(frozen: bool) -> None:
    theirs, data = archive_of(Mixed(), frozen, ["containers"])
    ours = load(data)
    for rows in (3, 5):  # the second call sees the buffer that the first has written
        x, i, ids = torch.randn(rows, 4), torch.tensor(1), torch.tensor([2, 0, 2, 1, 0, 2][: 2 * (rows // 2)])
        agree(ours(*map(arrays, (x, i, ids))), theirs(x, i, ids))
    agree(ours.method("containers")(3, [np.zeros(2, np.float32)]), theirs.containers(3, [torch.zeros(2)]))
    with pytest.raises(InputError, match=r"forward: AssertionError: x must have four columns"):
        ours(np.zeros((3, 5), np.float32), np.array(1), np.array([0, 1]))


def test_traced() -> None:
    example = (torch.randn(2, 8), torch.rand(2, 88))
    for frozen in (True, False):
        theirs, data = archive_of(trace(Generator().eval(), (torch.rand(1, 20, 10), torch.rand(1, 10))), frozen)
        window, z = torch.rand(4, 20, 10), torch.randn(4, 10)
        agree(load(data)(window.numpy(), z.numpy()), theirs(window, z))
    theirs, data = archive_of(trace(nn.Sequential(nn.Linear(8, 5), nn.Tanh()).eval(), example[:1]), False)
    agree(load(data)(example[0].numpy()), theirs(example[0]))


def test_inputs_written_in_place_are_the_callers() -> None:
    class Writer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x.view(2, 6)[1].mul_(2)
            return x[0]

    _, data = archive_of(Writer())
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    result = load(data)(x)
    np.testing.assert_array_equal(x.ravel(), [0, 1, 2, 3, 4, 5, 12, 14, 16, 18, 20, 22])
    assert np.shares_memory(result, x)


def test_scalars_stay_tensors() -> None:
    class Counter(nn.Module):
        def forward(self, n: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
            m = n + 1
            m += 1
            return m, n / 2, x * n, x[0] * 2.5, n > 3

    theirs, data = archive_of(Counter())
    ours = load(data)(np.int64(3), np.array([1, 2], np.float32))
    agree(ours, theirs(torch.tensor(3), torch.tensor([1.0, 2.0])))
    assert [value.dtype.name for value in ours] == ["int64", "float32", "float32", "float32", "bool"]


def test_rewritten_archive_and_extra_files(tmp_path: Path) -> None:
    theirs, data = archive_of(Generator())
    path = tmp_path / "model.ts"
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in sorted(old.namelist()):
            if not name.endswith((".debug_pkl", "serialization_id")):
                new.writestr(
                    zipfile.ZipInfo("renamed/" + name.partition("/")[2], (1980, 1, 1, 0, 0, 0)), old.read(name)
                )
    script = load(str(path))
    window, z = torch.rand(2, 25, 10), torch.randn(2, 10)
    agree(script(window.numpy(), z.numpy()), theirs(window, z))
    assert json.loads(script.extra["pianoai.json"]) == {"frames_per_beat": 4}


def test_missing_operators_are_all_named() -> None:
    class Exotic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.special.i0(torch.linalg.qr(x)[0]) + torch.fft.fft(x).real.cumsum(0) + torch.rand(2)
            return y

    _, data = archive_of(Exotic())
    missing = missing_operators(data)
    assert missing == ["torch.fft_fft", "torch.i0", "torch.linalg_qr", "torch.rand", "torch.real"]
    with pytest.raises(InputError, match=f"^archive: the NumPy runtime lacks the operators {', '.join(missing)};"):
        load(data)
    assert missing_operators(archive_of(Step())[1]) == []


def test_wrong_calls() -> None:
    script = load(archive_of(Generator())[1])
    with pytest.raises(InputError, match="archive: forward takes window, z; it got 1 inputs"):
        script(np.zeros((1, 20, 10), np.float32))
    with pytest.raises(InputError, match="archive: forward failed; check its inputs"):
        script(np.zeros((1, 20, 11), np.float32), np.zeros((1, 10), np.float32))
    with pytest.raises(InputError, match="the model has no method initial"):
        script.method("initial")


def test_import_is_light() -> None:
    code = (
        "import sys; import pianoai.runtime.torchscript; "
        "print([m for m in ('torch', 'mido', 'scipy', 'inspect') if m in sys.modules and m != 'inspect'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_threads_do_not_disturb_each_other() -> None:
    theirs, data = archive_of(Nade())
    ours = load(data)
    x, noise = torch.randn(1, 8), torch.rand(1, 88)
    expected, results = theirs(x, noise), []
    threads = [threading.Thread(target=lambda: results.append(ours(x.numpy(), noise.numpy()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        agree(result, expected)
