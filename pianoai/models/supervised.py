"""Training on the likelihood of the next frame alone: a Lightning module."""

from typing import Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from pianoai.dataset import Batch
from pianoai.losses import LossConfig
from pianoai.models.base import FrameModel
from pianoai.models.muon import Muon
from pianoai.models.objective import TrainConfig, frame_losses, schedule, validation_nll


class Rate(Protocol):
    """A model's configuration, as far as it matters here."""

    @property
    def learning_rate(self) -> float:
        """At its highest, after warm-up."""


class LikelihoodTraining(pl.LightningModule):
    """Minimises the weighted sum of the loss terms with Muon, warm-up and cosine decay."""

    def __init__(self, model: FrameModel, config: Rate, train: TrainConfig, loss: LossConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.train_config = train
        self.loss_config = loss

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """One step; logs every term."""
        latent = torch.rand(*batch.features.shape[:2], self.model.latent)
        total, terms = frame_losses(
            self.model.head(self.model(batch.features, latent), batch.targets), batch, self.loss_config, self.model.head
        )
        self.log_dict({f"train_{name}": value for name, value in terms.items()}, on_epoch=True, on_step=False)
        return total

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log nats a frame."""
        nll, frames = validation_nll(self.model, batch, samples=1)
        self.log("valid_nll", nll, on_epoch=True, batch_size=frames)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[dict[str, object]]]:  # type: ignore[override]
        """Muon for the matrices inside the blocks, AdamW for the rest; the schedule is stepped after every batch."""
        train = self.train_config
        optimizer = Muon.of(self.model, ("blocks.",), self.config.learning_rate, train.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = schedule(optimizer, train.warmup, total)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
