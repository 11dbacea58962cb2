"""Rolls from the polyphonic-music benchmark of 2012 (Boulanger-Lewandowski et al.) in MATLAB files."""

import struct
import zlib
from pathlib import Path

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import DEFAULT_VELOCITY, HELD, PITCHES, Roll

HEADER = 128  # bytes of a file of MATLAB 5
COMPRESSED = 15  # the kind of an element
LARGEST = 1 << 30  # bytes, once unpacked
PART = 1 << 20  # bytes that are unpacked at once
SPLITS = {"train": "traindata", "valid": "validdata", "test": "testdata"}


def read(path: Path, split: str) -> list[Roll]:
    """The rolls ``(frames, 88)`` of a split: train, valid or test.

    The files do not tell a repeated note from a held one: whatever sounds on is held, and a
    beginning is struck with DEFAULT_VELOCITY. So score them with ``restrikes=False``.

    Raises InputError for an unknown split, a file that is no such benchmark, or a missing SciPy.
    """
    if split not in SPLITS:
        raise InputError(f"{path}: no split '{split}'; there are {', '.join(SPLITS)}")
    try:
        from scipy.io import loadmat
    except ImportError:
        raise InputError(f"{path}: reading MATLAB files needs SciPy: pip install '.[mat]'") from None
    try:
        check_unpacked(path)
        content = loadmat(str(path), variable_names=[SPLITS[split]])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (InputError, MemoryError):
        raise
    except Exception as error:  # SciPy lets whatever a broken file causes through
        raise InputError(f"{path}: not a readable MATLAB file: {' '.join(str(error).split())}") from None
    if SPLITS[split] not in content:
        raise InputError(f"{path}: has no '{SPLITS[split]}'; not a benchmark of 88-key piano rolls")
    return [_roll(piece, f"{path}: {split}[{at}]") for at, piece in enumerate(content[SPLITS[split]].flat)]


def check_unpacked(path: Path) -> None:
    """Raises InputError where the elements of a MATLAB file have more than LARGEST bytes once unpacked."""
    unpacked = 0
    with path.open("rb") as file:
        file.seek(HEADER - 2)
        order = "<" if file.read(2) == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            if kind != COMPRESSED:
                file.seek(size, 1)
                continue
            decompressor, left = zlib.decompressobj(), size
            while not decompressor.eof and unpacked <= LARGEST:
                data = decompressor.unconsumed_tail
                if not data:
                    data = file.read(min(left, PART))
                    left -= len(data)
                    if not data:
                        break
                unpacked += len(decompressor.decompress(data, PART))
            file.seek(left, 1)
            if unpacked > LARGEST:
                raise InputError(f"{path}: has more than {LARGEST:,} bytes once unpacked; do not trust this file")


def _roll(piece: object, name: str) -> Roll:
    cells = np.asarray(piece)
    if cells.ndim != 2 or cells.shape[1] != PITCHES or not ((cells == 0) | (cells == 1)).all():
        raise InputError(f"{name} must be a (frames, {PITCHES}) array of 0 and 1")
    sounds = cells.astype(bool)
    before = np.vstack([np.zeros((1, PITCHES), bool), sounds[:-1]])
    # With whole numbers of Python it would be eight bytes a cell.
    roll: Roll = np.where(before, np.uint8(HELD), np.uint8(DEFAULT_VELOCITY)) * sounds
    return roll
