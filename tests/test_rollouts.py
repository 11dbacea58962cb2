"""The benchmark of long roll-outs: its figures by hand, and that they are of the model that lies in models/."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rollouts
from pianoai import windows
from pianoai.runtime.sampling import Settings, generate
from pianoai.windows import Windows
from tests.tiny_model import save_archive, tiny_model


def test_figures_of_rolls() -> None:
    late, still = np.zeros((40, 88), np.uint8), np.ones((20, 88), np.uint8)
    late[18:, 3] = 70
    late[19::2, 4] = 60
    assert rollouts.figures([late, still], 4) == {
        "rolls": 2,
        "density": round((22 + 11 + 20 * 88) / 60, 4),
        "standstill": round((18 + 20) / 60, 4),
        "long_silence": round(18 / 60, 4),
        "first_note": 18,
        "velocity": round((22 * 70 + 11 * 60) / 33, 2),
        "velocity_moves": 5.0,  # 70, and 65 where there are both
    }


def test_prompts_and_silence_are_continued(
    music: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_archive(tmp_path / "model.ts")
    monkeypatch.setattr(rollouts, "MODEL", tmp_path / "model.ts")
    monkeypatch.setattr(rollouts, "RESULTS", tmp_path / "rollouts.json")
    monkeypatch.setattr(windows, "read", lambda folder: music)
    rollouts.main(["--frames", "30", "--prompts", "2", "--silences", "3"])
    results = json.loads((tmp_path / "rollouts.json").read_text("utf-8"))
    prompts = [roll[:64] for roll in music.excerpts("valid", 128, 64, 2)]
    after = [generate(tiny_model(), prompt, 30, seed=1 + at) for at, prompt in enumerate(prompts)]
    assert results["after prompts"] == rollouts.figures(after, music.frames_per_beat)
    assert results["after silence"]["rolls"] == results["after silence, never restless"]["rolls"] == 3
    after = [generate(tiny_model(), prompt, 30, Settings(calm=1e9), 1 + at) for at, prompt in enumerate(prompts)]
    assert results["after prompts, never restless"] == rollouts.figures(after, music.frames_per_beat)
    assert results["real music"]["rolls"] == len(list(music.rolls("valid")))
    assert rollouts.table(results) in capsys.readouterr().out


def test_the_readme_quotes_the_results() -> None:
    results = json.loads(rollouts.RESULTS.read_text("utf-8"))
    assert rollouts.table(results) in Path("docs/results.md").read_text("utf-8")
