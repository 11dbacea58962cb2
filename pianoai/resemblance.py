"""Finds pieces that hold nearly the same music: arrangements, repeats written out, other keys and loudnesses."""

import hashlib
from itertools import combinations, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pianoai.runtime.roll import TICKS_PER_BEAT, Notes

PASSAGE = 8  # chords in a row
GRID = TICKS_PER_BEAT // 4  # ticks: notes that begin in the same sixteenth are a chord
SKETCH = 128  # passages, at least, that stand for a piece; all of a piece that has no more
SMALL = np.uint64(1 << 61)  # one hash in eight is below this
FEWEST = 8  # passages that two pieces must have to be compared
ALIKE = 0.5  # share of the shorter piece's passages that also stand in the other
PARTS = np.uint64(16)  # in which the hashes of all pieces are sorted, one after the other, to save memory
COMMON = 64  # pieces: of a passage in more of them, each is compared with the next alone

FACTOR = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]
Number = TypeVar("Number", np.int64, np.uint64)


def sketch(notes: Notes) -> Hashes:
    """Hashes of some passages of a piece, in order: the SKETCH smallest, and all below SMALL.

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
    found = distinct(mix(hashes))
    return found[: max(SKETCH, int(np.searchsorted(found, SMALL)))].copy()  # a view would keep them all


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
    """Whether two sketches are of nearly the same music; both are compared up to where both are whole."""
    least = min(whole(a), whole(b))
    a, b = a[a <= least], b[b <= least]
    shorter = min(len(a), len(b))
    return shorter >= FEWEST and len(np.intersect1d(a, b, assume_unique=True)) >= ALIKE * shorter


def whole(hashes: Hashes) -> np.uint64:
    """Up to which hash a sketch has all of its piece."""
    if len(hashes) < SKETCH:
        return np.uint64(np.iinfo(np.uint64).max)
    return hashes[-1] if len(hashes) == SKETCH else SMALL


def pairs(sketches: list[Hashes]) -> list[tuple[int, int]]:
    """Which pieces are alike, by number. Of pieces with equal sketches all but the first are paired with that alone."""
    firsts: dict[bytes, int] = {}
    found = []
    for number, hashes in enumerate(sketches):
        first = firsts.setdefault(hashlib.sha256(hashes.data).digest(), number)
        if first < number and len(hashes) >= FEWEST:
            found.append((first, number))
    different = sorted(firsts.values())
    candidates: set[tuple[int, int]] = set()
    for part in range(PARTS):
        parts = [sketches[number][sketches[number] % PARTS == part] for number in different]
        values = np.concatenate([np.zeros(0, np.uint64), *parts])
        owners = np.repeat(different, [len(hashes) for hashes in parts])
        order = np.argsort(values, kind="stable")
        begins = np.flatnonzero(np.diff(values[order], prepend=np.uint64(0)) != 0)
        lengths = np.diff(begins, append=len(values))
        for begin, length in zip(begins[lengths > 1].tolist(), lengths[lengths > 1].tolist(), strict=True):
            holders = owners[order[begin : begin + length]].tolist()
            candidates.update(combinations(holders, 2) if length <= COMMON else pairwise(holders))
    return sorted(found + [pair for pair in candidates if alike(sketches[pair[0]], sketches[pair[1]])])
