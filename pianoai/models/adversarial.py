"""What the GAN and the WGAN share: generator, critic, and a Lightning module that trains one against the other."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from pianoai.dataset import Batch
from pianoai.losses import LossConfig, masked_mean
from pianoai.models.base import FrameModel, State
from pianoai.models.frame import KINDS, PLANES, drawn_planes, output_layer, relative, split_logits
from pianoai.models.muon import Muon
from pianoai.models.objective import (
    OCTAVE,
    Coverage,
    TrainConfig,
    before,
    frame_nats,
    mixture_losses,
    mixture_nll,
    schedule,
)
from pianoai.models.processes import log_nll, log_terms, own_part
from pianoai.params import bounded
from pianoai.runtime.roll import PITCHES

INTERVALS = 3 * OCTAVE + 2  # 0 to 12 semitones within a frame, -12 to 12 to the last one
MEASURED = 16  # batches from one measurement of the adversarial term's gradient to the next: it costs a pass


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
        self.embed = nn.Linear(PLANES, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.dilations)
        self.taps = nn.ModuleList(nn.Linear(2 * width, width) for _ in self.dilations)
        self.dropout = nn.Dropout(dropout)

    def forward(self, planes: Tensor) -> Tensor:
        """(batch, time + window - 1, 264) -> (batch, time, width)."""
        x: Tensor = self.embed(planes)
        for index, (norm, tap) in enumerate(zip(self.norms, self.taps, strict=True)):
            distance = self.dilations[index]
            y = norm(x)
            y = torch.cat([y[:, distance:], y[:, :-distance]], -1)
            x = x[:, distance:] + self.dropout(F.gelu(tap(y), approximate="tanh"))
        return x


def pad_window(features: Tensor, window: int) -> Tensor:
    """The planes of features, and silence before the first frame: every frame then has a whole window behind it."""
    return F.pad(features[..., :PLANES], (0, 0, window - 1, 0))


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

    def logits(self, context: Tensor, latent: Tensor, features: Tensor) -> Tensor:
        """(…, width), (…, latent) uniform in [0, 1), features of the last frame (…, 265): a context (…, 4, 88)."""
        joined = torch.cat([context, 2 * latent - 1], -1)
        return relative(split_logits(self.out(self.join(joined))), features, self.head.pull)

    def forward(self, features: Tensor, latent: Tensor) -> Tensor:
        """See FrameModel.forward."""
        return self.logits(self.context(pad_window(features, self.window)), latent, features)

    def imagine(self, features: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """See FrameModel.imagine; what noise does not change is computed once."""
        context = self.context(pad_window(features, self.window))
        shape = samples, *context.shape[:2], self.latent
        latent = torch.rand(shape, generator=generator, device=features.device)
        return self.logits(context.expand(samples, *context.shape), latent, features)

    def initial_state(self) -> State:
        """A window of silence (window, 264)."""
        return torch.zeros(self.window, PLANES), torch.tensor(0), torch.zeros(PITCHES + 1)

    def step_context(self, features: Tensor, memory: Tensor, position: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """See FrameModel.step_context; the memory is the window of planes."""
        memory = torch.cat([memory[1:], features[:PLANES].unsqueeze(0)])
        context = self.context(memory.unsqueeze(0))
        return self.logits(context[0, 0], latent, features), memory

    def read(self, planes: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """See FrameModel.read."""
        return torch.cat([memory, planes])[self.chunk :]


class Critic(nn.Module):
    """Sees (window, next frame) and says how real the next frame is; without a sigmoid.

    Besides the window's context and the next frame as a whole it is told which intervals stand between the notes of the
    next frame, and between them and those of the last: a few steps are too few to learn from single pitches
    which notes go together, in any key. How loud the next frame is it does not see: velocities are whole numbers, often
    all the same, and by them anything that was predicted could be told from what was played.
    """

    def __init__(self, config: AdversarialConfig, window: int) -> None:
        super().__init__()
        self.window = window
        width = config.critic_width
        self.context = Context(window, width, 0.0)
        self.following = nn.Linear(KINDS * PITCHES, width)
        self.judge = nn.Sequential(nn.Linear(2 * width + INTERVALS, width), nn.GELU(), nn.Linear(width, 1))

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Of frames read (batch, time, 265): their context (batch, time, width), and what sounds (batch, time, 88)."""
        return self.context(pad_window(features, self.window)), features[..., :PITCHES]

    def score(self, heard: tuple[Tensor, Tensor], following: Tensor) -> Tensor:
        """Scores (batch, time) of next frames given as planes (batch, time, 176) of sounding and struck."""
        context, last = heard
        notes = following[..., :PITCHES]
        pairs = torch.cat([intervals(notes, notes, 0), intervals(notes, last, -OCTAVE)], -1)
        scores: Tensor = self.judge(torch.cat([context, F.gelu(self.following(following)), pairs], -1))
        return scores.squeeze(-1)


def intervals(notes: Tensor, others: Tensor, least: int) -> Tensor:
    """How many pairs of a note and another k semitones above it there are, for k from `least` to 12: (…, 13 - least).

    Both are 1 where a pitch sounds and 0 elsewhere, (…, 88); differentiable in both.
    """
    shifted = F.pad(others, (-least, OCTAVE)).unfold(-1, PITCHES, 1)  # (…, 13 - least, 88)
    return torch.matmul(shifted, notes.unsqueeze(-1)).squeeze(-1)


class AdversarialTraining(pl.LightningModule):
    """Trains a generator on the loss terms plus an adversarial one, and a critic against it.

    The two have learning rates of their own (as in Heusel et al. 2017, whose critic is the quicker one). Subclasses
    say what they lose: `critic_loss`, `generator_loss` and, if the critic is held smooth by a penalty, `roughness`.
    """

    def __init__(self, model: Generator, config: AdversarialConfig, train: TrainConfig, loss: LossConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.critic = Critic(config, model.window)
        self.config = config
        self.train_config = train
        self.loss_config = loss
        self.coverage = Coverage()

    def critic_loss(self, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """What the critic minimises, from its scores (batch, time) of real and drawn next frames."""
        raise NotImplementedError

    def generator_loss(self, scores: Tensor, mask: Tensor) -> Tensor:
        """What the generator minimises besides the loss terms, from the critic's scores of its draws."""
        raise NotImplementedError

    def roughness(self, heard: tuple[Tensor, Tensor], real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """What the critic minimises besides, from the planes (batch, time, 176) that it compares."""
        return torch.zeros(())

    def imagine(self, batch: Batch) -> Tensor:
        """Logits (samples, batch, time, 3, 88) under as many draws of the generator's noise."""
        contexts = self.model.imagine(batch.features, self.config.noise_samples)
        logits: Tensor = self.model.head(contexts, batch.targets).float()
        return logits

    def draw(self, logits: Tensor, batch: Batch) -> Tensor:
        """Planes (batch, time, 176) of frames drawn from logits (batch, time, 3, 88), differentiable in them."""
        chance = torch.rand(*logits.shape[:2], 2, PITCHES, device=logits.device)
        drawn = (chance < torch.sigmoid(logits[..., :2, :])).float()
        return drawn_planes(logits, before(batch), drawn[..., 0, :], drawn[..., 1, :])

    def training_step(self, batch: Batch, index: int) -> None:
        """`critic_steps` steps of the critic, then one of the generator; logs every term, and who moves whom."""
        generator, critic = self.optimizers()  # type: ignore[attr-defined]
        part = own_part(self, batch.mask)
        logits, came = self.imagine(batch), batch.targets[..., : KINDS * PITCHES]
        for step in range(self.config.critic_steps):
            fake = self.draw(logits[step % len(logits)], batch)
            heard, shown = self.critic.read(batch.features), fake.detach()
            real, drawn = self.critic.score(heard, came), self.critic.score(heard, shown)
            loss = self.critic_loss(real, drawn, batch.mask)
            self.descend(critic, part.weight * (loss + self.roughness(heard, came, shown, batch.mask)))
        total, terms = mixture_losses(logits, batch, self.loss_config, self.model.head)
        with torch.no_grad():
            heard = self.critic.read(batch.features)
        adversarial = self.generator_loss(self.critic.score(heard, fake), batch.mask)
        terms |= {"adversarial": adversarial.detach(), "critic": loss.detach()}
        terms["gap"] = masked_mean(real - drawn, batch.mask).detach()
        terms = {name: part.weight * value for name, value in terms.items()}
        if index % MEASURED == 0:
            terms["adversarial_gradient"] = self.gradient_norm(self.config.adversarial * adversarial)
        terms["gradient"] = self.descend(generator, part.weight * (total + self.config.adversarial * adversarial))
        for scheduler in self.lr_schedulers():  # type: ignore[union-attr]
            scheduler.step()
        log_terms(self, terms, part)

    def gradient_norm(self, loss: Tensor) -> Tensor:
        """The norm of the generator's gradient of one part of what it minimises."""
        slopes = torch.autograd.grad(loss, list(self.model.parameters()), retain_graph=True, allow_unused=True)
        return nn.utils.get_total_norm([slope for slope in slopes if slope is not None])

    def descend(self, optimizer: Any, loss: Tensor) -> Tensor:
        """One clipped step of one of the two optimisers; returns the norm of the gradient as it was."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.train_config.clip or float("inf"))
        optimizer.step()
        return norm

    def on_validation_epoch_start(self) -> None:
        """Forget what was drawn an epoch ago."""
        self.coverage = Coverage()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log nats a frame of the mean over noise samples, and draw every frame once."""
        logits = self.imagine(batch)
        nll = mixture_nll([frame_nats(each, batch) for each in logits], batch.mask)
        log_nll(self, nll, own_part(self, batch.mask))
        drawn, real = self.draw(logits[0], batch), batch.targets
        self.coverage.add(drawn[..., :PITCHES], real[..., :PITCHES], batch.mask)

    def on_validation_epoch_end(self) -> None:
        """Log how much of what music does was drawn."""
        for counts in (self.coverage.counts, self.coverage.notes):
            counts.copy_(self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum"))
        self.log_dict({f"valid_{name}": value for name, value in self.coverage.scores().items()}, sync_dist=True)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[object]]:  # type: ignore[override]
        """Muon for the generator's inner matrices, Adam with betas (0.5, 0.9) for the critic, both on one schedule."""
        train, config = self.train_config, self.config
        generator = Muon.of(self.model, ("context.taps.", "join."), config.learning_rate, train.weight_decay)
        # Fused, Adam takes square roots that are the same on every CPU (see `losses.root`).
        critic = torch.optim.Adam(self.critic.parameters(), config.critic_learning_rate, betas=(0.5, 0.9), fused=True)
        batches = int(self.trainer.estimated_stepping_batches)
        return [generator, critic], [schedule(each, train.warmup, batches) for each in (generator, critic)]
