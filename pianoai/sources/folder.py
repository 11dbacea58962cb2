"""The source `folder`: a tree of MIDI files."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from symusic import Score
from tqdm import tqdm

from pianoai.runtime.errors import InputError
from pianoai.sources import DataConfig, Piece, Refused, keyboard, to_ticks

ENDINGS = (".mid", ".midi", ".smf")  # in either case


def read(config: DataConfig) -> Iterator[Piece | Refused]:
    """The MIDI files below `config.folder`, by path; a piece is named by its path without the ending.

    A file with another ending does not count as a piece: how many there are is printed. Files and folders
    whose name begins with a dot are not looked at. Raises InputError when there is no MIDI file.
    """
    root = Path(config.folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.folder must name a folder of MIDI files")
    files = sorted(
        (path.relative_to(root) for path in root.rglob("*") if path.is_file()), key=lambda path: path.as_posix()
    )
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    midi = [path for path in files if path.suffix.lower() in ENDINGS]
    if not midi:
        raise InputError(f"{root}: no MIDI files ({' '.join(ENDINGS)}); put some there or change data.source")
    if len(midi) < len(files):
        print(f"{root}: {len(files) - len(midi)} files are not MIDI by their ending and are left alone")
    shared = Counter(path.with_suffix("") for path in midi)
    for path in tqdm(midi, desc="reading MIDI files", unit="file"):
        # a.mid beside a.midi: both keep their ending.
        name = path if shared[path.with_suffix("")] > 1 else path.with_suffix("")
        yield read_midi(name.as_posix(), root / path)


def read_midi(name: str, path: Path) -> Piece | Refused:
    """One MIDI file: all tracks together, without drums."""
    try:
        data = path.read_bytes()
        score = Score.from_midi(data)
    except OSError as error:
        return Refused(name, f"cannot be read: {error.strerror}")
    except RuntimeError as error:  # symusic has no exception class of its own
        return Refused(name, " ".join(f"not a MIDI file, or a damaged one: {error}".split()))
    per_beat = score.ticks_per_quarter
    if per_beat < 1:
        return Refused(name, f"not a MIDI file, or a damaged one: {per_beat} ticks a quarter note")
    tracks = [track.notes.numpy() for track in score.tracks if not track.is_drum]
    drums = sum(len(track.notes) for track in score.tracks if track.is_drum)
    rows = np.concatenate(
        [
            np.stack(
                [
                    to_ticks(track["time"], per_beat),
                    to_ticks(track["time"].astype(np.int64) + track["duration"], per_beat),
                    track["pitch"].astype(np.int64),
                    track["velocity"].astype(np.int64),
                ],
                axis=1,
            )
            for track in tracks
        ]
        or [np.empty((0, 4), np.int64)]
    )
    try:
        notes, outside = keyboard(rows)
    except InputError as error:
        return Refused(name, f"{error}; {drums} notes of drums are left out" if drums else str(error))
    return Piece(name, name, notes, hashlib.sha256(data).hexdigest(), drums + outside)
