"""Piano rolls of 128 pitches: pickled lists of sparse matrices, as on Kaggle, and how cells become notes."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianoai.growing import growing
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import NOTE
from pianoai.sources import KaggleConfig, Piece, Refused, keyboard, to_ticks
from pianoai.sources.unpickling import Matrix, is_size, load

PITCHES = 128  # all of MIDI
MOST_CELLS = 1 << 24  # of a piece


def read(path: Path, config: KaggleConfig) -> Iterator[Piece | Refused]:
    """The pieces in a pickle, or in a zip of one, in their order, named by their number in it, from 0000 on.

    A pickle can only be read as a whole, so the notes wait in a temporary file. Raises InputError that names the file
    when it is not a pickled list of rolls.
    """
    with path.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        waiting = Path(folder, "notes.npy")
        with growing(waiting, NOTE) as notes:

            def convert(matrix: Matrix) -> tuple[int, int, int] | str:
                found = to_notes(matrix, config)
                if isinstance(found, str):
                    return found
                first = notes.length
                notes.append(found[0])
                return first, notes.length, found[1]

            entries = load(path, convert)
        stored = np.load(waiting, mmap_mode="r" if notes.length else None)
        for number, entry in enumerate(entries):
            name = f"{number:04d}"
            matrix = entry.get("piece") if isinstance(entry, dict) else None
            if not isinstance(matrix, Matrix):
                yield Refused(name, 'must be a dict whose "piece" is a COO matrix')
            elif not isinstance(matrix.became, tuple):
                yield Refused(name, matrix.became or "its matrix has no content")
            else:
                first, end, left_out = matrix.became
                yield Piece(name, name, np.array(stored[first:end]), checksum, left_out)
                matrix.became = f"is the same matrix as entry {name}"


def to_notes(matrix: Matrix, config: KaggleConfig) -> tuple[Any, int] | str:
    """The notes of a COO matrix ``(frames, 128)`` of velocities / `velocity_scale`, and how many were left out.

    Cells in a row that are not 0 are one note, as loud as the first of them; a note that is struck again has a
    silent frame before it. Where tracks overlap on a pitch their cells were added up: what begins
    while the pitch already sounds cannot be told from a change of value, and belongs to the first note.
    For a matrix that is no piano roll the reason instead.
    """
    try:
        frames, pitches, values = cells(matrix)
        return keyboard(runs(frames, pitches, values * config.velocity_scale, config.frames_per_beat))
    except InputError as error:
        return str(error)


def cells(matrix: Matrix) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Frame, pitch and value of the cells of a piece that are not 0, pitch by pitch in order of time.

    Raises InputError without naming the piece.
    """
    state = matrix.state or {}
    shape = state.get("_shape")
    places = state.get("coords", (state.get("row"), state.get("col")))
    arrays = [*places, state.get("data")] if isinstance(places, tuple) else []
    if len(arrays) != 3 or not all(isinstance(array, np.ndarray) for array in arrays):
        raise InputError("its matrix must have whole rows and columns, and numbers as data")
    row, column, values = arrays
    if row.ndim != 1 or not row.shape == column.shape == values.shape:
        raise InputError("its matrix must have as many rows and columns as data")
    if row.dtype.kind not in "iu" or column.dtype.kind not in "iu" or values.dtype.kind not in "fiu":
        raise InputError("its matrix must have whole rows and columns, and numbers as data")
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(is_size(size) for size in shape)):
        raise InputError(f"its matrix must be frames x {PITCHES}")
    if shape[1] != PITCHES:
        raise InputError(f"its matrix must be frames x {PITCHES}, not {shape}")
    if values.size > MOST_CELLS:
        raise InputError(f"its matrix has {values.size:,} cells, more than {MOST_CELLS:,}")
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
    frames: NDArray[np.int64],
    pitches: NDArray[np.int64],
    velocities: NDArray[np.float64],
    per_beat: int,
    changed: bool = False,
) -> NDArray[np.int64]:
    """Rows for `keyboard` of cells in the order of `cells`: such that follow each other on a pitch are one note.

    With `changed`, a cell of another velocity than the one before it begins a new note.
    """
    begins = np.ones(len(frames), bool)
    begins[1:] = (np.diff(frames) != 1) | (np.diff(pitches) != 0)
    if changed:
        begins[1:] |= np.diff(velocities) != 0
    first = np.flatnonzero(begins)
    last = np.flatnonzero(np.append(begins[1:], True))
    velocity = np.floor(np.minimum(velocities[first], 127.0) + 0.5)
    return np.stack(
        [
            to_ticks(frames[first], per_beat),
            to_ticks(frames[last] + 1, per_beat),
            pitches[first],
            velocity.astype(np.int64),
        ],
        axis=1,
    )
