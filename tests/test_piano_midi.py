"""The benchmark's own arithmetic, against the runtime's scores; a tiny model on a file made by hand."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from benchmarks import piano_midi
from pianoai import export, matfile, params
from pianoai.metrics.likelihood import Calibration, Thresholds
from pianoai.models.transformer import Config
from pianoai.runtime import model as runtime
from pianoai.runtime import scoring
from pianoai.training import train
from pianoai.windows import SPLITS, WindowConfig

TINY = Config(24, 2, 1, 32, "nade", 8, 3, 0.0, 0.01)


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    chance = np.random.default_rng(1)
    pieces = {}
    for name, lengths in (("traindata", (70, 300)), ("validdata", (40, 1)), ("testdata", (55,))):
        cells = np.empty((1, len(lengths)), object)
        for at, length in enumerate(lengths):
            cells[0, at] = (chance.random((length, 88)) < 0.04).astype(np.float64)
        pieces[name] = cells
    savemat(tmp_path / "Piano_midi.mat", pieces)
    return tmp_path / "Piano_midi.mat"


def test_every_frame_of_a_training_piece_but_the_first_is_in_a_segment(mat: Path) -> None:
    splits = {split: matfile.read(mat, split) for split in SPLITS}
    settings = piano_midi.Settings(epochs=1, dropout=0, transpose=0, learning_rate=0.01, segment=100, hop=60)
    windows = piano_midi.arrange(splits, WindowConfig(16, 64, 64), settings)
    assert windows.starts["train"].tolist() == [0, 70, 130, 190, 250, 310]
    assert windows.lengths["train"].tolist() == [70, 101, 101, 101, 101, 60]
    assert (windows.starts["valid"].tolist(), windows.lengths["valid"].tolist()) == ([370], [40])  # one frame is none
    assert (windows.starts["test"].tolist(), windows.lengths["test"].tolist()) == ([411], [55])
    assert (windows.frames[411:] == splits["test"][0]).all()


def test_the_score_is_that_of_the_runtime(
    mat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[Any] = []

    def keep(*given: Any) -> Any:
        kept.append(train(*given))
        return kept[-1]

    read = params.read
    monkeypatch.setattr(piano_midi, "train", keep)
    monkeypatch.setattr(piano_midi, "side_by_side", lambda calls, jobs: [call() for call in calls])
    monkeypatch.setattr(params, "read", lambda section, kind: TINY if section == "model" else read(section, kind))
    small = replace(piano_midi.SETTINGS["piano_midi"], embed_dim=TINY.embed_dim, feedforward=TINY.feedforward)
    monkeypatch.setattr(piano_midi, "SETTINGS", {"piano_midi": small})
    monkeypatch.setattr(piano_midi, "RESULTS", mat.parent)
    piano_midi.main(["--mat", str(mat), "--seeds", "3", "4", "--epochs", "1"])
    results = json.loads((mat.parent / "piano_midi.json").read_text("utf-8"))
    assert [run["seed"] for run in results["seeds"]] == [3, 4]
    assert results["test_nll"] == pytest.approx(np.mean([run["test_nll"] for run in results["seeds"]]), abs=1e-4)
    for run, (checkpoint, _, _) in zip(results["seeds"], kept, strict=True):
        rates = np.full((3, 88), 0.5, np.float32)
        said = export.describe(checkpoint, Calibration(), Thresholds(0.5, 0.5), rates, 1)
        loaded = runtime.load(export.to_archive(checkpoint.model(), said))
        for split in ("valid", "test"):
            expected = scoring.score(loaded, matfile.read(mat, split), restrikes=False)["nll"]
            assert run[f"{split}_nll"] == pytest.approx(expected, abs=2e-4)
        assert run["parameters"] == sum(weight.numel() for weight in checkpoint.model().parameters())
    printed = capsys.readouterr().out
    assert "  7.05  RNN-NADE (Boulanger-Lewandowski et al. 2012)" in printed
    assert f"{results['test_nll']:6.2f}  this, 0.03 M parameters" in printed


def threads_and_process(number: int) -> dict[str, int]:
    return {"number": number, "threads": torch.get_num_threads(), "process": os.getpid()}


@pytest.mark.slow
def test_runs_have_a_process_and_a_thread_each() -> None:
    before = dict(os.environ)
    found = list(piano_midi.side_by_side([partial(threads_and_process, number) for number in range(3)], 2))
    assert [run["number"] for run in found] == [0, 1, 2]
    assert [run["threads"] for run in found] == [1, 1, 1]
    assert len({run["process"] for run in found} | {os.getpid()}) == 4
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", piano_midi.SETTINGS)
def test_the_readme_quotes_the_results(name: str) -> None:
    results = json.loads((piano_midi.RESULTS / f"{name}.json").read_text("utf-8"))
    assert [run["seed"] for run in results["seeds"]] == [1, 2, 3]
    assert piano_midi.table(name, results) in Path("docs/results.md").read_text("utf-8")


def test_baselines_are_counted() -> None:
    train, test = np.zeros((4, 88), np.uint8), np.zeros((2, 88), np.uint8)
    train[:, 0], test[:, 0] = [0, 64, 1, 0], [64, 1]
    # It sounds in 2 of 3 frames and stays in 1 of 2: with Laplace 3/5 and 2/4; the other pitches 1/5.
    found = piano_midi.baselines({"train": [train], "test": [test]})
    rest = -87 * np.log(4 / 5)
    assert found["marginal_nll"] == pytest.approx(-np.log(3 / 5) + rest, abs=1e-4)
    assert found["copy_nll"] == pytest.approx(-np.log(1 / 2) + rest, abs=1e-4)


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Nottingham.mat: no settings for it; there are piano_midi, jsb_chorales$"):
        piano_midi.main(["--mat", str(tmp_path / "Nottingham.mat")])
