"""MIDI files as they come from anywhere. Expected notes are (start, duration, pitch, velocity), 24 ticks a beat."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pianoai.runtime import midi as prompts
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import notes_to_roll, roll_to_notes
from pianoai.sources import Piece, Refused, keyboard, midi

Event = tuple[int, bytes]  # ticks since the one before, message
TEMPO = b"\xff\x51\x03\x03\xd0\x90"  # 240 beats a minute
DRUM = 9


def on(pitch: int, velocity: int = 80, channel: int = 0) -> bytes:
    return bytes((0x90 | channel, pitch, velocity))


def off(pitch: int, channel: int = 0) -> bytes:
    return bytes((0x80 | channel, pitch, 64))


def pedal(value: int, channel: int = 0) -> bytes:
    return bytes((0xB0 | channel, 64, value))


def length(value: int) -> bytes:
    parts = [value & 127]
    while value := value >> 7:
        parts.append(value & 127 | 128)
    return bytes(reversed(parts))


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack(">I", len(data)) + data


def track(*events: Event, end: bytes = b"\x00\xff\x2f\x00") -> bytes:
    return chunk(b"MTrk", b"".join(length(after) + message for after, message in events) + end)


def song(*tracks: bytes, kind: int = 1, division: int = 96, count: int | None = None) -> bytes:
    return chunk(b"MThd", struct.pack(">HHh", kind, len(tracks) if count is None else count, division)) + b"".join(
        tracks
    )


def heard(data: bytes, pedal: bool = False) -> list[tuple[int, int, int, int]]:
    found = midi.read("song", data, pedal)
    assert isinstance(found, Piece), found
    notes: list[tuple[int, int, int, int]] = found.notes.tolist()
    return notes


def test_tempo_changes_move_nothing_since_time_is_in_beats() -> None:
    notes = [(0, on(60)), (48, TEMPO), (48, off(60)), (0, on(62)), (96, off(62))]
    assert heard(song(track(*notes))) == [(0, 24, 60, 80), (24, 24, 62, 80)]


def test_tracks_and_channels_are_one_keyboard_and_drums_are_left_out() -> None:
    right = track((0, on(72)), (96, off(72)))
    left = track((0, on(48, 50, 3)), (0, on(36, 90, DRUM)), (48, off(48, 3)), (0, off(36, DRUM)))
    found = midi.read("song", song(right, left), False)
    assert isinstance(found, Piece)
    assert found.notes.tolist() == [(0, 12, 48, 50), (0, 24, 72, 80)]
    assert found.left_out == 1


def test_a_program_change_in_the_middle_of_a_note_changes_nothing() -> None:
    assert heard(song(track((0, on(60)), (48, b"\xc0\x05"), (48, off(60))))) == [(0, 24, 60, 80)]


def test_a_note_without_duration_lasts_a_tick() -> None:
    assert heard(song(track((96, on(60)), (0, off(60))))) == [(24, 1, 60, 80)]


def test_of_overlapping_notes_the_first_ends_first() -> None:
    notes = [(0, on(60, 50)), (24, on(60, 70)), (24, off(60)), (48, off(60))]
    assert heard(song(track(*notes))) == [(0, 12, 60, 50), (6, 18, 60, 70)]


def test_notes_without_an_end_last_as_long_as_their_track() -> None:
    notes = [(0, on(60, 50)), (24, on(60, 70)), (24, on(64)), (48, off(64)), (96, TEMPO)]
    assert heard(song(track(*notes))) == [(0, 48, 60, 50), (6, 42, 60, 70), (12, 12, 64, 80)]


@pytest.mark.parametrize("end", [b"", b"\0\xff\x2f\0\0", b"\0\xff\x2f\0\0\xff\x2f\0", b"\x60\xff\x2f\0"])
def test_however_a_track_ends_its_notes_do(end: bytes) -> None:
    hanging = [(0, on(60, 50 + number)) if not number else (24, on(60, 50 + number)) for number in range(4)]
    last = 18 if len(end) < 4 or end[0] == 0 else 42
    found = heard(song(track(*hanging, end=end)))
    assert [start for start, *_ in found] == [0, 6, 12, 18]
    assert [start + length for start, length, *_ in found] == [max(last, start + 1) for start in (0, 6, 12, 18)]


@pytest.mark.parametrize("count", [3, 4, 5, 64, 65, 300])
def test_any_number_of_notes_of_a_key_may_have_no_end(count: int) -> None:
    found = heard(song(track(*((24, on(60)) for _ in range(count)), (24, on(61)), (24, TEMPO))))
    assert found == [(6 * at, 6 * (count + 2 - at), 60, 80) for at in range(1, count + 1)] + [
        (6 * (count + 1), 6, 61, 80)
    ]


def test_a_track_of_pedals_or_words_alone_is_no_music() -> None:
    notes = track((0, on(60)), (96, off(60)))
    others = [track((0, pedal(90)), (96, pedal(0))), track((0, b"\xff\x05\x02la"), (96, b"\xe0\x00\x40"))]
    for data in (song(notes, *others), song(*others, notes)):
        assert heard(data) == [(0, 24, 60, 80)]
    found = midi.read("song", song(*others), False)
    assert isinstance(found, Refused)
    assert found.reason == "has no notes"


def test_all_tracks_are_read_though_the_header_says_fewer() -> None:
    tracks = [track((0, on(pitch)), (96, off(pitch))) for pitch in (60, 62)]
    assert heard(song(*tracks, count=1)) == [(0, 24, 60, 80), (0, 24, 62, 80)]


def test_a_pedal_on_the_channel_of_drums_is_no_note() -> None:
    found = midi.read("song", song(track((0, on(60)), (0, pedal(90, DRUM)), (96, off(60)))), True)
    assert isinstance(found, Piece)
    assert found.left_out == 0


def test_a_pedal_pressed_when_a_note_has_ended_does_not_hold_it() -> None:
    notes = [(0, on(60)), (24, off(60)), (0, pedal(127)), (24, on(62)), (24, off(62)), (24, pedal(0))]
    assert heard(song(track(*notes)), pedal=True) == [(0, 6, 60, 80), (12, 12, 62, 80)]


def test_running_status_and_note_ons_of_velocity_0() -> None:
    assert heard(song(track((0, on(60)), (96, b"\x3c\x00"), (0, b"\x3e\x46"), (48, b"\x3e\x00")))) == [
        (0, 24, 60, 80),
        (24, 12, 62, 70),
    ]


def test_the_three_formats() -> None:
    one, other = track((0, on(60)), (100, off(60))), track((0, on(62)), (96, off(62)))
    assert heard(song(one, kind=0)) == [(0, 25, 60, 80)]
    assert heard(song(one, other, kind=1)) == [(0, 25, 60, 80), (0, 24, 62, 80)]
    # One sequence after the other, each from the next beat on: 100 of 96 ticks are two beats.
    assert heard(song(one, other, kind=2)) == [(0, 25, 60, 80), (48, 24, 62, 80)]


def test_chunks_of_other_kinds_are_skipped() -> None:
    notes = track((0, on(60)), (96, off(60)))
    assert heard(song(chunk(b"XFIH", b"of a karaoke player"), notes, count=1)) == [(0, 24, 60, 80)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (song(track((0, on(60)), (96, off(60))), division=0), "does not count time in ticks a quarter note"),
        (song(track((0, on(60)), (96, off(60))), division=-6360), "does not count time in ticks a quarter note"),
        (song(track((0, on(60)), (96, off(60))), kind=3), "format 3"),
        (song(track((0, on(60)), (96, off(60))), count=2), "1 of 2 tracks are there"),
        (song(track((0, on(60)), (96, off(60))))[:-1], "track 1 is cut off"),
        (song(), "has no notes"),
        (song(track((0, on(36, 80, DRUM)), (96, off(36, DRUM)))), "has no notes; 1 notes of drums are left out"),
        (b"RIFF", "does not begin with a header"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    found = midi.read("song", data, False)
    assert isinstance(found, Refused)
    assert reason in found.reason


SUSTAINED = [(0, on(60)), (24, pedal(127)), (24, off(60)), (24, on(64)), (24, off(64)), (96, pedal(0)), (0, on(67))]


def test_the_pedal_is_heard_where_it_is_asked_for() -> None:
    data = song(track(*SUSTAINED, (24, off(67))))
    assert heard(data) == [(0, 12, 60, 80), (18, 6, 64, 80), (48, 6, 67, 80)]
    assert heard(data, pedal=True) == [(0, 48, 60, 80), (18, 30, 64, 80), (48, 6, 67, 80)]


def test_a_key_that_is_struck_again_ends_what_the_pedal_holds() -> None:
    notes = [(0, pedal(127)), (0, on(60)), (24, off(60)), (24, on(60, 90)), (24, off(60)), (24, pedal(0))]
    assert heard(song(track(*notes)), pedal=True) == [(0, 12, 60, 80), (12, 12, 60, 90)]


def test_a_pedal_half_down_is_up_and_one_never_lifted_holds_to_the_end_of_its_track() -> None:
    held = [(0, on(60)), (24, off(60)), (24, on(62)), (48, off(62))]
    assert heard(song(track((0, pedal(63)), *held)), pedal=True) == [(0, 6, 60, 80), (12, 12, 62, 80)]
    assert heard(song(track((0, pedal(64)), *held)), pedal=True) == [(0, 24, 60, 80), (12, 12, 62, 80)]


@pytest.mark.parametrize("channel", [0, 1, 15])
def test_a_pedal_that_is_first_lifted_was_not_down(channel: int) -> None:
    first = [(0, on(60, 80, channel)), (24, off(60, channel)), (24, pedal(0, channel))]
    later = [(0, on(62, 80, channel)), (0, pedal(90, channel)), (24, off(62, channel)), (24, pedal(0, channel))]
    assert heard(song(track(*first, *later)), pedal=True) == [(0, 6, 60, 80), (12, 12, 62, 80)]


def test_the_pedal_of_one_track_holds_the_notes_of_another() -> None:
    hands, feet = track((0, on(60)), (24, off(60))), track((0, pedal(127)), (96, pedal(0)))
    for tracks in ((hands, feet), (feet, hands)):
        found = midi.read("song", song(*tracks), True)
        assert isinstance(found, Piece)
        assert found.notes.tolist() == [(0, 24, 60, 80)]
        assert found.left_out == 0


messages = st.one_of(
    st.builds(on, st.integers(18, 24) | st.integers(60, 63), st.integers(0, 127), st.sampled_from([0, 1, DRUM])),
    st.builds(off, st.integers(18, 24) | st.integers(60, 63), st.sampled_from([0, 1, DRUM])),
    st.builds(pedal, st.integers(0, 127), st.sampled_from([0, 1])),
    st.just(TEMPO),
    st.just(b"\xc0\x07"),
)
events = st.lists(st.tuples(st.integers(0, 200), messages), max_size=40)


@given(st.lists(events, min_size=1, max_size=3), st.sampled_from([24, 96, 7]))
@settings(deadline=None)
def test_what_is_read_is_what_the_parser_in_python_reads(tracks: list[list[Event]], division: int) -> None:
    """The function's own parser of prompts, which is independent of symusic, finds the same notes."""
    data = song(*(track(*events) for events in tracks), division=division)
    found = midi.read("song", data, False)
    try:
        notes, _ = prompts.read(data)
    except InputError:
        assert isinstance(found, Refused)
        return
    assert isinstance(found, Piece)
    rows = np.stack([notes["start"], notes["start"] + notes["duration"], notes["pitch"], notes["velocity"]], axis=1)
    assert found.notes.tolist() == keyboard(rows.astype(np.int64))[0].tolist()


@given(st.lists(events, min_size=1, max_size=3), st.sampled_from([24, 96, 480, 7]), st.sampled_from([1, 2, 4, 12, 24]))
@settings(deadline=None)
def test_a_roll_written_as_midi_is_read_as_the_same_roll(
    tracks: list[list[Event]], division: int, frames_per_beat: int
) -> None:
    found = midi.read("song", song(*(track(*events) for events in tracks), division=division), True)
    if isinstance(found, Refused):
        return
    roll = notes_to_roll(found.notes, frames_per_beat)
    again = midi.read("again", prompts.write(roll_to_notes(roll, frames_per_beat)), True)
    assert isinstance(again, Piece)
    np.testing.assert_array_equal(notes_to_roll(again.notes, frames_per_beat), roll)
