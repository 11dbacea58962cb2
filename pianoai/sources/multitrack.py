"""Multitrack piano rolls in .npz files, as pypianoroll saves them and the Lakh Pianoroll Dataset has them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pypianoroll
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import DEFAULT_VELOCITY
from pianoai.sources import Piece, Refused, check_unpacked, keyboard
from pianoai.sources.rolls import PITCHES, runs

FINEST = 960  # frames a beat
LONGEST_ROLL = 1_000_000  # frames, which take 128 MB
PARTS = ("data", "indices", "indptr", "shape")
SHAPE = "_csc_shape"


def read(name: str, path: Path) -> Piece | Refused:
    """The piece in a file, all tracks but drums together.

    A note lasts while cells of one pitch follow each other with the same velocity. Rolls of 0 and 1 have
    DEFAULT_VELOCITY.
    """
    try:
        check_unpacked(path)
        with np.load(path) as stored:
            for key in stored.files:
                if key.endswith(SHAPE):
                    check({part: stored[key.removesuffix(SHAPE) + f"_csc_{part}"] for part in PARTS})
        song = pypianoroll.load(path)
        per_beat = song.resolution
        if type(per_beat) is not int or not 1 <= per_beat <= FINEST:
            raise InputError(f"has {per_beat!r} frames a beat; from 1 to {FINEST} can be read")
        rows = [np.empty((0, 4), np.int64)]
        drums = 0
        for track in song.tracks:
            found = runs(*cells(track.pianoroll), per_beat, changed=True)
            if track.is_drum:
                drums += len(found)
            else:
                rows.append(found)
        notes, outside = keyboard(np.concatenate(rows))
    except OSError as error:
        return Refused(name, f"cannot be read: {error.strerror or error}")
    except InputError as error:
        return Refused(name, str(error))
    except Exception as error:  # a damaged file can raise anything
        return Refused(name, " ".join(f"not a file of pypianoroll: {type(error).__name__}: {error}".split()))
    return Piece(name, name, notes, hashlib.sha256(path.read_bytes()).hexdigest(), drums + outside)


def check(parts: dict[str, NDArray[Any]]) -> None:
    """Raises InputError or ValueError for a sparse roll that is not of 128 pitches, too long, or not consistent.

    SciPy itself would write outside the memory of a roll whose indices are.
    """
    shape = parts.pop("shape")
    if shape.shape != (2,) or shape[1] != PITCHES or not 0 <= shape[0] <= LONGEST_ROLL:
        raise InputError(f"has a roll of {shape.tolist()}; rolls are frames x {PITCHES}, at most {LONGEST_ROLL:,} long")
    csc_matrix(tuple(parts.values()), tuple(shape.tolist())).check_format(full_check=True)


def cells(
    roll: NDArray[np.uint8] | NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Frame, pitch and velocity of the cells that are not 0, pitch by pitch in order of time."""
    pitch, frame = np.nonzero(roll.T)
    values = roll[frame, pitch]
    velocity = np.full(len(frame), DEFAULT_VELOCITY) if roll.dtype == np.bool_ else values
    return frame.astype(np.int64), pitch.astype(np.int64), velocity.astype(np.float64)
