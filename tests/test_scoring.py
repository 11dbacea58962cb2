"""Scores of a model whose probabilities are known, on a piece worked out by hand; the benchmark's files."""

import sys
from math import log
from pathlib import Path

import numpy as np
import pytest

from pianoai.matfile import read as read_mat
from pianoai.runtime.chance import uniform
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import State
from pianoai.runtime.roll import Floats, Roll
from pianoai.runtime.scoring import Tally, predict, score, tally
from tests.tiny_model import tiny_model


def roll(*columns: tuple[int, list[int]]) -> Roll:
    cells = np.zeros((len(columns[0][1]), 88), np.uint8)
    for column, values in columns:
        cells[:, column] = values
    return cells


# A piece of four frames: pitch 0 is held, struck again, and stops; pitch 5 sounds once.
PIECE = roll((0, [70, 1, 60, 0]), (5, [0, 50, 0, 0]))
# 87 + 87 + 87 cells were given 3/4 and 3 cells 1/4; pitch 0 was once held and once struck again.
NATS = -(261 * log(0.75) + 3 * log(0.25) + log(0.6) + log(0.4))
COPY_NATS = -(2 * log(0.8) + 259 * log(0.9) + log(0.1) + 2 * log(0.2) + log(0.7) + log(0.3))


def test_scores_by_hand() -> None:
    found = score(tiny_model(), [PIECE])
    assert found["frames"] == 3
    assert found["nll"] == pytest.approx(NATS / 3, rel=1e-6)
    assert found["skill"] == pytest.approx((COPY_NATS - NATS) / 3, rel=1e-6)
    # Sounding is predicted where it sounded before: 4 cells, 2 right, 3 true. 2 * 2 / (4 + 3)
    assert found["f1"] == pytest.approx(4 / 7)
    # An onset has 1/4 where it was silent, 0.75 * 0.4 = 0.3 where it sounded: 4 predicted, 1 of 2 found.
    assert found["onset_f1"] == pytest.approx(2 / 6)


def test_without_restrikes_only_sounding_counts() -> None:
    found = score(tiny_model(), [PIECE], restrikes=False)
    assert found["nll"] == pytest.approx((NATS + log(0.6) + log(0.4)) / 3, rel=1e-6)
    copy = COPY_NATS + log(0.7) + log(0.3)
    assert found["skill"] == pytest.approx(copy / 3 - found["nll"], rel=1e-6)
    assert found["onset_f1"] == 0
    # With a threshold under 1/4, onsets are predicted at the 87 + 86 + 87 cells that were silent before.
    low = tiny_model(thresholds={"sounding": 0.5, "onset": 0.2})
    assert score(low, [PIECE], restrikes=False)["onset_f1"] == pytest.approx(2 / (260 + 2))


def test_a_mean_is_over_the_frames_of_all_pieces() -> None:
    short = roll((0, [70, 1]))  # one frame: 88 cells with 3/4, one of them held
    nats = -(88 * log(0.75) + log(0.6))
    found = score(tiny_model(), [PIECE, short, PIECE[:1], PIECE[:0]])
    assert found["frames"] == 4
    assert found["nll"] == pytest.approx((NATS + nats) / 4, rel=1e-6)
    assert tally(tiny_model(), PIECE[:1]) == Tally()
    with pytest.raises(InputError, match="two frames"):
        score(tiny_model(), [PIECE[:1]])


def test_certain_predictions_cost_a_bounded_price() -> None:
    def certain(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        return frame, np.zeros((3, 88), np.float32), state

    found = score(tiny_model(certain), [roll((0, [0, 9]))])
    assert found["nll"] == pytest.approx(-log(1e-6) - 87 * log(1 - 1e-6))
    assert found["f1"] == 0


def test_samples_are_runs_of_their_own_and_averaged_before_they_are_calibrated() -> None:
    def noisy(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        # Half of what the run's own noise was at the frame before: its state must not be another run's.
        chances = np.stack([state[0] / 2 + 0.1, noise[88:176], noise[:88]])
        return frame, chances.astype(np.float32), (noise[:88],)

    model = tiny_model(noisy, samples=16, calibration={"sounding": [2, -0.5], "struck": [1, 0.25]})
    found = predict(model, PIECE)
    draws = np.array([[uniform(177, 0, sample, at) for at in range(3)] for sample in range(16)])
    sounding = np.zeros((3, 88))
    sounding[1:] = draws[:, :-1, :88].mean(axis=0) / 2
    odds = (sounding + 0.1) / (0.9 - sounding)
    assert found[0] == pytest.approx(1 / (1 + np.exp(0.5) / odds**2), rel=1e-5)
    # Struck again, given that it sounds: both hang on the same noise.
    each = np.full((16, 3, 88), 0.1)
    each[:, 1:] += draws[:, :-1, :88] / 2
    struck = (each * draws[:, :, 88:176]).sum(axis=0) / each.sum(axis=0)
    assert found[1] == pytest.approx(1 / (1 + np.exp(-0.25) * (1 - struck) / struck), rel=1e-5)
    assert (predict(model, PIECE) == found).all()


def test_the_benchmark_in_a_mat_file(tmp_path: Path) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    pieces = np.empty((1, 2), object)
    pieces[0, 0] = (roll((0, [1, 1, 0, 1]), (87, [0, 1, 1, 0])) > 0).astype(np.uint8)
    pieces[0, 1] = np.zeros((2, 88), np.uint8)
    path = tmp_path / "music.mat"
    scipy_io.savemat(path, {"testdata": pieces, "traindata": pieces[:, 1:]})
    rolls = read_mat(path, "test")
    assert [len(piece) for piece in rolls] == [4, 2]
    assert rolls[0][:, [0, 87]].T.tolist() == [[64, 1, 0, 64], [0, 64, 1, 0]]
    assert len(read_mat(path, "train")) == 1
    with pytest.raises(InputError, match="no 'validdata'"):
        read_mat(path, "valid")
    with pytest.raises(InputError, match="no split 'dev'"):
        read_mat(path, "dev")
    pieces[0, 1] = np.full((2, 88), 2)
    scipy_io.savemat(path, {"testdata": pieces})
    with pytest.raises(InputError, match=r"test\[1\] must be"):
        read_mat(path, "test")
    path.write_bytes(b"no MATLAB")
    with pytest.raises(InputError, match=r"music\.mat: not a readable"):
        read_mat(path, "test")
    with pytest.raises(InputError, match=r"gone\.mat"):
        read_mat(tmp_path / "gone.mat", "test")


def test_a_mat_file_without_scipy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match=r"install '\.\[mat\]'"):
        read_mat(Path("music.mat"), "test")
