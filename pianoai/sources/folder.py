"""The source `folder`: a tree of music in files of several kinds."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pianoai.runtime.errors import InputError
from pianoai.sources import DataConfig, Piece, Refused
from pianoai.sources.workers import spread

KINDS = {  # by ending, in either case
    ".mid": "midi",
    ".midi": "midi",
    ".smf": "midi",
    ".mxl": "score",
    ".xml": "score",
    ".musicxml": "score",
    ".krn": "score",
    ".npz": "multitrack",
    ".pk": "pickle",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".mat": "mat",
}


def read(config: DataConfig) -> Iterator[Piece | Refused]:
    """The music in the files below `config.folder`, by path; a piece is named by its path without the ending.

    A file of several pieces gives them a number each. A file with another ending does not count as a piece: how many
    there are is printed. Files and folders whose name begins with a dot are not looked at. Raises InputError when
    there is no music.
    """
    root = Path(config.folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.folder must name a folder of music")
    files = sorted(
        (path.relative_to(root) for path in root.rglob("*") if path.is_file()), key=lambda path: path.as_posix()
    )
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    music = [path for path in files if path.suffix.lower() in KINDS]
    if not music:
        raise InputError(f"{root}: no music ({' '.join(KINDS)}); put some there or change data.source")
    if len(music) < len(files):
        print(f"{root}: {len(files) - len(music)} files are not music by their ending and are left alone")
    shared = Counter(path.with_suffix("") for path in music)
    # a.mid beside a.midi: both keep their ending.
    names = [(path if shared[path.with_suffix("")] > 1 else path.with_suffix("")).as_posix() for path in music]
    tasks = [(name, (root / path).resolve(), config) for name, path in zip(names, music, strict=True)]
    for found in tqdm(spread(read_file, tasks, config.backend), total=len(tasks), desc="reading", unit="file"):
        yield from found


def read_file(name: str, path: Path, config: DataConfig) -> list[Piece | Refused]:
    """The pieces in one file; only the libraries that its kind needs are loaded."""
    try:
        found = list(read_kind(KINDS[path.suffix.lower()], name, path, config))
    except OSError as error:
        return [Refused(name, f"cannot be read: {error.strerror}")]
    except InputError as error:
        found = [Refused(name, str(error))]
    # What is refused is an output of the pipeline, and must not hang on where a folder is.
    return [
        piece if isinstance(piece, Piece) else replace(piece, reason=piece.reason.replace(str(path), path.name))
        for piece in found
    ]


def read_kind(kind: str, name: str, path: Path, config: DataConfig) -> Iterator[Piece | Refused]:
    """The pieces in a file of some kind. Raises InputError or OSError where that is not what it holds."""
    if kind == "midi":
        from pianoai.sources import midi

        yield midi.read(name, path.read_bytes(), config.pedal)
    elif kind == "score":
        from pianoai.sources import scores

        yield scores.read(name, path, name)
    elif kind == "multitrack":
        from pianoai.sources import multitrack

        yield multitrack.read(name, path)
    elif kind == "pickle":
        from pianoai.sources import rolls

        yield from (below(name, piece) for piece in rolls.read(path, config.kaggle))
    else:
        yield from (below(name, piece) for piece in read_mat(path, config.mat_frames_per_beat))


def below(name: str, piece: Piece | Refused) -> Piece | Refused:
    """One of several pieces of a file."""
    called = f"{name}/{piece.name}"
    return replace(piece, name=called, group=called) if isinstance(piece, Piece) else replace(piece, name=called)


def read_mat(path: Path, per_beat: int) -> Iterator[Piece | Refused]:
    """The pieces of all three splits of a benchmark file; they are split anew with all others.

    Raises InputError for another file.
    """
    from pianoai import matfile
    from pianoai.runtime.roll import roll_to_notes

    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    for split in matfile.SPLITS:
        for number, roll in enumerate(matfile.read(path, split)):
            name = f"{split}-{number:04d}"
            notes = roll_to_notes(roll, per_beat)
            yield Piece(name, name, notes, checksum, 0) if len(notes) else Refused(name, "has no notes")
