import json
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import data
from pianoai.runtime import midi as writer
from pianoai.sources import Piece, midi
from tests.imports import ROOT


def test_the_table_has_all_that_was_measured() -> None:
    grown = {"download": 4.2, "window": -1.0, "train": 20.0}
    results = {"files": 480, "seconds": 1.5, "ratio_pypianoroll": 30.4, "memory_growth_mb": grown, "worker_mb": 40.9}
    assert data.table(results).splitlines()[2:] == [
        "| 480 MIDI files to windows | 1.50 s |",
        "| pypianoroll takes | 30 times as long |",
        "| memory of `download`, for ten times the music | +4 MB |",
        "| memory of `window`, for ten times the music | -1 MB |",
        "| memory of `train`, for ten times the music | +20 MB |",
        "| of each process that helps `download`, one to a core | 41 MB |",
    ]


def test_the_readme_has_the_results() -> None:
    results = json.loads(data.RESULTS.read_text("utf-8"))
    assert f"\n\n{data.table(results)}\n\n" in (ROOT / "docs/data.md").read_text("utf-8")
    assert {"seconds", "ratio_pypianoroll", "memory_growth_mb", "worker_mb"} <= set(results)
    assert set(results["memory_growth_mb"]) == {"download", "window", "train"}


def test_copies_are_ten_pieces_of_other_music(chorales: list[Piece], tmp_path: Path) -> None:
    (tmp_path / "one.mid").write_bytes(writer.write(chorales[0].notes))
    data.copies([tmp_path / "one.mid"], tmp_path / "many")
    found = [midi.read(path.name, path.read_bytes(), False) for path in data.midi_files(tmp_path / "many")]
    assert len(found) == 10
    for piece in found:
        assert isinstance(piece, Piece)
        assert len(piece.notes) == pytest.approx(len(chorales[0].notes) * 12 / 13, abs=1)
    assert len({piece.notes.tobytes() for piece in found if isinstance(piece, Piece)}) == 10


def test_pypianoroll_makes_as_many_frames(chorales: list[Piece], tmp_path: Path) -> None:
    (tmp_path / "one.mid").write_bytes(writer.write(chorales[0].notes))
    last = int((chorales[0].notes["start"] + chorales[0].notes["duration"]).max())
    assert data.through_pypianoroll(tmp_path / "one.mid") == pytest.approx(np.ceil(last / 6), abs=4)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the benchmark reads /proc")
def test_the_memory_of_a_process_is_seen() -> None:
    before = data.anonymous(os.getpid())
    with mmap.mmap(
        -1, 50_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    ) as held:  # new pages, whatever the process has freed before
        held.write(b"1" * 50_000_000)
        assert data.anonymous(os.getpid()) - before >= 50
    assert data.anonymous(1 << 22) == 0.0
