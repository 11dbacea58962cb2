import numpy as np
import pytest

from pianoai.metrics.stability import behaviour, density, longest_repeat, silence
from pianoai.runtime.roll import Roll


def roll(rows: list[list[int]]) -> Roll:
    found = np.zeros((len(rows), 88), np.uint8)
    for at, row in enumerate(rows):
        found[at, : len(row)] = row
    return found


def test_longest_repeat_ignores_whether_a_note_is_held_or_struck() -> None:
    assert longest_repeat(roll([[60], [1], [60], [0, 60], [0, 1], [60]])) == 3
    assert longest_repeat(roll([[0]] * 4)) == 4
    assert longest_repeat(roll([[1]])) == 1


def test_density_and_silence() -> None:
    rolls = [roll([[60, 70], [0], [1]]), roll([[60]])]
    assert density(rolls) == 4 / 4
    assert silence(rolls) == 1 / 4


def test_drift_is_the_last_quarter_less_the_first() -> None:
    generated = roll([[60], [60], [50], [1], [1], [1], [0], [70, 70, 70]])
    found = behaviour([generated], [roll([[60], [0]])])
    assert found["density"] == pytest.approx(9 / 8)
    assert found["density_ratio"] == pytest.approx(9 / 8 / 0.5)
    assert found["density_drift"] == pytest.approx(3 / 2 - 1)
    assert found["silence"] == pytest.approx(1 / 8)
    assert found["silence_drift"] == pytest.approx(1 / 2)
    assert found["longest_repeat"] == 6
