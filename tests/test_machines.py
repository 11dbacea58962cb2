"""One training in several processes and on two machines; one that is killed; several experiments at a time."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from pianoai import params, resume, windows
from pianoai.collection import Collection
from pianoai.models.objective import TrainConfig
from pianoai.runtime.errors import InputError
from pianoai.sources import Piece
from pianoai.training import trainer_of
from pianoai.verification.emulator import free_ports
from tests.imports import ROOT, environment
from tests.test_pipeline import TINY, Project, committed, copy_files
from tests.test_training import BUDGET

SMALL: dict[str, dict[str, Any]] = TINY | {  # type: ignore[assignment]
    "determinism": {"threads": 1},
    "train": {"epochs": 3, "batch": 4, "warmup": 2},
}


def set_params(root: Path, **train: Any) -> None:
    """This repository's params.yaml with tiny models, and what else is said of training."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    for section, values in (SMALL | {"train": SMALL["train"] | train}).items():
        params[section].update(values)
    yaml.dump(params, root / "params.yaml")


@pytest.fixture
def machine(collection: Collection, tmp_path: Path) -> Path:
    """A folder with windows of eight chorales, three of them to validate, which two processes cannot share evenly."""
    (tmp_path / "one/data").mkdir(parents=True)
    windows.write(
        collection,
        tmp_path / "one/data",
        windows.RollConfig(4),
        windows.WindowConfig(length=16, segment=64, hop=64),
        windows.SplitConfig(valid=0.375, test=0.125, seed=1),
    )
    shutil.copy(ROOT / "requirements.lock", tmp_path / "one")
    return tmp_path / "one"


def train_stage(*launcher: str, name: str, root: Path, program: str = "stages.train") -> "subprocess.Popen[str]":
    """Start `-m stages.train NAME` or another program in a folder, by `launcher` or Python itself."""
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", program, name],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_after_second_epoch(process: "subprocess.Popen[str]", root: Path, name: str) -> int:
    """Kill a process group when the state after the second epoch is written; returns after which epoch it was."""
    assert process.stdout is not None
    assert next(line for line in process.stdout if line.startswith(f"{name}: epoch 2/"))
    done = 0
    until = time.monotonic() + 60
    while done < 2:  # the line is printed just before the state is written
        assert process.poll() is None
        assert time.monotonic() < until
        done = max((resume.found(name, path) for path in (root / ".cache/train" / name).glob("*.ckpt")), default=0)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    return done


def finished(process: "subprocess.Popen[str]") -> str:
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed
    return printed


def curve(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / f"plots/train/{name}.csv")


# A GAN's noise is not that of a single process, so its curve is another one, as with another seed.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "tolerance"), [("transformer", 5e-4), ("gan", 0.01), ("wgan", 0.03)])
def test_two_processes_learn_as_one_with_twice_the_batch(name: str, tolerance: float, machine: Path) -> None:
    set_params(machine, batch=8)
    finished(train_stage(name=name, root=machine))
    one = curve(machine, name)
    steps = json.loads((machine / f"metrics/train/{name}.json").read_text("utf-8"))["steps"]
    set_params(machine, batch=4, devices=2, strategy="ddp")
    lines = finished(train_stage(name=name, root=machine, program="tests.ranks")).splitlines()
    first, second = ((machine / f"ranks/{rank}").read_text() for rank in (0, 1))
    assert first == second
    assert [line.split(",")[0] for line in lines if "valid nll" in line] == [
        *(f"{name}: epoch {epoch}/3" for epoch in (1, 2, 3)),
        f"train: {name}: best epoch 3",
    ]
    two = curve(machine, name)
    assert json.loads((machine / f"metrics/train/{name}.json").read_text("utf-8"))["steps"] == steps
    assert one["valid_nll"].iloc[-1] < one["valid_nll"].iloc[0] - 0.5
    for column in ("valid_nll", "train_sounding", "train_mse"):
        assert two[column].tolist() == pytest.approx(one[column].tolist(), rel=tolerance), column
    assert two["learning_rate"].tolist() == one["learning_rate"].tolist()


@pytest.mark.slow
def test_two_processes_go_on_where_they_were_interrupted(machine: Path) -> None:
    set_params(machine, devices=2, strategy="ddp", epochs=6)
    finished(train_stage(name="gan", root=machine))
    whole = curve(machine, "gan")
    with train_stage(name="gan", root=machine) as process:
        done = kill_after_second_epoch(process, machine, "gan")
    lines = finished(train_stage(name="gan", root=machine)).splitlines()
    assert [line for line in lines if "epoch 1/" in line or "goes on" in line] == [f"gan: goes on after epoch {done}"]
    again = curve(machine, "gan")
    for column in ("valid_nll", "train_sounding", "train_critic"):
        assert again[column].tolist() == pytest.approx(whole[column].tolist(), rel=1e-5), column


@pytest.mark.slow
def test_two_machines_under_torchrun(machine: Path) -> None:
    set_params(machine, batch=8)
    finished(train_stage(name="transformer", root=machine))
    one = curve(machine, "transformer")
    set_params(machine, batch=4, num_nodes=2, strategy="ddp")
    other = machine.parent / "two"
    for part in ("data", "params.yaml", "requirements.lock"):
        (shutil.copytree if part == "data" else shutil.copyfile)(machine / part, (other / part))
    port = str(free_ports(1)[0])
    rendezvous = ("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1")
    nodes = [
        train_stage(*rendezvous, "--master-port", port, "--node-rank", str(rank), name="transformer", root=root)
        for rank, root in enumerate((machine, other))
    ]
    printed = [finished(node) for node in nodes]
    assert "transformer: epoch 3/3" in printed[0]
    assert "epoch" not in printed[1]
    assert sorted(path.name for path in other.iterdir()) == ["data", "params.yaml", "requirements.lock"]
    two = curve(machine, "transformer")
    assert two["valid_nll"].tolist() == pytest.approx(one["valid_nll"].tolist(), rel=5e-4)


def test_what_a_machine_cannot_do_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(budget: TrainConfig) -> str:
        with pytest.raises(InputError) as caught:
            trainer_of(budget, [], True)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    if not torch.cuda.is_available():
        said = refused(replace(BUDGET, accelerator="gpu"))
        assert said.startswith(
            "train: this machine cannot train with accelerator gpu, devices 1, num_nodes 1, precision 32-true: "
        )
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    for key, value in {"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    said = refused(replace(BUDGET, devices=1, num_nodes=2, strategy="ddp"))
    assert said == "train: torchrun starts 4 processes in all, but train.devices * train.num_nodes is 1 * 2"


@pytest.fixture(scope="module")
def project(chorales: list[Piece], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The pipeline up to a tiny Transformer of eight epochs."""
    root = tmp_path_factory.mktemp("project")
    copy_files(root)
    set_params(root, epochs=8)
    found = committed(root, chorales)
    assert found.ran("dvc", "repro", "train@transformer") == ["download", "window", "train@transformer"]
    found.run("git", "add", "-A")
    found.run("git", "commit", "-qm", "run")
    return found


def kill_in_training(project: Project, *command: str) -> int:
    """Run a DVC command and kill it and all that it started, as a power cut would; returns after which epoch."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=project.root,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        return kill_after_second_epoch(process, project.root, "transformer")


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_bit_equal(project: Project) -> None:
    lock = (project.root / "dvc.lock").read_bytes()
    done = kill_in_training(project, "dvc", "repro", "--force", "--single-item", "train@transformer")
    assert not (project.root / "models/transformer.pt").exists()
    printed = project.run("dvc", "repro", "train@transformer")
    assert f"transformer: goes on after epoch {done}\n" in printed
    assert "epoch 2/8" not in printed
    assert "epoch 8/8" in printed
    assert (project.root / "dvc.lock").read_bytes() == lock
    assert project.run("git", "status", "--porcelain").split() in ([], ["M", "metrics/timings.json"])
    assert not list((project.root / ".cache/train").rglob("*.ckpt"))

    kill_in_training(project, "dvc", "repro", "--force", "--single-item", "train@transformer")
    printed = project.run("dvc", "repro", "-fs", "train@transformer")
    assert "goes on" not in printed
    assert "epoch 1/8" in printed
    assert (project.root / "dvc.lock").read_bytes() == lock


def in_background(project: Project, *command: str) -> None:
    """Run a command of `dvc queue`; nothing is read of it, since its workers would keep a pipe open."""
    subprocess.run(
        [sys.executable, "-m", "dvc", "queue", *command],
        cwd=project.root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=True,
    )


@pytest.mark.slow
def test_two_workers_train_experiments_of_the_queue(project: Project) -> None:
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "exp", "run", "--queue", "-S", "model.heads=1,2", "train@transformer")
    try:
        in_background(project, "start", "-j", "2")
        until = time.monotonic() + 600
        while "Queued" in (status := project.run("dvc", "queue", "status")) or "Running" in status:
            assert time.monotonic() < until, status
            time.sleep(2)
    finally:
        in_background(project, "stop", "--kill")
    assert status.count("Success") == 2, status
    found = {}
    for commit in re.findall(r"^[0-9a-f]{40}$", project.run("dvc", "exp", "list", "--sha-only"), re.M):
        heads = YAML(typ="safe").load(project.run("git", "show", f"{commit}:params.yaml"))["model"]["heads"]
        summary = json.loads(project.run("git", "show", f"{commit}:metrics/train/transformer.json"))
        found[heads] = summary["valid_nll"]
    assert set(found) == {1, 2}
    committed = json.loads(project.run("git", "show", "HEAD:metrics/train/transformer.json"))["valid_nll"]  # of 4 heads
    assert len({committed, *found.values()}) == 3
    assert project.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("accelerator", "abacus", "train.accelerator must be one of cpu, gpu, not 'abacus'"),
        ("devices", 0, "train.devices must be at least 1, not 0"),
        ("num_nodes", -1, "train.num_nodes must be at least 1, not -1"),
        ("strategy", "fsdp", "train.strategy must be one of auto, ddp, not 'fsdp'"),
        ("precision", "16-mixed", "train.precision must be one of 32-true, bf16-mixed, not '16-mixed'"),
    ],
)
def test_what_training_cannot_run_on_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        params.build("train", TrainConfig, asdict(BUDGET) | {key: value}, "params.yaml")
