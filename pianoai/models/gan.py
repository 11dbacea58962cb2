"""A conditional GAN: the discriminator, held smooth by spectral norms, tells real next frames from drawn ones."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pianoai.losses import LossConfig, gan_discriminator, gan_generator
from pianoai.models.adversarial import AdversarialConfig, AdversarialTraining, Generator
from pianoai.models.objective import TrainConfig


@dataclass(frozen=True)
class Config(AdversarialConfig):
    """The section `gan` of params.yaml."""


Model = Generator


class Training(AdversarialTraining):
    """Logistic losses (Goodfellow et al. 2014) and a discriminator with spectral norms (Miyato et al. 2018).

    Every matrix of it but the last is divided by its largest singular value, so that no layer can make much of a small
    difference, and the generator has a slope to follow.
    """

    def __init__(self, model: Generator, config: Config, train: TrainConfig, loss: LossConfig) -> None:
        super().__init__(model, config, train, loss)
        *layers, _ = [layer for layer in self.critic.modules() if isinstance(layer, nn.Linear)]
        for layer in layers:
            spectral_norm(layer)

    def critic_loss(self, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
        """-log D(real) - log(1 - D(fake))."""
        return gan_discriminator(real, fake, mask)

    def generator_loss(self, scores: Tensor, mask: Tensor) -> Tensor:
        """-log D(fake)."""
        return gan_generator(scores, mask)
