"""Keeps the state of a training after each epoch, so that one which was interrupted goes on from there.

The file is `.cache/train/NAME/KEY.ckpt`: ignored by git, and no output of a stage, as DVC deletes those before it runs.
The key is a hash of all that decides how a training ends, so that nothing else is ever gone on with.
"""

import hashlib
import os
import random
import shutil
import sys
import zipfile
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_only

FOLDER = Path(".cache/train")
PARTS = {"epoch", "state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks"}  # of a whole state


class LastEpoch(Checkpoint):
    """Writes the state of training at the end of every epoch; `name` and `path` are the model's and the file's.

    Weights, their average, optimisers, schedules and what other callbacks keep are in Lightning's checkpoint; this adds
    the random numbers and whether training has ended. It must be the last of the callbacks, and is a Checkpoint because
    Lightning calls those, and early stopping, after all others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a second file and put it in the place of the first, so that one of them is always whole."""
        self.ended = trainer.should_stop
        new = self.path.with_suffix(".new")
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.replace(self.path)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A training that had ended early before its results were written trains no further epoch."""
        trainer.should_stop = self.ended

    def state_dict(self) -> dict[str, Any]:
        """What is not in Lightning's part of the state."""
        kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
        return {
            "ended": self.ended,
            "python": random.getstate(),
            "numpy": (kind, np.asarray(keys).tolist(), *rest),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back; Lightning draws nothing between this and the epoch that follows."""
        self.ended = state_dict["ended"]
        random.setstate(state_dict["python"])
        np.random.set_state(state_dict["numpy"])  # noqa: NPY002
        torch.set_rng_state(state_dict["torch"].cpu())
        if state_dict["cuda"]:
            torch.cuda.set_rng_state_all([state.cpu() for state in state_dict["cuda"]])


def place(name: str, *settings: object) -> Path:
    """Where the training of a model keeps its state; makes the folder, and removes what others have left there.

    `settings` are configurations and checksums whose text says all that they are. The key is of them, of every module
    of this project that has been imported, and of the libraries that compute.
    """
    key = hashlib.sha256(repr(settings).encode())
    for library in ("torch", "pytorch-lightning", "numpy"):
        key.update(f"{library} {version(library)}\n".encode())
    root = Path(__file__).resolve().parents[1]
    code = {
        Path(file).resolve() for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))
    }
    for file in sorted(code):
        if any(file.is_relative_to(root / folder) for folder in ("pianoai", "stages")):
            key.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
    path = FOLDER / name / f"{key.hexdigest()}.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in set(path.parent.iterdir()) - {path, path.with_suffix(".new")}:
        other.unlink(missing_ok=True)
    return path


def forget(path: Path) -> None:
    """Remove the state of a training whose results are written."""
    shutil.rmtree(path.parent, ignore_errors=True)


def found(name: str, path: Path) -> int:
    """After how many epochs training goes on: 0 where there is no state, where it is damaged, or under `--force`."""
    if not path.exists() or forced():
        return 0
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch reads changed bits as they are
            if broken := archive.testzip():
                raise zipfile.BadZipFile(broken)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not set(state) >= PARTS:
            raise KeyError(", ".join(PARTS - set(state)))
        return int(state["epoch"]) + 1
    except Exception as error:
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            print(f"{name}: {path} is damaged ({type(error).__name__}); training begins anew", flush=True)
        return 0


def forced() -> bool:
    """Whether a DVC command above this process has been told to run stages whatever has changed.

    DVC tells a stage nothing of its own options, so they are read where the system has them: in the command lines of
    the processes above this one, with DVC's own parser. An experiment in DVC's queue has none above it, but it runs in
    a folder of its own in which no training was interrupted.
    """
    for process in psutil.Process().parents():
        with suppress(psutil.Error):  # of another user's process a system may tell nothing
            if forces(process.cmdline()):
                return True
    return False


def forces(command: list[str]) -> bool:
    """Whether a command line is `dvc repro` or `dvc exp run` with --force, however it is written."""
    programs = ("dvc", "dvc.exe", "pianoai.storage")  # the last one is DVC with settings for storage
    at = next((at for at, word in enumerate(command) if Path(word).name in programs), None)
    if at is None:
        return False
    from dvc.cli.parser import get_main_parser

    try:
        with redirect_stdout(None), redirect_stderr(None):
            said, _ = get_main_parser().parse_known_args(command[at + 1 :])
    except (Exception, SystemExit):  # something else that is called dvc
        return False
    return bool(getattr(said, "force", False))
