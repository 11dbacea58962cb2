import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_damaged_files_of_every_kind_are_read_or_refused(tmp_path: Path) -> None:
    """In a process of its own, as a parser that is not in Python could take it along."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz_sources", "15", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = {line.rsplit(" ", 1)[0]: int(line.rsplit(" ", 1)[1]) for line in done.stdout.splitlines()[1:]}
    for ending in (".mid", ".musicxml", ".mxl", ".krn", ".npz", ".pk", ".mat"):
        assert counts[f"{ending} Refused"] > 0
    assert sum(count for what, count in counts.items() if what.endswith("Piece")) > 0
    assert not (tmp_path / "fuzz").exists()
