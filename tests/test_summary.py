import json
import subprocess
from pathlib import Path

import pytest

from pianoai.runtime.errors import InputError
from pianoai.summary import summary
from tests.imports import ROOT


def test_the_readme_shows_what_make_metrics_prints(tmp_path: Path) -> None:
    """With the committed metrics: those in the folder may be of another run."""
    for path in (ROOT / "metrics").glob("*.json"):
        show = ["git", "show", f"HEAD:metrics/{path.name}"]
        committed = subprocess.run(show, cwd=ROOT, capture_output=True, check=True)
        (tmp_path / path.name).write_bytes(committed.stdout)
    assert summary(tmp_path) in (ROOT / "README.md").read_text("utf-8")


def test_the_table_is_made_of_the_metrics(tmp_path: Path) -> None:
    keys = ("nll", "nll_changed", "skill", "f1", "onset_f1", "average_precision", "mse", "cosine")
    for at, name in enumerate(("copy", "gan", "wgan", "transformer")):
        valid = {key: at + column / 8 for column, key in enumerate(keys)}
        blocks = {"valid": valid, "test": {"nll": at + 0.5}, "complexity": {"parameters": 1000 * (at + 1)}}
        (tmp_path / f"{name}.json").write_text(json.dumps(blocks))
    chosen = {"winner": "wgan", "reason": "valid nll 2.000, the lowest", "failed": {"gan": "over 9 bytes", "wgan": ""}}
    (tmp_path / "selection.json").write_text(json.dumps(chosen))
    (tmp_path / "package.json").write_text(json.dumps({"zip_bytes": 13_450_000, "content_bytes": 45_000_000}))
    costs = {"window": {"seconds": 1.4, "peak_mb": 9.0}, "train@gan": {"seconds": 60.0, "peak_mb": 9.0}}
    (tmp_path / "timings.json").write_text(json.dumps(costs))
    lines = summary(tmp_path).splitlines()
    assert " ".join(lines[4].split()) == "wgan 2.000 2.125 2.250 2.375 2.500 2.625 2.75000 2.875 2.500 3,000"
    assert lines[6:] == [
        "Chosen: wgan: valid nll 2.000, the lowest",
        "  not gan: over 9 bytes",
        "lambda_pkg/function.zip: 13.4 MB, 45.0 MB unpacked",
        "Seconds by stage, when each last ran: window 1, train@gan 60; 61 in all",
    ]
    (tmp_path / "wgan.json").unlink()
    with pytest.raises(InputError, match=r"wgan.json: not found; run `make repro` first"):
        summary(tmp_path)
