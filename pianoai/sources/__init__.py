"""Where music comes from: every source yields pieces, or says which it refused and why."""

import importlib
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianoai.params import bounded
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import LOWEST_PITCH, NOTE, PITCHES, TICKS_PER_BEAT, Notes

LARGEST = 1 << 28  # bytes of a zip's files
LONGEST = 50_000  # beats; a damaged file can claim millions, and a roll of those fills the memory


@dataclass(frozen=True)
class Piece:
    """One piece of music."""

    name: str
    group: str  # pieces of one group are variants of each other: never on two sides of a split
    notes: Notes
    checksum: str  # sha256 of what it was read from
    left_out: int  # notes: pitch outside 21-108, drums, grace notes without a duration


@dataclass(frozen=True)
class Refused:
    """A piece that could not be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class KaggleConfig:
    """Section `data.kaggle` of params.yaml: a pickled list of piano rolls on Kaggle."""

    handle: str = bounded()  # owner/dataset/versions/N
    file: str = bounded()  # inside the dataset
    frames_per_beat: int = bounded(least=1, most=960)  # of its rolls
    velocity_scale: float = bounded(least=0.001, most=1000.0)  # MIDI velocity of a cell of 1.0
    seconds: float = bounded(least=1.0, most=86_400.0)  # that the download may take, with all attempts

    def __post_init__(self) -> None:
        """Check the two texts."""
        if not re.fullmatch(r"[\w-]+/[\w-]+/versions/[1-9]\d*", self.handle, re.ASCII):
            raise InputError(f"handle must be like owner/dataset/versions/1, not {self.handle!r}")
        if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", self.file, re.ASCII):
            raise InputError(f"file must be the path of a file inside the dataset, not {self.file!r}")


@dataclass(frozen=True)
class DataConfig:
    """Section `data` of params.yaml: which music to train on."""

    kaggle: KaggleConfig
    source: str = bounded(choices=("corpus", "folder", "kaggle"))
    folder: str = bounded()  # of music in files, for the source `folder`
    pedal: bool = bounded()  # whether notes in MIDI files sound on while the sustain pedal is down
    mat_frames_per_beat: int = bounded(least=1, most=TICKS_PER_BEAT)  # of rolls in benchmark files
    backend: str = bounded(choices=("loky", "ray", "dask"))  # what files are parsed on
    max_skipped: float = bounded(least=0.0, most=1.0)  # share of all pieces that may be refused

    def __post_init__(self) -> None:
        """Check what a bound cannot say."""
        if TICKS_PER_BEAT % self.mat_frames_per_beat:
            raise InputError(f"mat_frames_per_beat must divide {TICKS_PER_BEAT}: {self.mat_frames_per_beat}")


def pieces(config: DataConfig) -> Iterator[Piece | Refused]:
    """Everything the chosen source has, in a fixed order; raises InputError if it has nothing."""
    module = importlib.import_module(f"pianoai.sources.{config.source}")  # only its libraries load
    read: Iterator[Piece | Refused] = module.read(config)
    return read


def check_unpacked(path: Path) -> None:
    """Raises InputError when the files in a zip are too large to be unpacked in memory."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    # Other ways of compression unpack without a limit.
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise InputError("is a zip that is compressed in an unusual way; pack it again")
    size = sum(entry.file_size for entry in entries)
    if size > LARGEST:
        raise InputError(f"has {size:,} bytes once unpacked, more than {LARGEST:,}")


def to_ticks(times: NDArray[Any], per_beat: int) -> NDArray[np.int64]:
    """Times in units of `1 / per_beat` beat as ticks; halves go up."""
    ticks: NDArray[np.int64] = (2 * times.astype(np.int64) * TICKS_PER_BEAT + per_beat) // (2 * per_beat)
    return ticks


def keyboard(rows: NDArray[np.int64]) -> tuple[Notes, int]:
    """Notes as one pair of hands plays them, and how many were left out.

    `rows` is ``(notes, 4)``: start and end in ticks, pitch, velocity. A key is struck once at a time: of notes
    with equal start and pitch one stays, as long as the longest and as loud as the loudest. Every note
    lasts at least a tick. Left out are pitches outside 21-108. Raises InputError when nothing
    remains, or the music lasts more than LONGEST beats.
    """
    inside = (rows[:, 2] >= LOWEST_PITCH) & (rows[:, 2] < LOWEST_PITCH + PITCHES)
    left_out = int(np.count_nonzero(~inside))
    rows = rows[inside]
    if not len(rows):
        raise InputError("has no notes" if not left_out else "has no notes with pitches from 21 to 108")
    if rows[:, 0].min() < 0:
        raise InputError("has a note that starts before 0")
    beats = int(rows[:, 1].max()) // TICKS_PER_BEAT
    if beats > LONGEST:
        raise InputError(f"lasts {beats:,} beats, more than {LONGEST:,}")
    start, end, pitch, velocity = rows.T
    key = start * 128 + pitch
    if not (key[1:] > key[:-1]).all():
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
        start, pitch = start[order][first], pitch[order][first]
        end, velocity = (np.maximum.reduceat(column[order], first) for column in (end, velocity))
    notes = np.empty(len(start), NOTE)
    notes["start"], notes["pitch"] = start, pitch
    notes["duration"] = np.maximum(end - start, 1)
    notes["velocity"] = np.clip(velocity, 1, 127)
    return notes, left_out
