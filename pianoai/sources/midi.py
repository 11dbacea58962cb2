"""Standard MIDI files: all tracks together, as one piano plays them."""

import hashlib
import struct

import numpy as np
from numpy.typing import NDArray
from symusic import Score

from pianoai.runtime.errors import InputError
from pianoai.sources import Piece, Refused, keyboard, to_ticks

DAMAGED = "not a MIDI file, or a damaged one"
SEQUENCES = 2  # the format whose tracks are played one after the other
END = b"\xff\x2f\x00"  # of a track
DRUMS = 9  # the tenth channel
PEDAL = 64  # number of the controller
HANGING = (4,) * 128  # notes of each pitch that may have no end, at first
MORE = 16  # times as many where those are all taken
MARKER = 0  # a pitch below the piano's: a track without notes is forgotten, and its pedal with it


def read(name: str, data: bytes, pedal: bool) -> Piece | Refused:
    """The piece in a MIDI file. Drums are left out; with `pedal`, what it sustains sounds on.

    Times are in beats, so tempo changes nothing. Of format 2 the tracks follow each other, each from the beat at or
    after the end of the one before.
    """
    drums = 0
    try:
        kind, division, tracks = chunks(data)
        rows = np.empty((0, 4), np.int64)
        for part in [[track] for track in tracks] if kind == SEQUENCES else [tracks]:
            more, silent = notes(division, part, pedal)
            if kind == SEQUENCES and len(rows) and len(more):
                more[:, :2] += -(-rows[:, 1].max() // division) * division
            rows, drums = np.concatenate([rows, more]), drums + silent
        rows[:, 1] = np.maximum(to_ticks(rows[:, 1], division), to_ticks(rows[:, 0], division))
        rows[:, 0] = to_ticks(rows[:, 0], division)
        found, outside = keyboard(rows)
    except InputError as error:
        return Refused(name, f"{error}; {drums} notes of drums are left out" if drums else str(error))
    except RuntimeError as error:  # symusic has no exception class of its own
        return Refused(name, " ".join(f"{DAMAGED}: {error}".split()))
    return Piece(name, name, found, hashlib.sha256(data).hexdigest(), drums + outside)


def chunks(data: bytes) -> tuple[int, int, list[bytes]]:
    """Format, division in ticks a quarter note, and the tracks. Raises InputError where they are not whole."""
    if data[:4] != b"MThd" or len(data) < 14:
        raise InputError(f"{DAMAGED}: it does not begin with a header")
    length, kind, count, division = struct.unpack_from(">IHHh", data, 4)
    if kind > SEQUENCES:
        raise InputError(f"{DAMAGED}: format {kind}")
    if division < 1:
        raise InputError(f"{DAMAGED}: it does not count time in ticks a quarter note")
    tracks: list[bytes] = []
    at = 8 + length
    while len(tracks) < count or data[at : at + 4] == b"MTrk":
        if len(data) < at + 8:
            raise InputError(f"{DAMAGED}: {len(tracks)} of {count} tracks are there")
        sort, size = struct.unpack_from(">4sI", data, at)
        at += 8 + size
        if at > len(data):
            raise InputError(f"{DAMAGED}: track {len(tracks) + 1} is cut off")
        if sort == b"MTrk":  # other chunks are to be skipped
            tracks.append(data[at - size : at])
    return kind, division, tracks


def offs(counts: tuple[int, ...]) -> bytes:
    """What ends so many notes of each pitch, all at one time: a note-on of velocity 0 ends a note."""
    return b"".join(bytes((pitch, 0, 0)) * count for pitch, count in enumerate(counts))


OFFS = offs(HANGING)


def notes(
    division: int, tracks: list[bytes], pedal: bool, hanging: tuple[int, ...] = HANGING
) -> tuple[NDArray[np.int64], int]:
    """Rows ``(notes, 4)`` of tracks that sound together, in ticks of the file, and how many notes of drums there are.

    A row is start, end, pitch, velocity. Of each pitch so many notes of a track may be `hanging`, and where as many
    are, it begins anew with more. Raises RuntimeError where a track is damaged.
    """
    whole = [ended(track, pedal, hanging) for track in tracks]
    body = b"".join(struct.pack(">4sI", b"MTrk", len(track)) + track for track in whole)
    score = Score.from_midi(struct.pack(">4sIHHH", b"MThd", 6, 1, len(whole), division) + body)
    rows = [np.empty((0, 4), np.int64)]
    pedals = [np.empty((0, 2), np.int64)]
    drums, taken = 0, np.zeros(128, np.int64)
    for track in score.tracks:
        if track.is_drum:
            drums += len(track.notes)
            continue
        found = track.notes.numpy()
        start, length = found["time"].astype(np.int64), found["duration"].astype(np.int64)
        rows.append(np.stack([start, start + length, found["pitch"], found["velocity"]]).T)
        if len(start):
            last = found["pitch"][start + length == (start + length).max()]
            taken = np.maximum(taken, np.bincount(last, minlength=128))
        if pedal:
            down = track.pedals.numpy()
            start, length = down["time"].astype(np.int64), down["duration"].astype(np.int64)
            pedals.append(np.stack([start, start + length], axis=1))
    full = taken >= hanging
    if full.any():
        more = np.where(full, MORE * np.asarray(hanging), hanging)
        return notes(division, tracks, pedal, tuple(more.tolist()))
    played = np.concatenate(rows)
    if pedal:
        real = (played[:, 2] != MARKER) | (played[:, 1] > played[:, 0])
        played = sustain(played[real], np.concatenate(pedals))
    return played, drums


def ended(track: bytes, pedal: bool, hanging: tuple[int, ...]) -> bytes:
    """The track with an end for every pedal, and for so many `hanging` notes of each pitch, at the end of the track.

    The parser forgets a note without an end. It also takes the pedal of a channel to be down from the beginning on, so
    that is pressed and lifted first.
    """
    track = open_ended(track)
    # A note has its pitch among the bytes of the track.
    ends = OFFS if hanging is HANGING else offs(tuple(min(some, track.count(at)) for at, some in enumerate(hanging)))
    before, after = bytearray(), bytearray()
    for channel in range(16):
        note, control = 0x90 | channel, 0xB0 | channel
        if note in track:
            after += bytes((note, 0, 0, 0)) + ends
        if pedal and control in track and channel != DRUMS:
            before += bytes((0, control, PEDAL, 127, 0, control, PEDAL, 0))
            after += bytes((control, PEDAL, 0, 0, note, MARKER, 1, 0, note, MARKER, 0, 0))
    return bytes(before + track + after + END)


def open_ended(track: bytes) -> bytes:
    """The track without its end, or ends: some are there twice, or padded. A time is left, for another event."""
    end = len(track)
    while (rest := end - padding(track, end)) < end and track.endswith(END[:2], 0, rest):
        end = rest - 2
    return track[:end] if end < len(track) else track + b"\0"


def padding(track: bytes, end: int) -> int:
    """How many zeros stand before a place."""
    at = end
    while at and track[at - 1] == 0:
        at -= 1
    return end - at


def sustain(rows: NDArray[np.int64], pedals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Notes that end while the pedal is down, and was before, sound until it is up or their key is struck again.

    A piano has one such pedal, so those of all tracks hold for all notes. `pedals` is ``(times, 2)``: down, up.
    """
    if not len(pedals) or not len(rows):
        return rows
    pedals = pedals[np.argsort(pedals[:, 0], kind="stable")]
    up = np.maximum.accumulate(pedals[:, 1])
    rows = rows[np.lexsort((rows[:, 0], rows[:, 2]))]
    before = np.searchsorted(pedals[:, 0], rows[:, 1], side="left") - 1
    lasts = np.where(before >= 0, up[np.maximum(before, 0)], 0)
    follows = np.append(rows[1:, 2] == rows[:-1, 2], False)
    again = np.where(follows, np.append(rows[1:, 0], 0), np.iinfo(np.int64).max)
    rows[:, 1] = np.maximum(rows[:, 1], np.minimum(lasts, again))
    return rows
