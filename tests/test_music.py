"""Each measure against what was worked out by hand, on music that is not the same backwards, upside down or shifted."""

from math import log, sqrt

import numpy as np
import pytest
from scipy.linalg import sqrtm

from pianoai.metrics import music
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import HELD, LOWEST_PITCH, Roll


def roll(frames: int, *notes: tuple[int, int, int]) -> Roll:
    """A roll of notes (first frame, frames, MIDI pitch)."""
    found = np.zeros((frames, 88), np.uint8)
    for first, length, pitch in notes:
        found[first : first + length, pitch - LOWEST_PITCH] = HELD
        found[first, pitch - LOWEST_PITCH] = 70
    return found


def melody(*pitches: int) -> Roll:
    """Notes of a frame each, one after the other."""
    return roll(len(pitches), *((at, 1, pitch) for at, pitch in enumerate(pitches)))


def values(counts: music.Counts) -> dict[int, int]:
    return {value: int(count) for value, count in enumerate(counts) if count}


def test_features_of_two_passages() -> None:
    one = roll(8, (0, 3, 60), (2, 2, 64), (3, 5, 43))
    one[0, 62 - LOWEST_PITCH] = HELD  # a D of the prompt: it sounds, and is not struck
    other = roll(9, (8, 1, 72))  # a bar of silence, and a frame that belongs to no bar and no beat
    found = {name: values(counts) for name, counts in music.histograms([one, other], 2).items()}
    assert found == {
        "pitch_class": {0: 2, 4: 1, 7: 1},
        "pitch_range": {64 - 43: 1},
        "polyphony": {0: 8, 1: 5 + 1, 2: 3},
        "note_length": {1: 1, 2: 1, 3: 1, 5: 1},
        "inter_onset": {1: 1, 2: 1},
        "onset_density": {0: 2 + 4, 1: 1, 2: 1},
    }


def test_the_last_value_holds_all_above_it() -> None:
    found = music.histograms([roll(20, *((0, 10, 40 + at) for at in range(30)), (13, 1, 21))], 2)
    assert {name: values(found[name]) for name in ("polyphony", "note_length", "inter_onset", "onset_density")} == {
        "polyphony": {0: 9, 1: 1, 12: 10},
        "note_length": {1: 1, 8: 30},
        "inter_onset": {8: 1},
        "onset_density": {0: 8, 1: 1, 24: 1},
    }
    assert [len(counts) for counts in found.values()] == [12, 88, 13, 9, 9, 25]


def test_overlap_is_the_sum_of_the_smaller_shares() -> None:
    assert music.overlap(np.array([2, 1, 1]), np.array([1, 0, 3])) == 1 / 4 + 0 + 1 / 4
    assert music.overlap(np.array([20, 0, 60]), np.array([1, 0, 3])) == 1
    assert music.overlap(np.array([0, 0, 0]), np.array([1, 0, 3])) == 0


def test_divergence_from_the_wanted_distribution() -> None:
    # With one added to each: 3, 2, 2 found and 2, 1, 4 wanted, of 7.
    found, wanted = np.array([2, 1, 1]), np.array([1, 0, 3])
    there = 2 / 7 * log(2 / 3) + 1 / 7 * log(1 / 2) + 4 / 7 * log(4 / 2)
    back = 3 / 7 * log(3 / 2) + 2 / 7 * log(2 / 1) + 2 / 7 * log(2 / 4)
    assert music.divergence(found, wanted) == pytest.approx(there)
    assert music.divergence(wanted, found) == pytest.approx(back)
    assert there != pytest.approx(back)


def test_the_best_scale_holds_all_notes_but_one() -> None:
    # G major has C, C, D, E, F sharp and not E flat; C major has four of the six.
    found = melody(60, 72, 50, 64, 66, 63)
    found[3, 61 - LOWEST_PITCH] = HELD
    assert music.scale_consistency(found) == 5 / 6


def test_empty_beats_and_polyphony() -> None:
    found = roll(7, (1, 1, 50), (6, 1, 50))
    assert music.empty_beats(found, 2) == 2 / 3
    found = roll(5, (0, 2, 50), (0, 1, 60), (3, 2, 40), (3, 1, 41), (3, 1, 80))
    assert music.polyphonic_rate(found) == 2 / 5


def test_grooving_compares_all_pairs_of_bars() -> None:
    # Struck: x.x. xxx. ...x and a frame over; held frames do not count.
    found = roll(13, (0, 2, 60), (2, 2, 62), (4, 1, 60), (5, 1, 60), (6, 1, 30), (11, 2, 60))
    assert music.grooving(found, 1) == pytest.approx((3 / 4 + 1 / 4 + 0) / 3)


def test_self_similarity_is_of_pitch_classes() -> None:
    # Cells: three of C and four of G; one of C, in another octave; none.
    found = roll(12, (0, 3, 60), (0, 4, 67), (5, 1, 36))
    assert music.self_similarity(found, 1) == pytest.approx((3 / 5 + 0 + 0) / 3)


def test_features_of_a_bar() -> None:
    # A0 for two beats, and C8 in the frames 3, 6 and 7; per frame 1 1 1 2 0 0 1 1 notes, 9/8 - (7/8)^2 their variance.
    found = music.bar_features([roll(11, (0, 4, 21), (3, 1, 108), (6, 1, 108), (7, 1, 108))], 2)
    classes = [3 / 8, 0, 0, 0, 0, 0, 0, 0, 0, 4 / 8, 0, 0]
    np.testing.assert_allclose(found, [[*classes, 4 / 8, 0, 0, 3 / 8, 1, 1, 0, 2, sqrt(23) / 8, 4 / 8]])


def test_frechet_of_two_features_by_hand() -> None:
    # The first is halved, as the wanted one's deviation is 2: means 1/2 and 1, variances 1/2 and 2, the root of whose
    # product is 1. The second never changes and stays as it is.
    found, wanted = np.array([[0.0, 5], [2, 5]]), np.array([[0.0, 7], [4, 7]])
    assert music.frechet(found, wanted) == pytest.approx(1 / 4 + 1 / 2 + 2 - 2 * 1 + 4)
    assert music.frechet(wanted, wanted) == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match=r"evaluate\.frames: the passages have fewer than two bars"):
        music.frechet(found[:1], wanted)


def test_frechet_of_many_features_with_a_matrix_root() -> None:
    chance = np.random.default_rng(3)
    found = chance.normal(size=(40, 5)) @ chance.normal(size=(5, 5)) + 1
    wanted = chance.normal(size=(30, 5)) @ chance.normal(size=(5, 5))
    one, other = found / wanted.std(axis=0), wanted / wanted.std(axis=0)
    means = one.mean(axis=0) - other.mean(axis=0)
    covariances = np.cov(one.T), np.cov(other.T)
    root = sqrtm(covariances[0] @ covariances[1]).real
    independent = means @ means + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert music.frechet(found, wanted) == pytest.approx(float(independent))


def test_a_comparison_has_a_mean_of_each_kind() -> None:
    rolls, real = [melody(60, 60, 62, 64, 64, 64, 62, 60)], [melody(60, 67, 62, 64, 61, 64, 62, 50)]
    found = music.compare(rolls, real, 1)
    histograms = music.histograms(rolls, 1), music.histograms(real, 1)
    assert found["overlaps"]["pitch_class"] == pytest.approx((1 + 0 + 2 + 2) / 8)
    assert found["overlap"] == pytest.approx(sum(found["overlaps"].values()) / 6)
    assert found["divergences"] == {
        name: music.divergence(histograms[0][name], histograms[1][name]) for name in histograms[0]
    }
    assert found["divergence"] == pytest.approx(sum(found["divergences"].values()) / 6)
    assert found["frechet"] > 0
    with pytest.raises(InputError, match="no note is struck"):
        music.compare(rolls, [roll(8)], 1)


def test_character_is_a_mean_over_passages() -> None:
    found = music.character([melody(60, 61, 62, 64, 60, 61, 62, 64), roll(8)], 1)
    assert found == {
        "scale_consistency": pytest.approx(6 / 8),  # of the one that has notes: C, D, E
        "empty_beats": 1 / 2,
        "polyphonic_rate": 0,
        "grooving": 1,
        "self_similarity": pytest.approx(1 / 2),
    }
    assert music.character([roll(8)], 1)["scale_consistency"] == 0


def test_silence_can_be_compared() -> None:
    found = music.compare([roll(8)], [melody(60, 67, 62, 64, 61, 64, 62, 50)], 1)
    assert found["overlap"] == 0
    assert np.isfinite(found["divergence"])
    assert np.isfinite(found["frechet"])
