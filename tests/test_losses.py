import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pianoai import losses
from pianoai.models.frame import level_logit
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


def velocity_head(scale: float, friction: float, lowest: int, highest: int) -> Independent:
    """A head that draws velocities so."""
    head = Independent()
    with torch.no_grad():
        head.log_scale.fill_(math.log(scale))
        head.log_friction.fill_(math.log(friction) if friction else -math.inf)
        head.velocities.copy_(torch.tensor([lowest, highest]))
    return head


def velocity_nats(logit: float, level: float, true: int, head: Independent) -> float:
    """By `losses.velocity`, for one struck note beside one that is not."""
    level_of = torch.full((1, 1, 1), level)
    struck = frames([[1.0, 0.0]])
    true_of = frames([[float(true), 0.0]])
    return losses.velocity(frames([[logit, 3.0]]), level_of, head, true_of, struck, torch.ones(1, 1)).item()


@pytest.mark.parametrize("friction", [0.0, 0.3, 2.0])
@torch.no_grad()
def test_a_velocity_has_the_probability_that_it_is_drawn_with(friction: float) -> None:
    head, level = velocity_head(0.4, friction, 30, 70), math.log(60 / 67)
    uniform = (torch.arange(200_000) + 0.5) / 200_000
    moved = torch.distributions.Laplace(0.2, 0.4).icdf(uniform)  # type: ignore[no-untyped-call]
    drawn = head.velocity(moved, torch.tensor(level)).round()
    for velocity in (30, 31, 50, 59, 60, 61, 69, 70):
        share = float((drawn == velocity).float().mean())
        assert math.exp(-velocity_nats(0.2, level, velocity, head)) == pytest.approx(share, abs=2e-5)
    assert sum(math.exp(-velocity_nats(0.2, level, at, head)) for at in range(30, 71)) == pytest.approx(1, abs=1e-5)
    assert velocity_nats(0.2, level, 90, head) == velocity_nats(0.2, level, 70, head)


@pytest.mark.parametrize("friction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("level", [2, 60, 126, 127])
@torch.no_grad()
def test_the_lowest_and_the_highest_velocity_can_stay(level: int, friction: float) -> None:
    head, before = velocity_head(0.3, friction, 2, 127), level_logit(torch.tensor(level / 127))
    uniform = (torch.arange(100_000) + 0.5) / 100_000
    moved = torch.distributions.Laplace(before, 0.3).icdf(uniform)  # type: ignore[no-untyped-call]
    drawn = head.velocity(moved, before).round()
    chances = {at: math.exp(-velocity_nats(float(before), float(before), at, head)) for at in range(2, 128)}
    assert sum(chances.values()) == pytest.approx(1, abs=1e-4)
    for velocity in (2, 3, 59, 60, 125, 126, 127):
        share = float((drawn == velocity).float().mean())
        assert chances[velocity] == pytest.approx(share, abs=1e-4)
    assert max(chances, key=lambda at: chances[at]) == level


def test_a_chord_counts_as_one() -> None:
    head, struck = velocity_head(0.4, 0.3, 2, 127), frames([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    true, logits = frames([[60.0, 80.0, 0.0], [60.0, 80.0, 0.0]]), frames([[0.1, 0.2, 5.0]] * 2)
    found = losses.velocity(logits, torch.zeros(1, 2, 1), head, true, struck, torch.ones(1, 2)).item()
    low, high = velocity_nats(0.1, 0.0, 60, head), velocity_nats(0.2, 0.0, 80, head)
    assert found == pytest.approx(((low + high) / 2 + low) / 2, rel=1e-5)


def test_scale_and_friction_are_found_from_what_they_draw() -> None:
    torch.manual_seed(1)
    level = torch.logit(torch.tensor([60, 80]) / 127).repeat(10_000)
    with torch.no_grad():
        moved = torch.distributions.Laplace(0.1 + 0.8 * level, 0.5).sample()
        drawn = velocity_head(0.5, 1.0, 2, 127).velocity(moved, level).round()
    head, found = velocity_head(0.3, 0.3, 2, 127), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([head.log_scale, head.log_friction, found], 0.05)
    for _ in range(300):
        middle, shape = found[0] + (1 - found[1]) * level, (1, 20_000, 1)
        optimizer.zero_grad()
        ones = torch.ones(shape)
        losses.velocity(middle.view(shape), level.view(shape), head, drawn.view(shape), ones, ones[..., 0]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert head.log_scale.exp().item() == pytest.approx(0.5, rel=0.05)
    assert head.log_friction.exp().item() == pytest.approx(1.0, rel=0.05)
    assert found.tolist() == pytest.approx([0.1, 0.2], abs=0.05)


def test_friction_keeps_the_level_by_hand() -> None:
    # A Laplace distribution with the scale 1 lies within log 4 of its middle with a probability of 3/4.
    head, level = velocity_head(1.0, math.log(4), 2, 127), math.log(64 / 63)
    nearly = math.log(64.5 / 62.5) - level  # as far as the border to 65
    assert math.exp(-velocity_nats(level, level, 64, head)) == pytest.approx(1 - math.exp(-nearly) / 4, abs=2e-4)
    louder = math.exp(-velocity_nats(level, level, 65, head))
    further = math.log(65.5 / 61.5) - level
    assert louder == pytest.approx((math.exp(-nearly) - math.exp(-further)) / 8, abs=1e-6)


def test_velocities_that_are_all_the_same_cost_and_teach_nothing() -> None:
    logits, head = frames([[0.7, -1.0]]).requires_grad_(), velocity_head(0.4, 0.3, 64, 64)
    one, struck = torch.ones(1, 1), torch.ones(1, 1, 2)
    loss = losses.velocity(logits, torch.zeros(1, 1, 1), head, frames([[64.0, 64.0]]), struck, one)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    for found in (logits, head.log_scale, head.log_friction):
        assert found.grad is not None
        assert not found.grad.any()


def test_roots_are_those_of_exact_arithmetic() -> None:
    values = np.float32(10.0) ** np.linspace(-20, 20, 10_001, dtype=np.float32)
    expected = np.float32(1) / (np.float32(1) / np.sqrt(values))
    assert (losses.root(torch.from_numpy(values)).numpy() == expected).all()
    assert losses.root(torch.zeros(1)).item() == 0
