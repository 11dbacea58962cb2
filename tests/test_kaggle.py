import base64
import hashlib
import importlib
import json
import pickle
import pickletools
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from music21 import corpus as scores
from scipy.sparse import coo_matrix

from pianoai.runtime.errors import InputError
from pianoai.sources import DataConfig, KaggleConfig, Piece, Refused, corpus, kaggle, pieces

SETTINGS = KaggleConfig(handle="someone/rolls/versions/3", file="music.pk", frames_per_beat=24, velocity_scale=127.0)
CONFIG = DataConfig(source="kaggle", folder="data/folder", max_skipped=0.0, kaggle=SETTINGS)


class Kaggle(ThreadingHTTPServer):
    """As much of Kaggle's web interface as a download needs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = b""
        self.status = 302
        self.md5 = ""
        self.asked: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path.endswith("/v1/datasets.DatasetApiService/DownloadDataset")
        self.server.asked.append(json.loads(body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("Location", f"{self.server.url}/storage/music.pk")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.send_header("Accept-Ranges", "bytes")
        md5 = base64.b64encode(hashlib.md5(self.server.data).digest()).decode()
        self.send_header("X-Goog-Hash", f"md5={self.server.md5 or md5}")
        self.end_headers()
        self.wfile.write(self.server.data)

    def log_message(self, *_: object) -> None:
        pass


def talk_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the real client take what listens at `url` for Kaggle."""
    settings = importlib.import_module("kagglesdk.kaggle_env")
    monkeypatch.setattr(settings, "_env_to_endpoint", dict.fromkeys(settings.KaggleEnv, url))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    """A Kaggle on this machine that the real client talks to, with a cache and a home of its own."""
    with Kaggle() as kaggle_here:
        thread = threading.Thread(target=kaggle_here.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_ENVIRONMENT"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HOME", "KAGGLE_CONFIG_DIR", "KAGGLEHUB_CACHE"):
            monkeypatch.setenv(name, str(tmp_path / "home"))
        talk_to(kaggle_here.url, monkeypatch)
        yield kaggle_here
        kaggle_here.shutdown()
        thread.join()


def original(name: str) -> Piece:
    piece = corpus.read_score(name, Path(scores.getWork(name)))
    assert isinstance(piece, Piece)
    return piece


def roll_of(piece: Piece) -> coo_matrix:
    """The music as the data set has it: 24 frames a beat, and a silent frame before a repeated note."""
    notes = piece.notes
    roll = np.zeros((int((notes["start"] + notes["duration"]).max()), 128))
    for start, duration, pitch, velocity in notes.tolist():
        roll[start : start + duration, pitch] = velocity / 127
        roll[start - 1 : start, pitch] = 0
    return coo_matrix(roll)


def expected(piece: Piece) -> list[tuple[int, int, int, int]]:
    """Its notes with that frame missing: a note ends at the latest one tick before the next of its pitch."""
    rows = []
    for start, duration, pitch, velocity in piece.notes.tolist():
        later = [n["start"] for n in piece.notes if n["pitch"] == pitch and n["start"] > start]
        end = min([start + duration, *(int(at) - 1 for at in later if at <= start + duration)])
        rows.append((start, end - start, pitch, velocity))
    return rows


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_music_comes_through_the_real_client(server: Kaggle, protocol: int) -> None:
    originals = [original("bach/bwv66.6"), original("chopin/mazurka06-2")]
    music = [{"piece": roll_of(piece), "title": piece.name} for piece in originals]
    server.data = pickle.dumps(music, protocol)
    if protocol == 2:  # as SciPy named its module when the data set was made
        server.data = server.data.replace(b"cscipy.sparse._coo\n", b"cscipy.sparse.coo\n")
        assert b"scipy.sparse.coo\n" in server.data
    read = list(pieces(CONFIG))
    assert [piece.name for piece in read] == ["0000", "0001"]
    for source, piece in zip(originals, read, strict=True):
        assert isinstance(piece, Piece)
        assert piece.notes.tolist() == expected(source)
        assert piece.left_out == 0
    assert server.asked == [
        {
            "ownerSlug": "someone",
            "datasetSlug": "rolls",
            "datasetVersionNumber": 3,
            "fileName": "music.pk",
        }
    ]
    for first, second in zip(read, pieces(CONFIG), strict=True):
        assert isinstance(first, Piece)
        assert isinstance(second, Piece)
        assert first.checksum == second.checksum
    assert len(server.asked) == 1  # the second time it is in the cache


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "renew ~/.kaggle/kaggle.json"),
        (403, "accept the data set's terms"),
        (404, "correct data.kaggle.handle and data.kaggle.file"),
        (429, "wait a while"),
        (503, "run the stage again later"),
    ],
)
def test_what_kaggle_refuses_is_one_clear_line(server: Kaggle, status: int, message: str) -> None:
    server.status = status
    with pytest.raises(InputError, match=message) as caught:
        next(kaggle.read(CONFIG))
    assert str(caught.value).startswith("data.kaggle: someone/rolls/versions/3, music.pk: ")
    assert str(caught.value).endswith(f"(HTTP {status})")
    assert "\n" not in str(caught.value)


def test_no_connection_and_damage_are_clear_lines(server: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    server.data, server.md5 = b"something", base64.b64encode(b"0" * 16).decode()
    with pytest.raises(InputError, match="arrived damaged"):
        next(kaggle.read(CONFIG))
    talk_to("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(InputError, match="no connection to Kaggle"):
        next(kaggle.read(CONFIG))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_output, (["touch", "evil-was-here"],)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_can_build_rolls_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "music.pk"
    path.write_bytes(pickle.dumps([{"piece": Evil()}], protocol, fix_imports=False))
    assert any("check_output" in str(argument) for _, argument, _ in pickletools.genops(path.read_bytes()))
    with pytest.raises(InputError, match=r"music.pk: asks for subprocess.check_output"):
        kaggle.load(path)
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a pickle of piano rolls"),
        (b"PK\x03\x04 a zip", "not a pickle of piano rolls"),
        (pickle.dumps([1, 2, 3] * 9)[:-9], "not a pickle of piano rolls"),
        (pickle.dumps({"piece": 1}), "must hold a list of piano rolls, not dict"),
        (pickle.dumps([]), "must hold a list of piano rolls"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "music.pk").write_bytes(data)
    with pytest.raises(InputError, match=f"^music.pk: {message}"):
        kaggle.load(tmp_path / "music.pk")


def read_one(tmp_path: Path, entry: object, settings: KaggleConfig = SETTINGS) -> Piece | Refused:
    (tmp_path / "one.pk").write_bytes(pickle.dumps([entry]))
    return kaggle.read_roll("0000", kaggle.load(tmp_path / "one.pk")[0], settings)


def test_cells_become_notes(tmp_path: Path) -> None:
    roll = np.zeros((9, 128), np.float32)
    roll[[0, 1, 3, 4, 5], 60] = [0.5, 0.5, 0.25, 0.9, 0.9]  # two notes: the change at 4 is an overlap
    roll[8, 60] = roll[0, 61] = 2.6  # ends with the roll; begins where the one before ends
    roll[2, 109] = 1  # above a piano
    roll[4, 21] = 0.001
    settings = KaggleConfig(handle="a/b/versions/1", file="music.pk", frames_per_beat=16, velocity_scale=100.0)
    piece = read_one(tmp_path, {"piece": coo_matrix(roll)}, settings)
    assert isinstance(piece, Piece)
    # A frame is a tick and a half, and halves go up.
    assert piece.notes.tolist() == [
        (0, 3, 60, 50),
        (0, 2, 61, 127),
        (5, 4, 60, 25),
        (6, 2, 21, 1),
        (12, 2, 60, 127),
    ]
    assert piece.left_out == 1


def test_cells_that_are_there_twice_are_added_up(tmp_path: Path) -> None:
    twice = coo_matrix(([0.25, 0.25, 0.0], ([0, 0, 1], [70, 70, 70])), shape=(2, 128))
    piece = read_one(tmp_path, {"piece": twice})
    assert isinstance(piece, Piece)
    assert piece.notes.tolist() == [(0, 1, 70, 64)]  # 63.5


def matrix(row: list[Any], column: list[Any], data: list[Any], shape: tuple[int, int] = (4, 128)) -> coo_matrix:
    """A matrix that SciPy would not have made itself."""
    made = coo_matrix((1, 1))
    made._shape = shape
    made.coords = (np.array(row or [], int if not row else None), np.array(column, int))
    made.data = np.array(data)
    return made


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ([1], 'must be a dict whose "piece" is a COO matrix'),
        ({"roll": 1}, 'must be a dict whose "piece" is a COO matrix'),
        ({"piece": np.zeros((4, 128))}, 'must be a dict whose "piece" is a COO matrix'),
        ({"piece": matrix([0], [60], [1.0], (4, 88))}, "its matrix must be frames x 128, not (4, 88)"),
        ({"piece": matrix([0, 1], [60], [1.0])}, "its matrix must have as many rows and columns as data"),
        ({"piece": matrix([[0]], [60], [1.0])}, "its matrix must have as many rows and columns as data"),
        ({"piece": matrix([0.5], [60], [1.0])}, "its matrix must have whole rows and columns, and numbers as data"),
        ({"piece": matrix([0], [60], ["loud"])}, "its matrix must have whole rows and columns, and numbers as data"),
        ({"piece": matrix([4], [60], [1.0])}, "its matrix has cells outside its shape"),
        ({"piece": matrix([0], [-1], [1.0])}, "its matrix has cells outside its shape"),
        ({"piece": matrix([0], [60], [float("nan")])}, "its values must be finite and not below 0"),
        ({"piece": matrix([0], [60], [-0.5])}, "its values must be finite and not below 0"),
        ({"piece": matrix([], [], [])}, "has no notes"),
        ({"piece": matrix([0], [60], [0.0])}, "has no notes"),
        ({"piece": matrix([0], [12], [1.0])}, "has no notes with pitches from 21 to 108"),
        (
            {"piece": matrix([24 * 70_000], [60], [1.0], (24 * 70_001, 128))},
            "lasts 70,000 beats, more than 50,000",
        ),
    ],
)
def test_a_roll_that_is_none_is_refused(tmp_path: Path, entry: object, reason: str) -> None:
    assert read_one(tmp_path, entry) == Refused("0000", reason)
