import math

import pytest
import torch
from torch import Tensor

from pianoai import losses
from pianoai.models.heads import Independent

HALF = math.log(2)


def frames(rows: list[list[float]]) -> Tensor:
    """A batch of one window: (1, time, pitches)."""
    return torch.tensor([rows])


def test_sounding_is_summed_over_pitches_and_averaged_over_frames_that_count() -> None:
    logits = frames([[0.0, 0.0], [math.log(3), 0.0], [50.0, 50.0]])
    target = frames([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    # frame 0: two coins; frame 1: -log(3/4) and a coin; frame 2 does not count
    expected = (2 * HALF + (-math.log(0.75) + HALF)) / 2
    assert losses.sounding(logits, target, mask).item() == pytest.approx(expected, rel=1e-6)


def test_struck_counts_only_where_it_is_a_question() -> None:
    logits = frames([[math.log(4), 30.0]])
    loss = losses.struck(logits, frames([[0.0, 0.0]]), frames([[1.0, 0.0]]), torch.ones(1, 1))
    assert loss.item() == pytest.approx(math.log(5), rel=1e-6)  # -log(1 - 4/5)


def test_mse() -> None:
    loss = losses.mse(frames([[0.5, 0.0], [9.0, 9.0]]), frames([[1.0, 0.2], [0.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx((0.25 + 0.04) / 2, rel=1e-6)


def test_cosine_leaves_out_silent_frames() -> None:
    predicted = frames([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
    true = frames([[4.0, 3.0], [0.0, 2.0], [0.0, 0.0]])
    # 1 - 24/25, 1 - 0, silent
    assert losses.cosine(predicted, true, torch.ones(1, 3)).item() == pytest.approx((0.04 + 1) / 2, rel=1e-5)


def test_variance_punishes_too_little_and_not_too_much() -> None:
    true = frames([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    predicted = frames([[0.4, -3.0], [0.6, 3.0], [7.0, 7.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    # deviations: true 0.5 and 0.5; predicted 0.1 and 3
    assert losses.variance(predicted, true, mask).item() == pytest.approx(0.4 / 2, abs=1e-4)


def test_adversarial_losses() -> None:
    real, fake, mask = torch.tensor([[2.0, 9.0]]), torch.tensor([[-1.0, 9.0]]), torch.tensor([[1.0, 0.0]])
    expected = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))
    assert losses.gan_discriminator(real, fake, mask).item() == pytest.approx(expected, rel=1e-6)
    assert losses.gan_generator(fake, mask).item() == pytest.approx(math.log(1 + math.e), rel=1e-6)
    assert losses.wgan_critic(real, fake, mask).item() == pytest.approx(-3)
    assert losses.wgan_generator(fake, mask).item() == pytest.approx(1)


def test_gradient_penalty() -> None:
    slopes = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [7.0, 7.0]]])
    assert losses.gradient_penalty(slopes, torch.tensor([[1.0, 1.0, 0.0]])).item() == pytest.approx(16 / 2)


def velocity_nats(logit: float, true: int, scale: float, lowest: int, highest: int) -> float:
    """By `losses.velocity`, for one struck note beside one that is not."""
    loss = losses.velocity(
        frames([[logit, 3.0]]),
        torch.tensor(math.log(scale)),
        frames([[float(true), 0.0]]),
        frames([[1.0, 0.0]]),
        torch.ones(1, 1),
        torch.tensor([float(lowest), float(highest)]),
    )
    return float(loss)


def test_a_velocity_has_the_probability_that_it_is_drawn_with() -> None:
    head = Independent()
    with torch.no_grad():
        head.log_scale.fill_(math.log(0.4))
        head.velocities.copy_(torch.tensor([30, 70]))
    uniform = (torch.arange(200_000) + 0.5) / 200_000
    drawn = head.velocity(torch.distributions.Laplace(0.2, 0.4).icdf(uniform)).round()  # type: ignore[no-untyped-call]
    for velocity in (30, 31, 50, 69, 70):
        share = float((drawn == velocity).float().mean())
        assert math.exp(-velocity_nats(0.2, velocity, 0.4, 30, 70)) == pytest.approx(share, abs=2e-5)
    assert sum(math.exp(-velocity_nats(0.2, at, 0.4, 30, 70)) for at in range(30, 71)) == pytest.approx(1, abs=1e-5)
    assert velocity_nats(0.2, 90, 0.4, 30, 70) == velocity_nats(0.2, 70, 0.4, 30, 70)
    # 127 has no border above, and 2 none below.
    assert sum(math.exp(-velocity_nats(3.0, at, 0.2, 2, 127)) for at in range(2, 128)) == pytest.approx(1, abs=1e-4)


def test_velocities_that_are_all_the_same_cost_and_teach_nothing() -> None:
    logits, scale = frames([[0.7, -1.0]]).requires_grad_(), torch.tensor(-1.0, requires_grad=True)
    one = torch.ones(1, 1)
    loss = losses.velocity(logits, scale, frames([[64.0, 64.0]]), torch.ones(1, 1, 2), one, torch.full((2,), 64.0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert scale.grad is not None
    assert not logits.grad.any()
    assert not scale.grad.any()
