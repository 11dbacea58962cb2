"""Scores worked out by hand, and by the frame-by-frame scoring of the runtime."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pianoai.metrics import likelihood
from pianoai.metrics.likelihood import Calibration, Predictions, Thresholds
from pianoai.models.base import FrameModel

TRUTH = np.array([[1, 0, 1], [1, 1, 0]], bool)
SOUNDED = np.array([[1, 0, 0], [1, 0, 1]], bool)
STRUCK = np.array([[0, 0, 1], [1, 1, 0]], bool)
SOUNDS = np.array([[0.8, 0.1, 0.5], [0.9, 0.25, 0.4]], np.float32)
AGAIN = np.array([[0.2, 0.5, 0.5], [0.6, 0.5, 0.5]], np.float32)
LOUDNESS = np.array([[0.4, 0.0, 0.3], [0.5, 0.2, 0.0]], np.float32)
INTENSITY = np.array([[0.5, 0.0, 0.5], [0.5, 0.6, 0.0]], np.float32)
VELOCITY = np.array([[0.9, 0.9, 0.25], [0.5, 0.8, 0.9]], np.float32)


@pytest.fixture
def said() -> Predictions:
    return Predictions(
        *(SOUNDS, AGAIN, LOUDNESS, np.array([3.0, 5.0]), SOUNDED, TRUTH, STRUCK, INTENSITY, np.array([True, False])),
        *(127 * VELOCITY, *np.array([[60, 70], [50, 71]], np.float32), np.array([True, True])),
    )


FIRST = -math.log(0.8 * 0.9 * 0.5) - math.log(1 - 0.2)
SECOND = -math.log(0.9 * 0.25 * 0.6) - math.log(0.6)


def test_nll_by_hand(said: Predictions) -> None:
    assert likelihood.nll(said) == pytest.approx([FIRST, SECOND], rel=1e-6)


def test_onset_probability(said: Predictions) -> None:
    expected = [[0.16, 0.1, 0.5], [0.54, 0.25, 0.2]]
    np.testing.assert_allclose(said.onset(), expected, rtol=1e-6)


def test_scores_by_hand(said: Predictions) -> None:
    found = likelihood.scores(said, Calibration(), Thresholds(sounding=0.4, onset=0.3), joint=False)
    # said to sound: 0.8, 0.5, 0.9, 0.4: three of four right, three of four found
    assert (found["precision"], found["recall"]) == (0.75, 0.75)
    assert found["f1"] == pytest.approx(0.75)
    # said to be struck: 0.5, 0.54, both right; three are
    assert found["onset_f1"] == pytest.approx(0.8)
    assert found["nll"] == found["raw"]["nll"] == pytest.approx((FIRST + SECOND) / 2)
    assert found["nll_changed"] == pytest.approx(FIRST)
    shifted = likelihood.scores(
        said, Calibration(sounding=(2.0, 0.0)), Thresholds(sounding=0.4, onset=0.3), joint=False
    )
    assert shifted["raw"] == found["raw"]
    assert found["raw"] == pytest.approx({key: found[key] for key in found["raw"]})
    assert found["raw"].keys() == {"nll", "nll_joint", "nll_marginals", "nll_changed", "mse", "cosine"}
    joint = likelihood.scores(said, Calibration(), Thresholds(sounding=0.4, onset=0.3), joint=True)
    assert (joint["nll"], joint["nll_changed"]) == (4, 3)
    assert (
        (joint["nll_joint"], joint["nll_marginals"])
        == (found["nll_joint"], found["nll_marginals"])
        == (4, found["nll"])
    )
    assert shifted["nll"] != found["nll"]
    assert found["mse"] == pytest.approx((0.01 + 0.04 + 0.16) / 6)
    cosines = (0.35 / (0.5 * math.sqrt(0.5)), 0.37 / (math.sqrt(0.29) * math.sqrt(0.61)))
    assert found["cosine"] == pytest.approx(1 - sum(cosines) / 2, rel=1e-6)
    # by falling probability: hit, hit, hit, miss, hit, miss
    assert found["average_precision"] == pytest.approx((1 + 1 + 1 + 4 / 5) / 4)


def test_errors_of_velocities_are_over_struck_notes_of_pieces_with_dynamics(said: Predictions) -> None:
    assert likelihood.velocity_scores(said) == pytest.approx(
        {
            "velocity_mae": 127 * (0.25 + 0 + 0.2) / 3,
            "velocity_mae_recent": (63.5 - 60 + 70 - 63.5 + 76.2 - 70) / 3,
            "velocity_mae_level": (63.5 - 50 + 71 - 63.5 + 76.2 - 71) / 3,
        },
        rel=1e-5,
    )
    second = replace(said, dynamic=np.array([False, True]))
    assert likelihood.velocity_scores(second)["velocity_mae"] == pytest.approx(127 * 0.2 / 2, rel=1e-5)
    assert likelihood.velocity_scores(replace(said, dynamic=np.array([False, False]))) == {}


def test_the_velocity_of_the_last_beat() -> None:
    roll = np.zeros((7, 88), np.uint8)
    roll[0, :2], roll[1, 0], roll[2, 5], roll[3, 5] = (40, 70), 1, 100, 1
    level = np.array([55, 55, 100, 100, 100, 100], np.float32)
    # Two frames a beat: of frames 0; 0 and 1; 1 and 2; 2 and 3; 3 and 4; 4 and 5, with nothing in them.
    assert likelihood.recent_velocity(roll, 2, level).tolist() == [55, 55, 100, 100, 100, 100]
    assert likelihood.recent_velocity(roll, 24, level).tolist() == pytest.approx([55, 55, 70, 70, 70, 70])


def test_best_threshold(said: Predictions) -> None:
    # at 0.5: precision 1, recall 3/4, F1 6/7; at 0.25: precision 4/5, recall 1, F1 8/9
    assert likelihood.choose_thresholds(said).sounding == pytest.approx(0.25)


def test_calibration_recovers_a_known_distortion() -> None:
    chance = np.random.default_rng(0)
    true_logits = chance.normal(-1, 2, 200_000)
    happened = chance.random(200_000) < 1 / (1 + np.exp(-true_logits))
    distorted = (1 / (1 + np.exp(-(true_logits - 0.6) / 2))).astype(np.float32)
    scale, offset = likelihood.fit_logit(distorted, happened)
    assert scale == pytest.approx(2, abs=0.03)
    assert offset == pytest.approx(0.6, abs=0.03)
    back = likelihood.adjust(distorted, (2.0, 0.6))
    np.testing.assert_allclose(back, 1 / (1 + np.exp(-true_logits)), atol=1e-3)


def test_calibration_of_one_outcome_is_none() -> None:
    assert likelihood.fit_logit(np.array([0.3, 0.4], np.float32), np.array([True, True])) == (1.0, 0.0)


def test_a_mean_over_noise_is_a_mean_of_probabilities() -> None:
    class Coin(FrameModel):
        def __init__(self) -> None:
            super().__init__(window=1, latent=1)
            torch.nn.init.zeros_(self.head.log_friction)

        def forward(self, features: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
            return torch.where(latent < 0.5, -1.0, 2.0)[..., None].expand(*latent.shape[:2], 3, 88)

    from pianoai.dataset import Batch

    features = torch.zeros(1, 50, 265)
    features[..., -1] = 0.5  # the level: its logit is 0
    batch = Batch(features, torch.zeros(1, 50, 264), torch.ones(1, 50))
    generator = torch.Generator().manual_seed(1)
    found, again, loud, nats, velocity = likelihood.predict_window(Coin(), batch, 4000, generator)
    low, high = 1 / (1 + math.e), 1 / (1 + math.exp(-2))
    assert found.mean() == pytest.approx((low + high) / 2, abs=0.003)
    # struck again, given that it sounds: both hang on the same noise
    assert again.mean() == pytest.approx((low**2 + high**2) / (low + high), abs=0.003)
    # p(sounds) * intensity is averaged together, since both hang on the same noise
    # The logit -1 is within the friction, 1, of the level; of 2 there is 1 beyond it.
    moved = 1 / (1 + math.exp(-1))
    assert loud.mean() == pytest.approx((low * 0.5 + high * moved) / 2, abs=0.003)
    assert velocity.mean() == pytest.approx(127 * (0.5 + moved) / 2, abs=0.4)
    # Nothing sounds, 88 times over: the likelihood of the whole frame is averaged, not that of each pitch.
    assert nats == pytest.approx([-math.log(((1 - low) ** 88 + (1 - high) ** 88) / 2)] * 50, abs=0.1)
