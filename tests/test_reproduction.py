"""What `make reproduce` says of two runs; tests/test_pipeline.py lets it run the pipeline."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pianoai.reproduction import MEASURED, Results, committed, compare, refuse_changes
from pianoai.runtime.errors import InputError
from tests.imports import ROOT

RUN = Results(
    {"models/gan.pt": "aa", "models/wgan.pt": "bb", "metrics/gan.json": "cc"},
    {"gan valid nll": 4.318, "gan test nll": 4.083, "gan overlap": 0.781},
    "transformer",
)


def test_equal_runs_agree() -> None:
    assert compare(RUN, RUN) == ("3 of 3 outputs equal those of the last commit", True)


@pytest.mark.parametrize(("now", "agrees"), [(4.437, True), (4.439, False), (4.199, True), (4.197, False)])
def test_likelihoods_agree_within_the_tolerance(now: float, agrees: bool) -> None:
    other = replace(RUN, outputs=RUN.outputs | {"models/gan.pt": "dd"}, scores=RUN.scores | {"gan valid nll": now})
    text, found = compare(RUN, other)
    assert found is agrees
    lines = text.splitlines()
    assert lines[:2] == ["2 of 3 outputs equal those of the last commit", "  models/gan.pt differs"]
    assert f"gan valid nll              4.318  {now:.3f}  {'agrees' if agrees else 'DOES NOT AGREE'}" in lines
    assert "gan test nll               4.083  4.083  agrees" in lines


@pytest.mark.parametrize(("now", "agrees"), [(0.815, True), (0.817, False), (0.747, True), (0.745, False)])
def test_music_agrees_within_the_tolerance(now: float, agrees: bool) -> None:
    other = replace(RUN, outputs={"models/gan.pt": "dd"}, scores=RUN.scores | {"gan overlap": now})
    text, found = compare(RUN, other)
    assert found is agrees
    assert (
        f"gan overlap                0.781  {now:.3f}  {'agrees' if agrees else 'DOES NOT AGREE'}" in text.splitlines()
    )


def test_another_winner_does_not_agree() -> None:
    text, agrees = compare(RUN, replace(RUN, outputs={"models/gan.pt": "dd"}, winner="wgan"))
    assert not agrees
    assert "Chosen: transformer, now wgan" in text
    assert "0 of 3 outputs" in text


def test_the_commits_own_results_are_read() -> None:
    found = committed(ROOT)
    assert found.winner == "transformer"
    models = ("copy", "gan", "wgan", "transformer")
    assert set(found.scores) == {f"{name} {what}" for name in models for what in ("valid nll", "test nll", "overlap")}
    assert 0 < found.scores["gan overlap"] < 1 < found.scores["gan test nll"]
    assert len(found.outputs["lambda_pkg/function.zip"]) == 32
    assert not set(MEASURED) & set(found.outputs)


def test_what_differs_from_the_commit_is_refused(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["config", "user.name", "tester"], ["config", "user.email", "t@localhost"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    with pytest.raises(InputError, match=r"git show HEAD:dvc\.lock: fatal: "):
        committed(tmp_path)
    (tmp_path / "metrics").mkdir()
    for name in ("params.yaml", "metrics/timings.json"):
        (tmp_path / name).write_text("a: 1\n")
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    subprocess.run(["git", "commit", "-qm", "first"], cwd=tmp_path, check=True)
    (tmp_path / "metrics/timings.json").write_text("{}")
    (tmp_path / "unknown").write_text("x")
    refuse_changes(tmp_path)
    (tmp_path / "params.yaml").write_text("a: 200\n")
    with pytest.raises(
        InputError, match=r"params\.yaml: differs from the last commit; commit it, or `git checkout` it"
    ):
        refuse_changes(tmp_path)
