import hashlib
from pathlib import Path

import mido
import pytest

from pianoai import collection
from pianoai.runtime.errors import InputError
from pianoai.sources import DataConfig, KaggleConfig, Piece, Refused, folder, pieces
from stages import download


def config(path: Path) -> DataConfig:
    return DataConfig(
        source="folder",
        folder=str(path),
        pedal=False,
        mat_frames_per_beat=2,
        backend="loky",
        max_skipped=0.0,
        kaggle=KaggleConfig(
            handle="a/b/versions/1", file="music.pk", frames_per_beat=24, velocity_scale=127.0, seconds=60.0
        ),
    )


def save(path: Path, per_beat: int, tracks: list[list[tuple[int, int, int, int, int]]]) -> None:
    """A MIDI file from notes (channel, start, end, pitch, velocity) in ticks of the file."""
    file = mido.MidiFile(ticks_per_beat=per_beat)
    for notes in tracks:
        events = [(start, "note_on", c, pitch, loud) for c, start, _, pitch, loud in notes]
        events += [(end, "note_off", c, pitch, 0) for c, _, end, pitch, _ in notes]
        track, now = mido.MidiTrack(), 0
        for at, kind, channel, pitch, loud in sorted(events, key=lambda event: (event[0], event[1])):
            track.append(mido.Message(kind, channel=channel, note=pitch, velocity=loud, time=at - now))
            now = at
        file.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(path)


def test_tracks_are_merged_rounded_and_cleared_of_drums(tmp_path: Path) -> None:
    # 480 ticks a beat: a tick of ours is 20 of these, and 10 is the half that goes up.
    right = [(0, 0, 480, 72, 80), (0, 490, 509, 74, 81), (0, 960, 969, 19, 9)]
    left = [(1, 9, 489, 48, 60), (1, 10, 490, 50, 61)]
    drums = [(9, 0, 100, 36, 99), (9, 200, 300, 38, 98)]
    save(tmp_path / "Suite" / "No 1.MID", 480, [right, left, drums])
    (piece,) = pieces(config(tmp_path))
    assert isinstance(piece, Piece)
    assert piece.name == piece.group == "Suite/No 1"
    assert piece.notes.tolist() == [(0, 24, 48, 60), (0, 24, 72, 80), (1, 24, 50, 61), (25, 1, 74, 81)]
    assert piece.left_out == 3  # two of drums, and a pitch below the lowest key
    assert piece.checksum == hashlib.sha256((tmp_path / "Suite" / "No 1.MID").read_bytes()).hexdigest()


def test_files_come_in_order_and_only_music_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = [(0, 0, 96, 60, 80)]
    for name in ("b.mid", "a/z.smf", "B.midi", "b.midi", ".hidden.mid", "__a/.x/c.mid"):
        save(tmp_path / name, 96, [notes])
    for name in ("README.md", "notes.csv", ".gitkeep"):
        (tmp_path / name).write_text("not music")
    assert [piece.name for piece in pieces(config(tmp_path))] == ["B", "a/z", "b.mid", "b.midi"]
    assert capsys.readouterr().out == f"{tmp_path}: 2 files are not music by their ending and are left alone\n"


def test_what_is_not_midi_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "whole.mid", 96, [[(0, 0, 96, 60, 80)]])
    whole = (tmp_path / "whole.mid").read_bytes()
    broken = {
        "empty": b"",
        "frames": whole[:12] + b"\xe7\x28" + whole[14:],  # times in film frames
        "text": b"X:1\nT:a tune in another format\nK:C\nCDEF|\n",
        "timeless": whole[:12] + b"\0\0" + whole[14:],  # no ticks a quarter note
        "torn": whole[:-6],
    }
    for name, data in broken.items():
        (tmp_path / f"{name}.mid").write_bytes(data)
    save(tmp_path / "drums.mid", 96, [[(9, 0, 96, 36, 80)]])
    found = {piece.name: piece for piece in pieces(config(tmp_path))}
    assert isinstance(found.pop("whole"), Piece)
    drums = found.pop("drums")
    assert drums == Refused("drums", "has no notes; 1 notes of drums are left out")
    assert set(found) == set(broken)
    for refused in found.values():
        assert isinstance(refused, Refused)
        assert refused.reason.startswith("not a MIDI file, or a damaged one: ")
        assert "\n" not in refused.reason


def test_a_folder_without_music_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: no such folder; data.folder must name"):
        next(folder.read(config(tmp_path / "gone")))
    (tmp_path / "song.txt").write_text("la la")
    with pytest.raises(InputError, match=r"no music \(.mid .midi .smf .mxl"):
        next(folder.read(config(tmp_path)))


PARAMS = """\
data:
  source: {source}
  folder: music
  pedal: false
  mat_frames_per_beat: 2
  backend: {backend}
  max_skipped: 0.0
  kaggle: {{handle: {handle}, file: music.pk, frames_per_beat: 24, velocity_scale: 127.0, seconds: 60.0}}
"""


def test_the_stage_writes_the_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS.format(source="folder", handle="a/b/versions/1", backend="loky"))
    save(tmp_path / "music" / "tune.mid", 12, [[(0, 3, 9, 61, 77)]])
    download.main()
    read = collection.read(Path("data"))
    assert read.pieces["name"].tolist() == ["tune"]
    assert read.notes_of(0).tolist() == [(6, 12, 61, 77)]


@pytest.mark.parametrize(
    ("source", "handle", "backend", "message"),
    [
        ("folder", "a/b/versions/1", "spark", "data.backend must be one of loky, ray, dask, not 'spark'"),
        ("spotify", "a/b/versions/1", "loky", "data.source must be one of corpus, folder, kaggle, not 'spotify'"),
        ("folder", "a/b", "loky", "data.kaggle.handle must be like owner/dataset/versions/1, not 'a/b'"),
        ("folder", "a/b/versions/0", "loky", "data.kaggle.handle must be like"),
    ],
)
def test_the_stage_names_a_wrong_key(
    source: str, handle: str, backend: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS.format(source=source, handle=handle, backend=backend))
    with pytest.raises(InputError, match=message):
        download.main()
