"""Finds pieces that hold nearly the same music: arrangements, repeats written out, other keys and loudnesses."""

from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pianoai.runtime.roll import TICKS_PER_BEAT, Notes

PASSAGE = 8  # chords in a row
GRID = TICKS_PER_BEAT // 4  # ticks: notes that begin in the same sixteenth are a chord
SKETCH = 128  # passages that stand for a piece
FEWEST = 8  # passages that two pieces must have to be compared
ALIKE = 0.5  # share of the shorter piece's passages that also stand in the other
COMMON = 64  # pieces: a passage in more of them is a commonplace, and tells nothing

FACTOR = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]
Number = TypeVar("Number", np.int64, np.uint64)


def sketch(notes: Notes) -> Hashes:
    """The SKETCH smallest hashes of the passages of a piece, in order: a random but repeatable choice of them.

    A passage is PASSAGE chords that follow each other, whatever the time between them, as intervals from the lowest
    note of the first. (Choosing by smallest hash is from A. Broder, On the resemblance and containment of documents,
    1997.)
    """
    start = (2 * notes["start"].astype(np.int64) + GRID) // (2 * GRID)
    keys = distinct(start * 128 + notes["pitch"])  # a chord has a pitch once
    start, pitch = keys >> 7, keys & 127
    first = np.flatnonzero(np.diff(start, prepend=-1))
    if len(first) < PASSAGE:
        return np.zeros(0, np.uint64)
    lowest = pitch[first]
    above = pitch - np.repeat(lowest, np.diff(first, append=len(pitch)))
    chords = np.add.reduceat(mix(above.astype(np.uint64)), first)
    steps = mix(chords[1:] + (np.diff(lowest) + 128).astype(np.uint64))  # each chord, and how it was reached
    count = len(first) - PASSAGE + 1
    hashes = chords[:count]
    for at in range(PASSAGE - 1):
        hashes = hashes * FACTOR + steps[at : at + count]
    return distinct(mix(hashes))[:SKETCH]


def distinct(values: NDArray[Number]) -> NDArray[Number]:
    """The values in order, each once."""
    values = np.sort(values)
    kept: NDArray[Number] = values[np.append(True, values[1:] != values[:-1])[: len(values)]]
    return kept


def mix(values: Hashes) -> Hashes:
    """Numbers of 64 bits as others, as if at random: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    values = values + FACTOR
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def alike(a: Hashes, b: Hashes) -> bool:
    """Whether two sketches are of nearly the same music.

    A sketch is whole up to its largest hash, or altogether when it has fewer than SKETCH; both are compared up to where
    both are whole.
    """
    least = min(sketch[-1] for sketch in (a, b) if len(sketch) == SKETCH) if max(len(a), len(b)) == SKETCH else None
    if least is not None:
        a, b = a[a <= least], b[b <= least]
    shorter = min(len(a), len(b))
    return shorter >= FEWEST and len(np.intersect1d(a, b, assume_unique=True)) >= ALIKE * shorter


def pairs(sketches: list[Hashes]) -> list[tuple[int, int]]:
    """Which pieces are alike, by number. Of pieces with equal sketches all but the first are paired with that alone."""
    firsts: dict[bytes, int] = {}
    found = []
    for number, hashes in enumerate(sketches):
        first = firsts.setdefault(hashes.tobytes(), number)
        if first < number and len(hashes) >= FEWEST:
            found.append((first, number))
    different = sorted(firsts.values())
    values = np.concatenate([np.zeros(0, np.uint64), *(sketches[number] for number in different)])
    owners = np.repeat(different, [len(sketches[number]) for number in different])
    order = np.argsort(values, kind="stable")
    begins = np.flatnonzero(np.diff(values[order], prepend=np.uint64(0)) != 0)
    lengths = np.diff(begins, append=len(values))
    candidates: set[tuple[int, int]] = set()
    for begin, length in zip(begins.tolist(), lengths.tolist(), strict=True):
        if 1 < length <= COMMON:
            candidates.update(combinations(owners[order[begin : begin + length]].tolist(), 2))
    return sorted(found + [pair for pair in candidates if alike(sketches[pair[0]], sketches[pair[1]])])
