"""Training on the likelihood of the next frame alone: a Lightning module, and the optimiser of its matrices."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Optimizer

from pianoai.dataset import Batch
from pianoai.losses import LossConfig
from pianoai.models.frame import FrameModel
from pianoai.models.objective import TrainConfig, frame_losses, schedule, validation_nll

ROUNDS = 5  # of Newton-Schulz
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of its odd polynomial of degree 5


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
        total, terms = frame_losses(self.model(batch.features, latent), batch, self.loss_config)
        self.log_dict({f"train_{name}": value for name, value in terms.items()}, on_epoch=True, on_step=False)
        return total

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log nats a frame."""
        nll, frames = validation_nll(self.model, batch, samples=1)
        self.log("valid_nll", nll, on_epoch=True, batch_size=frames)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[dict[str, object]]]:  # type: ignore[override]
        """Muon for the matrices inside the blocks, AdamW for the rest; the schedule is stepped after every batch."""
        inner = [value for name, value in self.named_parameters() if "blocks." in name and value.ndim == 2]
        chosen = set(map(id, inner))
        outer = [value for value in self.parameters() if id(value) not in chosen]
        optimizer = Muon(inner, outer, self.config.learning_rate, self.train_config.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        scheduler = schedule(optimizer, self.train_config.warmup, total)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Muon(Optimizer):
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) for matrices, AdamW for the rest.

    `learning_rate` serves both: an orthogonal update is scaled by 0.2 sqrt(larger side), which gives it the root
    mean square of an AdamW step (Liu et al. 2025, arXiv:2502.16982). PyTorch has a Muon too, but it computes
    in bfloat16, which most CPUs do slowly: here it takes seven times as long.
    """

    def __init__(
        self,
        matrices: Iterable[Parameter],
        others: Iterable[Parameter],
        learning_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        self.adam = AdamW(others, learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay)
        defaults = {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(list(matrices), defaults)
        self.param_groups += self.adam.param_groups  # so that clipping, schedules and checkpoints see all of them

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure` computes the loss anew, as in every optimiser."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[0]
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            average = state.setdefault("momentum", torch.zeros_like(matrix))
            average.lerp_(matrix.grad, 1 - group["momentum"])
            update = orthogonal(matrix.grad.lerp(average, group["momentum"]))
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(update, alpha=-0.2 * group["lr"] * max(matrix.shape) ** 0.5)
        self.adam.step()
        return loss


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors and singular values near 1 (roughly 0.7 to 1.2).

    Five rounds of x <- a x + b x^3 + c x^5 on the singular values, after dividing by the Frobenius norm.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    found: Tensor = x if wide is matrix else x.T
    return found
