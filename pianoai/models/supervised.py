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
from pianoai.models.processes import log_nll, log_terms, own_part


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
        part = own_part(self, batch.mask)
        latent = torch.rand(*batch.features.shape[:2], self.model.latent, device=self.device)
        logits = self.model.head(self.model(batch.features, latent), batch.targets).float()
        total, terms = frame_losses(logits, batch, self.loss_config, self.model.head)
        log_terms(self, {name: part.weight * value for name, value in terms.items()}, part)
        return part.weight * total

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log nats a frame."""
        nll, _ = validation_nll(self.model, batch, samples=1)
        log_nll(self, nll, own_part(self, batch.mask))

    def configure_optimizers(self) -> tuple[list[Optimizer], list[dict[str, object]]]:  # type: ignore[override]
        """Muon for the matrices inside the blocks, AdamW for the rest; the schedule is stepped after every batch."""
        train = self.train_config
        optimizer = Muon.of(self.model, ("blocks.",), self.config.learning_rate, train.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = schedule(optimizer, train.warmup, total)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
