"""The source `kaggle`: a data set of piano rolls, a pickled list of sparse matrices."""

import hashlib
import pickle
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import kagglehub
import numpy as np
import requests
from kagglehub.exceptions import BackendError, CredentialError, DataCorruptionError, NotFoundError
from numpy.typing import NDArray
from tqdm import tqdm

from pianoai.runtime.errors import InputError
from pianoai.sources import DataConfig, KaggleConfig, Piece, Refused, keyboard, to_ticks

PITCHES = 128  # columns of its rolls: all of MIDI
ADVICE = {
    401: "Kaggle does not accept the credentials; renew ~/.kaggle/kaggle.json or remove it for public data",
    403: "Kaggle does not allow it; accept the data set's terms there, and put a token in ~/.kaggle/kaggle.json",
    404: "Kaggle has no such data set, version or file; correct data.kaggle.handle and data.kaggle.file",
    429: "Kaggle has had too many requests from here; wait a while and run the stage again",
}


def read(config: DataConfig) -> Iterator[Piece | Refused]:
    """The pieces of the data set in their order, named by their number in it, from 0000 on.

    Raises InputError when the file cannot be had or is not a pickled list of rolls.
    """
    rolls = load(download(config.kaggle))
    for number, entry in enumerate(tqdm(rolls, desc="reading rolls", unit="roll")):
        yield read_roll(f"{number:04d}", entry, config.kaggle)


def download(config: KaggleConfig) -> Path:
    """The file, from kagglehub's cache or from Kaggle; raises InputError when neither has it."""
    what = f"data.kaggle: {config.handle}, {config.file}"
    try:
        return Path(kagglehub.dataset_download(config.handle, path=config.file))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        advice = ADVICE.get(status, "Kaggle is in trouble; run the stage again later")
        raise InputError(f"{what}: {advice} (HTTP {status})") from None
    except (requests.ConnectionError, requests.Timeout):
        raise InputError(f"{what}: no connection to Kaggle; or choose data.source=corpus") from None
    except DataCorruptionError:
        raise InputError(f"{what}: arrived damaged; run the stage again") from None
    except (BackendError, CredentialError, NotFoundError, OSError) as error:
        raise InputError(f"{what}: {' '.join(str(error).split())}") from None


class CooMatrix:
    """Stands in for scipy.sparse.coo_matrix, whose old module path SciPy 2 no longer has."""


def encode(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, through which old pickles spell bytes."""
    return text.encode("latin1" if encoding == "latin1" else "ascii")


ALLOWED: dict[tuple[str, str], Any] = {
    ("scipy.sparse.coo", "coo_matrix"): CooMatrix,
    ("scipy.sparse._coo", "coo_matrix"): CooMatrix,
    ("_codecs", "encode"): encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
    for _module, _name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer")):
        _function = getattr(import_module(f"numpy._core.{_module}"), _name)
        ALLOWED[f"{_core}.{_module}", _name] = _function


class RollUnpickler(pickle.Unpickler):
    """Unpickles lists, dicts, texts, numbers, NumPy arrays and COO matrices, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function that a pickle asks for by name."""
        if (module, name) not in ALLOWED:
            raise InputError(f"asks for {module}.{name}, which no piano roll needs; do not trust this file")
        return ALLOWED[module, name]


def load(path: Path) -> list[Any]:
    """The list in a pickle; raises InputError that names the file."""
    try:
        with path.open("rb") as file:
            rolls = RollUnpickler(file).load()
    except InputError as error:
        raise InputError(f"{path.name}: {error}") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path.name}: not a pickle of piano rolls: {' '.join(str(error).split())}") from None
    if not isinstance(rolls, list) or not rolls:
        raise InputError(f"{path.name}: must hold a list of piano rolls, not {type(rolls).__name__}")
    return rolls


def read_roll(name: str, entry: object, config: KaggleConfig) -> Piece | Refused:
    """One piece: ``entry["piece"]`` is a COO matrix ``(frames, 128)`` of velocities / `velocity_scale`.

    Cells in a row that are not 0 are one note, as loud as the first of them; a note that is struck again has a
    silent frame before it. Where tracks overlap on a pitch their cells were added up: what begins
    while the pitch already sounds cannot be told from a change of value, and belongs to the first note.
    """
    try:
        frames, pitches, values = cells(entry)
        notes, outside = keyboard(runs(frames, pitches, values, config))
    except InputError as error:
        return Refused(name, str(error))
    digest = hashlib.sha256()
    for array, kind in ((frames, "<i8"), (pitches, "<i8"), (values, "<f8")):
        digest.update(array.astype(kind).tobytes())
    return Piece(name, name, notes, digest.hexdigest(), outside)


def cells(entry: object) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Frame, pitch and value of the cells of a piece that are not 0, pitch by pitch in order of time.

    Raises InputError without naming the piece.
    """
    matrix = entry.get("piece") if isinstance(entry, dict) else None
    if not isinstance(matrix, CooMatrix):
        raise InputError('must be a dict whose "piece" is a COO matrix')
    state = vars(matrix)
    shape = state.get("_shape")
    places = state.get("coords", (state.get("row"), state.get("col")))
    arrays = [*places, state.get("data")] if isinstance(places, tuple) else []
    lengths = {array.shape if isinstance(array, np.ndarray) else None for array in arrays}
    if len(arrays) != 3 or len(lengths) != 1 or len(lengths.pop() or ()) != 1:
        raise InputError("its matrix must have as many rows and columns as data")
    row, column, values = arrays
    if row.dtype.kind not in "iu" or column.dtype.kind not in "iu" or values.dtype.kind not in "fiu":
        raise InputError("its matrix must have whole rows and columns, and numbers as data")
    if not (isinstance(shape, tuple) and [type(size) for size in shape] == [int, int] and shape[1] == PITCHES):
        raise InputError(f"its matrix must be frames x {PITCHES}, not {shape!r}")
    if not np.isfinite(values).all() or (values < 0).any():
        raise InputError("its values must be finite and not below 0")
    row, column = row.astype(np.int64), column.astype(np.int64)
    if ((row < 0) | (row >= shape[0]) | (column < 0) | (column >= PITCHES)).any():
        raise InputError("its matrix has cells outside its shape")
    # A cell that is there twice is the sum of both: so COO is defined.
    cell, which = np.unique(column * shape[0] + row, return_inverse=True)
    total = np.zeros(len(cell))
    np.add.at(total, which, values.astype(np.float64))
    if not (total > 0).any():
        raise InputError("has no notes")
    pitch, frame = np.divmod(cell[total > 0], shape[0])
    return frame, pitch, total[total > 0]


def runs(
    frames: NDArray[np.int64], pitches: NDArray[np.int64], values: NDArray[np.float64], config: KaggleConfig
) -> NDArray[np.int64]:
    """Rows for `keyboard` of cells in the order of `cells`."""
    begins = np.ones(len(frames), bool)
    begins[1:] = (np.diff(frames) != 1) | (np.diff(pitches) != 0)
    first = np.flatnonzero(begins)
    last = np.flatnonzero(np.append(begins[1:], True))
    velocity = np.floor(np.minimum(values[first] * config.velocity_scale, 127.0) + 0.5)
    return np.stack(
        [
            to_ticks(frames[first], config.frames_per_beat),
            to_ticks(frames[last] + 1, config.frames_per_beat),
            pitches[first],
            velocity.astype(np.int64),
        ],
        axis=1,
    )
