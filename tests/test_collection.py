from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pianoai import collection
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import make_notes
from pianoai.sources import Piece, Refused, keyboard

MELODY = [(0, 24, 60, 70), (24, 12, 64, 50), (36, 36, 62, 90)]
OTHER = [(0, 24, 60, 70), (24, 12, 64, 50), (36, 36, 63, 90)]


def piece(name: str, rows: list[tuple[int, int, int, int]], group: str = "", left_out: int = 0) -> Piece:
    return Piece(name, group or name, make_notes(rows), f"sum of {name}", left_out)


def test_what_is_written_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [(0, 48, 21, 1), (30, 200, 108, 127)]
    collection.write(
        [piece("0001", MELODY, left_out=2), Refused("b", "torn, in half"), piece("NA", long, "g")], tmp_path, 0.34
    )
    read = collection.read(tmp_path)
    assert len(read) == 2
    assert read.notes_of(0).tolist() == MELODY
    assert read.notes_of(1).tolist() == long
    assert read.pieces.to_dict("list") == {
        "name": ["0001", "NA"],
        "group": ["0001", "g"],
        "follows": ["0001", "g"],
        "first": [0, 3],
        "notes": [3, 2],
        "ticks": [72, 230],
        "left_out": [2, 0],
        "checksum": ["sum of 0001", "sum of NA"],
    }
    assert (tmp_path / "skipped.csv").read_text() == 'name,reason\nb,"torn, in half"\n'
    assert capsys.readouterr().out == (
        "2 pieces in 2 groups, 5 notes, 12 beats; 1 pieces refused, 2 notes left out\n"
        "0 pieces equal another one; 0 are nearly the same as one of another group, and follow it\n"
    )


def test_the_same_pieces_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        collection.write([piece("x", MELODY), piece("y", OTHER)], tmp_path / folder, 0.0)
    for name in ("notes.npy", "pieces.csv", "skipped.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "skipped.csv").read_text() == "name,reason\n"


def test_too_many_refused_pieces_are_an_error_after_they_are_listed(tmp_path: Path) -> None:
    pieces: list[Piece | Refused] = [piece("a", MELODY), Refused("b", "torn"), Refused("c", "burnt")]
    with pytest.raises(InputError, match=r"skipped.csv: 2 pieces, 66.7% .* data.max_skipped \(0.5\)"):
        collection.write(pieces, tmp_path, 0.5)
    assert (tmp_path / "skipped.csv").read_text() == "name,reason\nb,torn\nc,burnt\n"
    assert not (tmp_path / "pieces.csv").exists()
    with pytest.raises(InputError, match="no piece could be read, 1 were refused"):
        collection.write([Refused("b", "torn")], tmp_path, 1.0)


def test_two_pieces_of_one_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two pieces are called 'a'"):
        collection.write([piece("a", MELODY), piece("b", MELODY), piece("a", OTHER)], tmp_path, 0.0)


def test_the_same_music_in_another_key_joins_the_groups(tmp_path: Path) -> None:
    # Five semitones up, a beat later, and quieter: the same music. A longer last note: not the same.
    moved = [(start + 24, length, pitch + 5, 30) for start, length, pitch, _ in MELODY]
    longer = [*MELODY[:2], (36, 37, 62, 90)]
    pieces = [
        piece("one", OTHER, "z"),
        piece("two", MELODY, "z"),
        piece("three", longer, "m"),
        piece("four", moved, "k"),
        piece("five", [(0, 1, 50, 1)], "k"),
    ]
    assert groups(pieces, tmp_path) == ["k", "k", "m", "k", "k"]
    # In every order the same pieces stay together.
    assert groups(pieces[::-1], tmp_path) == ["k", "k", "m", "k", "k"]


def groups(pieces: list[Piece], path: Path) -> list[str]:
    collection.write(pieces, path, 0.0)
    found: list[str] = collection.read(path).pieces["group"].tolist()
    return found


def test_a_piece_nearly_the_same_keeps_its_group_and_follows_the_other(
    tmp_path: Path, chorales: list[Piece], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = chorales[:2]
    varied = first.notes.copy()
    varied["pitch"] += 2
    varied["duration"][::7] += 3
    varied = varied[: len(varied) * 3 // 4]
    written = [
        replace(second, name="other", group="z"),
        replace(first, group="y"),
        replace(first, notes=varied, name="x", group="x"),
    ]
    collection.write(written, tmp_path, 0.0)
    table = collection.read(tmp_path).pieces
    assert table["group"].tolist() == ["z", "y", "x"]
    assert table["follows"].tolist() == ["z", "x", "x"]
    assert "0 pieces equal another one; 1 are nearly the same as one of another group" in capsys.readouterr().out


def test_reading_says_what_is_missing_or_torn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"notes.npy: not found; run the stage download"):
        collection.read(tmp_path)
    collection.write([piece("a", MELODY)], tmp_path, 0.0)
    table = (tmp_path / "pieces.csv").read_text()
    (tmp_path / "pieces.csv").write_text(table.replace("a,a,a,0,3,72", "a,a,a,0,2,72"))
    with pytest.raises(InputError, match=r"pieces.csv: does not belong to"):
        collection.read(tmp_path)


def test_a_keyboard_strikes_a_key_once_at_a_time() -> None:
    rows = np.array(
        [
            (10, 34, 60, 40),
            (10, 58, 60, 30),  # with the one before: as long as this, as loud as that
            (0, 0, 61, 0),  # at least a tick, and at least audible
            (0, 5, 20, 50),  # below the lowest key
            (5, 9, 109, 50),  # above the highest
            (40, 44, 60, 200),
        ]
    )
    notes, left_out = keyboard(rows)
    assert notes.tolist() == [(0, 1, 61, 1), (10, 48, 60, 40), (40, 4, 60, 127)]
    assert left_out == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no notes"),
        ([(0, 5, 20, 50)], "has no notes with pitches from 21 to 108"),
        ([(-1, 5, 60, 50)], "starts before 0"),
        ([(0, 24 * 60_000, 60, 50)], "lasts 60,000 beats, more than 50,000"),
    ],
)
def test_music_that_cannot_be_played_is_refused(rows: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        keyboard(np.array(rows, np.int64).reshape(-1, 4))
