"""The source `folder`: a tree of music in files of several kinds."""

import errno
import hashlib
import os
import tempfile
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
FULL = (errno.ENOSPC, errno.EDQUOT)  # of disks
NO_MEMORY = "takes more memory than there is"
SEVERAL = ("pickle", "mat")  # kinds of files that hold several pieces


def read(config: DataConfig) -> Iterator[Piece | Refused]:
    """The music in the files below `config.folder`, by path; a piece is named by its path without the ending.

    A file that may hold several pieces keeps its ending and gives them a number each. A file with another ending does
    not count as a piece: how many there are is printed. Files and folders whose name begins with a dot are not looked
    at. Raises InputError when there is no music.
    """
    root = Path(config.folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.folder must name a folder of music")
    files = sorted(walk(root), key=lambda path: path.as_posix())
    music = [path for path in files if path.suffix.lower() in KINDS]
    if not music:
        raise InputError(f"{root}: no music ({' '.join(KINDS)}); put some there or change data.source")
    if len(music) < len(files):
        print(f"{root}: {len(files) - len(music)} files are not music by their ending and are left alone")
    tasks = [(name, (root / path).absolute(), config) for name, path in zip(names(music), music, strict=True)]
    for found in tqdm(spread(read_file, tasks, config.backend), total=len(tasks), desc="reading", unit="file"):
        yield from found


def walk(root: Path) -> Iterator[Path]:
    """The files below a folder, in order of folders; paths are from the folder on. A link to a file is a file.

    Raises InputError for a folder that cannot be read, and for a link to one: DVC does not look behind it, so what
    changes there would not run the stage again.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be read: {error.strerror}; allow it, or move it elsewhere"
        ) from None

    for folder, below, files in os.walk(root, onerror=refuse):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in below:
            if Path(folder, name).is_symlink():
                raise InputError(
                    f"{Path(folder, name)}: a link to a folder; copy what is there, or name that folder as data.folder"
                )
        yield from (Path(folder, name).relative_to(root) for name in files if not name.startswith("."))


def names(music: list[Path]) -> list[str]:
    """What the piece in each file is called, or the first part of it: no two alike, each ending kept that must be."""
    shared = Counter(path.with_suffix("") for path in music)
    whole = set(music)
    return [
        path.as_posix()
        if shared[short] > 1 or short in whole or KINDS[path.suffix.lower()] in SEVERAL
        else short.as_posix()
        for path, short in ((path, path.with_suffix("")) for path in music)
    ]


def read_file(name: str, path: Path, config: DataConfig) -> list[Piece | Refused]:
    """The pieces in one file; only the libraries that its kind needs are loaded."""
    if not name.isprintable():
        return [Refused(ascii(name), "its name has characters that cannot be printed; rename it")]
    try:
        found = list(read_kind(KINDS[path.suffix.lower()], name, path, config))
    except OSError as error:
        if error.errno in FULL:  # the file is not to blame
            raise InputError(f"{path}: {error.strerror}; pickled rolls wait in {tempfile.gettempdir()}") from None
        found = [Refused(name, f"cannot be read: {error.strerror or error}")]
    except MemoryError:
        found = [Refused(name, NO_MEMORY)]
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

    checksum, empty = hashlib.sha256(path.read_bytes()).hexdigest(), True
    for split in matfile.SPLITS:
        for number, roll in enumerate(matfile.read(path, split)):
            name = f"{split}-{number:04d}"
            notes = roll_to_notes(roll, per_beat)
            yield Piece(name, name, notes, checksum, 0) if len(notes) else Refused(name, "has no notes")
            empty = False
    if empty:
        raise InputError(f"{path}: holds no pieces")
