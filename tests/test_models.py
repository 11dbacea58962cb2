"""The whole pass and the step of every model agree, and see what they should and nothing else."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pianoai.checkpoint import family
from pianoai.models.adversarial import dilations, intervals
from pianoai.models.base import FrameModel
from pianoai.models.copy import count_rates
from pianoai.models.frame import FEATURES, PLANES, drawn_planes, read_features, step_features
from pianoai.models.heads import Independent
from pianoai.models.transformer import banded_attention, rotate, rotations
from pianoai.runtime.roll import NOISE, PITCHES, Roll, levels, velocities
from pianoai.windows import Windows

WINDOW = 16
CONFIGS: dict[str, dict[str, Any]] = {
    "copy": {},
    "gan": {"width": 24, "latent": 5, "dropout": 0.1},
    "wgan": {"width": 24, "latent": 5, "dropout": 0.1, "penalty": 10.0},
    "transformer": {
        "embed_dim": 24,
        "heads": 2,
        "blocks": 3,
        "feedforward": 40,
        "head": "nade",
        "head_units": 8,
        "recall_heads": 3,
        "dropout": 0.1,
        "learning_rate": 0.01,
    },
}
CRITIC = {
    "learning_rate": 0.01,
    "noise_samples": 2,
    "critic_width": 8,
    "critic_learning_rate": 1e-3,
    "critic_steps": 1,
    "adversarial": 0.1,
}


def build(name: str, window: int = WINDOW) -> FrameModel:
    torch.manual_seed(3)
    values = CONFIGS[name] | (CRITIC if "gan" in name else {})
    module = family(name)
    model: FrameModel = module.Model(module.Config(**values), window)
    if name == "copy":
        model.odds.data = torch.randn(4, PITCHES)
    return model.eval()


def features(roll: Roll) -> Tensor:
    return read_features(*(torch.from_numpy(part) for part in (roll, velocities(roll), levels(roll))))[None]


def real_roll(music: Windows, frames: int) -> Roll:
    return np.array(next(music.rolls("valid")))[:frames]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_step_agrees_with_the_whole_pass_over_three_windows(name: str, music: Windows) -> None:
    model, roll = build(name), real_roll(music, 3 * WINDOW + 5)
    assert len(roll) > 3 * WINDOW
    latent = torch.rand(1, len(roll), model.latent)
    whole = model(features(roll), latent)[0]
    state = model.initial_state()
    for at, frame in enumerate(torch.from_numpy(roll).float()):
        noise = torch.cat([torch.rand(NOISE), latent[0, at]])
        context, state = model.hear(frame, state, noise)
        torch.testing.assert_close(context, whole[at], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [4, 16, 40])  # shorter than a chunk, as long, longer
@pytest.mark.parametrize("name", ["transformer", "gan"])
@torch.no_grad()
def test_reading_is_as_many_steps(name: str, window: int, music: Windows) -> None:
    model = build(name, window)
    assert model.chunk == min(16, window)
    heard = features(real_roll(music, 90))[0]
    silent = torch.zeros(model.latent)
    for begin in (0, 3, window + 1):
        memory, position, _ = model.initial_state()
        for frame in heard[:begin]:
            _, memory = model.step_context(frame, memory, position, silent)
            position = position + 1
        stepped, read, at = memory.clone(), memory.clone(), position.clone()
        for frame in heard[begin : begin + 2 * model.chunk]:
            _, stepped = model.step_context(frame, stepped, position, silent)
            position = position + 1
        for chunk in torch.split(heard[begin : begin + 2 * model.chunk, :PLANES], model.chunk):
            read = model.read(chunk, read, at)
            at = at + model.chunk
        torch.testing.assert_close(read, stepped, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["transformer", "gan"])
@torch.no_grad()
def test_the_reach_is_as_far_as_a_frame_can_speak(name: str) -> None:
    model = build(name, 5).double()
    assert model.reach == {"transformer": (len(getattr(model, "blocks", [])) + 1) * 4 + 1, "gan": 5}[name]
    torch.manual_seed(0)
    heard, latent = torch.rand(1, 30, FEATURES).double(), torch.rand(1, 30, model.latent).double()
    changed = heard.clone()
    changed[0, 10] += 5
    differs = (model(heard, latent) - model(changed, latent)).abs().amax((0, 2, 3)) > 1e-9
    assert differs[10 : 10 + model.reach].all()
    assert not differs[:10].any()
    assert not differs[10 + model.reach :].any()


@pytest.mark.parametrize("name", ["transformer", "gan"])
@torch.no_grad()
def test_a_frame_sees_no_later_frame(name: str, music: Windows) -> None:
    model, roll = build(name), real_roll(music, 40)
    changed = roll.copy()
    changed[30:] = 0
    latent = torch.rand(1, 40, model.latent)
    one, other = model(features(roll), latent)[0], model(features(changed), latent)[0]
    torch.testing.assert_close(one[:30], other[:30], atol=1e-5, rtol=0)
    assert (one[30] - other[30]).abs().max() > 1e-3


@torch.no_grad()
def test_the_generator_sees_exactly_the_window(music: Windows) -> None:
    model, roll = build("gan"), real_roll(music, 40)
    latent = torch.rand(1, 40, model.latent)
    whole = model(features(roll), latent)[0]
    for forgotten, same in ((24, True), (25, False)):  # frame 39 sees frames 24 to 39
        changed = roll.copy()
        changed[:forgotten] = 0
        now = features(changed)
        now[:, forgotten:] = features(roll)[:, forgotten:]
        assert torch.allclose(model(now, latent)[0, 39], whole[39], atol=1e-5) is same


@torch.no_grad()
def test_imagining_is_a_pass_for_each_draw_of_noise(music: Windows) -> None:
    model, heard = build("gan"), features(real_roll(music, 40))
    torch.manual_seed(5)
    found = model.imagine(heard, 3)
    torch.manual_seed(5)
    expected = torch.stack([model(heard, latent) for latent in torch.rand(3, 1, 40, model.latent)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-2


@pytest.mark.parametrize("time", [1, 5, 8, 9, 27])
def test_banded_attention_equals_a_masked_square(time: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, time, 4).unbind(0)
    distance = torch.arange(time)[:, None] - torch.arange(time)
    mask = (distance >= 0) & (distance < 8)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(banded_attention(q, k, v, 8), expected)


def test_rotary_positions_depend_on_distance_alone_and_repeat() -> None:
    turns = rotations(WINDOW, 8)
    assert turns.shape == (4 * WINDOW, 2, 8)
    q, k = torch.randn(8), torch.randn(8)

    def score(at: int, of: int) -> float:
        return float(rotate(q, turns[at % 64]) @ rotate(k, turns[of % 64]))

    assert score(20, 13) == pytest.approx(score(7, 0), abs=1e-5)
    assert score(66, 59) == pytest.approx(score(7, 0), abs=1e-5)
    assert score(7, 2) != pytest.approx(score(7, 0), abs=1e-3)


@pytest.mark.parametrize(
    ("window", "expected"), [(2, [1]), (16, [1, 2, 4, 8]), (12, [1, 2, 4, 4]), (64, [1, 2, 4, 8, 16, 32])]
)
def test_dilations_span_the_window(window: int, expected: list[int]) -> None:
    assert dilations(window) == expected
    assert 1 + sum(expected) == window


def test_steps_keep_how_loud_held_notes_are_and_what_was_struck_last(music: Windows) -> None:
    roll = real_roll(music, 60)
    roll[0] = np.where(roll[0] > 0, 1, 0)  # as if cut out of the middle of a piece
    roll[7:10] = np.minimum(roll[7:10], 1)  # frames in which nothing is struck
    expected, loudness = features(roll)[0], torch.zeros(PITCHES + 1)
    for at, frame in enumerate(torch.from_numpy(roll).float()):
        found, loudness = step_features(frame, loudness)
        torch.testing.assert_close(found, expected[at])


def test_draw() -> None:
    logits = torch.full((4, PITCHES), -9.0)
    logits[0, :4] = 9.0  # four pitches sound
    logits[1, 0] = 9.0  # the first is struck again
    logits[2:] = torch.logit(torch.tensor(100 / 127))
    before = torch.zeros(PITCHES)
    before[:2], before[2] = 1.0, 90.0
    drawn, said = Independent().draw(logits, before, torch.full((NOISE,), 0.5), torch.tensor(1.0))
    assert drawn[:5].tolist() == [100, 1, 1, 100, 0]
    assert drawn.sum() == 202
    torch.testing.assert_close(said, torch.sigmoid(logits[:3]))


def test_temperature_scales_logits() -> None:
    logits = torch.zeros(4, PITCHES)
    logits[0] = 1.0  # sigmoid(1) = 0.731, sigmoid(1 / 4) = 0.562
    noise, draw = torch.full((NOISE,), 0.6), Independent().draw
    assert (draw(logits, torch.zeros(PITCHES), noise, torch.tensor(1.0))[0] > 0).all()
    assert not (draw(logits, torch.zeros(PITCHES), noise, torch.tensor(4.0))[0] > 0).any()


@torch.no_grad()
def test_velocities_are_drawn_around_the_predicted_one() -> None:
    head, logits = Independent(), torch.full((4, PITCHES), 9.0)
    logits[2:] = math.log(60 / 67)  # the logit of 60 / 127, and the level's
    logits[2, 1] += 0.1
    head.log_scale.fill_(math.log(0.5))

    def drawn(temperature: float) -> list[tuple[int, int]]:
        """The velocities of the first two pitches with numbers 0.5, 0.9, 0.2: the same for both."""
        found = []
        for number in (0.5, 0.9, 0.2):
            noise = torch.cat([torch.full((2 * PITCHES,), 0.5), torch.tensor([number])])
            row, _ = head.draw(logits, torch.zeros(PITCHES), noise, torch.tensor(temperature))
            found.append((int(row[0]), int(row[1])))
        return found

    head.log_friction.fill_(-math.inf)
    # Odds of 60 / 67, times 1 / (2 * 0.1) and 2 * 0.2 to the power of scale * temperature, and exp(0.1).
    assert drawn(1.0) == [(60, 63), (85, 87), (46, 49)]  # 60 and 63.17; 84.70 and 87.46; 45.92 and 48.94
    assert drawn(2.0) == [(60, 63), (104, 106), (33, 36)]  # 103.81 and 105.90; 33.49 and 35.83
    # A friction of log 2 halves odds that have grown, doubles those that have shrunk, and else leaves the level.
    head.log_friction.fill_(math.log(math.log(2)))
    assert drawn(1.0) == [(60, 60), (64, 67), (60, 60)]  # odds 60 / 67 times 1.118, and exp(0.1)
    assert drawn(2.0) == [(60, 60), (88, 90), (53, 56)]  # odds times 2.5 and 0.8
    head.velocities.copy_(torch.tensor([58, 80]))
    assert drawn(2.0) == [(60, 60), (80, 80), (58, 58)]
    head.velocities.fill_(64)  # music without dynamics
    assert drawn(2.0) == [(64, 64)] * 3


def test_drawn_planes_are_the_draw_with_the_gradient_of_the_probability() -> None:
    logits = torch.zeros(3, PITCHES, requires_grad=True)
    sounds, again, before = torch.zeros(3, PITCHES).unbind(0)
    sounds[:3], again[1], before[1:3] = 1.0, 1.0, 1.0
    found = drawn_planes(logits, before, sounds, again).view(2, PITCHES)
    assert found[0, :4].tolist() == [1, 1, 1, 0]
    assert found[1, :4].tolist() == [1, 1, 0, 0]  # new, struck again, held
    found[0, 0].backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(0.25)  # p (1 - p)


def test_intervals_are_counted() -> None:
    notes, others = torch.zeros(2, PITCHES).unbind(0)
    notes[[0, 4, 7, 87]] = 1
    others[[5, 6, 80]] = 1
    assert intervals(notes, notes, 0).tolist() == [4, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0]
    found = intervals(notes[None, None], others[None, None], -12)
    assert found.shape == (1, 1, 25)
    assert {k - 12: int(n) for k, n in enumerate(found[0, 0]) if n} == {-7: 1, -2: 1, -1: 1, 1: 1, 2: 1, 5: 1, 6: 1}


def test_flip_rates_are_counted_with_laplace() -> None:
    roll = np.zeros((5, PITCHES), np.uint8)
    roll[:, 0] = [70, 1, 70, 0, 0]
    rates = count_rates([roll]).numpy()
    # after silence 0 of 1, after sounding 2 of 3, of those 2 one was struck again
    assert rates[:3, 0] == pytest.approx([1 / 3, 3 / 5, 2 / 4])
    assert rates[:3, 1] == pytest.approx([1 / 6, 1 / 2, 1 / 2])
    assert rates[3, 0] == pytest.approx((64 + 140) / 3 / 127)
