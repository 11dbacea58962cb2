"""Tiny models trained on real chorales."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pianoai import checkpoint
from pianoai.checkpoint import Checkpoint, family
from pianoai.dataset import RollDataset, batches, collate, transposed
from pianoai.losses import LossConfig
from pianoai.metrics.likelihood import nll, predict
from pianoai.models.objective import TrainConfig, frame_losses, schedule, validation_nll
from pianoai.models.supervised import Muon, orthogonal
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES, intensity
from pianoai.training import train
from pianoai.windows import Windows

BUDGET = TrainConfig(
    epochs=6,
    batch=2,
    weight_decay=0.01,
    warmup=2,
    clip=1.0,
    patience=6,
    transpose=3,
    seed=4,
)
LOSS = LossConfig(sounding=1.0, struck=1.0, mse=10.0, cosine=0.2, variance=1.0)
TINY = {
    "transformer": {"embed_dim": 32, "heads": 2, "blocks": 1, "feedforward": 64, "dropout": 0.0, "learning_rate": 0.01},
    "gan": {
        "width": 32,
        "latent": 4,
        "dropout": 0.0,
        "learning_rate": 0.01,
        "noise_samples": 2,
        "critic_width": 16,
        "critic_learning_rate": 0.002,
        "critic_steps": 1,
        "adversarial": 0.1,
    },
}
TINY["wgan"] = TINY["gan"] | {"penalty": 10.0, "critic_steps": 2}


def config(name: str) -> object:
    return family(name).Config(**TINY[name])


@pytest.fixture(scope="module")
def marginal(music: Windows) -> float:
    """Nats a frame of always predicting how often each pitch sounds: what a model must beat to have learnt."""
    train_frames = np.concatenate([np.asarray(roll) for roll in music.rolls("train")]) > 0
    rate = (train_frames.sum(0) + 1) / (len(train_frames) + 2)
    truth = np.concatenate([np.asarray(roll)[1:] for roll in music.rolls("valid")]) > 0
    return float(-(np.log(np.where(truth, rate, 1 - rate))).sum(1).mean())


@pytest.mark.parametrize("name", TINY)
def test_every_family_learns_from_real_music(name: str, music: Windows, marginal: float) -> None:
    found, curve, summary = train(name, config(name), music, BUDGET, LOSS)
    assert summary["valid_nll"] < marginal
    assert len(curve) == summary["epochs"] <= 6
    assert summary["steps"] == summary["epochs"] * -(-len(music.starts["train"]) // 2)
    assert curve["train_sounding"].iloc[-1] < curve["train_sounding"].iloc[0]
    assert summary["valid_nll"] == pytest.approx(curve["valid_nll"].min())
    assert {"train_mse", "train_cosine", "train_variance", "train_struck", "learning_rate"} <= set(curve)
    if name != "transformer":
        assert {"train_adversarial", "train_critic"} <= set(curve)
    assert found.data == music.checksum
    # The weights that come back are those of the best epoch.
    if name == "transformer":
        said = predict(found.model(), music, "valid", 1, 0)
        assert nll(said).mean() == pytest.approx(summary["valid_nll"], rel=1e-4)


def test_equal_seeds_give_equal_weights(music: Windows) -> None:
    budget = replace(BUDGET, epochs=2)
    one, _, _ = train("transformer", config("transformer"), music, budget, LOSS)
    two, _, _ = train("transformer", config("transformer"), music, budget, LOSS)
    other, _, _ = train("transformer", config("transformer"), music, replace(budget, seed=5), LOSS)
    assert all(torch.equal(one.weights[key], two.weights[key]) for key in one.weights)
    assert not all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)


def test_training_ends_early_without_progress(music: Windows) -> None:
    frozen = family("transformer").Config(**TINY["transformer"] | {"learning_rate": 0.0})
    _, _, summary = train("transformer", frozen, music, replace(BUDGET, patience=2), LOSS)
    assert summary["epochs"] == 3
    assert summary["best_epoch"] == 1


def test_checkpoint_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    module = family("transformer")
    settings = config("transformer")
    model = module.Model(settings, 16)
    written = Checkpoint("transformer", asdict(settings), dict(model.state_dict()), 16, 4, "abc")  # type: ignore[call-overload]
    for folder in ("a", "b"):
        written.write(tmp_path / folder / "transformer.pt")
    assert (tmp_path / "a/transformer.pt").read_bytes() == (tmp_path / "b/transformer.pt").read_bytes()
    found = checkpoint.read(tmp_path / "a/transformer.pt")
    assert (found.family, found.window, found.frames_per_beat, found.data) == ("transformer", 16, 4, "abc")
    assert torch.equal(found.model().state_dict()["out.weight"], model.state_dict()["out.weight"])


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gan.pt"
    path.write_bytes(b"MThd")
    with pytest.raises(InputError, match=r"gan.pt: not a checkpoint"):
        checkpoint.read(path)
    with pytest.raises(InputError, match=r"nothing.pt: not found"):
        checkpoint.read(tmp_path / "nothing.pt")


def test_collate_pads_with_silence_that_does_not_count(music: Windows) -> None:
    dataset = RollDataset(music, "train", 0)
    at = int(np.argmin(music.lengths["train"]))
    rolls = [dataset[at], dataset[0]]
    batch = collate(rolls)
    short, long = len(rolls[0]), len(rolls[1])
    assert short < long
    assert batch.mask.sum(1).tolist() == [short - 1, long - 1]
    assert batch.features.shape == (2, long - 1, 3 * PITCHES)
    np.testing.assert_array_equal(batch.features[0, : short - 1, :PITCHES].numpy() > 0, rolls[0][:-1] > 0)
    np.testing.assert_allclose(batch.targets[1, :, 2 * PITCHES :].numpy(), intensity(rolls[1])[1:])
    assert not batch.targets[0, short - 1 :].any()


@pytest.mark.parametrize(("shift", "moved"), [(2, 2), (-2, -2), (-11, -5), (11, 6)])
def test_transposition_stays_on_the_keyboard(shift: int, moved: int) -> None:
    roll = np.zeros((3, PITCHES), np.uint8)
    roll[0, 5], roll[1, 81] = 70, 60
    found = transposed(roll, shift)
    assert found[0, 5 + moved] == 70
    assert found[1, 81 + moved] == 60
    assert found.sum() == 130


def test_schedule_warms_up_and_decays() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0)
    scheduler = schedule(optimizer, 4, 14)
    rates = []
    for _ in range(15):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[9] == pytest.approx(0.05 + 0.95 / 2)  # half-way down the cosine
    assert rates[14] == pytest.approx(0.05)


def test_loss_is_the_weighted_sum_of_its_terms(music: Windows) -> None:
    batch = next(batches(music, "valid"))
    torch.manual_seed(0)
    logits = torch.randn(*batch.features.shape[:2], 3, PITCHES)
    weights = LossConfig(sounding=1.0, struck=2.0, mse=3.0, cosine=4.0, variance=5.0)
    total, terms = frame_losses(logits, batch, weights)
    expected = sum(weight * terms[name] for name, weight in asdict(weights).items())
    assert total.item() == pytest.approx(float(expected))
    assert min(float(value) for value in terms.values()) > 0


def test_validation_nll_equals_the_evaluation(music: Windows) -> None:
    torch.manual_seed(1)
    model = family("transformer").Model(config("transformer"), 16).eval()
    with torch.no_grad():
        nats, frames = validation_nll(model, next(batches(music, "valid")), 1)
    said = predict(model, music, "valid", 1, 0)
    assert len(music.starts["valid"]) == 1
    assert frames == len(said.truth)
    assert nats.item() == pytest.approx(float(nll(said).mean()), rel=1e-4)


def test_muon_orthogonalises_and_scales_its_step() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(6, 15)
    found = orthogonal(gradient)
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6
    assert values.max() < 1.3
    # The same singular vectors: u' found v is diagonal.
    inner = u.T @ found @ v.T
    torch.testing.assert_close(inner, torch.diag(torch.diagonal(inner)), atol=1e-4, rtol=0)
    torch.testing.assert_close(orthogonal(gradient.T), found.T)

    matrix, bias = torch.nn.Parameter(torch.ones(6, 15)), torch.nn.Parameter(torch.ones(3))
    optimizer = Muon([matrix], [bias], learning_rate=0.1, weight_decay=0.5)
    matrix.grad, bias.grad = gradient.clone(), torch.tensor([2.0, -3.0, 0.0])
    optimizer.step()
    # The first momentum is a multiple of the gradient, whose scale does not matter.
    expected = torch.ones(6, 15) * 0.95 - 0.1 * 0.2 * 15**0.5 * found
    torch.testing.assert_close(matrix.detach(), expected, atol=1e-3, rtol=0)
    assert bias.tolist() == pytest.approx([0.95 - 0.1, 0.95 + 0.1, 0.95], abs=1e-6)
    assert len(optimizer.param_groups) == 2
