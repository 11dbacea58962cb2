"""What every stage goes through: pinning, one line for bad input, the record of its cost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pianoai import stage
from pianoai.determinism import DeterminismConfig, pin
from pianoai.runtime.errors import InputError
from tests.imports import ROOT


def test_bad_input_is_one_line_and_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def main() -> None:
        raise InputError("params.yaml: model.heads must be a whole number, not 'two'")

    with pytest.raises(SystemExit) as caught:
        stage.run(main, "train@transformer")
    assert caught.value.code == "error: params.yaml: model.heads must be a whole number, not 'two'"
    assert not (tmp_path / "metrics").exists()


def test_costs_are_kept_beside_those_of_other_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage.record("window", {"seconds": 1.5, "peak_mb": 20.0})
    stage.run(lambda: None, "select")
    costs = json.loads((tmp_path / "metrics/timings.json").read_text())
    assert costs["window"] == {"seconds": 1.5, "peak_mb": 20.0}
    assert 0 <= costs["select"]["seconds"] < 5
    assert costs["select"]["peak_mb"] > 20  # megabytes, not kilobytes or bytes
    assert costs["select"]["peak_mb"] < 20_000


def test_json_is_written_the_same_way_every_time(tmp_path: Path) -> None:
    stage.write_json(tmp_path / "a/b.json", {"b": 1, "a": {"d": 0.5, "c": "x"}})
    assert (tmp_path / "a/b.json").read_text() == '{\n  "a": {\n    "c": "x",\n    "d": 0.5\n  },\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        stage.write_json(tmp_path / "c.json", {"nll": float("nan")})


def test_pinning_reaches_torch(tmp_path: Path) -> None:
    code = (
        "from pianoai.determinism import DeterminismConfig, pin\n"
        "pin(DeterminismConfig(threads=1, instruction_set='default'))\n"
        "import torch\n"
        "print(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())\n"
    )
    clean = {key: value for key, value in os.environ.items() if "THREADS" not in key and "ATEN" not in key}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    threads, capability = done.stdout.split()
    assert threads == "1"
    assert capability in ("DEFAULT", "NO") or sys.platform == "darwin"


def test_pinning_too_late_is_an_error() -> None:
    pin(DeterminismConfig(threads=2, instruction_set="avx2"))  # as conftest.py did: nothing changes
    with pytest.raises(RuntimeError, match="came after torch was imported: OMP_NUM_THREADS"):
        pin(DeterminismConfig(threads=3, instruction_set="avx2"))
