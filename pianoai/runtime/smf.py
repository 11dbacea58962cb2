"""Standard MIDI files (SMF 1.0) as bytes: notes and tempos are read, and one track of notes is written.

Reading takes a tenth of a general parser's time and memory, and is bounded by the file's size whatever the file
claims, so that it can be let near files from anywhere.
"""

import struct
from collections import defaultdict, deque
from dataclasses import dataclass, field

from pianoai.runtime.errors import InputError

DRUMS = 9  # the tenth channel, counted from 0
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM, PRESSURE, SYSTEM = 0x8, 0x9, 0xB, 0xC, 0xD, 0xF  # upper halves of status bytes
SUSTAIN, DOWN = 64, 64  # the pedal's controller, and from which value on it is down
SYSEX, ESCAPE, META = 0xF0, 0xF7, 0xFF
TEMPO, END_OF_TRACK = 0x51, 0x2F  # kinds of meta events
CUT = "the MIDI file ends too early; it was cut off"
INVALID = "not a valid MIDI file: "

Row = tuple[int, int, int, int]  # start, end, pitch, velocity; times in the file's own ticks


@dataclass
class Content:
    """What is in a file."""

    sequences: int  # that do not belong together
    division: int  # ticks of a quarter note; one that is not positive does not count quarter notes
    rows: list[Row] = field(default_factory=list)
    tempos: list[tuple[int, int]] = field(default_factory=list)  # time, microseconds a quarter note
    drums: int = 0  # notes that are left out
    pedal: bool = False  # whether one sustains, which is left out as well


def parse(data: bytes) -> Content:
    """What a file holds. Raises InputError, without a name, for what is no whole MIDI file.

    Within a track and channel a note-off ends the oldest open note of its pitch; what is still open at the track's
    end ends there. A velocity over 127, a common small fault, counts as 127.
    """
    if data[:4] != b"MThd":
        raise InputError("not a MIDI file, which begins with 'MThd'")
    if len(data) < 14:
        raise InputError(CUT)
    length, kind, count, division = struct.unpack_from(">IHHh", data, 4)
    if length < 6:
        raise InputError(INVALID + "its header is too short")
    content = Content(count if kind == 2 else 1, division)
    at = 8 + length
    for _ in range(count):
        if len(data) < at + 8:
            raise InputError(CUT)
        name, size = struct.unpack_from(">4sI", data, at)
        if name != b"MTrk":
            raise InputError(INVALID + "a track does not begin with 'MTrk'")
        at += 8 + size
        if len(data) < at:
            raise InputError(CUT)
        try:
            _track(data[at - size : at], content)
        except IndexError:
            raise InputError(INVALID + "an event does not end within its track") from None
    return content


def _track(data: bytes, found: Content) -> None:
    """Adds what a track holds to what is found. Raises IndexError where it ends within an event."""
    pending: dict[int, deque[tuple[int, int]]] = defaultdict(deque)  # by 128 * channel + pitch
    at = now = status = 0
    while at < len(data):
        delta = data[at]
        at += 1
        if delta > 127:
            delta, at = _number(data, at - 1)
        now += delta
        byte = data[at]
        if byte < 128 and not status:
            raise InputError(INVALID + "a data byte where a status byte must be")
        if byte >> 4 == SYSTEM:
            kind, at = (data[at + 1], at + 2) if byte == META else (-1, at + 1)
            if byte not in (META, SYSEX, ESCAPE):
                raise InputError(f"{INVALID}the status byte 0x{byte:02x} does not belong into a file")
            length, at = _number(data, at)
            content = data[at : at + length]
            at += length
            if at > len(data):
                raise IndexError
            status = status if byte == META else 0  # programs let notes run on after meta events
            if kind == TEMPO and length == 3:
                found.tempos.append((now, int.from_bytes(content, "big")))
            if kind == END_OF_TRACK:
                break
            continue
        if byte > 127:
            status = byte
            at += 1
        pitch = data[at]
        if status >> 4 in (PROGRAM, PRESSURE):
            at += 1
            continue
        velocity = data[at + 1]
        at += 2
        if status >> 4 not in (NOTE_OFF, NOTE_ON):
            found.pedal |= status >> 4 == CONTROL and pitch == SUSTAIN and velocity >= DOWN
            continue
        if status & 15 == DRUMS:
            found.drums += status >> 4 == NOTE_ON and velocity > 0
            continue
        if pitch > 127:
            continue
        key = (status & 15) * 128 + pitch
        if status >> 4 == NOTE_ON and velocity:
            pending[key].append((now, min(velocity, 127)))
        elif pending[key]:
            start, struck = pending[key].popleft()
            found.rows.append((start, now, pitch, struck))
    for key, left in pending.items():
        found.rows += [(start, now, key % 128, struck) for start, struck in left]


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, at most 4 bytes, and where it ends."""
    value = 0
    for byte in data[at : at + 4]:
        value = value << 7 | byte & 127
        at += 1
        if byte < 128:
            return value, at
    if at < len(data):
        raise InputError(INVALID + "a number takes more than 4 bytes")
    raise IndexError


def song(division: int, tempo: int, channels: list[int], events: list[tuple[int, int, int, int, int]]) -> bytes:
    """A file of format 0 at one tempo (microseconds a quarter note), in which every channel in use is a piano.

    Events are (time, 1 for on or 0 for off, channel, pitch, velocity) in the order in which they are to be written.
    """
    track = bytearray(b"\x00\xff\x51\x03" + tempo.to_bytes(3, "big"))
    for channel in channels:
        track += bytes((0, PROGRAM << 4 | channel, 0))
    now = status = 0
    for time, on, channel, pitch, velocity in events:
        track += _length(time - now)
        now = time
        byte = (NOTE_ON if on else NOTE_OFF) << 4 | channel
        if byte != status:  # an equal one is left out: running status
            track.append(byte)
        status = byte
        track += bytes((pitch, velocity))
    track += b"\x00\xff\x2f\x00"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, division, b"MTrk", len(track)) + track


def _length(value: int) -> bytes:
    """A number of variable length: 7 bits a byte, the last without the highest bit."""
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127 | 128)
    return bytes(reversed(groups))
