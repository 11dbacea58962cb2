"""Trainings that are interrupted and go on: they end as if nothing had happened, to the last bit."""

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pianoai import resume, windows
from pianoai.checkpoint import family
from pianoai.collection import Collection
from pianoai.training import train
from pianoai.windows import Windows
from stages import train as stage
from tests.imports import ROOT
from tests.test_training import BUDGET, LOSS, TINY, config

SHORT = replace(BUDGET, epochs=3, batch=6)


class Cut(Exception):
    """The power fails."""


def interrupt(monkeypatch: pytest.MonkeyPatch, epoch: int) -> None:
    """The next training ends in the second step of an epoch, counted from 1."""

    def end(self: Any, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch + 1, index) == (epoch, 1):
            raise Cut

    monkeypatch.setattr(resume.LastEpoch, "on_train_batch_end", end)


def train_interrupted(name: str, music: Windows, budget: Any, path: Path, epoch: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        interrupt(patched, epoch)
        with pytest.raises(Cut):
            train(name, config(name), music, budget, LOSS, path)


@pytest.mark.parametrize(("name", "averaging"), [(name, 0.9) for name in TINY] + [("transformer", 0.0)])
@pytest.mark.slow
def test_a_training_that_goes_on_ends_bit_equal(
    name: str, averaging: float, music: Windows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget, path = replace(SHORT, averaging=averaging), tmp_path / "state.ckpt"
    whole, curve, summary = train(name, config(name), music, budget, LOSS)
    assert not list(tmp_path.iterdir())
    train_interrupted(name, music, budget, path, 3)
    assert [file.name for file in tmp_path.iterdir()] == ["state.ckpt"]
    torch.manual_seed(0)
    capsys.readouterr()
    again, same_curve, same_summary = train(name, config(name), music, budget, LOSS, path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{name}: goes on after epoch 2"
    assert [line.split(",")[0] for line in printed[1:]] == [f"{name}: epoch 3/3"]
    assert same_curve.equals(curve)
    assert same_summary == summary
    assert whole.weights.keys() == again.weights.keys()
    assert all(torch.equal(whole.weights[key], again.weights[key]) for key in whole.weights)


@pytest.mark.slow
def test_what_has_ended_is_not_trained_further(music: Windows, tmp_path: Path) -> None:
    """Ended early, and killed before its results were written: the epochs that are left are not trained."""
    frozen = family("transformer").Config(**TINY["transformer"] | {"learning_rate": 0.0})
    budget, path = replace(SHORT, epochs=4, patience=1), tmp_path / "state.ckpt"
    first, curve, summary = train("transformer", frozen, music, budget, LOSS, path)
    assert (summary["epochs"], summary["best_epoch"]) == (2, 1)
    again, same, _ = train("transformer", frozen, music, budget, LOSS, path)
    assert same.equals(curve)
    assert all(torch.equal(first.weights[key], again.weights[key]) for key in first.weights)


@pytest.mark.slow
def test_what_has_ended_in_its_last_epoch_is_not_trained_further(music: Windows, tmp_path: Path) -> None:
    budget, path = replace(SHORT, epochs=2), tmp_path / "state.ckpt"
    first, curve, summary = train("gan", config("gan"), music, budget, LOSS, path)
    again, same, same_summary = train("gan", config("gan"), music, budget, LOSS, path)
    assert same.equals(curve)
    assert same_summary == summary
    assert all(torch.equal(first.weights[key], again.weights[key]) for key in first.weights)


@pytest.mark.parametrize("damage", ["empty", "half", "a bit", "another file", "a part"])
@pytest.mark.slow
def test_damage_is_said_and_training_begins_anew(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.ckpt"
    whole = dict.fromkeys(resume.PARTS, torch.arange(5000.0)) | {"epoch": 1}
    torch.save(whole, path)
    assert resume.found("gan", path) == 2
    content, middle = path.read_bytes(), path.stat().st_size // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    damaged = {"empty": b"", "half": content[:middle], "a bit": flipped, "another file": b"MThd"}
    if damage in damaged:
        path.write_bytes(damaged[damage])
    else:
        torch.save({key: value for key, value in whole.items() if key != "loops"}, path)
    assert resume.found("gan", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"gan: {path} is damaged (")
    assert lines[0].endswith("); training begins anew")


def test_a_state_belongs_to_all_that_decides_the_result(
    music: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("gan", config("gan"), BUDGET, LOSS, music.checksum)
    one = resume.place(*settings)
    assert one.parent == Path(".cache/train/gan")
    assert one == resume.place(*settings)
    for path in (one, one.with_suffix(".new"), resume.place("wgan", *settings[1:])):
        path.touch()
    other = resume.place("gan", config("gan"), replace(BUDGET, seed=5), LOSS, music.checksum)
    assert other != one
    # What can be of no more use is removed, of this model alone.
    assert [path.parent.name for path in Path(".cache/train").glob("*/*")] == ["wgan"]
    assert resume.place(*settings[:4], "other data") != one
    monkeypatch.setattr(resume, "version", lambda library: "0.1")
    assert resume.place(*settings) != one
    resume.forget(one)
    assert [path.name for path in Path(".cache/train").iterdir()] == ["wgan"]


def test_random_numbers_go_on(tmp_path: Path) -> None:
    callback = resume.LastEpoch(tmp_path / "state.ckpt")
    torch.save(callback.state_dict(), tmp_path / "numbers.pt")

    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.random()), random.random()  # noqa: NPY002

    expected = drawn()
    assert drawn() != expected
    callback.load_state_dict(torch.load(tmp_path / "numbers.pt", weights_only=True))
    assert drawn() == expected


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["/x/bin/python", "-m", "dvc", "repro", "--force"], True),
        (["/x/bin/python", "-m", "pianoai.storage", "repro", "--force"], True),
        (["/x/bin/python", "-m", "pianoai.storage", "repro"], False),
        (["/x/bin/python3.11", "/x/bin/dvc", "repro", "-f", "train@gan"], True),
        (["dvc", "repro", "-sf", "train@gan"], True),
        (["dvc", "exp", "run", "--force", "-S", "model.heads=2"], True),
        (["dvc", "repro"], False),
        (["dvc", "repro", "--no-commit", "fine"], False),
        (["dvc", "exp", "run", "-S", "model.heads=2"], False),
        (["dvc", "exp", "run", "-n", "-f"], False),  # an experiment of that name, which DVC refuses
        (["dvc", "no such command", "-f"], False),
        (["rm", "-f", "dvc"], False),
        (["make", "repro"], False),
        ([], False),
    ],
)
def test_force_is_seen_in_dvcs_command_line(command: list[str], found: bool) -> None:
    assert resume.forces(command) is found


def test_the_stage_tells_windows_of_another_length_apart(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their frames and beginnings can be the same, and so their checksum."""
    keys: list[str] = []

    def place(name: str, *settings: object) -> Path:
        keys.append(repr(settings))
        raise Cut

    monkeypatch.setattr(resume, "place", place)
    for length in (16, 32):
        root = tmp_path / str(length)
        (root / "data").mkdir(parents=True)
        shutil.copy(ROOT / "params.yaml", root)
        windows.write(
            collection,
            root / "data",
            windows.RollConfig(4),
            windows.WindowConfig(length=length, segment=64, hop=64),
            windows.SplitConfig(valid=0.125, test=0.125, seed=1),
        )
        monkeypatch.chdir(root)
        with pytest.raises(Cut):
            stage.main("transformer")
    assert windows.read(tmp_path / "16/data").checksum == windows.read(tmp_path / "32/data").checksum
    assert keys[0] != keys[1]
