import io
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pianoai.runtime import archive as reading
from pianoai.runtime.archive import Archive
from pianoai.runtime.errors import InputError
from pianoai.runtime.torchscript import load

DTYPES = ["float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


class Holder(torch.nn.Module):
    """One buffer of every dtype, and views that share a storage."""

    float32: torch.Tensor
    part: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in DTYPES:
            self.register_buffer(name, torch.tensor([0, 1, 3]).to(getattr(torch, name)))
        base = torch.arange(12.0)
        self.register_buffer("base", base)
        self.register_buffer("part", base.view(3, 4)[1:, ::2].t())
        self.register_buffer("empty", torch.zeros(0, 4))
        self.register_buffer("scalar", torch.tensor(5))
        self.count, self.rate, self.word, self.sizes = 3, 0.25, "piano", [4, 5]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.float32 + self.part[0, 0] * self.count * self.rate + self.sizes[0]


@pytest.fixture(scope="module")
def saved() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Holder()), buffer, {"pianoai.json": b'{"a": 1}'})
    return buffer.getvalue()


def rewrite(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """The archive with entries changed, stored and sorted."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        entries = {name: old.read(name) for name in sorted(old.namelist())}
    change(entries)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name, content in entries.items():
            new.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def with_entry(data: bytes, name: str, content: bytes) -> bytes:
    return rewrite(data, lambda entries: entries.update({name: content}))


def prefix(data: bytes) -> str:
    return zipfile.ZipFile(io.BytesIO(data)).namelist()[0].partition("/")[0]


def with_pickle(data: bytes, content: bytes) -> bytes:
    return with_entry(data, f"{prefix(data)}/data.pkl", content)


def test_reads_what_torch_wrote(saved: bytes) -> None:
    archive = Archive(saved)
    state = archive.attributes.state
    for name in DTYPES:
        expected = torch.tensor([0, 1, 3]).to(getattr(torch, name)).numpy()
        assert state[name].dtype == expected.dtype
        np.testing.assert_array_equal(state[name], expected)
    np.testing.assert_array_equal(state["part"], [[4, 8], [6, 10]])
    assert state["part"].strides == (8, 16)
    assert (state["empty"].shape, state["scalar"].shape, int(state["scalar"])) == ((0, 4), (), 5)
    assert [state[name] for name in ("count", "rate", "word", "sizes")] == [3, 0.25, "piano", [4, 5]]
    assert archive.extra == {"pianoai.json": b'{"a": 1}'}
    assert archive.attributes.type_name.endswith(".Holder")
    assert "class Holder(Module)" in "".join(archive.code.values())
    state["base"][4] = 99  # `part` is a view of the same storage, as in torch
    assert state["part"][0, 0] == 99


def test_path_and_name(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.ts"
    path.write_bytes(saved)
    assert Archive(path).name == str(path)
    with pytest.raises(InputError, match=r"nowhere\.ts: cannot be read"):
        Archive(tmp_path / "nowhere.ts")


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(50), b"\x80\x02}."])
def test_not_an_archive(data: bytes) -> None:
    with pytest.raises(InputError, match=r"^archive: not a TorchScript archive .*torch\.jit\.save$"):
        Archive(data)


def test_another_zip() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as other:
        other.writestr("a/b.txt", "x")
    with pytest.raises(InputError, match="not a TorchScript archive; write it with"):
        Archive(buffer.getvalue())


@pytest.mark.parametrize("cut", [10, 200, 1000])
def test_truncated(saved: bytes, cut: int) -> None:
    with pytest.raises(InputError, match="not a TorchScript archive"):
        Archive(saved[:-cut])


def test_damaged_content(saved: bytes) -> None:
    saved = rewrite(saved, lambda entries: None)
    at = saved.index(b"class Holder")
    with pytest.raises(InputError, match="Bad CRC"):
        Archive(saved[:at] + b"CLASS" + saved[at + 5 :])


@pytest.mark.parametrize("name", ["{}/../evil.py", "/etc/passwd", "alone", "{}//x", "{}/a\\b", "../{}/x", "{}/./x"])
def test_entries_that_leave_the_archive(saved: bytes, name: str) -> None:
    with pytest.raises(InputError, match="does not lie in the archive's folder"):
        Archive(with_entry(saved, name.format(prefix(saved)), b"x"))


def test_two_folders(saved: bytes) -> None:
    with pytest.raises(InputError, match="share one folder"):
        Archive(with_entry(saved, "elsewhere/data.pkl", b"x"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_entry(saved: bytes) -> None:
    buffer = io.BytesIO(saved)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(f"{prefix(saved)}/data.pkl", b"x")
    with pytest.raises(InputError, match=r"data\.pkl' occurs twice"):
        Archive(buffer.getvalue())


def test_bomb(saved: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO(saved)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{prefix(saved)}/extra/zeros", bytes(3 << 20))
    assert len(Archive(buffer.getvalue()).extra["zeros"]) == 3 << 20
    monkeypatch.setattr(reading, "LARGEST", 2 << 20)
    with pytest.raises(InputError, match="unpacks to more than 2 MB"):
        Archive(buffer.getvalue())


def test_a_size_that_lies_is_found(saved: bytes) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/zeros", bytes(1 << 20))
    data = buffer.getvalue()
    true_size, lie = struct.pack("<L", 1 << 20), struct.pack("<L", 100)
    assert data.count(true_size) == 2
    with pytest.raises(InputError, match="not a TorchScript archive"):
        Archive(data.replace(true_size, lie))


def test_other_compression(saved: bytes) -> None:
    buffer = io.BytesIO(saved)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr(f"{prefix(saved)}/extra/x", b"x")
    with pytest.raises(InputError, match="stored or deflated"):
        Archive(buffer.getvalue())


def global_call(module: str, name: str) -> bytes:
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x02\x00\x00\x00ls\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_parameter"),
        ("numpy", "load"),
        ("collections", "defaultdict"),
        ("__torch__.os", "path.join"),
        ("__torch__;os", "system"),
    ],
)
def test_pickles_name_only_tensors_and_modules(saved: bytes, module: str, name: str) -> None:
    with pytest.raises(InputError, match=f"names {module}.{name}, which is not allowed"):
        Archive(with_pickle(saved, global_call(module, name)))


class Evil:
    def __reduce__(self) -> Any:
        return print, ("evil",)


def test_a_real_hostile_pickle(saved: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    for protocol in range(6):
        found = r"names (__builtin__|builtins)\.print" if protocol < 4 else "an instruction that torch does not write"
        with pytest.raises(InputError, match=found):
            Archive(with_pickle(saved, pickle.dumps(Evil(), protocol)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b".", b"\x80\x02N.", b"\x80\x02]q\x00.", b"(" * 100 + b"."])
def test_damaged_pickles(saved: bytes, content: bytes) -> None:
    with pytest.raises(InputError, match=r"data\.pkl (is damaged|must hold a module)"):
        Archive(with_pickle(saved, content))


def test_pickles_cannot_change_what_they_name(saved: bytes) -> None:
    before = np.dtype(np.float32).byteorder
    state = pickle.dumps((3, ">", None, None, None, -1, -1, 0), 2)[2:-1]
    for name in (b"torch\nFloatStorage", b"collections\nOrderedDict"):
        with pytest.raises(InputError, match=r"data\.pkl is damaged"):
            Archive(with_pickle(saved, b"\x80\x02c" + name + b"\n" + state + b"b."))
    assert np.dtype(np.float32).byteorder == before


def test_wrong_storage_size(saved: bytes) -> None:
    for content in (b"", bytes(11), bytes(4000)):
        with pytest.raises(InputError, match=r"data/0 has \d+ bytes; 3 values of float32 were announced"):
            Archive(with_entry(saved, f"{prefix(saved)}/data/0", content))


def test_missing_storage(saved: bytes) -> None:
    with pytest.raises(InputError, match="names data/0, which is not in the archive"):
        Archive(rewrite(saved, lambda entries: entries.__delitem__(f"{prefix(saved)}/data/0")))


def tensor_pickle(offset: int, size: tuple[int, ...], stride: tuple[int, ...], key: str = "0", count: int = 3) -> bytes:
    """A pickle of one tensor on a storage of three float32 values."""

    def dump(value: Any) -> bytes:
        return pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"").replace(b"q\x01", b"")

    storage = b"(" + dump("storage") + b"ctorch\nFloatStorage\n" + dump(key) + dump("cpu") + dump(count) + b"tQ"
    arguments = b"(" + storage + dump(offset) + dump(size) + dump(stride) + b"\x89" + b"ccollections\nOrderedDict\n)Rt"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R."


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (4,), (1,)),
        (1, (3,), (1,)),
        (0, (2,), (3,)),
        (-1, (1,), (1,)),
        (0, (3,), (-1,)),
        (0, (3,), (1, 1)),
        (0, (-1,), (1,)),
        (0, (2**62,) * 64, (0,) * 64),  # the product alone would take long
        (0, (1,) * 65, (0,) * 65),
        (0, (True,), (1,)),
        (2**62, (1,), (1,)),
    ],
)
def test_tensors_stay_inside_their_storage(
    saved: bytes, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"data\.pkl.*(impossible shape|is damaged)"):
        Archive(with_pickle(saved, tensor_pickle(offset, size, stride)))


def test_the_handmade_tensor_itself_is_sound(saved: bytes) -> None:
    with pytest.raises(InputError, match="must hold a module"):
        Archive(with_pickle(saved, tensor_pickle(1, (2,), (1,))))
    for key in ("../x", "0/0", ""):
        with pytest.raises(InputError, match="unknown reference"):
            Archive(with_pickle(saved, tensor_pickle(0, (1,), (1,), key)))


def test_bfloat16() -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2).bfloat16()), buffer)
    with pytest.raises(InputError, match=r"bfloat16 weights cannot be read; convert the model with \.float\(\)"):
        Archive(buffer.getvalue())


def test_byte_order_and_encoding(saved: bytes) -> None:
    with pytest.raises(InputError, match="byteorder must be little"):
        Archive(with_entry(saved, f"{prefix(saved)}/byteorder", b"big"))
    with pytest.raises(InputError, match=r"code/a\.py is not UTF-8"):
        Archive(with_entry(saved, f"{prefix(saved)}/code/a.py", b"\xff"))


def test_constants_are_read_only_and_attributes_are_not(saved: bytes) -> None:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.script(Holder().eval())), buffer)
    constants = [value for value in Archive(buffer.getvalue()).constants if isinstance(value, np.ndarray)]
    assert constants
    assert not any(value.flags.writeable for value in constants)
    assert Archive(saved).attributes.state["base"].flags.writeable


def test_a_bomb_behind_a_size_that_lies_is_not_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/zeros", bytes(64 << 20))
    data = buffer.getvalue().replace(struct.pack("<L", 64 << 20), struct.pack("<L", 100))
    tracemalloc.start()
    with pytest.raises(InputError, match="Bad CRC"):
        Archive(data)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02Np99999999\n.",  # memo of 99,999,999
        b"\x80\x02Nr" + struct.pack("<L", 2**31) + b".",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 32) + b".",  # a bytearray
        b"\x80\x05\x8e" + struct.pack("<Q", 1 << 40) + b".",  # bytes
        b"\x80\x05\x8d" + struct.pack("<Q", 1 << 40) + b".",  # text
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b".",  # a frame
        b"\x80\x02\x8b" + struct.pack("<l", 1 << 30) + b".",  # a whole number
        b"\x80\x02I" + b"9" * 5000 + b"\n.",
        b"\x80\x02I9\n.",
        b"\x80\x02L9L\n.",
        b"\x80\x02\x8a\x09" + bytes(9) + b".",
    ],
)
def test_numbers_in_a_pickle_take_no_memory(saved: bytes, content: bytes) -> None:
    data = with_pickle(saved, content)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"data\.pkl (is damaged|must hold a module)"):
        Archive(data)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_strides_of_zero_make_no_giants(saved: bytes) -> None:
    with pytest.raises(InputError, match="impossible shape"):
        Archive(with_pickle(saved, tensor_pickle(0, (1 << 40,), (0,))))
    with pytest.raises(InputError, match="must hold a module"):
        Archive(with_pickle(saved, tensor_pickle(0, (1 << 20,), (0,))))


def test_pickles_cannot_mark_the_reader_s_own_functions(saved: bytes) -> None:
    state = b"}(X\x04\x00\x00\x00markK\x01u"
    for name in (b"torch._utils\n_rebuild_tensor_v2", b"torch.jit._pickle\nbuild_intlist"):
        with pytest.raises(InputError, match="only modules have a state"):
            Archive(with_pickle(saved, b"\x80\x02c" + name + b"\n" + state + b"b."))
    assert not [value for value in vars(reading._Unpickler).values() if hasattr(value, "mark")]


def test_many_entries_are_checked_in_no_time(saved: bytes) -> None:
    buffer = io.BytesIO(saved)
    with zipfile.ZipFile(buffer, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for at in [*range(5000), 4999]:
            archive.writestr(f"{prefix(saved)}/extra/{at}", b"")
    with pytest.raises(InputError, match="extra/4999' occurs twice"):
        Archive(buffer.getvalue())


# Leaves a tuple of twice the one before, sixty times, in place 0 of the memo: its hash would never be there.
DOUBLED = b"\x80\x02()q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"t"


@pytest.mark.parametrize(
    "content",
    [
        b"}(h\x00Nu.",
        b"ccollections\nOrderedDict\n](h\x00N\x86e\x85R.",
        b"(X\x07\x00\x00\x00storageh\x00X\x01\x00\x00\x000NK\x03tQ.",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nh\x00NK\x03tQ.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(h\x00K\x00))tR.",
        b"\x8f(h\x00\x90.",  # sets
        b"(h\x00\x91.",
        b"](K\x00Nu.",  # items for what is no dict
    ],
)
def test_nothing_but_texts_and_numbers_is_looked_up(saved: bytes, content: bytes) -> None:
    with pytest.raises(InputError, match=r"data\.pkl(:| is damaged)"):
        Archive(with_pickle(saved, DOUBLED + content))


def test_tensors_are_given_no_items(saved: bytes) -> None:
    with pytest.raises(InputError, match="only dicts are given items"):
        Archive(with_pickle(saved, tensor_pickle(0, (1 << 20,), (0,))[:-1] + b"(K\x00K\x01u."))


def test_long_pickles_are_not_read(saved: bytes) -> None:
    with pytest.raises(InputError, match=r"^archive: data\.pkl is longer than 1 MB$"):
        Archive(with_pickle(saved, b"\x80\x02" + b"]" * (1 << 20) + b"."))


class Repeats(torch.nn.Module):
    """Buffers that show a storage more than once, and a dict."""

    wide: torch.Tensor
    windows: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wide", torch.arange(4.0).view(1, 4).expand(3, 4))
        self.register_buffer("windows", torch.arange(10.0).unfold(0, 4, 1))
        self.names, self.rates, self.far = {"a": 1}, {1: 2.5}, 2**40

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.wide + self.windows.sum() * self.names["a"] * self.rates[1] + self.far


@pytest.mark.parametrize("frozen", [True, False])
def test_tensors_larger_than_their_storage_are_read(frozen: bool) -> None:
    script: Any = torch.jit.script(Repeats().eval())
    script = torch.jit.freeze(script) if frozen else script
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    x = torch.arange(12.0).view(3, 4)
    np.testing.assert_array_equal(load(buffer.getvalue())(x.numpy()), script(x))
