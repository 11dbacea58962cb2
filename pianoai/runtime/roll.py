"""Two shapes of the same music: notes (sparse, in ticks) and rolls (dense, in frames).

A roll is ``uint8 (frames, 88)``, column 0 = MIDI pitch 21 (A0). A cell is 0 (silent), 1 (held: it
sounds, and its note began earlier) or 2-127 (struck in this frame, with this MIDI velocity).
"""

from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError

TICKS_PER_BEAT = 24  # a tick is 1/24 of a quarter note
LOWEST_PITCH = 21  # A0
PITCHES = 88
NOISE = 2 * PITCHES + 1  # random numbers of a frame: for sounding, struck again, loudness; hidden ones come after them
NO_NOTE = 2 * PITCHES  # above the keys of all notes of a frame: a key is twice the column, and one more if held
SILENT, HELD, SOFTEST, LOUDEST = 0, 1, 2, 127
CERTAIN = 1e-6  # in a score no probability of a cell is nearer to 0 or 1
DEFAULT_VELOCITY = 64  # of a note whose beginning was not seen

NOTE = np.dtype([("start", "<i4"), ("duration", "<i4"), ("pitch", "u1"), ("velocity", "u1")])

Notes = np.ndarray[Any, np.dtype[np.void]]  # (notes,) of NOTE
Roll = np.ndarray[Any, np.dtype[np.uint8]]  # (frames, 88)
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Lengths = np.ndarray[Any, np.dtype[np.intp]]
Ticks = np.ndarray[Any, np.dtype[np.int64]]


def make_notes(rows: list[tuple[int, int, int, int]] | Notes) -> Notes:
    """Notes from rows of (start, duration, pitch, velocity), sorted by start, then pitch."""
    notes = np.array(rows, NOTE)
    return notes[np.lexsort((notes["duration"], notes["pitch"], notes["start"]))]


def to_frames(ticks: Ticks, frames_per_beat: int) -> Ticks:
    """The frame boundary nearest to a time in ticks; halves go up."""
    frames: Ticks = (2 * ticks * frames_per_beat + TICKS_PER_BEAT) // (2 * TICKS_PER_BEAT)
    return frames


def notes_to_roll(notes: Notes, frames_per_beat: int, frames: int | None = None) -> Roll:
    """The roll ``(frames, 88)`` of some notes; without `frames`, as long as the music.

    Both ends of a note go to the nearest frame boundary, and every note lasts at least one frame, so
    every onset is kept; of notes with the same pitch and onset frame the loudest is. A note
    struck while the same pitch sounds is struck again, and the pitch sounds until the last of them ends.

    Raises InputError for a pitch outside 21-108 or a time below 0.
    """
    pitch = notes["pitch"].astype(np.int64) - LOWEST_PITCH
    start = notes["start"].astype(np.int64)
    if len(notes) and (pitch.min() < 0 or pitch.max() >= PITCHES):
        raise InputError("notes: a piano has the pitches 21 to 108; leave the others out")
    if len(notes) and (start.min() < 0 or notes["duration"].min() < 0):
        raise InputError("notes: start and duration must not be negative")
    first = to_frames(start, frames_per_beat)
    end = np.maximum(to_frames(start + notes["duration"], frames_per_beat), first + 1)
    length = int(end.max(initial=0))
    # Pitch by pitch: a note sounds until the next one begins, and while any before it would.
    order = np.lexsort((first, pitch))
    begins = (pitch * length + first)[order]
    ends = np.maximum.accumulate((pitch * length + end)[order])
    counts = np.minimum(ends, np.concatenate([begins[1:], [PITCHES * length]])) - begins
    cells = first * PITCHES + pitch
    offset = cells[order] - (np.cumsum(counts) - counts) * PITCHES
    roll: Roll = np.zeros((length, PITCHES), np.uint8)
    flat = roll.reshape(-1)
    flat[np.repeat(offset, counts) + np.arange(counts.sum()) * PITCHES] = HELD
    np.maximum.at(flat, cells, np.clip(notes["velocity"], SOFTEST, LOUDEST))
    if frames is None:
        return roll
    fitted = np.zeros((frames, PITCHES), np.uint8)
    fitted[: min(frames, length)] = roll[:frames]
    return fitted


def roll_to_notes(roll: Roll, frames_per_beat: int) -> Notes:
    """The notes of a roll ``(frames, 88)``; a held cell with nothing before it begins a note.

    Such a note gets DEFAULT_VELOCITY. Raises InputError when 24 is not a multiple of
    `frames_per_beat`, because a frame would then not last whole ticks.
    """
    if TICKS_PER_BEAT % frames_per_beat:
        raise InputError(f"frames_per_beat must divide {TICKS_PER_BEAT}: {frames_per_beat}")
    ticks = TICKS_PER_BEAT // frames_per_beat
    before = np.vstack([np.zeros((1, roll.shape[1]), np.uint8), roll[:-1]])
    after = np.vstack([roll[1:], np.zeros((1, roll.shape[1]), np.uint8)])
    begins = (roll > HELD) | ((roll == HELD) & (before == SILENT))
    ends = (roll != SILENT) & (after != HELD)
    # Pitch by pitch, the n-th beginning belongs to the n-th end.
    pitch, first = np.nonzero(begins.T)
    last = np.nonzero(ends.T)[1]
    notes = np.empty(len(first), NOTE)
    notes["start"] = first * ticks
    notes["duration"] = (last + 1 - first) * ticks
    notes["pitch"] = pitch + LOWEST_PITCH
    struck = roll[first, pitch]
    notes["velocity"] = np.where(struck == HELD, DEFAULT_VELOCITY, struck)
    return make_notes(notes)


def velocities(roll: Roll) -> Roll:
    """The velocity of every sounding cell, held ones included, 0 where silent; ``(frames, 88)``.

    A note whose beginning is not in the roll has DEFAULT_VELOCITY.
    """
    frames, pitches = np.arange(len(roll))[:, None], np.arange(roll.shape[1])
    struck = np.maximum.accumulate(np.where(roll > HELD, frames, -1), axis=0)
    silent = np.maximum.accumulate(np.where(roll == SILENT, frames, -1), axis=0)
    last = roll[np.maximum(struck, 0), pitches]
    known: Roll = np.where(struck > silent, last, np.uint8(DEFAULT_VELOCITY))
    return np.where(roll == SILENT, np.uint8(0), known)


def intensity(roll: Roll) -> Floats:
    """``velocity / 127`` of every sounding cell, 0 where silent; float32 ``(frames, 88)``."""
    return velocities(roll).astype(np.float32) / np.float32(LOUDEST)


def levels(roll: Roll, before: float = DEFAULT_VELOCITY / LOUDEST) -> Floats:
    """The intensity of the mean velocity, in whole numbers, of what was struck last; float32 ``(frames,)``.

    Up to and with each frame, and `before` until anything is.
    """
    struck = roll > HELD
    count = struck.sum(axis=1)
    means = np.rint(np.where(struck, roll, 0).sum(axis=1) / np.maximum(count, 1)) / LOUDEST
    last = np.maximum.accumulate(np.where(count > 0, np.arange(1, len(roll) + 1), 0))
    found: Floats = np.concatenate([[before], means]).astype(np.float32)[last]
    return found


def runs(roll: Roll) -> Lengths:
    """The lengths, in order, of the longest runs of frames in which the same pitches sound."""
    if not len(roll):
        return np.zeros(0, np.intp)
    sounding = roll > SILENT
    begins = (sounding[1:] != sounding[:-1]).any(axis=1).nonzero()[0] + 1
    borders = np.concatenate([[0], begins, [len(roll)]])
    lengths: Lengths = borders[1:] - borders[:-1]
    return lengths


def read_frames(frames: object, field: str = "prompt") -> Roll:
    """A roll from a list of frames, each a list of MIDI pitches that sound in it.

    A pitch that sounded in the frame before is held, another one struck with DEFAULT_VELOCITY.
    Raises InputError that names `field` and the frame.
    """
    if not isinstance(frames, list):
        raise InputError(f"{field} must be a list of frames, each a list of MIDI pitches")
    roll = np.zeros((len(frames), PITCHES), np.uint8)
    for at, pitches in enumerate(frames):
        if not isinstance(pitches, list):
            raise InputError(f"{field}[{at}] must be a list of MIDI pitches")
        for pitch in pitches:
            if type(pitch) is not int or not LOWEST_PITCH <= pitch < LOWEST_PITCH + PITCHES:
                raise InputError(f"{field}[{at}]: a pitch must be a whole number from 21 to 108")
            column = pitch - LOWEST_PITCH
            held = at > 0 and roll[at - 1, column] != SILENT
            roll[at, column] = HELD if held else DEFAULT_VELOCITY
    return roll
