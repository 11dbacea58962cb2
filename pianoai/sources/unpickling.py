"""An unpickler that can build lists, dicts, texts, numbers, NumPy arrays and COO matrices, and nothing else.

A matrix becomes what a function makes of it as soon as it is complete, and what it was made of is forgotten, so a file
needs memory for its largest matrix and for what becomes of all.
"""

import codecs
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pianoai.runtime.errors import InputError

LARGEST_FILE = 1 << 32  # bytes, once unpacked
LARGEST_PART = 1 << 28  # bytes of one text, array or line
MOST_STEPS = 10_000_000  # of a pickle; a piece takes some sixty
LONGEST_ROLL = 1 << 40  # frames: more than the longest piece has at any resolution, and no product overflows
ZIP = b"PK\x03\x04"


class Matrix:
    """Stands in for scipy.sparse.coo_matrix, whose old module path SciPy 2 no longer has; soon only what it became."""

    state: dict[str, Any] | None = None
    became: Any = None


class Numbers:
    """Stands in for a NumPy array while its values are to come."""

    values: NDArray[Any] | None = None


class Kind:
    """Stands in for a NumPy dtype: booleans and numbers; None for any other, whose arrays then have no values."""

    dtype: np.dtype[Any] | None = None

    def __init__(self, name: object, *_: object) -> None:
        if isinstance(name, str) and re.fullmatch(r"[<>=|]?(b1|[iu][1248]|f[248])", name, re.ASCII):
            self.dtype = np.dtype(name)

    def order(self, state: object) -> None:
        """Take the byte order from the state of a pickled dtype."""
        sign = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if sign not in ("<", ">", "=", "|"):
            raise InputError("has a NumPy dtype without a byte order")
        self.dtype = None if self.dtype is None else self.dtype.newbyteorder(sign)


NDARRAY = object()  # stands in for numpy.ndarray, which is only ever an argument


def reconstruct(kind: object, *_: object) -> Numbers:
    """Stands in for NumPy's function that makes an empty array."""
    if kind is not NDARRAY:
        raise InputError("asks for a kind of array that no piano roll needs")
    return Numbers()


def from_buffer(data: object, kind: object, shape: object, order: object = "C") -> Numbers:
    """Stands in for NumPy's function that makes an array of its bytes."""
    return fill(Numbers(), shape, kind, order == "F", data)


def scalar(kind: object, data: object) -> Any:
    """Stands in for NumPy's function that makes one number."""
    values = fill(Numbers(), (), kind, False, data).values
    return None if values is None else values.item()


def encode(text: object, encoding: object = "ascii") -> bytes:
    """Stands in for _codecs.encode, through which old pickles spell bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "ascii"):
        raise InputError("spells bytes in a way that no piano roll needs")
    return codecs.encode(text, encoding)


def fill(numbers: Numbers, shape: object, kind: object, fortran: object, data: object) -> Numbers:
    """The array with these bytes. Raises InputError where they are none, or not as many as the shape says."""
    if isinstance(kind, Kind) and kind.dtype is None:
        return numbers
    whole = isinstance(shape, tuple) and len(shape) <= 2 and all(is_size(size) for size in shape)
    dtype = kind.dtype if isinstance(kind, Kind) else None
    if not (whole and isinstance(shape, tuple) and dtype and isinstance(data, bytes | bytearray)):
        raise InputError("has a NumPy array of something else than numbers")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise InputError(f"has a NumPy array of {len(data):,} bytes whose shape is {shape}")
    numbers.values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran is True else "C")
    return numbers


def is_size(value: object) -> bool:
    """Whether it is a whole number that a side of a roll can have."""
    return type(value) is int and 0 <= value <= LONGEST_ROLL


FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {("_codecs", "encode"): encode, ("numpy", "dtype"): Kind}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    FUNCTIONS[f"{_core}.multiarray", "_reconstruct"] = reconstruct
    FUNCTIONS[f"{_core}.multiarray", "scalar"] = scalar
    FUNCTIONS[f"{_core}.numeric", "_frombuffer"] = from_buffer
NAMES: dict[tuple[str, str], Any] = FUNCTIONS | {
    ("scipy.sparse.coo", "coo_matrix"): Matrix,
    ("scipy.sparse._coo", "coo_matrix"): Matrix,
    ("numpy", "ndarray"): NDARRAY,
}


UNWANTED = (  # operations that no piano roll needs
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID),
    *(pickle.BINPERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EMPTY_SET, pickle.ADDITEMS),
    pickle.FROZENSET,
)


class Source:
    """Reads a file in parts of at most LARGEST_PART bytes, and LARGEST_FILE in all; tells a bar how far it is."""

    def __init__(self, file: IO[bytes], bar: Any) -> None:
        self._file, self._bar = file, bar
        self.at = 0  # bytes so far

    def read(self, size: int) -> bytes:
        """So many bytes, or those that are left. Raises InputError for too many."""
        if not 0 <= size <= LARGEST_PART:
            raise InputError(f"has a part of {size:,} bytes; the largest that is read has {LARGEST_PART:,}")
        return self._counted(self._file.read(size))

    def readline(self) -> bytes:
        """What stands before the next end of a line, with it."""
        return self._counted(self._file.readline(LARGEST_PART))

    def _counted(self, data: bytes) -> bytes:
        self.at += len(data)
        if self.at > LARGEST_FILE:
            raise InputError(f"is larger than {LARGEST_FILE:,} bytes once unpacked")
        self._bar.update(len(data))
        return data


class Memo(dict[int, Any]):
    """What a pickle may refer back to: only the entries that it does refer to are kept."""

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self._wanted = wanted
        self._count = 0

    def __setitem__(self, key: int, value: Any) -> None:
        self._count += 1
        if key in self._wanted:
            super().__setitem__(key, value)

    def __len__(self) -> int:
        return self._count  # the number of the next entry


class Unpickler(pickle._Unpickler):  # the one in Python: that in C has no memo that can forget
    """Builds lists, dicts, texts, numbers, NumPy arrays and COO matrices, and refuses all else.

    `convert` makes of each complete matrix what stays of it.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, source: Source, wanted: set[int], convert: Callable[[Matrix], Any]) -> None:
        super().__init__(source)
        self.memo = Memo(wanted)
        self.convert = convert
        self.source, self.cells, self.spelt = source, 0, 0

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a class or function that a pickle asks for by name."""
        if (module, name) not in NAMES:
            asked = f"{module}.{name}"
            raise InputError(f"asks for {asked!r:.80}, which no piano roll needs; do not trust this file")
        return NAMES[module, name]

    def load_reduce(self) -> None:
        """Call a function."""
        arguments, function = self.stack.pop(), self.stack[-1]
        if not isinstance(arguments, tuple) or not any(function is each for each in FUNCTIONS.values()):
            raise InputError("calls something that is no function of a piano roll")
        made = self.stack[-1] = function(*arguments)
        # A byte that is spelt takes one at least. A file that has fewer spells the same text again and again.
        self.spelt += len(made) if isinstance(made, bytes) else 0
        if self.spelt > self.source.at:
            raise InputError("spells more bytes than it has; do not trust this file")

    def load_newobj(self) -> None:
        """Make a matrix."""
        arguments, kind = self.stack.pop(), self.stack.pop()
        if kind is not Matrix or arguments != ():
            raise InputError("makes something that is no piano roll")
        self.append(Matrix())

    def load_build(self) -> None:
        """Give an object its state."""
        state, made = self.stack.pop(), self.stack[-1]
        if isinstance(made, Matrix):
            state = state[0] if isinstance(state, tuple) and len(state) == 2 else state
            if not isinstance(state, dict) or made.became is not None:
                raise InputError("has a COO matrix that does not have one state")
            made.state = {key: part.values if isinstance(part, Numbers) else part for key, part in state.items()}
            if isinstance(places := made.state.get("coords"), tuple):
                made.state["coords"] = tuple(part.values if isinstance(part, Numbers) else part for part in places)
            # A cell takes three bytes at least. A file that says less uses the same again and again.
            data = made.state.get("data")
            self.cells += data.size if isinstance(data, np.ndarray) else 0
            if self.cells > self.source.at:
                raise InputError("has more cells than bytes; do not trust this file")
            made.became = self.convert(made)
            made.state = None
        elif isinstance(made, Kind):
            made.order(state)
        elif isinstance(made, Numbers) and isinstance(state, tuple) and len(state) == 5:
            fill(made, *state[1:])
        else:
            raise InputError("gives a state to something that is no part of a piano roll")

    def load_setitem(self) -> None:
        """Put one value into a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        self.put(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        """Put values into a dict."""
        items = self.pop_mark()
        self.put(self.stack[-1], items)

    def load_dict(self) -> None:
        """Make a dict of values."""
        made: dict[str, Any] = {}
        self.put(made, self.pop_mark())
        self.append(made)

    def put(self, target: object, items: list[Any]) -> None:
        """Put keys and values, in turn, into a dict; keys are texts, as others can take for ever to hash."""
        if type(target) is not dict or not all(type(key) is str for key in items[::2]):
            raise InputError("has a dict whose keys are not texts")
        target.update(zip(items[::2], items[1::2], strict=True))

    def load_append(self) -> None:
        """Put one value at the end of a list."""
        value = self.stack.pop()
        self.extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        """Put values at the end of a list."""
        items = self.pop_mark()
        self.extend(self.stack[-1], items)

    def extend(self, target: object, items: list[Any]) -> None:
        """Put values at the end of a list."""
        if type(target) is not list:
            raise InputError("appends to something that is no list")
        target.extend(items)

    def refuse(self) -> None:
        """For what no piano roll needs."""
        raise InputError("does something that no piano roll needs; do not trust this file")

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
    }
    dispatch |= dict.fromkeys((code[0] for code in UNWANTED), refuse)


def load(path: Path, convert: Callable[[Matrix], Any]) -> list[Any]:
    """The list in a pickle. Raises InputError that names the file."""
    try:
        with opened(path) as (file, size), tqdm(total=size, desc="looking", unit="B", unit_scale=True) as bar:
            wanted = referred_to(Source(file, bar))
        with opened(path) as (file, size), tqdm(total=size, desc="reading rolls", unit="B", unit_scale=True) as bar:
            rolls = Unpickler(Source(file, bar), wanted, convert).load()
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path.name}: not a pickle of piano rolls: {' '.join(str(error).split())}") from None
    if not isinstance(rolls, list) or not rolls:
        raise InputError(
            f"{path.name}: must hold a list of piano rolls, not {type(rolls).__name__ if rolls else 'nothing'}"
        )
    return rolls


def referred_to(source: Source) -> set[int]:
    """The entries of a pickle's memo that it refers back to. Raises InputError where it has more than MOST_STEPS."""
    wanted = set()
    for number, (code, value, _) in enumerate(pickletools.genops(source)):  # type: ignore[arg-type]
        if number >= MOST_STEPS:
            raise InputError(f"takes more than {MOST_STEPS:,} steps to read; do not trust this file")
        if code.name in ("GET", "BINGET", "LONG_BINGET"):
            wanted.add(int(value or 0))
    return wanted


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """A pickle and its size; of a zip the one file in it, which is read where it is and never written to disk."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            file.seek(0)
            yield file, path.stat().st_size
            return
        with zipfile.ZipFile(file) as archive:
            inside = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(inside) != 1:
                raise InputError(f"is a zip of {len(inside)} files; it must hold one pickle")
            # Other ways of compression unpack without a limit.
            if inside[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError("is a zip that is compressed in an unusual way; unpack it first")
            if inside[0].file_size > LARGEST_FILE:
                raise InputError(f"is larger than {LARGEST_FILE:,} bytes once unpacked")
            with archive.open(inside[0]) as member:
                yield member, inside[0].file_size
