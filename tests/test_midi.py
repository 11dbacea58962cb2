"""MIDI files in and out: bytes written by hand, broken files, round trips, real music."""

import io
import struct
from pathlib import Path

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianoai.runtime import midi, smf
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import make_notes, notes_to_roll, roll_to_notes

Row = tuple[int, int, int, int]
END = b"\x00\xff\x2f\x00"


def song(*tracks: bytes, division: int = 24, kind: int = 1) -> bytes:
    """A MIDI file from the events of its tracks; at 24 a quarter note its ticks are ours."""
    head = b"MThd" + struct.pack(">LHHH", 6, kind, len(tracks), division)
    return head + b"".join(b"MTrk" + struct.pack(">L", len(track)) + track for track in tracks)


def rows(data: bytes) -> list[Row]:
    return [tuple(note) for note in midi.read(data)[0].tolist()]


def test_notes_by_hand() -> None:
    # C4 (velocity 80) at 0 for 12, E4 (33) at 6 for 18, ended by a note-on of velocity 0, as running status.
    track = b"\x00\x90\x3c\x50" + b"\x06\x40\x21" + b"\x06\x80\x3c\x00" + b"\x0c\x90\x40\x00" + END
    assert rows(song(track)) == [(0, 12, 60, 80), (6, 18, 64, 33)]


def test_tracks_and_channels_are_merged_and_drums_left_out() -> None:
    right = b"\x18\x90\x48\x40\x18\x80\x48\x00" + END
    left = b"\x00\x91\x24\x41\x60\x81\x24\x00" + END
    drums = b"\x00\x99\x24\x7f\x60\x89\x24\x00" + END
    assert rows(song(right, left, drums)) == [(0, 96, 36, 65), (24, 24, 72, 64)]


def test_a_note_off_ends_the_oldest_note_of_its_own_channel_and_track() -> None:
    on, off = b"\x90\x3c", b"\x80\x3c\x00"
    twice = b"\x00" + on + b"\x0a\x05" + on + b"\x14\x05" + off + b"\x14" + off + END
    assert rows(song(twice)) == [(0, 10, 60, 10), (5, 25, 60, 20)]
    other = b"\x02\x90\x3c\x1e\x01\x80\x3c\x00" + END
    assert rows(song(twice, other)) == [(0, 10, 60, 10), (2, 1, 60, 30), (5, 25, 60, 20)]


def test_loose_ends() -> None:
    # A note-off without a note, and a note that is still on when its track ends at tick 40.
    track = b"\x00\x80\x3c\x00" + b"\x0a\x90\x3e\x40" + b"\x1e\xff\x2f\x00"
    assert rows(song(track)) == [(10, 30, 62, 64)]


def test_pitches_that_a_piano_lacks_are_left_out() -> None:
    track = b"".join(b"\x00\x90" + bytes([pitch, 64]) for pitch in (20, 21, 108, 109))
    assert rows(song(track + b"\x06\xff\x2f\x00")) == [(0, 6, 21, 64), (0, 6, 108, 64)]


def test_times_are_rounded_half_up_and_a_note_lasts_at_least_a_tick() -> None:
    # 480 a quarter note: 20 a tick. 9 -> 0, 10 -> 1, 30 -> 2 (1.5), 35 -> 2: one tick at least.
    track = b"\x09\x90\x3c\x40" + b"\x01\x80\x3c\x00" + b"\x14\x90\x3c\x40" + b"\x05\x80\x3c\x00" + END
    assert rows(song(track, division=480)) == [(0, 1, 60, 64), (2, 1, 60, 64)]


def test_the_first_tempo_in_time_counts() -> None:
    note = b"\x00\x90\x3c\x40\x06\x80\x3c\x00"
    late = b"\x05\xff\x51\x03\x0f\x42\x40" + END  # 1,000,000 microseconds a quarter note at tick 5
    early = b"\x00\xff\x51\x03\x09\x27\xc0" + END  # 600,000 at 0
    assert midi.read(song(note + END))[1] == 120
    assert midi.read(song(note + late))[1] == 60
    assert midi.read(song(note + late, early))[1] == 100


GOOD = song(b"\x00\x90\x3c\x40\x06\x80\x3c\x00" + END)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a MIDI file"),
        (b"RIFF" + GOOD, "not a MIDI file"),
        (GOOD[:-5], "cut off"),
        (GOOD[:10], "cut off"),
        (GOOD.replace(b"MTrk", b"JUNK"), "not a valid MIDI file"),
        (song(b"\x00\x3c\x40" + END), "not a valid MIDI file"),
        (song(b"\x00\xf4\x00" + END), "0xf4"),
        (song(b"\x00\xff\x03\x7fname" + END), "does not end within its track"),
        (song(b"\x00\x90\x3c"), "does not end within its track"),
        (song(b"\x80\x80"), "does not end within its track"),
        (song(b"\x80\x80\x80\x80\x00\x90\x3c\x40" + END), "more than 4 bytes"),
        (b"MThd" + bytes([0, 0, 0, 5]) + GOOD[8:], "header is too short"),
        (song(END, division=0), "quarter notes"),
        (song(END, division=0xE728), "SMPTE"),
        (song(END, END, kind=2), "format 2"),
        (song(END), "no notes"),
        (song(b"\x00\x99\x3c\x40\x06\x89\x3c\x00" + END), "no notes"),
        (song(b"\xff\xff\xff\x7f\x90\x3c\x40\x06\x80\x3c\x00" + END), "broken"),
    ],
)
def test_what_is_no_whole_music_is_refused_by_name(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "broken.mid"
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason) as caught:
        midi.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^prompt: "):
        midi.read(data, "prompt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mid: No such file"):
        midi.read(tmp_path / "gone.mid")


@given(st.binary(max_size=60))
def test_no_bytes_cause_anything_but_an_input_error(noise: bytes) -> None:
    for data in (noise, GOOD[:22] + noise, song(noise)):
        try:
            midi.read(data)
        except InputError:
            continue


def test_written_bytes_as_another_program_sees_them() -> None:
    music = make_notes([(0, 12, 60, 80), (12, 12, 60, 50), (6, 24, 67, 1)])
    file = mido.MidiFile(file=io.BytesIO(midi.write(music, 90)))
    assert (file.type, file.ticks_per_beat, len(file.tracks)) == (0, 480, 1)
    seen, now = [], 0
    for message in file.tracks[0]:
        now += message.time
        seen.append((now, message.type, getattr(message, "note", None), getattr(message, "velocity", None)))
    assert file.tracks[0][0].tempo == 666_667
    assert seen[1][1] == "program_change"
    assert seen[2:] == [
        (0, "note_on", 60, 80),
        (120, "note_on", 67, 1),
        (240, "note_off", 60, 0),
        (240, "note_on", 60, 50),
        (480, "note_off", 60, 0),
        (600, "note_off", 67, 0),
        (600, "end_of_track", None, None),
    ]


@given(st.lists(st.tuples(st.integers(0, 70_000), st.integers(0, 20_000), st.integers(21, 108), st.integers(1, 127))))
def test_the_bytes_are_those_that_mido_writes(found: list[Row]) -> None:
    try:
        data = midi.write(make_notes(found), 77)
    except InputError:  # too many at once
        return
    file = mido.MidiFile(file=io.BytesIO(data))
    again = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=file.tracks).save(file=again)
    assert data == again.getvalue()


def test_the_time_before_an_unknown_meta_message_counts() -> None:
    strike, release = b"\x05\x90\x3c\x40", b"\x02\x80\x3c\x00"
    assert rows(song(strike + b"\x07\xff\x6d\x01\x00" + release + END)) == [(5, 9, 60, 64)]


pieces = st.lists(
    st.one_of(
        st.builds(
            lambda kind, channel, pitch, velocity: bytes([kind | channel, pitch, velocity]),
            st.sampled_from([0x80, 0x90, 0x90, 0xA0, 0xB0, 0xE0]),
            st.sampled_from([0, 1, 9]),
            st.sampled_from([60, 60, 61, 20, 127, 200]),
            st.sampled_from([0, 1, 64, 127, 128, 255]),
        ),
        st.builds(lambda value: bytes([0xC0, value]), st.integers(0, 127)),
        st.builds(lambda value: bytes([value, 64]), st.integers(60, 61)),  # under running status
        st.sampled_from([b"\xff\x51\x03\x09\x27\xc0", b"\xff\x03\x04name", b"\xf0\x02\x41\xf7"]),
    ),
    max_size=30,
)


@given(st.lists(st.lists(st.tuples(st.sampled_from([0, 1, 24, 127, 128, 20_000]), pieces), max_size=3), max_size=3))
def test_the_reader_agrees_with_mido(tracks: list[list[tuple[int, list[bytes]]]]) -> None:
    written = [b"".join(smf._length(time) + b for time, piece in track for b in piece) + END for track in tracks]
    data = song(*written)
    try:
        file = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except (OSError, EOFError):
        return  # running status with nothing to run on, or after what mido lets run on: sysex
    if any(message.type == "unknown_meta" for track in file.tracks for message in track):
        return  # mido forgets how long it was until such a message
    expected, tempos, drums = [], [], 0
    for track in file.tracks:
        now, sounding = 0, []
        for message in track:
            now += message.time
            if message.type == "set_tempo":
                tempos.append((now, message.tempo))
            if message.type not in ("note_on", "note_off"):
                continue
            if message.channel == 9:
                drums += message.type == "note_on" and message.velocity > 0
                continue
            if message.type == "note_on" and message.velocity:
                sounding.append((now, message.channel, message.note, message.velocity))
            else:
                same = [note for note in sounding if note[1:3] == (message.channel, message.note)]
                if same:
                    sounding.remove(same[0])
                    expected.append((same[0][0], now, message.note, same[0][3]))
        expected += [(start, now, pitch, velocity) for start, _, pitch, velocity in sounding]
    piano = [row for row in expected if row[2] < 127]
    try:
        content = smf.parse(data)
    except InputError:
        assert b"\xf0" in data  # mido lets a data byte follow a sysex message, whatever it means then
        return
    assert content.division == 24
    assert sorted(row for row in content.rows if row[2] < 127) == sorted(piano)
    assert content.tempos == tempos
    assert content.drums == drums


durations = st.integers(1, 14)  # so at most 15 of a pitch sound at once, which the channels can carry
notes = st.lists(
    st.tuples(st.integers(0, 200), durations, st.integers(21, 108), st.integers(1, 127)),
    min_size=1,
    max_size=40,
    unique_by=lambda row: (row[0], row[2]),
)
few_pitches = st.lists(
    st.tuples(st.integers(0, 30), durations, st.integers(60, 61), st.integers(1, 127)),
    min_size=1,
    max_size=40,
    unique_by=lambda row: (row[0], row[2]),
)


@given(notes | few_pitches, st.integers(1, midi.SLOWEST))
def test_reading_what_was_written_is_the_identity(rows: list[Row], microseconds: int) -> None:
    music = make_notes(rows)
    tempo = 60_000_000 / microseconds
    again, heard = midi.read(midi.write(music, tempo))
    assert again.tolist() == music.tolist()
    assert heard == tempo


def test_notes_that_begin_together_on_one_key_are_one() -> None:
    # As real scores have them: ornaments written out as stacks of notes without duration.
    stack = [(6, 0, 64, 96), (6, 9, 64, 80), (6, 4, 64, 114)] * 9
    assert rows(midi.write(make_notes([*stack, (6, 2, 65, 30)]))) == [(6, 9, 64, 114), (6, 2, 65, 30)]


def test_a_note_without_duration_lasts_a_tick() -> None:
    assert rows(midi.write(make_notes([(3, 0, 60, 9)]))) == [(3, 1, 60, 9)]


@pytest.mark.parametrize("tempo", [0, -1, 3.5, float("nan"), float("inf"), 6e7 + 1])
def test_a_tempo_that_midi_cannot_say_is_refused(tempo: float) -> None:
    with pytest.raises(InputError, match=r"^tempo must"):
        midi.write(make_notes([(0, 6, 60, 64)]), tempo)


@pytest.mark.parametrize("row", [(0, 6, 60, 0), (0, 6, 60, 128), (-6, 6, 60, 64), (0, 6, 128, 64)])
def test_a_note_that_midi_cannot_say_is_refused(row: Row) -> None:
    with pytest.raises(InputError, match=r"^notes: "):
        midi.write(make_notes([row]))


def test_a_pitch_too_busy_for_all_channels_is_refused() -> None:
    music = make_notes([(tick, 99, 60, 64) for tick in range(16)])
    assert len(midi.read(midi.write(music[:15]))[0]) == 15
    with pytest.raises(InputError, match="tick 15"):
        midi.write(music)


def test_real_music_survives_and_agrees_with_another_parser(tmp_path: Path) -> None:
    music21 = pytest.importorskip("music21")
    symusic = pytest.importorskip("symusic")
    path = tmp_path / "chorale.mid"
    music21.corpus.parse("bach/bwv66.6").write("midi", path)
    music, _ = midi.read(path)
    score = symusic.Score(path)
    expected = [
        (2 * 24 * n.start / score.tpq, 2 * 24 * n.end / score.tpq, n.pitch, n.velocity)
        for track in score.tracks
        for n in track.notes
    ]
    found = [(2 * s, 2 * (s + d), p, v) for s, d, p, v in music.tolist()]
    assert len(found) > 100
    assert sorted(found) == sorted(expected)  # quarter notes and eighths: nothing is rounded
    # Two voices on one key become one note, which makes no difference to a roll.
    assert (notes_to_roll(midi.read(midi.write(music))[0], 24) == notes_to_roll(music, 24)).all()
    roll = notes_to_roll(music, 4)
    assert (notes_to_roll(midi.read(midi.write(roll_to_notes(roll, 4)))[0], 4) == roll).all()
