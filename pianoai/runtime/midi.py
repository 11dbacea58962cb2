"""Notes from MIDI files, and MIDI files from notes."""

import io
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import LOUDEST, LOWEST_PITCH, PITCHES, TICKS_PER_BEAT, Notes, make_notes

DEFAULT_TEMPO = 120.0  # quarter notes a minute, what MIDI means when it says nothing
LONGEST = 20_000  # quarter notes; a file that claims more has a broken time, not more music
DRUMS = 9  # the tenth channel, counted from 0
RESOLUTION = 480  # of the files written here, in MIDI ticks a quarter note
MICROSECONDS = 60_000_000  # a minute
SLOWEST = 0xFFFFFF  # microseconds a quarter note: 24 bits


def read(source: bytes | Path, name: str = "") -> tuple[Notes, float]:
    """The notes of a MIDI file, all tracks together, and its first tempo (quarter notes a minute).

    Times are rounded to the nearest tick of 1/24 quarter note, halves up, and a note lasts at least
    one. Left out: drums (channel 10), pitches outside 21-108, note-offs without a note. Within a track
    and channel a note-off ends the oldest open note of its pitch; what is still open at the track's
    end ends there. `name` is how messages call the file; a path speaks for itself.

    Raises InputError if the file is missing, is not whole, counts time in seconds, or has no notes.
    """
    import mido  # takes 53 ms, which a cold start without MIDI should not pay

    name = name or (str(source) if isinstance(source, Path) else "MIDI")
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    if data[:4] != b"MThd":
        raise InputError(f"{name}: not a MIDI file, which begins with 'MThd'")
    try:
        # A velocity over 127 is a common small fault; mido then takes 127 instead of giving up.
        song = mido.MidiFile(file=io.BytesIO(data), clip=True)
    except EOFError:
        raise InputError(f"{name}: the MIDI file ends too early; it was cut off") from None
    except Exception as error:  # mido lets whatever a broken event causes through
        raise InputError(f"{name}: not a valid MIDI file: {' '.join(str(error).split())}") from None
    if song.type == 2 and len(song.tracks) > 1:
        raise InputError(f"{name}: independent sequences (MIDI format 2); save it as format 0 or 1")
    if song.ticks_per_beat <= 0:
        raise InputError(f"{name}: needs time in quarter notes, not in seconds (SMPTE) or none")

    rows: list[tuple[int, int, int, int]] = []
    tempos: list[tuple[int, int]] = []
    for track in song.tracks:
        rows += _notes(track, tempos)
    rows = [row for row in rows if LOWEST_PITCH <= row[2] < LOWEST_PITCH + PITCHES]
    if not rows:
        raise InputError(f"{name}: no notes of a piano in it (pitches 21 to 108, drums left out)")
    times = np.array([row[:2] for row in rows], np.int64)
    if times.max() > LONGEST * song.ticks_per_beat:
        raise InputError(f"{name}: a note ends after {LONGEST} quarter notes; its times are broken")
    ticks = (2 * times * TICKS_PER_BEAT + song.ticks_per_beat) // (2 * song.ticks_per_beat)
    notes = [
        (int(start), max(int(end - start), 1), pitch, velocity)
        for (start, end), (_, _, pitch, velocity) in zip(ticks, rows, strict=True)
    ]
    tempo = min(tempos, default=(0, 0), key=lambda change: change[0])[1]
    return make_notes(notes), MICROSECONDS / tempo if tempo else DEFAULT_TEMPO


def _notes(track: Any, tempos: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """Rows of (start, end, pitch, velocity) in the file's own ticks; adds (time, tempo) to `tempos`."""
    rows: list[tuple[int, int, int, int]] = []
    pending: dict[tuple[int, int], deque[tuple[int, int]]] = defaultdict(deque)
    now = 0
    for message in track:
        now += message.time
        if message.type == "set_tempo":
            tempos.append((now, message.tempo))
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key = message.channel, message.note
        if message.type == "note_on" and message.velocity:
            pending[key].append((now, message.velocity))
        elif pending[key]:
            start, velocity = pending[key].popleft()
            rows.append((start, now, message.note, velocity))
    for (_, pitch), left in pending.items():
        rows += [(start, now, pitch, velocity) for start, velocity in left]
    return rows


def check_tempo(tempo: float) -> int:
    """Microseconds a quarter note. Raises InputError unless MIDI can say it: about 3.6 to 60,000,000."""
    if not MICROSECONDS / (SLOWEST + 0.5) < tempo <= MICROSECONDS:  # nan is refused as well
        raise InputError(f"tempo must be from 4 to {MICROSECONDS} quarter notes a minute, not {tempo}")
    return round(MICROSECONDS / tempo)


def write(notes: Notes, tempo: float = DEFAULT_TEMPO) -> bytes:
    """A MIDI file (format 0, 480 ticks a quarter note, piano) from which `read` gets the same notes.

    A note that overlaps one of the same pitch goes to another channel, so that each keeps its own
    end. Two things change: a note of no duration lasts a tick, and of notes with one pitch and start the
    loudest is written, until the last of them ends. Raises InputError for a tempo or a note that
    MIDI cannot say.
    """
    import mido

    microseconds = check_tempo(tempo)
    if len(notes) and (notes["velocity"].min() < 1 or notes["velocity"].max() > LOUDEST):
        raise InputError(f"notes: a velocity must be from 1 to {LOUDEST}")
    if len(notes) and (notes["start"].min() < 0 or notes["pitch"].max() > LOUDEST):
        raise InputError("notes: a start must not be negative, nor a pitch over 127")
    scale = RESOLUTION // TICKS_PER_BEAT
    channels = [channel for channel in range(16) if channel != DRUMS]
    free: dict[tuple[int, int], int] = defaultdict(int)  # when a pitch of a channel is free again
    events: list[tuple[int, int, int, int, int]] = []  # time, on?, channel, pitch, velocity
    strikes: dict[tuple[int, int], tuple[int, int]] = defaultdict(lambda: (1, 0))
    for start, duration, pitch, velocity in notes.tolist():
        longest, loudest = strikes[start, pitch]
        strikes[start, pitch] = max(longest, duration), max(loudest, velocity)
    for (start, pitch), (duration, velocity) in sorted(strikes.items()):
        end = start + duration
        channel = next((c for c in channels if free[c, pitch] <= start), None)
        if channel is None:
            raise InputError(f"notes: over {len(channels)} notes of pitch {pitch} sound at tick {start}")
        free[channel, pitch] = end
        events += [(start * scale, 1, channel, pitch, velocity), (end * scale, 0, channel, pitch, 0)]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=microseconds)])
    for channel in sorted({event[2] for event in events} | {0}):
        track.append(mido.Message("program_change", channel=channel, program=0))
    now = 0
    for time, on, channel, pitch, velocity in sorted(events):  # note-offs first, so repeats stay apart
        kind = "note_on" if on else "note_off"
        track.append(mido.Message(kind, channel=channel, note=pitch, velocity=velocity, time=time - now))
        now = time
    file = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=RESOLUTION, tracks=[track]).save(file=file)
    return file.getvalue()
