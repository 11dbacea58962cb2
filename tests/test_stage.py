"""What every stage goes through: one line for bad input, its cost; test_determinism.py has pinning."""

import json
import shutil
from pathlib import Path

import pytest

from pianoai import determinism, stage
from pianoai.runtime.errors import InputError
from tests.imports import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a stage runs without starting pytest anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(determinism, "begin", lambda config: None)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    return tmp_path


def test_bad_input_is_one_line_and_exit_code_1(folder: Path) -> None:

    def main() -> None:
        raise InputError("params.yaml: model.heads must be a whole number, not 'two'")

    with pytest.raises(SystemExit) as caught:
        stage.run(main, "train@transformer")
    assert caught.value.code == "error: params.yaml: model.heads must be a whole number, not 'two'"
    assert not (folder / "metrics").exists()


def test_costs_are_kept_beside_those_of_other_stages(folder: Path) -> None:
    stage.record("window", {"seconds": 1.5, "peak_mb": 20.0})
    stage.run(lambda: None, "select")
    costs = json.loads((folder / "metrics/timings.json").read_text())
    assert costs["window"] == {"seconds": 1.5, "peak_mb": 20.0}
    assert 0 <= costs["select"]["seconds"] < 5
    assert costs["select"]["peak_mb"] > 20  # megabytes, not kilobytes or bytes
    assert costs["select"]["peak_mb"] < 20_000


def test_json_is_written_the_same_way_every_time(tmp_path: Path) -> None:
    stage.write_json(tmp_path / "a/b.json", {"b": 1, "a": {"d": 0.5, "c": "x"}})
    assert (tmp_path / "a/b.json").read_text() == '{\n  "a": {\n    "c": "x",\n    "d": 0.5\n  },\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        stage.write_json(tmp_path / "c.json", {"nll": float("nan")})
