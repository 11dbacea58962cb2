"""Trains any of the models with Lightning: same data, same budget, early stopping, best weights kept."""

import ctypes
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, WeightAveraging
from torch import Tensor
from torch.utils.data import DataLoader

from pianoai.checkpoint import Checkpoint, family
from pianoai.dataset import RollDataset, collate
from pianoai.losses import LossConfig
from pianoai.models.objective import TrainConfig
from pianoai.runtime.errors import InputError
from pianoai.windows import Windows


class Diverged(InputError):
    """Training left the numbers, as it does with too high a learning rate."""


class Curve(Callback):
    """Keeps what is logged in each epoch, and prints a line of it."""

    def __init__(self, name: str, epochs: int) -> None:
        self.name = name
        self.epochs = epochs
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One row of the curve; validation has already run."""
        logged = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.rows.append({"epoch": trainer.current_epoch + 1, "learning_rate": rate} | logged)
        print(
            f"{self.name}: epoch {trainer.current_epoch + 1}/{self.epochs}, "
            f"valid nll {logged['valid_nll']:.3f} nats a frame",
            flush=True,
        )


class Averaging(WeightAveraging):
    """Validates and keeps an exponential average of the weights over the steps of training.

    The average forgets quickly at first, since early weights are far from where training ends: after n averaged steps
    it keeps a share of min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage does.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, count: Tensor) -> Tensor:
            return torch.lerp(averaged, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

        # Buffers are not averaged: some are whole numbers.
        super().__init__(use_buffers=False, avg_fn=average)


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # options of glibc's mallopt


def keep_freed_memory() -> None:
    """Has glibc keep large arrays that are freed, instead of asking the kernel for cleared pages at every step again.

    A step of training frees and takes the same ones each time, and page faults were a fifth of it. Where the C library
    is another one, nothing is changed.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
            library.mallopt(option, value)


def train(
    name: str, config: Any, windows: Windows, budget: TrainConfig, loss: LossConfig
) -> tuple[Checkpoint, pd.DataFrame, dict[str, float]]:
    """Train the family `name`; returns the best weights, the curve by epoch, and a summary.

    Weights, averaged over steps if the budget says so, are those of the epoch with the best likelihood on the
    validation split; training ends when it has not improved for `patience` epochs. Raises Diverged when it is no
    longer a number.
    """
    keep_freed_memory()
    pl.seed_everything(budget.seed, verbose=False)
    module = family(name)
    model = module.Model(config, windows.length)
    model.head.velocities.copy_(torch.tensor(windows.velocities()))
    training = module.Training(model, config, budget, loss)
    loader = DataLoader(RollDataset(windows, "train", budget.transpose), budget.batch, shuffle=True, collate_fn=collate)
    # One piece at a time: their lengths differ, and what pads a batch is computed for nothing.
    valid = DataLoader(RollDataset(windows, "valid", 0), 1, collate_fn=collate)
    curve = Curve(name, budget.epochs)
    with tempfile.TemporaryDirectory() as folder, quiet():
        # Averaged weights are put into whole checkpoints alone: `save_weights_only` would keep those that were not.
        best = ModelCheckpoint(folder, monitor="valid_nll", save_weights_only=not budget.averaging)
        averaging = [Averaging(budget.averaging)] if budget.averaging else []
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=budget.epochs,
            gradient_clip_val=budget.clip if training.automatic_optimization else None,
            callbacks=[*averaging, EarlyStopping("valid_nll", patience=budget.patience), best, curve],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            deterministic=True,
        )
        trainer.fit(training, loader, valid)
        table = pd.DataFrame(curve.rows)
        losses = table["valid_nll"]
        if not np.isfinite(losses).all():
            raise Diverged(f"training diverged: the validation nll of epoch {len(table)} is not a number")
        training.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    summary = {
        "best_epoch": int(losses.idxmin()) + 1,
        "epochs": len(table),
        "steps": len(table) * len(loader),
        "valid_nll": float(losses.min()),
        "valid_nll_spread": float(losses.tail(5).std(ddof=0)),
        "train_sounding": float(table["train_sounding"].iloc[int(losses.idxmin())]),
    }
    checkpoint = Checkpoint(
        family=name,
        config=asdict(config),
        weights={key: value.clone() for key, value in model.state_dict().items()},
        window=windows.length,
        frames_per_beat=windows.frames_per_beat,
        data=windows.checksum,
    )
    return checkpoint, table, summary


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's notes about devices and workers off the screen."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(num_workers|isinstance.treespec).*")
        yield
