"""Damaged music of every kind for the source `folder`: python -m tests.fuzz_sources SECONDS [SEED].

Whatever a file holds, it is read or refused with a line, within MOST_SECONDS and MOST_BYTES. Files are whole ones with
bytes changed, cut out, doubled, or taken from another. The one at hand is kept as fuzz/input.*, so that it can be read
again where a parser takes the whole process with it.
"""

import io
import random
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FrameType

from pianoai.sources import Piece
from pianoai.sources.folder import NO_MEMORY, read_file
from tests.test_folder import config

MOST_SECONDS = 20
MOST_BYTES = 6 << 30  # of address space
EXTREMES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"99999999", b"-1", b"")


def mutate(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The data with one to three small or large changes; of a zip mostly one of the files in it, packed again."""
    if data[:2] == b"PK" and chance.random() < 0.8:
        return repacked(data, others, chance)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        length = chance.choice((1, 1, 2, 4, 8, 64))
        change = chance.randrange(6)
        if change == 0:  # bytes by chance
            data = data[:at] + chance.randbytes(length) + data[at + length :]
        elif change == 1:  # a bit
            data = data[:at] + bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]
        elif change == 2:
            extreme = chance.choice(EXTREMES)
            data = data[:at] + extreme + data[at + len(extreme) :]
        elif change == 3:  # cut out
            data = data[:at] + data[at + chance.randrange(200) :]
        elif change == 4:  # doubled
            data = data[:at] + data[at : at + length * 8] * chance.randint(1, 9) + data[at:]
        else:
            other = chance.choice(others)
            begin = chance.randrange(len(other) + 1)
            data = data[:at] + other[begin : begin + length * 8] + data[at:]
    return data


def repacked(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A zip in which one file was changed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(packed, "w") as after:
        names = before.namelist()
        changed = chance.choice(names)
        for name in names:
            content = before.read(name)
            after.writestr(name, mutate(content, others, chance) if name == changed else content)
    return packed.getvalue()


def fuzz(whole: dict[str, list[bytes]], folder: Path, seconds: float, seed: int) -> Counter[str]:
    """Read damaged files of each ending for so long; how many were read, and how many refused, by ending.

    Raises what a parser raises, and TooLong.
    """
    chance, counts = random.Random(seed), Counter[str]()
    settings = config(folder)
    everything = [data for examples in whole.values() for data in examples]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ending = chance.choice(sorted(whole))
        path = folder / f"input{ending}"
        path.write_bytes(mutate(chance.choice(whole[ending]), everything, chance))
        signal.alarm(MOST_SECONDS)
        found = read_file("input", path, replace(settings, pedal=chance.random() < 0.5))
        signal.alarm(0)
        for piece in found:
            assert isinstance(piece, Piece) or (piece.reason and "\n" not in piece.reason), piece
            assert isinstance(piece, Piece) or piece.reason != NO_MEMORY
            if isinstance(piece, Piece):
                assert len(piece.notes)
                assert (piece.notes["duration"] > 0).all()
            counts[f"{ending} {type(piece).__name__}"] += 1
        path.unlink()
    return counts


def examples(folder: Path) -> dict[str, list[bytes]]:
    """Whole files of each ending."""
    import pickle

    import numpy as np
    import pypianoroll
    from music21 import corpus
    from scipy.io import savemat
    from scipy.sparse import coo_matrix

    from pianoai.runtime import midi
    from pianoai.runtime.roll import notes_to_roll
    from tests.test_midi_files import SUSTAINED, TEMPO, off, on, song, track

    score = corpus.parse("bach/bwv269").measures(0, 3)
    score.write("musicxml", folder / "a.musicxml")
    score.write("mxl", folder / "b.mxl")
    kern = Path(str(corpus.getWork("chopin/mazurka06-2"))).read_bytes()
    (piece,) = read_file("a", folder / "a.musicxml", config(folder))
    assert isinstance(piece, Piece), piece
    roll = np.pad(notes_to_roll(piece.notes, 24), ((0, 0), (21, 19)))
    tracks = [pypianoroll.StandardTrack("a", 0, False, roll), pypianoroll.BinaryTrack("b", 9, True, roll > 0)]
    pypianoroll.Multitrack(name="x", resolution=24, tracks=tracks).save(folder / "a.npz")
    pypianoroll.Multitrack(name="x", resolution=24, tracks=tracks).save(folder / "b.npz", compressed=False)
    rolls = np.empty((1, 1), object)
    rolls[0, 0] = (notes_to_roll(piece.notes, 2) > 0).astype(np.uint8)
    splits = {"traindata": rolls, "validdata": rolls, "testdata": rolls}
    savemat(folder / "a.mat", splits)
    savemat(folder / "b.mat", splits, do_compression=True)
    matrix = [{"piece": coo_matrix(roll / 127.0)}]
    return {
        ".mid": [
            midi.write(piece.notes),
            song(track(*SUSTAINED), track((0, on(36, 80, 9)), (9, TEMPO), (0, off(36, 9)))),
            song(track((0, on(60)), (100, off(60))), track((0, on(62)), (96, off(62))), kind=2),
        ],
        ".musicxml": [(folder / "a.musicxml").read_bytes()],
        ".mxl": [(folder / "b.mxl").read_bytes()],
        ".krn": [kern[:3000]],
        ".npz": [(folder / "a.npz").read_bytes(), (folder / "b.npz").read_bytes()],
        ".pk": [pickle.dumps(matrix), pickle.dumps(matrix, 2)],
        ".mat": [(folder / "a.mat").read_bytes(), (folder / "b.mat").read_bytes()],
    }


class TooLong(BaseException):
    """A file is not read in time; no Exception, since parsers' callers catch those."""


def too_long(signal: int, frame: FrameType | None) -> None:
    """Raises TooLong."""
    raise TooLong(f"not read within {MOST_SECONDS} s")


def main(arguments: list[str]) -> int:
    """Fuzz and print what came out; 1 where a parser failed, with the input's path."""
    seconds, seed = float(arguments[0]), int(arguments[1]) if len(arguments) > 1 else time.time_ns()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    signal.signal(signal.SIGALRM, too_long)
    kept = Path("fuzz")
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        whole = examples(Path(folder))
    print(f"seed {seed}", flush=True)
    counts = fuzz(whole, kept, seconds, seed)
    for what, count in sorted(counts.items()):
        print(f"{what} {count:,}")
    kept.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
