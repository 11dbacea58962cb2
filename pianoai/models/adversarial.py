"""What the GAN and the WGAN share: generator, critic, and a Lightning module that trains one against the other."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pianoai.dataset import Batch
from pianoai.losses import LossConfig
from pianoai.models.base import FrameModel, State
from pianoai.models.frame import FEATURES, output_layer, real_planes, split_logits
from pianoai.models.objective import TrainConfig, before, frame_losses, schedule, validation_nll
from pianoai.params import bounded
from pianoai.runtime.roll import PITCHES


@dataclass(frozen=True)
class AdversarialConfig:
    """What the sections `gan` and `wgan` of params.yaml have in common."""

    width: int = bounded(least=1, most=4096)
    latent: int = bounded(least=1, most=4096)
    dropout: float = bounded(least=0, most=0.9)
    learning_rate: float = bounded(least=0)
    noise_samples: int = bounded(least=1)
    critic_width: int = bounded(least=1, most=4096)
    critic_learning_rate: float = bounded(least=0)
    critic_steps: int = bounded(least=1)
    adversarial: float = bounded(least=0)


def dilations(window: int) -> list[int]:
    """Distances 1, 2, 4, … and a rest, which together span exactly `window` frames."""
    steps: list[int] = []
    while sum(steps) < window - 1:
        steps.append(min(2 ** len(steps), window - 1 - sum(steps)))
    return steps


class Context(nn.Module):
    """Dilated causal convolution over frames: each output sees exactly `window` frames.

    A convolution of two taps is a linear layer over a frame and the one `dilation` before it (van den Oord et
    al. 2016). Nothing is padded: the output is window - 1 frames shorter than the input.
    """

    def __init__(self, window: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dilations = dilations(window)
        self.embed = nn.Linear(FEATURES, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.dilations)
        self.taps = nn.ModuleList(nn.Linear(2 * width, width) for _ in self.dilations)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, time + window - 1, 264) -> (batch, time, width)."""
        x: Tensor = self.embed(features)
        for index, (norm, tap) in enumerate(zip(self.norms, self.taps, strict=True)):
            distance = self.dilations[index]
            y = norm(x)
            y = torch.cat([y[:, distance:], y[:, :-distance]], -1)
            x = x[:, distance:] + self.dropout(F.gelu(tap(y), approximate="tanh"))
        return x


def pad_window(features: Tensor, window: int) -> Tensor:
    """Silence before the first frame, so that every frame has a whole window behind it."""
    return F.pad(features, (0, 0, window - 1, 0))


class Generator(FrameModel):
    """Maps (window, noise) to the next frame: context of the window, joined with the noise of that frame."""

    def __init__(self, config: AdversarialConfig, window: int) -> None:
        super().__init__(window, config.latent)
        self.context = Context(window, config.width, config.dropout)
        self.join = nn.Sequential(
            nn.LayerNorm(config.width + config.latent),
            nn.Linear(config.width + config.latent, config.width),
            nn.GELU(approximate="tanh"),
        )
        self.out = output_layer(config.width)

    def logits(self, context: Tensor, latent: Tensor) -> Tensor:
        """(…, width), (…, latent) uniform in [0, 1) -> (…, 3, 88)."""
        joined = torch.cat([context, 2 * latent - 1], -1)
        return split_logits(self.out(self.join(joined)))

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """See FrameModel.forward."""
        return self.logits(self.context(pad_window(features, self.window)), latent)

    def initial_state(self) -> State:
        """A window of silence (window, 264)."""
        return torch.zeros(self.window, FEATURES), torch.tensor(0), torch.zeros(PITCHES)

    def step_context(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See FrameModel.step_context; the memory is the window of planes."""
        memory = torch.cat([memory[1:], features.unsqueeze(0)])
        context = self.context(memory.unsqueeze(0))
        return self.logits(context[0, 0], latent), memory

    def read(self, features: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        return torch.cat([memory, features])[self.chunk :]


class Critic(nn.Module):
    """Sees (window, next frame) and says how real the next frame is; without a sigmoid."""

    def __init__(self, config: AdversarialConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.context = Context(window, config.critic_width, 0.0)
        self.following = nn.Linear(FEATURES, config.critic_width)
        self.judge = nn.Sequential(
            nn.Linear(2 * config.critic_width, config.critic_width), nn.GELU(), nn.Linear(config.critic_width, 1)
        )

    def read(self, features: Tensor) -> Tensor:
        """The context (batch, time, width) of the frames read (batch, time, 264)."""
        context: Tensor = self.context(pad_window(features, self.window))
        return context

    def score(self, context: Tensor, following: Tensor) -> Tensor:
        """Scores (batch, time) of next frames given as planes (batch, time, 264)."""
        joined = torch.cat([context, F.gelu(self.following(following))], -1)
        scores: Tensor = self.judge(joined)
        return scores.squeeze(-1)


class AdversarialTraining(pl.LightningModule):
    """Trains a generator on the loss terms plus an adversarial one, and a critic against it.

    Subclasses say what the two lose: `critic_loss` and `generator_loss`.
    """

    def __init__(self, model: Generator, config: AdversarialConfig, train: TrainConfig, loss: LossConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.critic = Critic(config, model.window)
        self.config = config
        self.train_config = train
        self.loss_config = loss

    def critic_loss(self, context: Tensor, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """What the critic minimises, from planes of real and drawn next frames."""
        raise NotImplementedError

    def generator_loss(self, scores: Tensor, mask: Tensor) -> Tensor:
        """What the generator minimises besides the loss terms, from the critic's scores of its draws."""
        raise NotImplementedError

    def imagine(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits for fresh noise, and the planes of the frames drawn with them."""
        shape = batch.features.shape[:2]
        logits = self.model(batch.features, torch.rand(*shape, self.model.latent))
        drawn = (torch.rand(*shape, 2, PITCHES) < torch.sigmoid(logits[..., :2, :])).float()
        return logits, real_planes(logits, before(batch), drawn[..., 0, :], drawn[..., 1, :])

    def training_step(self, batch: Batch, index: int) -> None:
        """`critic_steps` steps of the critic, then one of the generator; logs every term."""
        generator, critic = self.optimizers()  # type: ignore[attr-defined]
        logits, fake = self.imagine(batch)
        for _ in range(self.config.critic_steps):
            context = self.critic.read(batch.features)
            loss = self.critic_loss(context, batch.targets, fake.detach(), batch.mask)
            self.descend(critic, loss)
        total, terms = frame_losses(logits, batch, self.loss_config)
        with torch.no_grad():
            context = self.critic.read(batch.features)
        adversarial = self.generator_loss(self.critic.score(context, fake), batch.mask)
        self.descend(generator, total + self.config.adversarial * adversarial)
        for scheduler in self.lr_schedulers():  # type: ignore[union-attr]
            scheduler.step()
        terms |= {"adversarial": adversarial.detach(), "critic": loss.detach()}
        self.log_dict({f"train_{name}": value for name, value in terms.items()}, on_epoch=True, on_step=False)

    def descend(self, optimizer: Any, loss: Tensor) -> None:
        """One clipped step of one of the two optimisers."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, self.train_config.clip, "norm")
        optimizer.step()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log nats a frame of the mean over noise samples."""
        nll, frames = validation_nll(self.model, batch, self.config.noise_samples)
        self.log("valid_nll", nll, on_epoch=True, batch_size=frames)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[object]]:  # type: ignore[override]
        """AdamW for the generator, Adam with betas (0.5, 0.9) for the critic, both on the same schedule."""
        train = self.train_config
        generator = torch.optim.AdamW(
            self.model.parameters(), self.config.learning_rate, weight_decay=train.weight_decay
        )
        critic = torch.optim.Adam(self.critic.parameters(), self.config.critic_learning_rate, betas=(0.5, 0.9))
        batches = int(self.trainer.estimated_stepping_batches)
        return [generator, critic], [schedule(each, train.warmup, batches) for each in (generator, critic)]
