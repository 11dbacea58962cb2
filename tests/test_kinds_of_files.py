"""Music in other files than MIDI, as the source `folder` reads it."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pypianoroll
import pytest
from music21 import converter, corpus, stream
from music21.exceptions21 import StreamException
from scipy.io import savemat
from scipy.sparse import coo_matrix, csc_matrix

from pianoai import matfile
from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES, Notes, notes_to_roll
from pianoai.sources import Piece, Refused, multitrack, pieces, scores
from pianoai.sources.folder import KINDS
from tests.test_folder import config, save


def found(folder: Path) -> dict[str, Piece | Refused]:
    return {piece.name: piece for piece in pieces(config(folder))}


def notes_of(piece: Piece | Refused) -> list[tuple[int, int, int, int]]:
    assert isinstance(piece, Piece), piece
    notes: list[tuple[int, int, int, int]] = piece.notes.tolist()
    return notes


def song(*tracks: pypianoroll.Track, resolution: int = 24) -> pypianoroll.Multitrack:
    return pypianoroll.Multitrack(name="song", resolution=resolution, tracks=list(tracks))


def roll_of(cells: dict[tuple[int, int], int], frames: int = 48) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    roll = np.zeros((frames, 128), np.uint8)
    for (frame, pitch), velocity in cells.items():
        roll[frame, pitch] = velocity
    return roll


def test_rolls_that_pypianoroll_saved(tmp_path: Path) -> None:
    right = roll_of({(0, 72): 80, (1, 72): 80, (2, 72): 60, (3, 72): 60, (5, 72): 60, (7, 74): 50})
    left = roll_of({(6, 48): 1, (7, 48): 1})
    song(
        pypianoroll.StandardTrack("right", 0, False, right),
        pypianoroll.BinaryTrack("left", 0, False, left > 0),
        pypianoroll.StandardTrack("drums", 0, True, roll_of({(0, 36): 99, (4, 36): 99})),
        resolution=8,
    ).save(tmp_path / "song.npz")
    found_piece = found(tmp_path)["song"]
    # 8 frames a beat: a frame is 3 ticks. A change of velocity begins a new note; 0 and 1 have no velocity.
    assert notes_of(found_piece) == [(0, 6, 72, 80), (6, 6, 72, 60), (15, 3, 72, 60), (18, 6, 48, 64), (21, 3, 74, 50)]
    assert isinstance(found_piece, Piece)
    assert found_piece.left_out == 2


def test_rolls_of_the_lakh_pianoroll_dataset(tmp_path: Path) -> None:
    """Its files are of an older pypianoroll, which called the resolution otherwise."""
    sparse = csc_matrix(roll_of({(0, 60): 90, (1, 60): 90}))
    parts = {f"pianoroll_0_csc_{part}": getattr(sparse, part) for part in ("data", "indices", "indptr", "shape")}
    np.savez_compressed(tmp_path / "TRAAAGR128F425B14B.npz", tempo=np.full(48, 120.0), **parts)
    info = {"beat_resolution": 24, "name": "x", "0": {"program": 0, "is_drum": False, "name": "Piano"}}
    with zipfile.ZipFile(tmp_path / "TRAAAGR128F425B14B.npz", "a") as archive:
        archive.writestr("info.json", json.dumps(info))
    assert notes_of(found(tmp_path)["TRAAAGR128F425B14B"]) == [(0, 2, 60, 90)]


def test_real_music_read_by_pypianoroll_and_saved_is_the_same_music(tmp_path: Path, chorales: list[Piece]) -> None:
    (tmp_path / "song.mid").write_bytes(midi.write(chorales[0].notes))
    pypianoroll.read(tmp_path / "song.mid", resolution=24).save(tmp_path / "roll.npz")
    both = found(tmp_path)
    assert notes_of(both["song"]) == chorales[0].notes.tolist()
    one, other = (notes_to_roll(piece.notes, 24) for piece in both.values() if isinstance(piece, Piece))
    # pypianoroll loses the first beat of a MIDI file, and ends a note a frame early where its key is struck again.
    other = other[24:]
    assert one.shape == other.shape
    assert not ((one > 0) & (other == 0)).any()
    early = (one == 0) & (other > 0)
    np.testing.assert_array_equal(early[:-1], early[:-1] & (other[1:] > 1))
    assert not early[-1].any()
    np.testing.assert_array_equal((one > 1)[1:], (other > 1)[1:])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pianoroll_0_csc_shape": np.array([1 << 40, 128])}, "has a roll of [1099511627776, 128]"),
        ({"pianoroll_0_csc_shape": np.array([48, 88])}, "has a roll of [48, 88]; rolls are frames x 128"),
        ({"pianoroll_0_csc_shape": np.array([48.0, 128.0])}, "not stored as lists of whole numbers"),
        ({"pianoroll_0_csc_indices": np.array([99, 1])}, "a roll has cells outside its 48 frames"),
        ({"pianoroll_0_csc_indices": np.array([-1, 1])}, "a roll has cells outside its 48 frames"),
        ({"pianoroll_0_csc_indptr": np.arange(129)}, "the pitches of a roll do not begin where they must"),
        ({"pianoroll_0_csc_indptr": np.array([0, 9, 2])}, "the pitches of a roll do not begin where they must"),
        ({"pianoroll_0_csc_data": np.array([90])}, "has a roll of 1 cells of int64"),
        ({"pianoroll_0_csc_data": np.array([90, np.nan])}, "has velocities that are below 0 or no numbers"),
        ({"pianoroll_0_csc_data": np.array(["a", "b"])}, "has a roll of 2 cells of <U1"),
        ({"pianoroll_0_csc_data": np.array(["a", object()])}, "not a file of pypianoroll: ValueError: Object arrays"),
        ({"info": {"resolution": 0}}, "has 0 frames a beat"),
        ({"info": {"resolution": 1 << 60}}, "frames a beat"),
        ({"info": {"name": 5, "resolution": 24, "0": 3}}, "not a file of pypianoroll: "),
    ],
)
def test_a_damaged_roll_says_why(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    sparse = csc_matrix(roll_of({(0, 60): 90, (1, 60): 90}))
    arrays = {f"pianoroll_0_csc_{part}": getattr(sparse, part) for part in ("data", "indices", "indptr", "shape")}
    info = {"resolution": 24, "name": "x", "0": {"program": 0, "is_drum": False, "name": "Piano"}}
    info |= change.pop("info", {})
    np.savez(tmp_path / "song.npz", allow_pickle=True, **(arrays | change))
    with zipfile.ZipFile(tmp_path / "song.npz", "a") as archive:
        archive.writestr("info.json", json.dumps(info))
    piece = multitrack.read("song", tmp_path / "song.npz")
    assert isinstance(piece, Refused)
    assert reason in piece.reason
    assert "\n" not in piece.reason


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    for name in ("bomb.npz", "bomb.mxl"):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("info.json", bytes(1 << 28))
            archive.writestr("more", b"1")
    for piece in found(tmp_path).values():
        assert isinstance(piece, Refused)
        assert "has 268,435,457 bytes once unpacked, more than 268,435,456" in piece.reason


def test_pickles_as_on_kaggle(tmp_path: Path) -> None:
    cells = coo_matrix((np.array([0.5, 0.5]), (np.array([0, 1]), np.array([60, 60]))), shape=(30, 128))
    (tmp_path / "set.pk").write_bytes(pickle.dumps([{"piece": cells}, {"piece": 7}]))
    (tmp_path / "not.pkl").write_bytes(b"text")
    both = found(tmp_path)
    assert sorted(both) == ["not.pkl", "set.pk/0000", "set.pk/0001"]
    assert notes_of(both["set.pk/0000"]) == [(0, 2, 60, 64)]
    assert isinstance(both["set.pk/0001"], Refused)
    assert isinstance(both["not.pkl"], Refused)


def test_benchmark_files(tmp_path: Path) -> None:
    def piece(rows: list[list[int]]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        roll = np.zeros((len(rows), 88), np.uint8)
        for frame, columns in enumerate(rows):
            roll[frame, columns] = 1
        return roll

    content = {}
    for split, rolls in {
        "traindata": [piece([[39], [39, 43], []]), piece([[0]])],
        "validdata": [piece([[], []])],
        "testdata": [piece([[87], [87], [87]])],
    }.items():
        content[split] = np.empty((1, len(rolls)), object)
        content[split][0, :] = rolls
    savemat(tmp_path / "JSB.mat", content)
    savemat(tmp_path / "other.mat", {"x": 1})
    both = found(tmp_path)
    # Two frames a beat: 12 ticks each.
    assert notes_of(both["JSB.mat/train-0000"]) == [(0, 24, 60, 64), (12, 12, 64, 64)]
    assert notes_of(both["JSB.mat/train-0001"]) == [(0, 12, 21, 64)]
    assert notes_of(both["JSB.mat/test-0000"]) == [(0, 36, 108, 64)]
    assert both["JSB.mat/valid-0000"] == Refused("JSB.mat/valid-0000", "has no notes")
    other = both["other.mat"]
    assert isinstance(other, Refused)
    assert "not a benchmark of 88-key piano rolls" in other.reason


def written(notes: Notes) -> set[tuple[int, int, int]]:
    return {(start, duration, pitch) for start, duration, pitch, _ in notes.tolist()}


def test_scores_in_musicxml_and_kern(tmp_path: Path, chorales: list[Piece]) -> None:
    """A chorale of the corpus, written anew in each kind, is the music that the corpus has."""
    score = corpus.parse("bach/bwv1.6")
    assert isinstance(score, stream.Score)
    score.write("musicxml", tmp_path / "one.musicxml")
    score.write("mxl", tmp_path / "two.mxl")
    (tmp_path / "three.XML").write_bytes((tmp_path / "one.musicxml").read_bytes())
    root = Path(str(corpus.getWork("chopin/mazurka06-2")))
    (tmp_path / "chopin.krn").write_bytes(root.read_bytes())
    all_of_them = found(tmp_path)
    for name in ("one", "two", "three"):
        piece = all_of_them[name]
        assert isinstance(piece, Piece), piece
        assert piece.group == name
        assert written(piece.notes) == written(chorales[0].notes)
    mazurka = all_of_them["chopin"]
    assert isinstance(mazurka, Piece)
    expected = scores.read("chopin", root, "chopin", one_player=True)
    assert isinstance(expected, Piece)
    np.testing.assert_array_equal(notes_to_roll(mazurka.notes, 12), notes_to_roll(expected.notes, 12))


@pytest.mark.parametrize("ending", sorted(KINDS))
@pytest.mark.parametrize(
    "data", [b"", b"\0" * 300, b"PK\x03\x04", b"<score-partwise><part/></score-partwise>", b"**kern\n4c"]
)
def test_any_ending_with_any_content_is_read_or_refused(tmp_path: Path, ending: str, data: bytes) -> None:
    (tmp_path / f"song{ending}").write_bytes(data)
    (piece,) = found(tmp_path).values()
    if isinstance(piece, Refused):
        assert piece.reason
        assert "\n" not in piece.reason
        assert str(tmp_path) not in piece.reason


KERN = b"**kern\t**kern\n*M{}/4\t*M{}/4\n=1\t=1\n4c\t4e\n4d\t{}\n4e\t4g\n4f\t4a\n==\t==\n*-\t*-\n"


@pytest.mark.parametrize(
    ("ending", "data", "reason"),
    [
        (".krn", KERN.replace(b"{}", b"4", 2).replace(b"{}", b"4zzz"), "Error in parsing event ('4zzz') at line"),
        (
            ".krn",
            KERN.replace(b"{}", b"444", 2).replace(b"{}", b"4f"),
            "has a bar of 444 beats; at most 64 can be read",
        ),
        (".xml", b"<x><time><beats>3 + 70</beats></time></x>", "has a bar of 73 beats; at most 64 can be read"),
    ],
)
def test_scores_that_music21_would_read_wrongly_or_for_ever_are_refused(
    tmp_path: Path, ending: str, data: bytes, reason: str
) -> None:
    (tmp_path / f"song{ending}").write_bytes(data)
    (piece,) = found(tmp_path).values()
    assert isinstance(piece, Refused)
    assert reason in piece.reason


def test_a_small_score_in_kern(tmp_path: Path) -> None:
    (tmp_path / "song.krn").write_bytes(KERN.replace(b"{}", b"4", 2).replace(b"{}", b"4f"))
    expected = [(0, 60), (0, 64), (24, 62), (24, 65), (48, 64), (48, 67), (72, 65), (72, 69)]
    assert [(start, pitch) for start, _, pitch, _ in notes_of(found(tmp_path)["song"])] == expected


def test_a_zip_packed_in_an_unusual_way_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "song.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("info.json", b"{}")
    (piece,) = found(tmp_path).values()
    assert piece == Refused("song", "is a zip that is compressed in an unusual way; pack it again")


def test_a_benchmark_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rolls = np.empty((1, 1), object)
    rolls[0, 0] = np.zeros((20_000, PITCHES), np.uint8)
    splits = dict.fromkeys(matfile.SPLITS.values(), rolls)
    savemat(tmp_path / "song.mat", splits, do_compression=True)
    assert (tmp_path / "song.mat").stat().st_size < 20_000
    assert [len(roll) for roll in matfile.read(tmp_path / "song.mat", "valid")] == [20_000]
    monkeypatch.setattr(matfile, "LARGEST", 3 * 20_000 * PITCHES)  # there are the headers as well
    (piece,) = found(tmp_path).values()
    assert isinstance(piece, Refused)
    assert piece.reason == "song.mat: has more than 5,280,000 bytes once unpacked; do not trust this file"


def test_what_music21_says_of_objects_is_the_same_in_every_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StreamException(f"{object()} with id()={id(tmp_path)} is already in <music21.stream.Part 0x7F12ab>")

    monkeypatch.setattr(converter, "parseFile", fail)
    (tmp_path / "song.krn").write_text("**kern\n*-\n")
    assert found(tmp_path)["song"] == Refused(
        "song", "StreamException: <object object at ...> with ... is already in <music21.stream.Part ...>"
    )


def test_a_link_to_a_folder_is_refused_since_dvc_does_not_look_behind_it(tmp_path: Path) -> None:
    (tmp_path / "music/deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "music/a.mid", 24, [[(0, 0, 24, 60, 80)]])
    save(tmp_path / "elsewhere/b.mid", 24, [[(0, 0, 24, 61, 80)]])
    (tmp_path / "all").symlink_to(tmp_path / "music")
    assert set(found(tmp_path / "all")) == {"a"}
    (tmp_path / "music/deep/link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match=r"music/deep/link: a link to a folder; copy what is there, or name that folde"
    ):
        found(tmp_path / "music")


def test_links_to_files_are_followed_and_no_two_pieces_have_one_name(tmp_path: Path) -> None:
    music, elsewhere = tmp_path / "music", tmp_path / "elsewhere"
    elsewhere.mkdir()
    music.mkdir()
    save(elsewhere / "0123abc", 24, [[(0, 0, 24, 60, 80)]])
    (music / "a.mid").symlink_to(elsewhere / "0123abc")
    (music / "gone.mid").symlink_to(elsewhere / "gone")
    for name in ("c.mid", "c.midi", "c.mid.mid"):
        save(music / name, 24, [[(0, 0, 24, 62, 80)]])
    save(music / "d\udcff.mid", 24, [[(0, 0, 24, 63, 80)]])
    all_of_them = found(music)
    assert notes_of(all_of_them["a"]) == [(0, 24, 60, 80)]
    assert all_of_them["gone"] == Refused("gone", "cannot be read: No such file or directory")
    assert all_of_them["'d\\udcff'"] == Refused(
        "'d\\udcff'", "its name has characters that cannot be printed; rename it"
    )
    assert set(all_of_them) == {"a", "gone", "c.mid", "c.midi", "c.mid.mid", "'d\\udcff'"}
