import numpy as np
import pytest

from pianoai.metrics.stability import (
    behaviour,
    density,
    long_silence,
    roll_outs,
    silence,
    standstill,
    velocity,
    velocity_moves,
)
from pianoai.runtime.roll import Roll, runs
from pianoai.runtime.sampling import Settings, generate
from tests.tiny_model import tiny_model


def roll(rows: list[list[int]]) -> Roll:
    found = np.zeros((len(rows), 88), np.uint8)
    for at, row in enumerate(rows):
        found[at, : len(row)] = row
    return found


def test_runs_ignore_whether_a_note_is_held_or_struck() -> None:
    assert runs(roll([[60], [1], [60], [0, 60], [0, 1], [60]])).tolist() == [3, 2, 1]
    assert runs(roll([[0]] * 4)).tolist() == [4]
    assert runs(roll([[1]])).tolist() == [1]
    assert runs(roll([])).tolist() == []


def test_a_standstill_lasts_over_four_beats() -> None:
    # At two frames a beat over 8 frames: the run of 9 counts, that of 8 does not, in another roll the 10 do.
    rolls = [roll([[60]] + [[1]] * 8 + [[0]] * 8), roll([[0, 60]] + [[0, 1]] * 9 + [[0]])]
    assert standstill(rolls, 2) == 19 / 28
    assert standstill(rolls, 4) == 0
    assert standstill([roll([])], 4) == 0


def test_a_long_silence_lasts_over_four_beats() -> None:
    # At two frames a beat over 8 frames: of silences of 9, 8 and 10 frames the first and the last count.
    rolls = [roll([[0]] * 9 + [[60]] + [[0]] * 8 + [[1]] * 12), roll([[60]] + [[0]] * 10)]
    assert long_silence(rolls, 2) == 19 / 41
    assert long_silence(rolls, 4) == 0
    assert long_silence([roll([])], 4) == 0


def test_density_and_silence() -> None:
    rolls = [roll([[60, 70], [0], [1]]), roll([[60]])]
    assert density(rolls) == 4 / 4
    assert silence(rolls) == 1 / 4


def test_drift_is_the_last_quarter_less_the_first() -> None:
    generated = roll([[60], [60], [50], [1], [1], [1], [0], [70, 70, 70]])
    found = behaviour([generated], [roll([[60], [0]])], 1)
    assert found["density"] == pytest.approx(9 / 8)
    assert found["density_ratio"] == pytest.approx(9 / 8 / 0.5)
    assert found["density_drift"] == pytest.approx(3 / 2 - 1)
    assert found["silence"] == pytest.approx(1 / 8)
    assert found["silence_drift"] == pytest.approx(1 / 2)
    assert found["longest_repeat"] == 6
    assert found["standstill"] == 6 / 8
    assert found["real_standstill"] == 0
    assert (found["long_silence"], found["real_long_silence"]) == (0, 0)
    assert (found["velocity"], found["real_velocity"]) == (380 / 6, 60)
    assert found["velocity_drift"] == 70 - 60
    assert found["real_velocity_drift"] == 0 - 60  # of two frames, the last of which is silent


def test_moves_of_velocity() -> None:
    # Levels 60, 65 (the mean of 60 and 70), 65, 40; frames in which nothing is struck do not count.
    rolls = [roll([[0], [60], [1], [60, 70], [0], [1, 65], [40]]), roll([[90]]), roll([[64], [65]])]
    assert velocity_moves(rolls) == pytest.approx((5 + 0 + 25 + 1) / 4)
    assert velocity_moves([roll([[1], [0]])]) == velocity([roll([[1], [0]])]) == 0


def test_prompts_and_silence_are_continued_in_their_order() -> None:
    prompts = [None if at % 3 == 0 else roll([[60, at], [1]]) for at in range(19)]
    found = roll_outs(tiny_model, prompts, 12, Settings(0.9), 5)
    expected = [generate(tiny_model(), prompt, 12, Settings(0.9), 5 + at) for at, prompt in enumerate(prompts)]
    np.testing.assert_array_equal(found, expected)
