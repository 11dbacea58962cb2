import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pianoai.sources import midi
from tests import fuzz_sources

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_damaged_files_of_every_kind_are_read_or_refused(tmp_path: Path) -> None:
    """In a process of its own, as a parser that is not in Python could take it along."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz_sources", "15", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=300
    )  # what hangs in C hears no alarm
    assert done.returncode == 0, done.stderr[-2000:]
    counts = {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in done.stdout.splitlines()[1:]}
    for ending in (".mid", ".musicxml", ".mxl", ".krn", ".npz", ".pk", ".mat"):
        assert counts[f"{ending} Refused"] > 0
    assert sum(count for what, count in counts.items() if what.endswith("Piece")) > 0
    assert not (tmp_path / "fuzz").exists()


def test_a_parser_that_hangs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(name: str, data: bytes, pedal: bool) -> None:
        while True:
            pass

    monkeypatch.setattr(midi, "read", hang)
    monkeypatch.setattr(fuzz_sources, "MOST_SECONDS", 1)
    before = signal.signal(signal.SIGALRM, fuzz_sources.too_long)
    try:
        with pytest.raises(fuzz_sources.TooLong):
            fuzz_sources.fuzz({".mid": [b"MThd"]}, tmp_path, 5.0, 1)
    finally:
        signal.signal(signal.SIGALRM, before)
