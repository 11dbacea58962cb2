"""A conditional Wasserstein GAN: the critic estimates a distance, held smooth by a gradient penalty."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pianoai.losses import gradient_penalty, wgan_critic, wgan_generator
from pianoai.models.adversarial import AdversarialConfig, AdversarialTraining, Generator
from pianoai.params import bounded


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """The section `wgan` of params.yaml."""

    penalty: float = bounded(least=0)


Model = Generator
PENALISED = 4  # examples of which one is penalised; they come in random order


class Training(AdversarialTraining):
    """Wasserstein losses with a gradient penalty on the next frame (Gulrajani et al. 2017)."""

    config: Config

    def critic_loss(self, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """f(fake) - f(real)."""
        return wgan_critic(real, fake, mask)

    def generator_loss(self, scores: Tensor, mask: Tensor) -> Tensor:
        """-f(fake)."""
        return wgan_generator(scores, mask)

    def roughness(self, heard: tuple[Tensor, Tensor], real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """The penalty on the slope of f between real and drawn frames; it is logged.

        Its mean is estimated on one example in PENALISED, at least one: a second derivative is dear, and an example has
        hundreds of frames.
        """
        some = slice(max(1, len(mask) // PENALISED))
        heard, real, fake, mask = (heard[0][some], heard[1][some]), real[some], fake[some], mask[some]
        share = torch.rand(*mask.shape, 1, device=mask.device)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        scores = self.critic.score(heard, mixed)
        (slopes,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)
        penalty = self.config.penalty * gradient_penalty(slopes, mask)
        self.log("train_penalty", penalty.detach(), on_epoch=True, on_step=False, sync_dist=True)
        return penalty
