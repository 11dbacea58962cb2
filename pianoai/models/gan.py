"""A conditional GAN: the discriminator learns to tell real next frames from drawn ones."""

from dataclasses import dataclass

from torch import Tensor

from pianoai.losses import gan_discriminator, gan_generator
from pianoai.models.adversarial import AdversarialConfig, AdversarialTraining, Generator


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """The section `gan` of params.yaml."""


Model = Generator


class Training(AdversarialTraining):
    """Logistic losses (Goodfellow et al. 2014)."""

    def critic_loss(self, context: Tensor, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """-log D(real) - log(1 - D(fake))."""
        return gan_discriminator(self.critic.score(context, real), self.critic.score(context, fake), mask)

    def generator_loss(self, scores: Tensor, mask: Tensor) -> Tensor:
        """-log D(fake)."""
        return gan_generator(scores, mask)
