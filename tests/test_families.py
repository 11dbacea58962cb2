"""The families compared over seeds, and rows of the search for settings, on a few chorales and with tiny models."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from benchmarks import families, search
from pianoai import checkpoint, evaluation, training, windows
from pianoai.windows import Windows
from stages.train import SECTIONS
from tests.imports import ROOT
from tests.test_pipeline import TINY

FIGURES = {"valid_nll": 5.0, "valid_nll_joint": 5.5, "test_nll": 4.0, "density_ratio": 0.5, "overlap": 0.75}
TRAINED = {"seed": 0, "seconds": 1.0} | FIGURES


@pytest.fixture
def project(music: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml for tiny models; its windows are those of `music`."""
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    for section, changes in TINY.items():
        values[section].update(changes)
    values["train"]["epochs"] = 1
    write(tmp_path, values)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(windows, "read", lambda folder: music)
    monkeypatch.setattr(families, "side_by_side", lambda calls, jobs: (call() for call in calls))
    return tmp_path


def write(folder: Path, values: dict[str, Any]) -> None:
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(values, file)


def test_a_family_is_scored_as_the_pipeline_scores_it(
    project: Path, music: Windows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(training, "train", keeping(training.train, kept))
    monkeypatch.setattr(evaluation, "evaluate", keeping(evaluation.evaluate, kept))
    families.main(["--families", "wgan", "--seeds", "7"])
    (found, _, _), scored = kept
    assert (found.family, found.data) == ("wgan", music.checksum)
    results = json.loads((project / "benchmarks/results/families.json").read_text("utf-8"))
    (run,) = results["wgan"]["seeds"]
    assert run["seed"] == 7
    assert run["valid_nll"] == scored.metrics["valid"]["nll"] == results["wgan"]["mean"]["valid_nll"]
    assert run["test_nll"] == scored.metrics["test"]["nll"] != run["valid_nll"]
    assert run["valid_nll_joint"] == scored.metrics["valid"]["nll_joint"]
    assert run["density_ratio"] == scored.metrics["stability"]["density_ratio"]
    assert run["overlap"] == scored.metrics["music"]["overlap"]
    assert f"wgan{run['valid_nll']:17.3f} ± 0.000" in capsys.readouterr().out


def test_without_a_critic_the_loss_terms_are_left(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(training, "train", keeping(training.train, kept))
    families.main(["--families", "no-critic", "gan", "--seeds", "7"])
    alone, usual = (found.config for found, _, _ in kept)
    assert alone == usual | {"adversarial": 0.0}
    results = json.loads((project / "benchmarks/results/families.json").read_text("utf-8"))
    assert results["no-critic"]["key"] != results["gan"]["key"]
    assert results["no-critic"]["seeds"][0]["valid_nll"] != results["gan"]["seeds"][0]["valid_nll"]


def keeping(function: Any, kept: list[Any]) -> Any:
    def call(*given: Any) -> Any:
        kept.append(function(*given))
        return kept[-1]

    return call


def test_a_seed_is_trained_once_for_the_same_parameters_and_data(
    project: Path, music: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []

    def trained(name: str, seed: int) -> dict[str, float]:
        calls.append((name, seed))
        if seed == 9:
            raise KeyboardInterrupt
        return TRAINED | {"seed": seed, "valid_nll": float(seed)}

    def run(*seeds: int) -> list[tuple[str, int]]:
        calls.clear()
        families.main(["--families", "gan", "transformer", "--seeds", *map(str, seeds)])
        return calls

    monkeypatch.setattr(families, "trained", trained)
    assert run(4) == [("gan", 4), ("transformer", 4)]
    with pytest.raises(KeyboardInterrupt):
        run(2, 9)
    assert calls == [("gan", 2), ("gan", 9)]
    assert run(2, 4) == [("transformer", 2)]  # what was finished before the interruption is kept
    results = json.loads((project / "benchmarks/results/families.json").read_text("utf-8"))
    assert [run["seed"] for run in results["gan"]["seeds"]] == [2, 4]
    values = YAML(typ="safe").load((project / "params.yaml").read_text("utf-8"))
    values["gan"]["learning_rate"] *= 2
    values["train"]["seed"] += 1  # not the seed that a run uses
    values["determinism"]["threads"] += 1  # nor its number of threads
    write(project, values)
    assert run(2, 4) == [("gan", 2), ("gan", 4)]
    monkeypatch.setattr(windows, "read", lambda folder: replace(music, checksum="1" * 64))
    assert run(2) == [("gan", 2), ("transformer", 2)]


def test_mean_and_spread_by_hand() -> None:
    runs = [TRAINED | {"valid_nll": value} for value in (3.0, 4.0, 8.0)]
    found = families.summary(runs)
    assert found["mean"] == FIGURES
    assert found["spread"]["valid_nll"] == pytest.approx(7**0.5, abs=1e-6)  # (4 + 1 + 9) / 2
    assert found["spread"]["test_nll"] == 0
    assert families.summary(runs[:1])["spread"] == dict.fromkeys(FIGURES, 0)
    cells = ("5.500 ± 0.000", "4.000 ± 0.000", "0.500 ± 0.000", "0.750 ± 0.000")
    assert families.table({"gan": found | {"seeds": runs}}).splitlines()[1] == (
        f"gan{'5.000 ± 2.646':>26}" + "".join(f"{cell:>17}" for cell in cells) + "  3 seeds"
    )


def test_a_row_of_the_search(project: Path, music: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = replace(music, starts=without_test(music.starts), lengths=without_test(music.lengths))
    monkeypatch.setattr(windows, "read", lambda folder: blind)
    kept: list[Any] = []
    monkeypatch.setattr(training, "train", keeping(training.train, kept))
    given = ["gan", "--epochs", "2", "--seed", "5", "--threads", "2", "--note", "a, b", "--set"]
    search.main([*given, "width=20", "train.averaging=0"])
    search.main([*given, "learning_rate=1e30"])
    table = pd.read_csv(project / "benchmarks/results/search.csv")
    first, second = table.to_dict("records")
    assert (first["family"], first["note"], first["epochs"], first["seed"]) == ("gan", "a, b", 2, 5)
    assert (first["width"], first["averaging"], second["width"]) == (20, 0, 24)
    assert np.isnan(second["valid_nll"])  # diverged
    trained, curve, _ = kept[0]
    assert trained.config["width"] == 20
    assert first["valid_nll"] == pytest.approx(search.valid_nll(trained, music, EVALUATION), rel=1e-5)
    assert first["train_gap"] == pytest.approx(curve["train_gap"].iloc[int(curve["valid_nll"].idxmin())], rel=1e-5)
    assert {"density_ratio", "silence", "valid_covered", "train_adversarial_gradient"} <= set(table)


EVALUATION = evaluation.EvaluateConfig(noise_samples=2, rollouts=3, frames=32, prompt=16, temperature=1.0, seed=1)


def without_test(splits: dict[str, Any]) -> dict[str, Any]:
    return {name: values for name, values in splits.items() if name != "test"}


def test_the_search_scores_as_the_evaluation_does(project: Path, music: Windows) -> None:
    module = checkpoint.family("gan")
    config = search.changed("gan", module.Config, ["latent=1"])
    model = module.Model(config, music.length)
    for weight in model.out.parameters():
        weight.data.zero_()  # a pitch sounds, or is struck again, with 1/2
    found = checkpoint.Checkpoint(
        "gan", {**vars(config)}, model.state_dict(), music.length, music.frames_per_beat, music.checksum
    )
    rolls = [np.asarray(roll) > 0 for roll in music.rolls("valid")]
    coins = sum(88 * (len(roll) - 1) + int((roll[1:] & roll[:-1]).sum()) for roll in rolls)
    expected = coins * np.log(2) / sum(len(roll) - 1 for roll in rolls)
    assert search.valid_nll(found, music, EVALUATION) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("depth=3", "error: --set: gan.depth is unknown"),
        ("width=wide", "error: --set: gan.width must be a whole number, not 'wide'"),
        ("train.clip=-1", "error: --set: train.clip must be at least 0"),
    ],
)
def test_a_wrong_setting_is_named(project: Path, change: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        search.main(["gan", "--threads", "2", "--set", change])


def test_the_readme_quotes_three_seeds_of_each_family_and_of_the_control() -> None:
    results = json.loads((ROOT / families.RESULTS).read_text("utf-8"))
    assert sorted(results) == sorted(families.RUNS)
    assert families.table(results) in (ROOT / "docs/results.md").read_text("utf-8")
    for name, found in results.items():
        assert [run["seed"] for run in found["seeds"]] == [1, 2, 3]
        assert families.summary(found["seeds"]) == {key: found[key] for key in ("mean", "spread")}
        if name in SECTIONS:
            assert all(0.5 < run["density_ratio"] < 1.5 for run in found["seeds"])
