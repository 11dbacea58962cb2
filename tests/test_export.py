"""Every family is exported and runs on NumPy exactly as in PyTorch; tiny models, real music."""

import io
import json
import zipfile
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch

from pianoai import export
from pianoai.baseline import count
from pianoai.checkpoint import Checkpoint, family
from pianoai.evaluation import EvaluateConfig, deployability, evaluate, multiply_adds
from pianoai.export import ExportConfig, choose_windows, compare_drawing, distance_to_tie, parity, to_archive
from pianoai.metrics.likelihood import Calibration, Thresholds
from pianoai.models.heads import Independent
from pianoai.runtime import model as runtime
from pianoai.runtime import scoring
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import NOISE, PITCHES, velocities
from pianoai.runtime.sampling import Settings, generate
from pianoai.windows import Windows
from tests.test_models import CONFIGS, CRITIC

CONFIG = ExportConfig(weights="float32", windows=6, tolerance=1e-5, frames=80, seed=2)
THRESHOLDS = Thresholds(sounding=0.3, onset=0.2)


def checkpoint_of(name: str, windows: Windows, **changed: Any) -> Checkpoint:
    if name == "copy":
        return count(windows)[0]
    torch.manual_seed(3)
    module = family(name)
    config = module.Config(**CONFIGS[name] | (CRITIC if "gan" in name else {}) | changed)
    model = module.Model(config, windows.length)
    return Checkpoint(name, asdict(config), dict(model.state_dict()), windows.length, 4, windows.checksum)


def archive_of(checkpoint: Checkpoint, windows: Windows, calibration: Calibration | None = None) -> bytes:
    rates = count(windows)[1]
    description = export.describe(checkpoint, calibration or Calibration(), THRESHOLDS, rates, 16)
    return to_archive(checkpoint.model(), description)


KINDS = [*((name, {}) for name in CONFIGS), ("transformer", {"head": "independent"})]


@pytest.mark.parametrize(("name", "changed"), KINDS)
def test_parity_on_real_windows_and_generating(name: str, changed: dict[str, str], music: Windows) -> None:
    checkpoint = checkpoint_of(name, music, **changed)
    rolls = choose_windows(music, CONFIG)
    assert [roll.shape for roll in rolls] == [(16, PITCHES)] * 6 + [(48, PITCHES)] * 4
    found = parity(checkpoint, archive_of(checkpoint, music), rolls, CONFIG)
    assert found["windows"] == 10
    assert found["frames"] == 6 * 16 + 4 * 48
    assert found["frames_drawn"] == 80
    assert found["frames_different"] <= found["near_ties"]
    assert 0 < found["difference_runtime"] <= 1e-5 or name == "copy"
    assert 0 < found["difference_reading"] <= 1e-5 or name == "copy"


@pytest.mark.parametrize("name", ["transformer", "gan"])
def test_half_precision_storage(name: str, music: Windows) -> None:
    """Half the bytes; PyTorch, TorchScript and the runtime agree on the rounded weights."""
    checkpoint = checkpoint_of(name, music)
    config = replace(CONFIG, weights="float16")
    description = export.describe(checkpoint, Calibration(), THRESHOLDS, count(music)[1], 16)
    archive = to_archive(checkpoint.model(), description, "float16")
    assert archive == to_archive(checkpoint.model(), description, "float16")
    matrices = sum(value.numel() for value in checkpoint.model().parameters() if value.ndim == 2)
    saved = len(archive_of(checkpoint, music)) - len(archive)
    assert saved == pytest.approx(2 * matrices, abs=4000)  # conversions are a few lines of code more
    found = parity(checkpoint, archive, choose_windows(music, config), config)
    assert 0 < found["difference_runtime"] <= 1e-5
    with pytest.raises(InputError, match=r"differs from PyTorch"):  # which is not the model that was not rounded
        parity(checkpoint, archive, choose_windows(music, config), replace(config, weights="float32"))
    cost = export.rounding_cost(checkpoint, music, 1, config)
    assert 0 < abs(cost) < 0.01
    assert export.rounding_cost(checkpoint, music, 1, CONFIG) == 0


@pytest.mark.parametrize("name", CONFIGS)
def test_reading_in_chunks_leaves_the_state_of_as_many_steps(name: str, music: Windows) -> None:
    checkpoint = checkpoint_of(name, music)
    loaded = runtime.load(archive_of(checkpoint, music))
    assert loaded.metadata.read == 16
    roll = np.asarray(next(music.rolls("train")))[: 3 * 16 + 5]  # three chunks, and frames one by one
    noise, one = np.full(loaded.metadata.noise, 0.5, np.float32), np.array(1, np.float32)
    slow = loaded.start()
    for frame in roll.astype(np.float32):
        slow = loaded.step(frame, slow, noise, one)[2]
    slow = loaded.keep(slow)
    fast = loaded.read(roll, loaded.start())
    for got, wanted in zip(fast, slow, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert fast[1] == len(roll)


def test_what_is_no_number_passes_no_tolerance(music: Windows) -> None:
    checkpoint = checkpoint_of("transformer", music)
    weights = {key: value.clone() for key, value in checkpoint.weights.items()}
    weights["head.logits.bias"][5] = float("nan")
    archive = archive_of(replace(checkpoint, weights=weights), music)
    with pytest.raises(InputError, match="differs from PyTorch by nan"):
        parity(checkpoint, archive, choose_windows(music, CONFIG), CONFIG)


def test_arrays_of_another_shape_are_refused(music: Windows) -> None:
    loaded = runtime.load(archive_of(checkpoint_of("transformer", music), music))
    noise, one, frame = (
        np.full(loaded.metadata.noise, 0.5, np.float32),
        np.array(1, np.float32),
        np.zeros(1, np.float32),
    )
    with pytest.raises(ValueError, match=r"shape \(1,\) where \(88,\)"):
        loaded.step(frame, loaded.start(), noise, one)
    with pytest.raises(ValueError, match=r"where \(5888,\)"):
        loaded.step(np.zeros(88, np.float32), (frame, *loaded.start()[1:]), noise, one)


def test_a_state_is_good_for_one_step(music: Windows) -> None:
    loaded = runtime.load(archive_of(checkpoint_of("transformer", music), music))
    noise, one = np.full(loaded.metadata.noise, 0.5, np.float32), np.array(1, np.float32)
    frame = np.asarray(next(music.rolls("train")))[4].astype(np.float32)
    first = loaded.step(frame, loaded.start(), noise, one)[2]
    kept = loaded.keep(first)
    drawn, said, _ = loaded.step(frame, first, noise, one)
    with pytest.raises(ValueError, match="a state can be used once"):
        loaded.step(frame, first, noise, one)
    for _ in range(2):
        again, said_again, _ = loaded.step(frame, loaded.keep(kept), noise, one)
        np.testing.assert_array_equal(again, drawn)
        np.testing.assert_array_equal(said_again, said)


@pytest.mark.parametrize("name", CONFIGS)
def test_equal_models_give_equal_bytes_without_paths(name: str, music: Windows) -> None:
    checkpoint = checkpoint_of(name, music)
    archive = archive_of(checkpoint, music)
    assert archive == archive_of(checkpoint, music)
    with zipfile.ZipFile(io.BytesIO(archive)) as entries:
        names = entries.namelist()
        assert names == sorted(names)
        assert {entry.date_time for entry in entries.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        description = json.loads(entries.read("model/extra/pianoai.json"))
    assert not [entry for entry in names if "debug_pkl" in entry or "serialization_id" in entry]
    assert b"/tests/" not in archive
    assert b"mangle" not in archive
    assert description["parameters"] == sum(weight.numel() for weight in checkpoint.model().parameters())


def test_a_gan_ships(music: Windows) -> None:
    """What the runtime loads generates and scores, with the noise and the calibration of a GAN."""
    archive = archive_of(checkpoint_of("gan", music), music, Calibration((0.9, -0.1), (1.1, 0.2)))
    shipped = runtime.load(archive)
    assert shipped.metadata.noise == NOISE + 5
    assert shipped.metadata.samples == 16
    assert shipped.metadata.calibration == {"sounding": (0.9, -0.1), "struck": (1.1, 0.2)}
    one, two = generate(shipped, None, 30, Settings(), 7), generate(shipped, None, 30, Settings(), 7)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, generate(shipped, None, 30, Settings(), 8))
    score = scoring.score(shipped, [np.asarray(next(music.rolls("valid")))[:40]])
    assert score["frames"] == 39
    assert np.isfinite(score["nll"])


def test_a_model_that_differs_is_refused(music: Windows) -> None:
    checkpoint = checkpoint_of("transformer", music)
    weights = {key: value.clone() for key, value in checkpoint.weights.items()}
    weights["head.logits.bias"][5] += 0.01
    archive = archive_of(replace(checkpoint, weights=weights), music)
    with pytest.raises(InputError, match=r"export: torchscript differs from PyTorch by 0\.00"):
        parity(checkpoint, archive, choose_windows(music, CONFIG), CONFIG)


def test_other_notes_without_a_near_tie_are_refused(music: Windows) -> None:
    checkpoint = checkpoint_of("transformer", music)
    loaded = runtime.load(archive_of(checkpoint, music))

    def louder(*arguments: object) -> object:
        drawn, said, state = loaded.step(*arguments)  # type: ignore[arg-type]
        return np.where(drawn > 1, 127, drawn).astype(np.float32), said, state

    with pytest.raises(InputError, match=r"export: louder drew other notes in frame 0, and not by a near-tie"):
        compare_drawing({"runtime": loaded.step, "louder": louder}, loaded, CONFIG, Independent())  # type: ignore[dict-item]


def test_distance_to_tie() -> None:
    said = np.full((3, PITCHES), 0.25, np.float32)
    noise, head = np.full(NOISE, 0.75, np.float32), Independent()
    noise[2 * PITCHES :] = 0.5
    level = np.array(64 / 127, np.float32)
    with torch.no_grad():
        head.log_friction.fill_(-np.inf)
        head.log_scale.fill_(np.log(0.5))
    said[2] = 0.0
    noise[0], noise[PITCHES + 1] = 0.251, 0.247
    said[2, 2] = 70.501 / 127
    found = distance_to_tie(said, noise, level, head)
    assert found[:3] == pytest.approx([0.001, 0.003, 0.001 / 127], rel=3e-2)
    # Above noise of 17/18 lies a ninth of the upper half: log 9, and with a scale of 1/2 odds are three times as high.
    said[2, 3], noise[2 * PITCHES] = 1 / (1 + 3 * (127 / 70.499 - 1)), 17 / 18
    # The slope of 1 / (1 + 3 (127 / v - 1)) at 70.5 is 0.8402 / 127.
    assert distance_to_tie(said, noise, level, head)[3] == pytest.approx(0.0008402 / 127, rel=3e-2)
    with torch.no_grad():  # what moves 70 by less than the friction cannot turn it
        head.log_friction.fill_(np.log(0.5))
    noise[2 * PITCHES], said[2, 4] = 0.5, 70.5 / 127
    assert distance_to_tie(said, noise, level, head)[4] == pytest.approx(0.5)


def test_eager_step_is_the_exported_step(music: Windows) -> None:
    checkpoint = checkpoint_of("transformer", music)
    loaded = runtime.load(archive_of(checkpoint, music))
    stepping = export.eager(checkpoint.model(), loaded.metadata)
    np.testing.assert_array_equal(
        generate(stepping, None, 40, Settings(), 1), generate(loaded, None, 40, Settings(), 1)
    )


def test_multiply_adds_by_hand() -> None:
    module = family("transformer")
    block = 24 * 72 + 24 * 24 + 2 * 24 * 40 + 2 * 16 * 24  # qkv, mix, feed-forward, scores and sum over the ring
    trunk = 264 * 24 + 3 * block
    model = module.Model(module.Config(24, 2, 3, 40, "independent", 5, 3, 0.0, 0.01), 16)
    assert multiply_adds(model) == trunk + 24 * 264
    model = module.Model(module.Config(24, 2, 3, 40, "nade", 5, 3, 0.0, 0.01), 16)
    recall = 24 * 2 * 3 * 16 + 3 * 16 * 16 + 3 * 16 * 176  # queries and keys, scores, the sum over planes
    # Of each pitch: what it is told, two layers of what is around, logits of 5 units; and logits and units of all.
    pitch = 24 * 4 + 7 * (2 * 3 + 2 + 4) * 16 + 5 * 16 * 5 + 5 * 3
    assert multiply_adds(model) == trunk + recall + 88 * pitch + 24 * 264 + 24 * 5


def test_a_missing_operator_is_reported(music: Windows) -> None:
    class Odd(family("copy").Model):  # type: ignore[misc]
        def logits(self, features: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = torch.special.bessel_j0(super().logits(features))
            return found

    checkpoint = checkpoint_of("copy", music)
    description = export.describe(checkpoint, Calibration(), THRESHOLDS, count(music)[1], 1)
    found, shipped = deployability(Odd(family("copy").Config(), 16), description)
    assert shipped is None
    assert found["exports"] == 1
    assert found["missing_operators"] == 1
    assert "bessel_j0" in found["reason"]


@pytest.mark.parametrize("name", ["copy", "gan", "transformer"])
def test_evaluation_has_the_same_keys_for_all(name: str, music: Windows) -> None:
    config = EvaluateConfig(noise_samples=3, rollouts=3, frames=32, prompt=8, temperature=1.0, seed=1)
    rates = count(music)[1]
    copied = {"valid": 5.0, "test": 6.0}
    training = {"valid_nll_spread": 0.25, "steps": 12.0}
    found = evaluate(checkpoint_of(name, music), training, rates, copied, music, config)
    tonal = ["scale_consistency", "empty_beats", "polyphonic_rate", "grooving", "self_similarity", "memorised"]
    compared = sorted(["overlap", "overlaps", "divergence", "divergences", "frechet", *tonal])
    blocks = {block: sorted(values) for block, values in found.metrics.items()}
    likelihoods = ["nll", "nll_changed", "nll_joint", "nll_marginals", "raw"]
    scores = sorted(
        [*likelihoods, *["average_precision", "cosine", "f1", "mse", "onset_f1", "precision", "recall", "skill"]]
    )
    assert blocks == {
        "valid": scores,
        "test": scores,
        "stability": [
            "density",
            "density_drift",
            "density_ratio",
            "long_silence",
            "longest_repeat",
            "real_long_silence",
            "real_standstill",
            "real_velocity",
            "real_velocity_drift",
            "real_velocity_moves",
            "same_output",
            "silence",
            "silence_drift",
            "standstill",
            "valid_nll_spread",
            "velocity",
            "velocity_drift",
            "velocity_moves",
        ],
        "music": sorted(["passages", "frames", "real", *compared]),
        "complexity": ["multiply_adds", "parameters", "training_steps"],
        "deployability": ["bytes", "exports", "missing_operators", "reason", "same_bytes"],
        "scoring": ["calibration", "joint", "noise_samples", "thresholds"],
    }
    assert found.metrics["valid"]["skill"] == pytest.approx(5.0 - found.metrics["valid"]["nll"], abs=1e-5)
    assert found.metrics["stability"]["same_output"] == 1
    assert found.metrics["deployability"]["same_bytes"] == 1
    assert found.metrics["music"]["passages"] == 3
    assert found.metrics["music"]["frames"] == 32
    assert sorted(found.metrics["music"]["real"]) == compared
    assert found.metrics["complexity"]["training_steps"] == 12
    if name == "gan":
        assert found.metrics["valid"]["nll"] < found.metrics["valid"]["raw"]["nll"]
    else:
        assert found.metrics["valid"]["nll"] == found.metrics["valid"]["raw"]["nll"]
    assert [roll.shape for roll in found.generated] == [(32, PITCHES)] * 3


@pytest.mark.parametrize("head", ["nade", "independent"])
def test_evaluation_and_the_runtime_give_the_same_scores(head: str, music: Windows) -> None:
    """Two independent ways to a score: batches in PyTorch, and frame by frame on NumPy."""
    config = EvaluateConfig(noise_samples=1, rollouts=3, frames=32, prompt=8, temperature=1.0, seed=1)
    checkpoint, (fitted, rates) = checkpoint_of("transformer", music, head=head), count(music)
    untrained = {"valid_nll_spread": 0.0, "steps": 0}
    copied = evaluate(fitted, untrained, rates, None, music, config).metrics
    base = {split: copied[split]["nll"] for split in ("valid", "test")}
    found = evaluate(checkpoint, untrained, rates, base, music, config).metrics
    thresholds = Thresholds(**found["scoring"]["thresholds"])
    description = export.describe(checkpoint, Calibration(), thresholds, rates, 1)
    shipped = runtime.load(to_archive(checkpoint.model(), description))
    for split in ("valid", "test"):
        score = scoring.score(shipped, map(np.asarray, music.rolls(split)))
        # Marginals of notes that hang on each other are means over draws, which are not the same twice.
        for key in ("nll", "skill", "f1", "onset_f1") if head == "independent" else ("nll", "skill"):
            assert score[key] == pytest.approx(found[split][key], abs=2e-4), key


def test_drawing_a_frame_often_is_as_many_runs(music: Windows) -> None:
    shipped = runtime.load(archive_of(checkpoint_of("transformer", music), music))
    assert shipped.metadata.samples == 16
    roll = np.asarray(next(music.rolls("valid")))[:9]
    found = scoring.predict(shipped, roll)
    np.testing.assert_allclose(found, scoring.predict(replace(shipped, sampler=None), roll), rtol=1e-12)
    assert runtime.load(archive_of(checkpoint_of("gan", music), music)).sampler is None


def test_velocities_of_a_prompt_reach_the_model(music: Windows) -> None:
    """A held note keeps the velocity it was struck with, in the whole pass and in the step."""
    roll = np.asarray(next(music.rolls("valid")))[:20]
    assert (velocities(roll)[roll == 1] > 0).all()
