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
    package = {"zip_bytes": 13_450_000, "content_bytes": 45_000_000, "zip_sha256": "abc"}
    (tmp_path / "package.json").write_text(json.dumps(package))
    costs = {"window": {"seconds": 1.4, "peak_mb": 9.0}, "train@gan": {"seconds": 60.0, "peak_mb": 9.0}}
    (tmp_path / "timings.json").write_text(json.dumps(costs))
    lines = summary(tmp_path).splitlines()
    assert " ".join(lines[4].split()) == "wgan 2.000 2.125 2.250 2.375 2.500 2.625 2.75000 2.875 2.500 3,000"
    assert lines[6:] == [
        "Chosen: wgan: valid nll 2.000, the lowest",
        "  not gan: over 9 bytes",
        "lambda_pkg/function.zip: 13.4 MB, 45.0 MB unpacked",
        "Under Lambda's conditions: not measured: make verify",
        "Seconds by stage, when each last ran: window 1, train@gan 60; 61 in all",
    ]
    figures = {
        "zip_sha256": "abc",
        "measured_on": "this machine",
        "memory_mb": 128,
        "frames_per_beat": 4,
        "init_seconds": 0.456,
        "compose_32_beats_seconds": 2.34,
        "throttled_ms_per_frame": 17.6,
        "resident_mb": 44.4,
    }
    (tmp_path / "lambda.json").write_text(json.dumps(figures))
    assert summary(tmp_path).splitlines()[9] == (
        "In 128 MB with 7.2% of a CPU, on this machine: starts in 0.46 s, 32 beats in 2.3 s, 18 ms a frame of 125,"
        " 44 MB resident"
    )
    on_aws = {"measured_on": "AWS Lambda, python3.13", "init_seconds": None, "resident_mb": None}
    (tmp_path / "lambda.json").write_text(json.dumps(figures | on_aws))
    assert summary(tmp_path).splitlines()[9] == (
        "In 128 MB with 7.2% of a CPU, on AWS Lambda, python3.13: 32 beats in 2.3 s, 18 ms a frame of 125"
    )
    (tmp_path / "lambda.json").write_text(json.dumps(figures | {"zip_sha256": "other"}))
    assert summary(tmp_path).splitlines()[9] == "Under Lambda's conditions: measured on another zip: make verify"
    (tmp_path / "wgan.json").unlink()
    with pytest.raises(InputError, match=r"wgan.json: not found; run `make repro` first"):
        summary(tmp_path)
