"""Trains any of the models with Lightning: same data, same budget, early stopping, best weights kept."""

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping, WeightAveraging
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from pianoai import resume
from pianoai.checkpoint import Checkpoint, family
from pianoai.dataset import Batch, Passages, RollDataset, Shuffled, Window, collate, share
from pianoai.losses import LossConfig
from pianoai.models.objective import TrainConfig
from pianoai.runtime.errors import InputError
from pianoai.windows import Windows

LAUNCHERS = {"TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "GROUP_RANK"}  # one of these is set by what starts processes


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
        if trainer.is_global_zero:
            print(
                f"{self.name}: epoch {trainer.current_epoch + 1}/{self.epochs}, "
                f"valid nll {logged['valid_nll']:.3f} nats a frame",
                flush=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """The curve so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""
        self.rows = state_dict["rows"]


class Best(Callback):
    """Keeps the weights of the epoch with the lowest validation likelihood, as they were when it was validated.

    It must stand before `Averaging`, which takes the averaged weights away again at the end of a validation.
    """

    def __init__(self) -> None:
        self.nll = float("inf")
        self.weights: dict[str, Tensor] = {}
        self.validated: dict[str, Tensor] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What was validated; its score is known later."""
        model = pl_module.get_submodule("model")
        self.validated = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep it where it is better than all before."""
        nll = float(trainer.callback_metrics["valid_nll"])
        if nll < self.nll or not self.weights:
            self.nll, self.weights = nll, self.validated

    def state_dict(self) -> dict[str, Any]:
        """Likelihood and weights."""
        return {"nll": self.nll, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put them back."""
        self.nll, self.weights = state_dict["nll"], state_dict["weights"]


class OwnNoise(Callback):
    """Gives each of several processes its own random numbers for dropout and noise, anew for every epoch."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """No two processes and no two epochs have the same seed."""
        torch.manual_seed(self.seed + 1 + trainer.current_epoch * trainer.world_size + trainer.global_rank)


class Order(Callback):
    """Keeps the state of the generator of order and transposition, which is the same in all processes."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back there."""
        self.generator.set_state(state_dict["generator"].cpu())


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
    name: str, config: Any, windows: Windows, budget: TrainConfig, loss: LossConfig, state: Path | None = None
) -> tuple[Checkpoint, pd.DataFrame, dict[str, float]]:
    """Train the family `name`; returns the best weights, the curve by epoch, and a summary.

    Weights, averaged over steps if the budget says so, are those of the epoch with the best likelihood on the
    validation split; training ends when it has not improved for `patience` epochs. After each epoch all that is needed
    to go on is written to `state`, and what is found there is gone on with. Of several processes the first returns;
    the others end when they have done their share (SystemExit). Raises Diverged when the likelihood is no longer a
    number, and InputError for devices that this machine does not have.
    """
    keep_freed_memory()
    pl.seed_everything(budget.seed, verbose=False)
    module = family(name)
    model = module.Model(config, windows.length)
    model.head.velocities.copy_(torch.tensor(windows.velocities()))
    training = module.Training(model, config, budget, loss)
    curve, best = Curve(name, budget.epochs), Best()
    averaging = [Averaging(budget.averaging)] if budget.averaging else []
    callbacks: list[Callback] = [best, *averaging, EarlyStopping("valid_nll", patience=budget.patience), curve]
    with quiet():
        trainer = trainer_of(budget, callbacks, training.automatic_optimization)
        generator = torch.Generator().set_state(torch.get_rng_state()) if trainer.world_size > 1 else None
        several = [Order(generator), OwnNoise(budget.seed)] if generator is not None else []
        last = [resume.LastEpoch(state)] if state is not None else []
        trainer.callbacks += [*several, *last]  # type: ignore[attr-defined]
        train_loader, valid_loader = loaders(windows, budget, model.reach, trainer, generator)
        done = resume.found(name, state) if state is not None else 0
        if done and trainer.is_global_zero:
            print(f"{name}: goes on after epoch {done}", flush=True)
        trainer.fit(training, train_loader, valid_loader, ckpt_path=state if done else None, weights_only=True)
    if not trainer.is_global_zero:
        raise SystemExit
    table = pd.DataFrame(curve.rows)
    losses = table["valid_nll"]
    if not np.isfinite(losses).all():
        raise Diverged(f"training diverged: the validation nll of epoch {len(table)} is not a number")
    summary = {
        "best_epoch": int(losses.idxmin()) + 1,
        "epochs": len(table),
        "steps": len(table) * len(train_loader),
        "valid_nll": float(losses.min()),
        "valid_nll_spread": float(losses.tail(5).std(ddof=0)),
        "train_sounding": float(table["train_sounding"].iloc[int(losses.idxmin())]),
    }
    checkpoint = Checkpoint(
        family=name,
        config=asdict(config),
        weights=best.weights,
        window=windows.length,
        frames_per_beat=windows.frames_per_beat,
        data=windows.checksum,
    )
    return checkpoint, table, summary


def trainer_of(budget: TrainConfig, callbacks: list[Callback], automatic: bool) -> pl.Trainer:
    """Lightning's trainer for a budget, with `automatic` optimisation or the GANs' own.

    Raises InputError where Lightning or this machine cannot do what is asked for.
    """
    several = budget.strategy == "ddp" or budget.devices * budget.num_nodes > 1
    # A step of a critic leaves the generator's parameters out. Buffers are the same in all processes as it is.
    ddp = DDPStrategy(find_unused_parameters=not automatic, forward_sync_buffers=False) if several else None
    try:
        trainer = pl.Trainer(
            accelerator=budget.accelerator,
            devices=budget.devices,
            num_nodes=budget.num_nodes,
            strategy=ddp or "auto",
            precision=budget.precision,  # type: ignore[arg-type]
            max_epochs=budget.epochs,
            gradient_clip_val=budget.clip if automatic else None,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            # On GPUs some operators have no deterministic form.
            deterministic=True if budget.accelerator == "cpu" else "warn",
        )
    except (MisconfigurationException, ValueError) as error:
        asked = ", ".join(
            f"{key} {getattr(budget, key)}" for key in ("accelerator", "devices", "num_nodes", "precision")
        )
        raise InputError(f"train: this machine cannot train with {asked}: {' '.join(str(error).split())}") from None
    if budget.num_nodes > 1 and not LAUNCHERS & set(os.environ):
        raise InputError(
            f"train: with train.num_nodes {budget.num_nodes} a launcher must start training on each machine:"
            " torchrun ... -m stages.train NAME"
        )
    asked_for = budget.devices * budget.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ and trainer.world_size != asked_for:
        raise InputError(
            f"train: torchrun starts {trainer.world_size} processes in all, but train.devices * train.num_nodes is "
            f"{budget.devices} * {budget.num_nodes}"
        )
    return trainer


def loaders(
    windows: Windows, budget: TrainConfig, reach: int, trainer: pl.Trainer, generator: torch.Generator | None
) -> tuple[DataLoader[Window], DataLoader[Window]]:
    """What a process trains on and what it validates on; `reach` is that of the model.

    Of several processes all draw order and transposition from a `generator` in the same state, as a single one with the
    batch of all together would, and each takes its share of every batch.
    """
    processes, process = trainer.world_size, trainer.global_rank

    def collated(examples: list[Window]) -> Batch:
        batch = collate(examples)
        return share(batch, process, processes) if processes > 1 else batch

    examples = RollDataset(windows, "train", budget.transpose, generator)
    passages = Passages(RollDataset(windows, "valid", 0), reach)
    # One passage a process: their lengths differ, and what pads a batch is computed for nothing.
    return (
        DataLoader(
            examples,
            budget.batch * processes,
            sampler=Shuffled(len(examples), generator),
            collate_fn=collated,
            generator=generator,
        ),
        DataLoader(passages, processes, collate_fn=collated, generator=generator),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's notes about devices and workers off the screen."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*(num_workers|isinstance.treespec).*")
        yield
