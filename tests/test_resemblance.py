import itertools
from pathlib import Path

import numpy as np
import pytest

from pianoai import resemblance
from pianoai.growing import growing
from pianoai.resemblance import SKETCH, alike, pairs, sketch
from pianoai.runtime.roll import Notes, make_notes
from pianoai.sources import Piece


def passages(notes: Notes) -> set[tuple[tuple[int, ...], ...]]:
    """All passages of a piece, worked out slowly and without hashes."""
    chords: dict[int, set[int]] = {}
    for start, _, pitch, _ in notes.tolist():
        chords.setdefault((start + 3) // 6, set()).add(pitch)
    ordered = [sorted(chords[at]) for at in sorted(chords)]
    return {
        tuple(tuple(pitch - chord[0][0] for pitch in each) for each in chord)
        for chord in (ordered[at : at + 8] for at in range(len(ordered) - 7))
    }


def test_a_sketch_has_a_hash_for_every_passage(chorales: list[Piece]) -> None:
    for piece in chorales:
        hashes = sketch(piece.notes)
        assert len(hashes) == len(passages(piece.notes)) < SKETCH
        assert (np.diff(hashes.astype(object)) > 0).all()


def test_the_key_the_loudness_and_the_durations_do_not_matter(chorales: list[Piece]) -> None:
    notes = chorales[0].notes
    changed = notes.copy()
    changed["pitch"] -= 3
    changed["velocity"] = 9
    changed["duration"] = 1
    changed["start"] += 240
    np.testing.assert_array_equal(sketch(changed), sketch(notes))
    changed["pitch"][20] += 1
    assert len(np.setdiff1d(sketch(changed), sketch(notes))) == len(passages(changed) - passages(notes)) > 0


def test_likeness_is_the_share_of_the_shorter_pieces_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    some = np.arange(1, 101, dtype=np.uint64)
    other = np.concatenate([some[:10], np.arange(1000, 1010, dtype=np.uint64)])
    assert alike(some, other)  # 10 of 20
    assert not alike(some, np.append(other[1:], np.uint64(2000)))  # 9 of 20
    assert not alike(some[:7], some[:7])  # too few to say
    assert not alike(some[:0], some[:0])
    # Of a sketch that is not whole only what is below its largest hash counts.
    monkeypatch.setattr(resemblance, "SKETCH", 100)
    long = np.arange(10, 1010, 10, dtype=np.uint64)
    assert resemblance.whole(long) == 1000
    assert resemblance.whole(np.append(long, np.uint64(1010))) == resemblance.SMALL
    assert alike(long, np.concatenate([long[:20], np.arange(1001, 1061, 2, dtype=np.uint64)]))
    assert not alike(long, np.concatenate([long[:20], np.arange(501, 561, 2, dtype=np.uint64)]))


def test_pairs_are_those_that_counting_passages_finds(chorales: list[Piece]) -> None:
    pieces = [piece.notes for piece in chorales]
    half = pieces[0][: len(pieces[0]) // 2]
    mixed = np.concatenate([half, pieces[1]])
    mixed["start"][len(half) :] += half["start"].max() + 24
    pieces += [half, pieces[3], make_notes(mixed)]
    found = [passages(notes) for notes in pieces]
    expected = [
        (a, b)
        for a, b in itertools.combinations(range(len(pieces)), 2)
        if len(found[a] & found[b]) >= 0.5 * min(len(found[a]), len(found[b]))
    ]
    assert (0, 8) in expected
    assert (1, 10) in expected
    assert pairs([sketch(notes) for notes in pieces]) == expected


def test_a_piece_with_its_repeats_written_out_is_alike(chorales: list[Piece]) -> None:
    notes = chorales[0].notes
    middle = int(notes["start"].max()) // 48 * 24
    parts = [notes[notes["start"] < middle].copy(), notes[notes["start"] >= middle].copy()]
    parts[1]["start"] -= middle
    repeated = [part.copy() for part in (parts[0], parts[0], parts[1], parts[1])]
    for at, part in enumerate(repeated):
        part["start"] += at * middle
    assert pairs([sketch(piece) for piece in (chorales[1].notes, notes, np.concatenate(repeated))]) == [(1, 2)]


def long_piece(chords: int, seed: int) -> Notes:
    chance = np.random.default_rng(seed)
    return make_notes([(at * 12, 12, int(pitch), 64) for at in range(chords) for pitch in chance.integers(40, 80, 2)])


def test_a_sketch_grows_with_a_long_piece_so_that_its_parts_are_found() -> None:
    notes = long_piece(3000, 1)
    hashes = sketch(notes)
    assert len(hashes) == pytest.approx(2993 / 8, rel=0.2)
    assert int(hashes[-1]) < 1 << 61
    part = notes[(notes["start"] >= 12_000) & (notes["start"] < 12_000 + 12 * 200)]
    assert alike(sketch(part), hashes)
    assert not alike(sketch(long_piece(200, 2)), hashes)


def test_of_very_many_variants_all_are_found() -> None:
    sketches = []
    for number in range(80):
        notes = long_piece(100, 1)
        notes["pitch"][0] = 21 + number % 80
        sketches.append(sketch(notes))
    linked = {0}
    for one, other in pairs(sketches):
        linked |= {one, other} if {one, other} & linked else set()
    assert linked == set(range(80))


def test_a_growing_array_has_the_bytes_of_one_saved_at_once(tmp_path: Path) -> None:
    rows = np.arange(6_000_000, dtype=np.int16).reshape(-1, 3)
    with growing(tmp_path / "grown.npy", np.int16, (3,)) as array:
        for part in (rows[:0], rows[:1], rows[1:1000], rows[1000:]):
            array.append(part)
        with pytest.raises(ValueError, match="do not fit"):
            array.append(rows[:, :2])
    np.save(tmp_path / "saved.npy", rows)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()
    with pytest.raises(ValueError, match="do not fit"), growing(tmp_path / "broken.npy", np.int16) as array:
        array.append(rows)
    assert not (tmp_path / "broken.npy").exists()
