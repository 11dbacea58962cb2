"""Tiny models trained on real chorales."""

import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pianoai import checkpoint, collection, windows
from pianoai.checkpoint import Checkpoint, family
from pianoai.dataset import Batch, Passages, RollDataset, Window, batches, collate, transposed
from pianoai.losses import LossConfig
from pianoai.metrics import likelihood
from pianoai.metrics.likelihood import predict
from pianoai.models.heads import SCALE, Independent
from pianoai.models.muon import Muon, orthogonal
from pianoai.models.objective import (
    Coverage,
    TrainConfig,
    frame_losses,
    frame_nats,
    mixture_losses,
    mixture_nll,
    pitch_class_sets,
    schedule,
    validation_nll,
)
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import NOISE, PITCHES, Notes, intensity, levels, make_notes
from pianoai.sources import Piece
from pianoai.training import Averaging, Diverged, train
from pianoai.windows import Windows
from tests.imports import ROOT

BUDGET = TrainConfig(
    epochs=6,
    batch=2,
    weight_decay=0.01,
    warmup=2,
    clip=1.0,
    averaging=0.9,
    patience=6,
    transpose=3,
    seed=4,
    accelerator="cpu",
    devices=1,
    num_nodes=1,
    strategy="auto",
    precision="32-true",
)
LOSS = LossConfig(sounding=1.0, struck=1.0, mse=10.0, cosine=0.2, variance=1.0, velocity=0.1)
TINY: dict[str, dict[str, Any]] = {
    "transformer": {
        "embed_dim": 32,
        "heads": 2,
        "blocks": 1,
        "feedforward": 64,
        "head": "nade",
        "head_units": 8,
        "recall_heads": 3,
        "dropout": 0.0,
        "learning_rate": 0.01,
    },
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
        assert {"train_adversarial", "train_critic", "valid_covered", "valid_distinct"} <= set(curve)
        # Each moves the other: the critic tells drawn frames from real ones, and the generator is pulled by it.
        assert curve["train_gap"].iloc[-1] > 0
        assert (curve["train_gradient"] > curve["train_adversarial_gradient"]).all()
        assert (curve["train_adversarial_gradient"] > 1e-4).all()
    assert found.data == music.checksum
    # The weights that come back are those of the best epoch, averaged as they were when it was validated.
    if name == "transformer":
        said = predict(found.model(), music, "valid", 1, 0)
        assert said.nats.mean() == pytest.approx(summary["valid_nll"], rel=1e-4)


def test_equal_seeds_give_equal_weights(music: Windows) -> None:
    budget = replace(BUDGET, epochs=2)
    one, _, _ = train("transformer", config("transformer"), music, budget, LOSS)
    two, _, _ = train("transformer", config("transformer"), music, budget, LOSS)
    other, _, _ = train("transformer", config("transformer"), music, replace(budget, seed=5), LOSS)
    assert all(torch.equal(one.weights[key], two.weights[key]) for key in one.weights)
    assert not all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)


def test_averages_forget_quickly_at_first() -> None:
    averaging = Averaging(0.25)
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.register_buffer("whole", torch.tensor([87]))
    averaged = torch.optim.swa_utils.AveragedModel(layer, use_buffers=averaging._use_buffers, **averaging._kwargs)
    found = []
    for weight in (10.0, 21.0, 35.0, 8.0, 40.0):
        layer.weight.data.fill_(weight)
        averaged.update_parameters(layer)
        found.append(next(averaged.parameters()).item())
    # 2/11 of 10 stay, then 3/12 of 19, and 1/4 from then on, since 4/13 is more.
    assert found == pytest.approx([10, 19, 31, 13.75, 33.4375])
    assert [buffer.tolist() for buffer in averaged.module.buffers()] == [[87]]


@pytest.mark.parametrize("name", TINY)
def test_averaging_keeps_the_average_and_trains_the_rest(name: str, music: Windows) -> None:
    budget = replace(BUDGET, epochs=2, averaging=0.0)
    _, plain_curve, _ = train(name, config(name), music, budget, LOSS)
    found, curve, _ = train(name, config(name), music, replace(budget, averaging=0.9999), LOSS)
    # Every step is made from weights that are not averaged, so training loses the same.
    assert curve["train_sounding"].tolist() == pytest.approx(plain_curve["train_sounding"].tolist(), rel=1e-6)
    assert curve["valid_nll"].iloc[-1] != pytest.approx(plain_curve["valid_nll"].iloc[-1], rel=1e-3)
    again, _, _ = train(name, config(name), music, replace(budget, averaging=0.9999), LOSS)
    assert all(torch.equal(found.weights[key], again.weights[key]) for key in found.weights)


def test_velocities_cost_nothing_where_there_are_no_dynamics(music: Windows) -> None:
    assert music.velocities() == (64, 64)
    budget = replace(BUDGET, epochs=2)
    one, curve, _ = train("transformer", config("transformer"), music, budget, replace(LOSS, velocity=0.0))
    two, _, _ = train("transformer", config("transformer"), music, budget, replace(LOSS, velocity=9.0))
    assert all(torch.equal(one.weights[key], two.weights[key]) for key in one.weights)
    assert (curve["train_velocity"] == 0).all()
    model, frame, found = two.model(), torch.zeros(PITCHES), set()
    state = model.initial_state()
    with torch.no_grad():
        for _ in range(40):
            frame, _, state = model.step(frame, state, torch.rand(NOISE), torch.tensor(1.0))
            found |= set(frame.tolist())
    assert found == {0, 1, 64}
    assert likelihood.velocity_scores(predict(two.model(), music, "valid", 1, 0)) == {}


def test_velocities_are_learnt(music: Windows) -> None:
    """Music that is twice as loud in its upper half: nothing but the predicted velocity tells."""
    frames, upper = np.array(music.frames), np.arange(PITCHES) >= 42
    chance = np.random.default_rng(1)
    loud = np.where(upper, 90, 45) + chance.integers(-2, 3, frames.shape)
    loud_music = replace(music, frames=np.where(frames > 1, loud, frames).astype(np.uint8))
    assert loud_music.velocities() == (43, 92)
    budget = replace(BUDGET, epochs=10, patience=10, transpose=0)
    quick = family("transformer").Config(**TINY["transformer"] | {"learning_rate": 0.03})
    found, curve, _ = train("transformer", quick, loud_music, budget, replace(LOSS, velocity=1.0))
    assert curve["train_velocity"].iloc[-1] < 0.8 * curve["train_velocity"].iloc[0]
    scores = likelihood.velocity_scores(predict(found.model(), loud_music, "valid", 1, 0))
    assert scores["velocity_mae"] < 0.5 * scores["velocity_mae_recent"]
    started = {"log_scale": math.log(SCALE), "log_friction": math.log(SCALE), "pull": 0.0}
    assert all(abs(found.weights[f"head.{name}"] - value) > 0.05 for name, value in started.items())


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
    assert torch.equal(found.model().state_dict()["head.logits.weight"], model.state_dict()["head.logits.weight"])


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
    items = [dataset[at], dataset[0]]
    batch = collate(items)
    rolls = [window.roll for window in items]
    short, long = len(rolls[0]), len(rolls[1])
    assert short < long
    assert batch.mask.sum(1).tolist() == [short - 1, long - 1]
    assert batch.features.shape == (2, long - 1, 3 * PITCHES + 1)
    assert batch.targets.shape == (2, long - 1, 3 * PITCHES)
    np.testing.assert_allclose(batch.features[1, :, -1].numpy(), levels(rolls[1])[:-1])
    np.testing.assert_array_equal(batch.features[0, : short - 1, :PITCHES].numpy() > 0, rolls[0][:-1] > 0)
    np.testing.assert_allclose(batch.targets[1, :, 2 * PITCHES :].numpy(), intensity(rolls[1])[1:])
    assert not batch.targets[0, short - 1 :].any()


def test_a_held_note_keeps_its_velocity_in_the_next_window(tmp_path: Path) -> None:
    # A note of velocity 100 that sounds throughout, one of 30 that ends in frame 5, one of 50 struck in frame 6.
    notes = make_notes([(0, 60, 60, 100), (6, 30, 64, 30), (36, 12, 67, 50)])
    pieces = [Piece(name, name, shifted(notes, at), "checksum", 0) for at, name in enumerate("abc")]
    collection.write(pieces, tmp_path, 0.0)
    windows.write(
        collection.read(tmp_path),
        tmp_path,
        windows.RollConfig(4),
        windows.WindowConfig(length=2, segment=4, hop=4),
        windows.SplitConfig(valid=0.3, test=0.3, seed=0),
    )
    found = windows.read(tmp_path)
    dataset = RollDataset(found, "train", 0)
    assert found.lengths["train"].tolist() == [5, 5, 2]
    features = collate([dataset[1]]).features[0, 0] * 127
    sounding = torch.nonzero(features[:PITCHES]).ravel().tolist()
    assert len(sounding) == 2
    assert features[2 * PITCHES : -1][sounding].tolist() == pytest.approx([100, 30])
    np.testing.assert_array_equal(dataset[1][1][:, sounding[0]], 100)
    np.testing.assert_array_equal(dataset[1][1][:, sounding[1]], [30, 30, 0, 0, 0])
    np.testing.assert_array_equal(dataset[1][1][:, sounding[1] + 3], [0, 0, 50, 50, 0])
    # Transposed, a note takes its velocity along.
    torch.manual_seed(3)
    roll, velocity, level, _ = RollDataset(found, "train", 11)[1]
    assert roll[0].nonzero()[0].tolist() != sounding
    assert velocity[0][roll[0] > 0].tolist() == [100, 30]
    # What was struck last, as far as the held notes tell: their mean, until the next is struck.
    assert (level * 127).tolist() == pytest.approx([65, 65, 50, 50, 50])


def shifted(notes: Notes, semitones: int) -> Notes:
    """The same music one or more semitones higher, and as many ticks longer, so that it is another piece."""
    changed = notes.copy()
    changed["pitch"] += semitones
    changed["duration"][0] += semitones
    return changed


@pytest.mark.parametrize("rate", [float("1e30")])
@pytest.mark.parametrize("name", TINY)
def test_a_training_that_diverges_says_so(name: str, rate: float, music: Windows) -> None:
    wild = family(name).Config(**TINY[name] | {"learning_rate": rate})
    with pytest.raises(Diverged, match=r"^training diverged: the validation nll of epoch 1 is not a number$"):
        train(name, wild, music, replace(BUDGET, epochs=2), LOSS)


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
    weights = LossConfig(sounding=1.0, struck=2.0, mse=3.0, cosine=4.0, variance=5.0, velocity=6.0)
    total, terms = frame_losses(logits, batch, weights, Independent())
    expected = sum(weight * terms[name] for name, weight in asdict(weights).items())
    assert total.item() == pytest.approx(float(expected))
    assert min(float(value) for value in terms.values()) > 0


def test_predicted_intensity_has_friction() -> None:
    head = Independent()
    torch.nn.init.zeros_(head.log_friction)
    features, targets = torch.zeros(1, 1, 265), torch.zeros(1, 1, 264)
    features[..., -1] = 0.5  # the level: its logit is 0
    logits = torch.zeros(1, 1, 3, PITCHES)
    logits[0, 0, 2, :44], logits[0, 0, 2, 44:] = 0.9, 1 + math.log(3)  # within the friction, 1; beyond by log 3
    _, terms = frame_losses(logits, Batch(features, targets, torch.ones(1, 1)), LOSS, head)
    # Nothing came; a pitch sounds with a chance of 1/2, and is then predicted as loud as 1/2 or 3/4.
    assert terms["mse"].item() == pytest.approx(((1 / 4) ** 2 + (3 / 8) ** 2) / 2)


def test_the_gradient_of_the_mixture_is_that_of_its_likelihood(music: Windows) -> None:
    batch = next(batches(music, "valid"))
    torch.manual_seed(0)
    logits = torch.randn(3, *batch.features.shape[:2], 3, PITCHES, requires_grad=True)
    likelihood = LossConfig(sounding=1.0, struck=1.0, mse=0.0, cosine=0.0, variance=0.0, velocity=0.0)
    total, _ = mixture_losses(logits, batch, likelihood, Independent())
    (found,) = torch.autograd.grad(total, logits)
    (expected,) = torch.autograd.grad(mixture_nll([frame_nats(each, batch) for each in logits], batch.mask), logits)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-4)
    one, terms = mixture_losses(logits[:1], batch, LOSS, Independent())
    same, expected_terms = frame_losses(logits[0], batch, LOSS, Independent())
    assert one.item() == pytest.approx(same.item())
    torch.testing.assert_close(terms, expected_terms)


@pytest.mark.parametrize(("examples", "penalised"), [(1, 1), (4, 1), (11, 2), (12, 3)])
def test_one_example_in_four_is_penalised(examples: int, penalised: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = family("wgan")
    training = module.Training(module.Model(config("wgan"), 4), config("wgan"), BUDGET, LOSS)
    score, seen = training.critic.score, []

    def counted(heard: Any, following: torch.Tensor) -> torch.Tensor:
        seen.append((len(heard[0]), len(heard[1]), len(following)))
        return score(heard, following)  # type: ignore[no-any-return]

    monkeypatch.setattr(training.critic, "score", counted)
    monkeypatch.setattr(training, "log", lambda *given, **options: None)
    heard = training.critic.read(torch.rand(examples, 9, 265))
    real, fake = torch.rand(2, examples, 9, 176).unbind(0)
    mask = torch.ones(examples, 9)
    penalty = training.roughness(heard, real, fake, mask)
    assert seen == [(penalised,) * 3]
    mask[:penalised] = 0  # the slopes of the others do not count
    assert penalty > 0
    assert training.roughness(heard, real, fake, mask) == 0


def test_noise_learns_which_notes_go_together() -> None:
    """Two notes or two others at random: log 2 nats, but 4 log 2 for pitches that do not know of each other."""
    torch.manual_seed(0)
    rolls = np.zeros((4, 41, PITCHES), np.uint8)
    first = np.random.default_rng(0).random((4, 41)) < 0.5
    rolls[..., [30, 37]], rolls[..., [41, 50]] = 70 * first[..., None], 70 * ~first[..., None]
    batch = collate([Window(roll, roll, levels(roll)) for roll in rolls])
    settings = family("gan").Config(**TINY["gan"] | {"noise_samples": 8, "latent": 2})
    model = family("gan").Model(settings, 2)
    optimizer = Muon.of(model, ("context.taps.", "join."), 0.01, 0.0)
    likelihood = LossConfig(sounding=1.0, struck=0.0, mse=0.0, cosine=0.0, variance=0.0, velocity=0.0)
    for _ in range(150):
        optimizer.zero_grad()
        logits = model.head(model.imagine(batch.features, 8), batch.targets)
        mixture_losses(logits, batch, likelihood, model.head)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        contexts = torch.cat([model.imagine(batch.features, 8) for _ in range(8)])
        logits = model.head(contexts, batch.targets)
    silent = batch._replace(features=torch.zeros_like(batch.features))  # nothing is struck again
    assert mixture_nll([frame_nats(each, silent) for each in logits], batch.mask).item() < 1.2
    assert mixture_nll([frame_nats(logits.mean(0), silent)], batch.mask).item() > 2.5


def test_the_discriminators_matrices_but_the_last_have_spectral_norm_1(music: Windows) -> None:
    torch.manual_seed(0)
    for name, normalised in (("gan", True), ("wgan", False)):
        module = family(name)
        training = module.Training(module.Model(config(name), 16), config(name), BUDGET, LOSS)
        batch = next(batches(music, "valid"))
        for _ in range(20):
            training.critic.score(training.critic.read(batch.features), batch.targets[..., :176])
        *layers, _ = [layer for layer in training.critic.modules() if isinstance(layer, torch.nn.Linear)]
        norms = torch.stack([torch.linalg.svdvals(layer.weight.detach())[0] for layer in layers])
        assert len(norms) == 7  # embedding, four taps, next frame, the first of the judge
        assert bool(((norms - 1).abs() < 0.02).all()) is normalised, name


def test_pitch_class_sets_and_coverage_by_hand() -> None:
    keys = torch.zeros(4, PITCHES)  # A0 is column 0, so C1 is column 3 and C8 column 87
    keys[0, [0, 3]], keys[1, [87, 27]], keys[2, 86] = 1, 1, 1
    assert pitch_class_sets(keys).tolist() == [1 + 2**9, 1, 2**11, 0]

    drawn, real, mask = torch.zeros(1, 5, PITCHES), torch.zeros(1, 5, PITCHES), torch.ones(1, 5)
    real[0, 0, 3], real[0, 1, 5], real[0, 2, 5], real[0, 4, 7] = 1, 1, 1, 1  # C, D, D, nothing, and E, masked
    drawn[0, 0, 5], drawn[0, 1, 17], drawn[0, 2, [5, 17]], drawn[0, 4, 3] = 1, 1, 1, 1  # D, D, D, nothing, and C
    mask[0, 4] = 0
    coverage = Coverage()
    coverage.add(drawn, real, mask)
    assert coverage.scores() == pytest.approx(
        {
            "distinct": 2 / 3,
            "covered": 2 / 3,
            # 3/4, 1/4 against 1/4, 1/2, 1/4
            "entropy": -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) - 1.5 * np.log(2),
            "density": 4 / 3,
        },
        abs=1e-6,
    )


def test_muon_takes_the_inner_matrices_of_a_model() -> None:
    model = family("gan").Model(config("gan"), 8)
    matrices, others = Muon.of(model, ("context.taps.", "join."), 0.01, 0.0).param_groups
    shapes = [tuple(value.shape) for value in matrices["params"]]
    assert shapes == [(32, 64), (32, 64), (32, 64), (32, 36)]  # dilations 1, 2, 4; 4 of 36 are noise
    assert len(matrices["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_validation_nll_equals_the_evaluation(music: Windows) -> None:
    torch.manual_seed(1)
    model = family("transformer").Model(config("transformer"), 16).eval()
    with torch.no_grad():
        nats, frames = validation_nll(model, next(batches(music, "valid")), 1)
    said = predict(model, music, "valid", 1, 0)
    assert len(music.starts["valid"]) == 1
    assert frames == len(said.truth)
    assert nats.item() == pytest.approx(float(said.nats.mean()), rel=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_passages_have_the_likelihood_of_the_whole(name: str, music: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = family(name).Model(config(name), music.length).eval()
    pieces = RollDataset(music, "train", 0)
    monkeypatch.setattr("pianoai.dataset.PASSAGE", 4)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape if len(shape) > 1 else shape[0], 0.3))
    passages = Passages(pieces, model.reach)
    each = [passages[at] for at in range(len(passages))]
    predicted = [len(passage.roll) - 1 - passage.lead for passage in each]
    assert max(predicted) == passages.length == model.reach - 1 < 40
    assert sum(predicted) == music.lengths["train"].sum() - len(pieces)
    assert {passage.lead for passage in each} == {0, model.reach - 1}

    def nats(windows: RollDataset | Passages) -> float:
        with torch.no_grad():
            found = [validation_nll(model, collate([windows[at]]), 2) for at in range(len(windows))]
        return sum(float(nll) * count for nll, count in found) / sum(count for _, count in found)

    assert nats(passages) == pytest.approx(nats(pieces), rel=1e-6)
    monkeypatch.setattr(passages, "lead", 0)
    assert nats(passages) != pytest.approx(nats(pieces), rel=1e-5)


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


def trained(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter], steps: range) -> None:
    for step in steps:
        chance = torch.Generator().manual_seed(step)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=chance)
        optimizer.step()


def test_muons_other_half_is_adamw() -> None:
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    trained(Muon([], [ours], learning_rate=0.01, weight_decay=0.1), [ours], range(20))
    trained(torch.optim.AdamW([theirs], 0.01, betas=(0.9, 0.95), weight_decay=0.1), [theirs], range(20))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_muon_goes_on_from_its_saved_state(tmp_path: Path) -> None:
    def begin() -> tuple[Muon, list[torch.nn.Parameter]]:
        weights = [torch.nn.Parameter(torch.ones(3, 4)), torch.nn.Parameter(torch.ones(5))]
        return Muon(weights[:1], weights[1:], learning_rate=0.01, weight_decay=0.1), weights

    optimizer, unbroken = begin()
    trained(optimizer, unbroken, range(8))
    first, before = begin()
    trained(first, before, range(4))
    torch.save([before, first.state_dict()], tmp_path / "state.pt")
    second, after = begin()
    values, state = torch.load(tmp_path / "state.pt", weights_only=True)
    second.load_state_dict(state)
    with torch.no_grad():
        for weight, value in zip(after, values, strict=True):
            weight.copy_(value)
    trained(second, after, range(4, 8))
    for weight, expected in zip(after, unbroken, strict=True):
        torch.testing.assert_close(weight, expected, atol=0, rtol=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_what_is_freed_is_kept() -> None:
    """A process that frees and takes 64 MB again and again asks the kernel for its pages once."""
    program = """
import resource, sys
import numpy as np
from pianoai.training import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(2):
    np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {}
    for how in ("keep", "free"):
        run = [sys.executable, "-c", program, how]
        faults[how] = int(subprocess.run(run, capture_output=True, check=True, text=True, cwd=ROOT).stdout)
    assert faults["keep"] < 100 < faults["free"]
