"""Reads a TorchScript archive: a zip of code, weights and extra files, without torch.

Every entry is checked before anything is read, and pickles may name nothing but tensors and modules.
"""

import io
import pickle
import re
import zipfile
import zlib
from collections import Counter, OrderedDict
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.operators.promotion import Array

LARGEST = 256 * 1024 * 1024  # bytes of all entries, unpacked
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


class ModuleState:
    """A scripted module: the qualified name of its class and its attributes by name."""

    type_name = ""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise pickle.UnpicklingError(f"the state of {self.type_name} is not a dict of names")
        self.state = state


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
    to an object, and BYTEARRAY8 makes a place as large as the pickle says.
    """

    dispatch: ClassVar = {key: load for key, load in pickle._Unpickler.dispatch.items() if key != pickle.BYTEARRAY8[0]}

    def __init__(self, entries: dict[str, bytes], folder: str, writable: bool):
        super().__init__(io.BytesIO(entries[f"{folder}.pkl"]))
        self._entries, self._folder, self._writable = entries, folder, writable
        self._storages: dict[str, tuple[np.dtype[Any], bytes | bytearray]] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *args: self._rebuild_tensor(*args)  # BUILD may write into what it is given
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
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
        kind, storage, key, _, count = pid
        if kind != "storage" or storage not in STORAGES or not re.fullmatch("[0-9]+", key):
            raise InputError(f"unknown reference {pid!r}")
        dtype = np.dtype(STORAGES[storage])
        if key not in self._storages:
            data = self._entries.get(f"{self._folder}/{key}")
            if data is None:
                raise InputError(f"names {self._folder}/{key}, which is not in the archive")
            self._storages[key] = (dtype, bytearray(data) if self._writable else data)
        known, data_of = self._storages[key]
        if known != dtype or len(data_of) != count * dtype.itemsize:
            raise InputError(f"{self._folder}/{key} has {len(data_of)} bytes; {count} values of {dtype} were announced")
        return str(key)

    def _rebuild_tensor(
        self,
        storage: str,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        requires_grad: bool = False,
        hooks: object = None,
    ) -> Array:
        dtype, data = self._storages[storage]
        # Strides of zero make any size fit into a storage.
        if offset < 0 or min((*size, *stride), default=0) < 0 or len(size) != len(stride) or prod(size) > LARGEST:
            raise InputError(f"a tensor of {self._folder}/{storage} has an impossible shape")
        if 0 in size:
            return np.empty(size, dtype)
        width = dtype.itemsize
        # NumPy refuses a shape that leaves the buffer.
        return np.ndarray(size, dtype, data, offset * width, [step * width for step in stride])
