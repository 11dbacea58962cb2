"""Scores in MusicXML and Humdrum kern, read through music21 as one keyboard part."""

import hashlib
import re
import warnings
import zipfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from math import floor
from pathlib import Path
from typing import Any

import numpy as np
from music21 import converter, dynamics, harmony, stream
from music21.humdrum import spineParser
from music21.musicxml.xmlToM21 import MusicXMLWarning
from music21.note import NotRest
from numpy.typing import NDArray

from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import DEFAULT_VELOCITY, TICKS_PER_BEAT
from pianoai.sources import Piece, Refused, check_unpacked, keyboard

VELOCITY = {  # pppp to ffff; p is 44, f is 89
    mark: floor(127 * share + 0.5)
    for mark, share in dynamics.dynamicStrToScalar.items()
    if mark and re.fullmatch("p+|mp|mf|f+", mark)
}
ACCENT = 38  # sf, fz, rf: two marks louder

HANDS = 2
MOST_BEATS = 64  # of a bar

Mark = tuple[Fraction, int, int]  # when, velocity of the notes struck then, velocity from then on


def read(name: str, path: Path, group: str, one_player: bool | None = None) -> Piece | Refused:
    """One score, as it is printed: repeats once, ties joined, all parts together.

    `one_player` as in `score_rows`; by default one plays what has at most two parts.
    """
    try:
        check_meters(path)
        with warnings.catch_warnings(), left_out_of_kern() as lost:
            # "measure 96 is overfull": `bar_starts` sees to those.
            warnings.simplefilter("ignore", MusicXMLWarning)
            score = converter.parseFile(path, forceSource=True, storePickle=False)
        if lost:
            raise InputError(lost[0])
        if not isinstance(score, stream.Score):
            raise InputError(f"holds an {type(score).__name__} of music21; one score a file can be read")
        rows, graces = score_rows(score, len(score.parts) <= HANDS if one_player is None else one_player)
        notes, outside = keyboard(rows)
    except InputError as error:
        return Refused(name, str(error))
    except (OSError, MemoryError):
        raise
    except Exception as error:  # music21 raises many kinds; whichever it is, the piece is refused
        # The addresses of objects that it names are others in every run.
        reason = re.sub(r"\bid\(\)=\d+|\b0x[0-9a-f]+", "...", f"{type(error).__name__}: {error}", flags=re.IGNORECASE)
        return Refused(name, " ".join(reason.split()))
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return Piece(name, group, notes, checksum, graces + outside)


def check_meters(path: Path) -> None:
    """Raises InputError for a bar of more than MOST_BEATS beats, for each of which music21 takes longer and longer."""
    texts = [path.read_bytes()]
    if zipfile.is_zipfile(path):
        check_unpacked(path)
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(name) for name in archive.namelist()]
    for text in texts:
        for found in re.finditer(rb"<beats>([\d+\s]*)</beats>|^(?:.*\t)?\*M(\d+)", text.replace(b"\0", b""), re.M):
            beats = sum(map(int, (found[1] or found[2]).replace(b"+", b" ").split()))
            if beats > MOST_BEATS:
                raise InputError(f"has a bar of {beats:,} beats; at most {MOST_BEATS} can be read")


@contextmanager
def left_out_of_kern() -> Iterator[list[str]]:
    """Collects a line for each token of a kern file that music21 leaves out, of which it only warns."""
    found: list[str] = []

    def warn(message: object, header: object = None) -> None:
        if "Error in parsing event" in str(message):
            found.append(" ".join(str(message).split()))

    before = spineParser.environLocal.warn
    spineParser.environLocal.warn = warn
    try:
        yield found
    finally:
        spineParser.environLocal.warn = before


def score_rows(score: Any, one_player: bool) -> tuple[NDArray[np.int64], int]:
    """Rows ``(notes, 4)`` for `keyboard` of a music21 Score, and how many notes `part_notes` left out.

    `one_player`: a dynamic mark holds for all parts, as between the staves of piano music, and not
    only for its own. Raises InputError when the parts do not have the same number of bars.
    """
    score.toSoundingPitch(inPlace=True)
    parts = [list(part.getElementsByClass(stream.Measure)) for part in score.parts]
    starts = bar_starts(parts)
    written = [part_marks(bars, starts) for bars in parts]
    if one_player:
        written = [[mark for part in written for mark in part]] * len(parts)
    rows: list[tuple[int, int, int, int]] = []
    left_out = 0
    for bars, texts in zip(parts, written, strict=True):
        sounding, silent = part_notes(bars, starts)
        left_out += silent
        marks = loudness(texts)
        rows += [(ticks(at), ticks(end), pitch, velocity(marks, at)) for at, end, pitch in sounding]
    return np.array(rows, np.int64).reshape(-1, 4), left_out


def ticks(beats: Fraction) -> int:
    """The nearest tick; halves go up."""
    return floor(beats * TICKS_PER_BEAT + Fraction(1, 2))


def bar_starts(parts: list[list[Any]]) -> list[Fraction]:
    """When each bar begins, in beats, for all parts alike.

    In some scores a part has a beat too much or too little somewhere, and music21 lets it run apart from the
    others from there on. A bar lasts as long as in most of the parts; of two lengths in equally many,
    as long as its time signature says, else the shorter.
    """
    if len({len(bars) for bars in parts}) != 1:
        raise InputError(f"its parts have {[len(bars) for bars in parts]} bars; they must have equally many")
    starts = [Fraction(0)]
    for bars, following in pairwise(zip(*parts, strict=True)):
        lengths = Counter(Fraction(b.offset) - Fraction(a.offset) for a, b in zip(bars, following, strict=True))
        signed = Fraction(bars[0].barDuration.quarterLength)
        starts.append(starts[-1] + min(lengths, key=lambda length: (-lengths[length], length != signed, length)))
    return starts


def elements(bars: list[Any], starts: list[Fraction], wanted: type) -> Iterator[tuple[Fraction, Any]]:
    """What of a class the bars of a part and their voices hold, and when."""
    for bar, start in zip(bars, starts, strict=True):
        for holder, begin in [(bar, start), *((v, start + Fraction(v.offset)) for v in bar.voices)]:
            for element in holder.getElementsByClass(wanted):
                yield begin + Fraction(element.offset), element


def part_notes(bars: list[Any], starts: list[Fraction]) -> tuple[list[tuple[Fraction, Fraction, int]], int]:
    """(start, end, pitch) of the notes of a part, ties joined, and how many were left out.

    Left out are grace notes, which have no duration, notes without a pitch, and notes that are not
    printed: they spell out, for playback, a trill whose main note is printed.
    """
    written = [item for item in elements(bars, starts, NotRest) if not isinstance(item[1], harmony.Harmony)]
    notes: list[tuple[Fraction, Fraction, int]] = []
    tied: dict[int, int] = {}  # pitch -> the note that a tie leads on from
    left_out = 0
    for start, element in sorted(written, key=lambda item: item[0]):
        length = Fraction(element.duration.quarterLength)
        for note in element.notes if element.isChord else [element]:
            if not length or not hasattr(note, "pitch") or hidden(element):
                left_out += 1
                continue
            pitch, tie = note.pitch.midi, note.tie.type if note.tie else ""
            before = tied.pop(pitch, None)
            # In a bar that is too long the end and the beginning of tied notes do not quite meet.
            if tie in ("stop", "continue") and before is not None and abs(notes[before][1] - start) < 1:
                notes[before] = (notes[before][0], start + length, pitch)
            else:
                before = len(notes)
                notes.append((start, start + length, pitch))
            if tie in ("start", "continue"):
                tied[pitch] = before
    return notes, left_out


def hidden(element: Any) -> bool:
    """Whether a note is not printed."""
    return bool(element.hasStyleInformation and element.style.hideObjectOnPrint)


def part_marks(bars: list[Any], starts: list[Fraction]) -> list[tuple[Fraction, str]]:
    """When the dynamic marks of a part stand, and what they say."""
    return [(at, mark.value) for at, mark in elements(bars, starts, dynamics.Dynamic)]


def loudness(written: list[tuple[Fraction, str]]) -> list[Mark]:
    """What dynamic marks do, in their order in time: ``p`` holds on, ``sf`` does not, ``fp`` is f and then p.

    Hairpins have no numbers and change nothing.
    """
    marks: list[Mark] = []
    level = DEFAULT_VELOCITY
    for at, text in sorted(written):
        if text in VELOCITY:
            struck = level = VELOCITY[text]
        elif sudden := re.fullmatch("[sr]?(f{1,4})z?(p{1,4})", text):
            struck, level = VELOCITY[sudden[1]], VELOCITY[sudden[2]]
        elif re.fullmatch("[sr]f+z?|f+z", text):
            struck = min(level + ACCENT, 127)
        else:
            continue
        marks.append((at, struck, level))
    return marks


def velocity(marks: list[Mark], at: Fraction) -> int:
    """The velocity of a note that is struck at a time; DEFAULT_VELOCITY before the first mark."""
    before = bisect_right(marks, at, key=lambda mark: mark[0])
    if not before:
        return DEFAULT_VELOCITY
    when, struck, level = marks[before - 1]
    return struck if when == at else level
