"""The grid over sizes: what is queued, what is collected, which is the smallest that is good enough."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import grid
from pianoai import params
from pianoai.models.transformer import Config
from tests.test_piano_midi import TINY


def test_an_experiment_has_its_name_and_its_changes() -> None:
    values = (
        *("determinism.threads=1", "train.seed=3"),
        *("model.embed_dim=48", "model.heads=4", "model.blocks=3", "model.feedforward=192"),
    )
    assert grid.command("width-48", 3) == [
        *(sys.executable, "-m", "dvc", "exp", "run", "--queue", "--name", "grid-width-48-seed-3"),
        *(part for value in values for part in ("-S", value)),
        "train@transformer",
    ]


def test_the_sizes_are_all_different() -> None:
    usual = params.read("model", Config)
    sizes = {tuple(asdict(replace(usual, **changes)).items()) for changes in grid.POINTS.values()}
    assert len(sizes) == len(grid.POINTS) == 11


def test_the_readme_shows_the_table() -> None:
    assert grid.markdown(grid.means(pd.read_csv(grid.RESULTS))) in Path("docs/results.md").read_text("utf-8")


def test_the_default_is_the_smallest_that_is_near_the_best() -> None:
    chosen = grid.POINTS[grid.smallest(grid.means(pd.read_csv(grid.RESULTS)))]
    usual = asdict(params.read("model", Config))
    assert {key: usual[key] for key in chosen} == chosen


def test_what_is_done_is_found_by_name() -> None:
    def row(name: str | None, nll: float | str | None) -> dict[str, object]:
        return {"Experiment": name, "metrics/train/transformer.json:valid_nll": nll}

    rows = [
        row(None, 3.0),
        row("grid-heads-8-seed-2", 3.5),
        row("grid-width-48-seed-1", None),
        row("grid-blocks-4-seed-1", "!"),
    ]
    rows += [row(name, 1.0) for name in ("other", "grid-x-seed-1", "grid-heads-8")]
    assert grid.found(rows) == [{"name": "heads-8", "seed": 2, "valid_nll": 3.5}]


def test_results_of_other_parameters_are_others() -> None:
    used = {"train": {"epochs": 4}, "model": {"blocks": 3, "dropout": 0.0}}
    one = grid.depends_on("width-48", used, "data")
    assert one == grid.depends_on("width-48", used | {"model": {"blocks": 2, "dropout": 0.0}}, "data")
    others = [
        grid.depends_on("blocks-4", used, "data"),
        grid.depends_on("width-48", used, "other data"),
        grid.depends_on("width-48", used | {"train": {"epochs": 5}}, "data"),
        grid.depends_on("width-48", used | {"model": {"blocks": 3, "dropout": 0.1}}, "data"),
    ]
    assert len({one, *others}) == 5


def test_seeds_of_one_size_make_one_row() -> None:
    rows = {"name": ["b", "a", "b"], "seed": [1, 1, 2], "parameters": [300, 200, 300], "valid_nll": [3.0, 4.0, 3.5]}
    found = grid.means(pd.DataFrame(rows))
    assert found[["name", "parameters", "valid_nll", "seeds"]].to_numpy().tolist() == [
        ["a", 200, 4.0, 1],
        ["b", 300, 3.25, 2],
    ]


def test_the_smallest_is_within_a_twentieth_of_a_nat(tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    sizes = {key: [1, 2, 3, 4] for key in ("embed_dim", "heads", "blocks", "feedforward")}
    table = pd.DataFrame(
        {"name": names, **sizes, "parameters": [100, 200, 300, 4000], "valid_nll": [3.2, 3.14, 3.15, 3.1]}
    ).assign(frame_ms=[0.25, 0.5, 0.75, 1], seeds=3)
    assert grid.smallest(table) == "b"
    assert grid.smallest(table[table["name"] != "b"]) == "c"
    assert grid.smallest(table.assign(parameters=[100, 200, 201, 202])) == "d"
    assert grid.smallest(table.assign(parameters=[100, 200, 201, 203])) == "b"
    assert grid.markdown(table).splitlines()[3] == "| **b** | 2 | 2 | 2 | 2 | 200 | 3.140 | 3 | 0.50 |"
    grid.picture(table, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_frames_are_timed_on_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "FRAMES", 4)
    monkeypatch.setattr(grid, "ROUNDS", 2)
    found = grid.timed({"tiny": grid.random_model(TINY)})
    assert 0 < found["tiny"] < 1000
