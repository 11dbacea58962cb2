"""Notes from MIDI files, and MIDI files from notes."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from pianoai.runtime import smf
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import LOUDEST, LOWEST_PITCH, PITCHES, TICKS_PER_BEAT, Notes, make_notes

DEFAULT_TEMPO = 120.0  # quarter notes a minute, what MIDI means when it says nothing
LONGEST = 20_000  # quarter notes; a file that claims more has a broken time, not more music
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
    name = name or (str(source) if isinstance(source, Path) else "MIDI")
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    try:
        content = smf.parse(data)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if content.sequences > 1:
        raise InputError(f"{name}: independent sequences (MIDI format 2); save it as format 0 or 1")
    division = content.division
    if division <= 0:
        raise InputError(f"{name}: needs time in quarter notes, not in seconds (SMPTE) or none")
    rows = [row for row in content.rows if LOWEST_PITCH <= row[2] < LOWEST_PITCH + PITCHES]
    if not rows:
        raise InputError(f"{name}: no notes of a piano in it (pitches 21 to 108, drums left out)")
    times = np.array([row[:2] for row in rows], np.int64)
    if times.max() > LONGEST * division:
        raise InputError(f"{name}: a note ends after {LONGEST} quarter notes; its times are broken")
    ticks = (2 * times * TICKS_PER_BEAT + division) // (2 * division)
    notes = [
        (int(start), max(int(end - start), 1), pitch, velocity)
        for (start, end), (_, _, pitch, velocity) in zip(ticks, rows, strict=True)
    ]
    tempo = min(content.tempos, default=(0, 0), key=lambda change: change[0])[1]
    return make_notes(notes), MICROSECONDS / tempo if tempo else DEFAULT_TEMPO


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
    microseconds = check_tempo(tempo)
    if len(notes) and (notes["velocity"].min() < 1 or notes["velocity"].max() > LOUDEST):
        raise InputError(f"notes: a velocity must be from 1 to {LOUDEST}")
    if len(notes) and (notes["start"].min() < 0 or notes["pitch"].max() > LOUDEST):
        raise InputError("notes: a start must not be negative, nor a pitch over 127")
    scale = RESOLUTION // TICKS_PER_BEAT
    channels = [channel for channel in range(16) if channel != smf.DRUMS]
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
    used = sorted({channel for _, _, channel, _, _ in events} | {0})
    return smf.song(RESOLUTION, microseconds, used, sorted(events))  # note-offs first, so repeats stay apart
