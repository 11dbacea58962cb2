"""Multitrack piano rolls in .npz files, as pypianoroll saves them and the Lakh Pianoroll Dataset has them.

A roll ``(frames, 128)`` is stored by columns: frames and values of the cells that are not 0, pitch after pitch. They
are taken as they are. pypianoroll itself would make SciPy lay out the whole roll, which writes outside its memory where
the numbers of a damaged file say so.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import DEFAULT_VELOCITY
from pianoai.sources import Piece, Refused, check_unpacked, keyboard
from pianoai.sources.rolls import MOST_CELLS, PITCHES, runs

FINEST = 960  # frames a beat
LONGEST_ROLL = 1 << 30  # frames
ANOTHER = "not a file of pypianoroll"


def read(name: str, path: Path) -> Piece | Refused:
    """The piece in a file, all tracks but drums together.

    A note lasts while cells of one pitch follow each other with the same velocity. Rolls of true and false have
    DEFAULT_VELOCITY.
    """
    try:
        check_unpacked(path)
        with np.load(path) as stored:
            rows, drums = notes(stored)
        found, outside = keyboard(rows)
    except (OSError, MemoryError):
        raise
    except InputError as error:
        return Refused(name, str(error))
    except Exception as error:  # NumPy and zipfile raise many kinds where a file is damaged
        return Refused(name, " ".join(f"{ANOTHER}: {type(error).__name__}: {error}".split()))
    return Piece(name, name, found, hashlib.sha256(path.read_bytes()).hexdigest(), drums + outside)


def notes(stored: Mapping[str, Any]) -> tuple[NDArray[np.int64], int]:
    """Rows for `keyboard` of all tracks, and how many notes drums have. Raises InputError for another file."""
    info = json.loads(stored["info.json"])
    per_beat = info.get("resolution", info.get("beat_resolution"))  # the second in files before 2020
    if type(per_beat) is not int or not 1 <= per_beat <= FINEST:
        raise InputError(f"has {per_beat!r:.40} frames a beat; from 1 to {FINEST} can be read")
    rows, drums = [np.empty((0, 4), np.int64)], 0
    for track in sorted(key for key in info if key.isdecimal()):
        parts = [stored[f"pianoroll_{track}_csc_{part}"] for part in ("data", "indices", "indptr", "shape")]
        found = runs(*cells(*parts), per_beat, changed=True)
        if info[track].get("is_drum"):
            drums += len(found)
        else:
            rows.append(found)
    return np.concatenate(rows), drums


def cells(
    data: NDArray[Any], frames: NDArray[Any], begins: NDArray[Any], shape: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Frame, pitch and velocity of the cells of a roll that are not 0, pitch by pitch in order of time.

    `data` (cells,) are values, `frames` (cells,) their places, `begins` (129,) which is the first of each pitch, and
    `shape` (2,) is frames and 128. Raises InputError where these contradict each other.
    """
    if any(part.dtype.kind not in "iu" or part.ndim != 1 for part in (frames, begins, shape)) or data.ndim != 1:
        raise InputError(f"{ANOTHER}: a roll is not stored as lists of whole numbers")
    if shape.shape != (2,) or shape[1] != PITCHES or not 0 <= shape[0] <= LONGEST_ROLL:
        raise InputError(f"has a roll of {shape.tolist()!s:.60}; rolls are frames x {PITCHES}")
    if data.dtype.kind not in "biuf" or len(data) > MOST_CELLS or len(frames) != len(data):
        raise InputError(f"has a roll of {len(data):,} cells of {data.dtype}, which cannot be read")
    frame, first = frames.astype(np.int64), begins.astype(np.int64)
    counts = np.diff(first)
    if first.shape != (PITCHES + 1,) or first[0] != 0 or first[-1] != len(data) or (counts < 0).any():
        raise InputError(f"{ANOTHER}: the pitches of a roll do not begin where they must")
    if len(frame) and (frame.min() < 0 or frame.max() >= shape[0]):
        raise InputError(f"{ANOTHER}: a roll has cells outside its {int(shape[0]):,} frames")
    velocity = np.full(len(data), float(DEFAULT_VELOCITY)) if data.dtype == np.bool_ else data.astype(np.float64)
    if not np.isfinite(velocity).all() or (velocity < 0).any():
        raise InputError("has velocities that are below 0 or no numbers")
    pitch = np.repeat(np.arange(PITCHES), counts)
    order = np.lexsort((frame, pitch))
    order = order[(data != 0)[order]]
    return frame[order], pitch[order], velocity[order]
