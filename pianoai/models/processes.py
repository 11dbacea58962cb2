"""What a process's part of a batch counts where several processes train one model, and how its figures are logged."""

from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor


class Part(NamedTuple):
    """A process's part of a step, and the size of the whole."""

    weight: Tensor | float  # of a mean over its frames, so that the mean over processes is that over all frames
    examples: int  # in the batches of all processes
    frames: int


def own_part(module: pl.LightningModule, mask: Tensor) -> Part:
    """The part that a batch with this mask (batch, time) is of the step of all processes.

    Processes have examples of different lengths, and DDP takes the mean of their gradients as if they had not. A
    process with n of N frames therefore counts by n / (N / processes). One process alone has a weight of 1.
    """
    processes = module.trainer.world_size
    if processes == 1:
        return Part(1.0, len(mask), int(mask.sum()))
    own = torch.stack([mask.sum(), mask.any(1).sum().to(mask)])
    frames, examples = module.trainer.strategy.reduce(own.clone(), reduce_op="sum")
    return Part(own[0] * processes / frames, int(examples), int(frames))


def log_terms(module: pl.LightningModule, terms: dict[str, Tensor], part: Part) -> None:
    """Log means of a training step, already weighed; an epoch's is over all examples of all processes."""
    named = {f"train_{name}": value for name, value in terms.items()}
    module.log_dict(named, on_epoch=True, on_step=False, batch_size=part.examples, sync_dist=True)


def log_nll(module: pl.LightningModule, nll: Tensor, part: Part) -> None:
    """Log nats a frame of a validation step; an epoch's is over all frames of all processes.

    Every process says how many frames all have: Lightning halves the sum of two processes' sizes in whole numbers.
    """
    module.log("valid_nll", part.weight * nll, on_epoch=True, batch_size=part.frames, sync_dist=True)
