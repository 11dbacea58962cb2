"""Notes to rolls and back, on examples worked out by hand and on real music."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import (
    NOTE,
    Roll,
    intensity,
    levels,
    make_notes,
    notes_to_roll,
    read_frames,
    roll_to_notes,
    to_frames,
    velocities,
)

Row = tuple[int, int, int, int]


def column(rows: list[Row], pitch: int, frames_per_beat: int = 4) -> list[int]:
    roll = notes_to_roll(make_notes(rows), frames_per_beat)
    others = np.delete(roll, pitch - 21, axis=1)
    assert not others.any()
    return list(roll[:, pitch - 21])


def test_a_repeated_note_is_struck_again() -> None:
    # Sixteenths of 6 ticks: two frames, at once followed by three.
    assert column([(0, 12, 60, 80), (12, 18, 60, 50)], 60) == [80, 1, 50, 1, 1]


def test_a_gap_of_one_frame_is_silent() -> None:
    assert column([(0, 6, 60, 80), (12, 6, 60, 50)], 60) == [80, 0, 50]


def test_overlapping_notes_of_a_pitch_sound_until_the_last_ends() -> None:
    # The second begins and ends inside the first, so the first goes on after it.
    assert column([(0, 36, 21, 90), (12, 6, 21, 30)], 21) == [90, 1, 30, 1, 1, 1]


def test_of_two_notes_in_one_frame_the_louder_stays() -> None:
    assert column([(0, 12, 108, 40), (1, 3, 108, 70)], 108) == [70, 1]


@pytest.mark.parametrize("duration", [0, 1, 2, 5])
def test_a_short_note_lasts_one_frame(duration: int) -> None:
    assert column([(6, duration, 60, 99)], 60) == [0, 99]


def test_triplets_go_to_the_nearest_sixteenth() -> None:
    # Eighth triplets at 0, 8, 16 ticks are 0, 1.33, 2.67 frames: frames 0, 1 and 3.
    rows = [(0, 8, 60, 70), (8, 8, 62, 60), (16, 8, 64, 50)]
    roll = notes_to_roll(make_notes(rows), 4)
    assert roll[:, [39, 41, 43]].tolist() == [[70, 0, 0], [0, 60, 0], [0, 1, 0], [0, 0, 50]]


def test_halves_go_up() -> None:
    # At 4 frames a beat a frame has 6 ticks; 3 and 9 are halves.
    assert to_frames(np.array([0, 2, 3, 8, 9, 15]), 4).tolist() == [0, 0, 1, 1, 2, 3]
    assert to_frames(np.array([1, 7, 12, 35, 36]), 1).tolist() == [0, 0, 1, 1, 2]


def test_a_roll_can_be_cut_or_filled_up() -> None:
    notes = make_notes([(0, 18, 60, 80)])
    assert notes_to_roll(notes, 4, frames=2)[:, 39].tolist() == [80, 1]
    assert notes_to_roll(notes, 4, frames=5)[:, 39].tolist() == [80, 1, 1, 0, 0]
    assert notes_to_roll(make_notes([]), 4).shape == (0, 88)
    assert notes_to_roll(make_notes([]), 4, frames=3).tolist() == [[0] * 88] * 3


def test_the_softest_velocity_is_not_taken_for_held() -> None:
    assert column([(0, 12, 60, 1), (24, 6, 60, 127)], 60) == [2, 1, 0, 0, 127]


def test_notes_of_a_roll() -> None:
    roll = np.zeros((6, 88), np.uint8)
    roll[:, 0] = [1, 1, 90, 1, 0, 2]  # held at the start: begins there, with velocity 64
    roll[:, 87] = [0, 127, 126, 0, 1, 0]
    assert roll_to_notes(roll, 4).tolist() == [
        (0, 12, 21, 64),
        (6, 6, 108, 127),
        (12, 12, 21, 90),
        (12, 6, 108, 126),
        (24, 6, 108, 64),
        (30, 6, 21, 2),
    ]
    assert roll_to_notes(roll, 24)["duration"].tolist() == [2, 1, 2, 1, 1, 1]
    assert roll_to_notes(roll[:0], 4).tolist() == []


def test_velocities_last_as_long_as_the_note() -> None:
    roll = np.zeros((6, 88), np.uint8)
    roll[:, 3] = [1, 70, 1, 0, 1, 1]
    roll[:, 4] = [30, 1, 90, 1, 1, 0]
    assert velocities(roll)[:, 3].tolist() == [64, 70, 70, 0, 64, 64]
    assert velocities(roll)[:, 4].tolist() == [30, 30, 90, 90, 90, 0]
    assert intensity(roll)[:, 4] * 127 == pytest.approx([30, 30, 90, 90, 90, 0])
    assert intensity(roll).dtype == np.float32
    assert not velocities(roll)[:, 5:].any()


def test_the_level_is_that_of_the_last_strikes() -> None:
    roll = np.zeros((6, 88), np.uint8)
    roll[:, 3] = [0, 70, 1, 1, 20, 0]
    roll[:, 4] = [1, 30, 1, 0, 1, 0]
    assert levels(roll) * 127 == pytest.approx([64, 50, 50, 50, 20, 20])
    assert levels(roll, 0.5)[0] == np.float32(0.5)
    assert levels(roll).dtype == np.float32


def test_a_roll_from_lists_of_pitches() -> None:
    roll = read_frames([[60, 64], [60], [], [60, 60], [108]])
    assert roll[:, 39].tolist() == [64, 1, 0, 64, 0]
    assert roll[:, 43].tolist() == [64, 0, 0, 0, 0]
    assert roll[:, 87].tolist() == [0, 0, 0, 0, 64]
    assert read_frames([]).shape == (0, 88)


@pytest.mark.parametrize(
    ("frames", "place"),
    [
        ("x", "prompt must"),
        ([[60], 5], r"prompt\[1\]"),
        ([[60], [], [20]], r"prompt\[2\]"),
        ([[109]], r"prompt\[0\]"),
        ([[True]], r"prompt\[0\]"),
        ([[60.0]], r"prompt\[0\]"),
    ],
)
def test_bad_lists_are_refused_by_place(frames: object, place: str) -> None:
    with pytest.raises(InputError, match=place):
        read_frames(frames)


@pytest.mark.parametrize("row", [(0, 6, 20, 64), (0, 6, 109, 64), (-1, 6, 60, 64), (0, -6, 60, 64)])
def test_notes_that_no_roll_can_hold_are_refused(row: Row) -> None:
    with pytest.raises(InputError, match="notes: "):
        notes_to_roll(make_notes([(0, 6, 60, 64), row]), 4)


def test_a_frame_must_last_whole_ticks() -> None:
    with pytest.raises(InputError, match="divide 24: 5"):
        roll_to_notes(np.zeros((1, 88), np.uint8), 5)


def consistent(cells: Roll) -> Roll:
    """The roll with every held cell that follows silence made silent."""
    for at in range(len(cells)):
        before = cells[at - 1] if at else np.zeros(88, np.uint8)
        cells[at][(cells[at] == 1) & (before == 0)] = 0
    return cells


# Half the cells of few pitches sound, so that holds, repeats and neighbours all occur.
cells = st.sampled_from([0, 0, 1, 1, 2, 64, 127])
rolls = (
    st.integers(1, 12)
    .flatmap(lambda frames: arrays(np.uint8, (frames, 88), elements=cells, fill=st.just(0)))
    .map(consistent)
)


@given(rolls, st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))
def test_roll_to_notes_to_roll_is_the_identity(roll: Roll, frames_per_beat: int) -> None:
    notes = roll_to_notes(roll, frames_per_beat)
    again = notes_to_roll(notes, frames_per_beat, len(roll))
    assert (again == roll).all()
    assert (roll_to_notes(again, frames_per_beat) == notes).all()


rows = st.tuples(st.integers(0, 100), st.integers(0, 60), st.integers(21, 108), st.integers(1, 127))


@given(st.lists(rows, max_size=30), st.sampled_from([1, 3, 4, 24]))
def test_no_onset_is_lost_and_a_second_pass_changes_nothing(rows: list[Row], frames_per_beat: int) -> None:
    roll = notes_to_roll(make_notes(rows), frames_per_beat)
    onsets = {((2 * start * frames_per_beat + 24) // 48, pitch - 21) for start, _, pitch, _ in rows}
    assert set(zip(*np.nonzero(roll > 1), strict=True)) == onsets
    assert (notes_to_roll(roll_to_notes(roll, frames_per_beat), frames_per_beat) == roll).all()


@given(st.lists(rows, max_size=12))
def test_a_cell_sounds_when_some_note_covers_it(rows: list[Row]) -> None:
    roll = notes_to_roll(make_notes(rows), 4)
    expected = np.zeros(roll.shape, bool)
    for start, duration, pitch, _ in rows:
        first = (start + 3) // 6
        last = max((start + duration + 3) // 6, first + 1)
        expected[first:last, pitch - 21] = True
    assert ((roll > 0) == expected).all()


def test_notes_are_sorted_by_start_and_pitch() -> None:
    notes = make_notes([(5, 1, 60, 1), (0, 9, 70, 2), (0, 3, 50, 3), (0, 2, 50, 4)])
    assert notes.dtype == NOTE
    assert notes["velocity"].tolist() == [4, 3, 2, 1]
