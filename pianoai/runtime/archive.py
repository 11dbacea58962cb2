"""Reads a TorchScript archive: a zip of code, weights and extra files, without torch.

Every entry is checked before anything is read, and pickles may name nothing but tensors and modules.
"""

import io
import pickle
import re
import zipfile
import zlib
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.operators.promotion import Array
from pianoai.runtime.operators.values import key

LARGEST = 256 * 1024 * 1024  # bytes of all entries, unpacked
LONGEST_PICKLE = 1024 * 1024  # bytes: reading takes a hundred times as many
MOST_DIMENSIONS = 64  # of an array of NumPy's
STORAGES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<?",
}
# These only tell torch the element type of a list.
TYPED_LISTS = {"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag"}
# The instructions of a pickle that torch writes, but for those that _Unpickler has itself.
INSTRUCTIONS = """PROTO STOP MARK GLOBAL NEWOBJ REDUCE BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT
BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPENDS EMPTY_DICT BINPUT LONG_BINPUT BINGET LONG_BINGET"""


class ModuleState:
    """A scripted module: the qualified name of its class and its attributes by name."""

    type_name = ""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}


class Archive:
    """A TorchScript archive, read whole.

    Attributes:
        name: What messages call it.
        code: Source by module name, e.g. ``__torch__.torch.nn.functional``.
        constants: What the code calls ``CONSTANTS.c0``, …; arrays in it are read-only.
        attributes: The module itself; arrays in it can be written.
        extra: Extra files by name, e.g. ``pianoai.json``.
    """

    def __init__(self, source: str | Path | bytes):
        """Reads `source`, a path or the bytes of an archive. Raises InputError for anything else."""
        self.name = "archive" if isinstance(source, bytes) else str(source)
        entries = self._read(source)
        self.extra = {name[6:]: data for name, data in entries.items() if name.startswith("extra/")}
        if entries.get("byteorder", b"little") != b"little":
            raise InputError(f"{self.name}: byteorder must be little; export it on another machine")
        self.code = {
            name[5:-3].replace("/", "."): self._decode(name, data)
            for name, data in sorted(entries.items())
            if name.startswith("code/") and name.endswith(".py")
        }
        if not self.code or "data.pkl" not in entries or "constants.pkl" not in entries:
            raise InputError(f"{self.name}: not a TorchScript archive; write it with torch.jit.save")
        constants = self._unpickle(entries, "constants", writable=False)
        attributes = self._unpickle(entries, "data", writable=True)
        if not isinstance(constants, tuple):
            raise InputError(f"{self.name}: constants.pkl must hold a tuple")
        if not isinstance(attributes, ModuleState):
            raise InputError(f"{self.name}: data.pkl must hold a module")
        self.constants: tuple[Any, ...] = constants
        self.attributes: ModuleState = attributes

    def _decode(self, name: str, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise InputError(f"{self.name}: {name} is not UTF-8 text") from None

    def _read(self, source: str | Path | bytes) -> dict[str, bytes]:
        try:
            with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
                infos = [info for info in archive.infolist() if not info.is_dir()]
                self._check_entries(infos)
                return {info.filename.partition("/")[2]: self._unpacked(archive, info) for info in infos}
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(
                f"{self.name}: not a TorchScript archive ({error}); write it with torch.jit.save"
            ) from None
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read: {error.strerror or error}") from None

    @staticmethod
    def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        # ZipFile.read would unpack all that there is before it looks at the size that was announced.
        with archive.open(info) as entry:
            return entry.read(info.file_size + 1)

    def _check_entries(self, infos: list[zipfile.ZipInfo]) -> None:
        names = [info.filename for info in infos]
        for info in infos:
            parts = info.filename.split("/")
            if len(parts) < 2 or any(part in ("", ".", "..") for part in parts) or "\\" in info.filename:
                raise InputError(f"{self.name}: entry {info.filename!r} does not lie in the archive's folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
                raise InputError(f"{self.name}: entry {info.filename!r} must be stored or deflated, unencrypted")
        twice, often = Counter(names).most_common(1)[0] if names else ("", 1)
        if often > 1:
            raise InputError(f"{self.name}: entry {twice!r} occurs twice")
        if len({name.partition("/")[0] for name in names}) != 1:
            raise InputError(f"{self.name}: not a TorchScript archive: its entries must share one folder")
        if sum(info.file_size for info in infos) > LARGEST:
            raise InputError(f"{self.name}: unpacks to more than {LARGEST >> 20} MB")

    def _unpickle(self, entries: dict[str, bytes], folder: str, writable: bool) -> Any:
        if len(entries[f"{folder}.pkl"]) > LONGEST_PICKLE:
            raise InputError(f"{self.name}: {folder}.pkl is longer than {LONGEST_PICKLE >> 20} MB")
        try:
            return _Unpickler(entries, folder, writable).load()
        except InputError as error:
            raise InputError(f"{self.name}: {folder}.pkl: {error}") from None
        # A pickle is a program: with hostile bytes nearly anything can go wrong in it.
        except Exception as error:
            raise InputError(f"{self.name}: {folder}.pkl is damaged: {error}") from error


class _Unpickler(pickle._Unpickler):
    """Rebuilds arrays and modules, and nothing else.

    Python's own implementation, because the one in C makes a table as long as the largest number that a pickle gives
    to an object.
    """

    read: Any
    append: Any
    pop_mark: Any
    stack: list[Any]

    def _unknown(self) -> None:
        raise pickle.UnpicklingError("it has an instruction that torch does not write")

    def _long(self) -> None:
        count = self.read(1)[0]
        if count > 8:
            raise pickle.UnpicklingError("a whole number is beyond 64 bits")
        self.append(pickle.decode_long(self.read(count)))

    def _items(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if type(target) is not dict:
            raise pickle.UnpicklingError("only dicts are given items")
        for name, value in zip(items[::2], items[1::2], strict=True):
            target[key(name)] = value

    def _build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], ModuleState) or type(state) is not dict:
            raise pickle.UnpicklingError("only modules have a state, and it is a dict")
        self.stack[-1].state = state

    dispatch: ClassVar[dict[int, Any]] = {
        **dict.fromkeys(pickle._Unpickler.dispatch, _unknown),
        **{code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, n)[0] for n in INSTRUCTIONS.split())},
        pickle.LONG1[0]: _long,
        pickle.SETITEMS[0]: _items,
        pickle.BUILD[0]: _build,
    }

    def __init__(self, entries: dict[str, bytes], folder: str, writable: bool):
        super().__init__(io.BytesIO(entries[f"{folder}.pkl"]))
        self._entries, self._folder, self._writable = entries, folder, writable
        self._storages: dict[str, tuple[np.dtype[Any], bytes | bytearray]] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return lambda: {}  # of hooks, of which there are none
        if module == "torch" and name in STORAGES:
            return name  # not the dtype: a pickle could change that for the whole process
        if (module, name) == ("torch", "BFloat16Storage"):
            raise InputError("bfloat16 weights cannot be read; convert the model with .float() before export")
        if module == "torch.jit._pickle" and name in TYPED_LISTS:
            return lambda values, kind=None: values
        if re.fullmatch(r"__torch__(\.\w+)*", module) and name.isidentifier():
            return type("ModuleState", (ModuleState,), {"type_name": f"{module}.{name}"})
        raise InputError(f"names {module}.{name}, which is not allowed; only tensors and modules are")

    def persistent_load(self, pid: Any, /) -> str:
        kind, storage, number, _, count = pid
        # Texts alone: to look up nested tuples, which can double at every level, might never end.
        if kind != "storage" or type(storage) is not str or type(number) is not str or type(count) is not int:
            raise InputError("unknown reference")
        if storage not in STORAGES or not re.fullmatch("[0-9]{1,20}", number):
            raise InputError(f"unknown reference to {storage[:40]!r} {number[:40]!r}")
        dtype = np.dtype(STORAGES[storage])
        if number not in self._storages:
            data = self._entries.get(f"{self._folder}/{number}")
            if data is None:
                raise InputError(f"names {self._folder}/{number}, which is not in the archive")
            self._storages[number] = (dtype, bytearray(data) if self._writable else data)
        known, data_of = self._storages[number]
        if known != dtype or len(data_of) != count * dtype.itemsize:
            raise InputError(
                f"{self._folder}/{number} has {len(data_of)} bytes; {count} values of {dtype} were announced"
            )
        return number

    def _rebuild_tensor(
        self,
        storage: str,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool = False,
        hooks: object = None,
    ) -> Array:
        if type(storage) is not str or storage not in self._storages:
            raise InputError("a tensor without a storage")
        dtype, data = self._storages[storage]
        shaped = type(size) is type(stride) is tuple and len(size) == len(stride) <= MOST_DIMENSIONS
        # The product of numbers that are too large might never be there.
        plain = shaped and all(type(n) is int and 0 <= n <= LARGEST for n in (offset, *size, *stride))
        # Strides of zero make any size fit into a storage.
        if not plain or prod(size) > LARGEST:
            raise InputError(f"a tensor of {self._folder}/{storage} has an impossible shape")
        if 0 in size:
            return np.empty(size, dtype)
        width = dtype.itemsize
        # NumPy refuses a shape that leaves the buffer.
        return np.ndarray(size, dtype, data, offset * width, [step * width for step in stride])
