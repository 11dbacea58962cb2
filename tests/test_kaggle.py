"""The source `kaggle`: the real client against a server on this machine, and pickles good, broken and hostile."""

import base64
import contextlib
import hashlib
import io
import pickle
import pickletools
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from music21 import corpus as scores
from scipy.sparse import coo_matrix

from pianoai.runtime.errors import InputError
from pianoai.sources import KaggleConfig, Piece, Refused, corpus, kaggle, pieces, rolls, unpickling
from tests.kaggle_here import Kaggle, roll_of, serving
from tests.test_folder import config as folder_config

SETTINGS = KaggleConfig(
    handle="someone/rolls/versions/3", file="music.pk", frames_per_beat=24, velocity_scale=127.0, seconds=60.0
)
CONFIG = replace(folder_config(Path("data/folder")), source="kaggle", kaggle=SETTINGS)


Capture = pytest.CaptureFixture[str]


def to_notes(matrix: unpickling.Matrix) -> Any:
    return rolls.to_notes(matrix, SETTINGS)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    monkeypatch.setattr(kaggle, "PAUSE", 0.01)
    with serving(tmp_path, monkeypatch) as here:
        yield here


def original(name: str) -> Piece:
    piece = corpus.read_score(name, Path(scores.getWork(name)))
    assert isinstance(piece, Piece)
    return piece


def expected(piece: Piece) -> list[tuple[int, int, int, int]]:
    """Its notes with that frame missing: a note ends at the latest one tick before the next of its pitch."""
    rows = []
    for start, duration, pitch, velocity in piece.notes.tolist():
        later = [n["start"] for n in piece.notes if n["pitch"] == pitch and n["start"] > start]
        end = min([start + duration, *(int(at) - 1 for at in later if at <= start + duration)])
        rows.append((start, end - start, pitch, velocity))
    return rows


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.slow
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
    assert {piece.checksum for piece in read if isinstance(piece, Piece)} == {hashlib.sha256(server.data).hexdigest()}
    for first, second in zip(read, pieces(CONFIG), strict=True):
        assert isinstance(first, Piece)
        assert isinstance(second, Piece)
        assert first.notes.tolist() == second.notes.tolist()
    assert len(server.asked) == 1  # the second time it is in the cache


REFUSALS = [
    (401, 1, "make a token at https://www.kaggle.com/settings"),
    (403, 1, "accept the data set's terms there, then make a token at https://www.kaggle.com/settings"),
    (404, 1, "correct data.kaggle.handle and data.kaggle.file, or, if it is private, make a token at https://www.kagg"),
    (429, 5, "wait a while"),
    (503, 5, "run the stage again later"),
    (524, 5, "run the stage again later"),
]


@pytest.mark.parametrize(("status", "attempts", "message"), REFUSALS)
@pytest.mark.slow
def test_what_kaggle_refuses_is_one_clear_line(
    server: Kaggle, monkeypatch: pytest.MonkeyPatch, capfd: Capture, status: int, attempts: int, message: str
) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "a-secret-that-is-not-printed")
    server.statuses = [status] * 9
    with pytest.raises(InputError, match=message) as caught:
        next(kaggle.read(CONFIG))
    assert str(caught.value).startswith("data.kaggle: someone/rolls/versions/3, music.pk: ")
    assert str(caught.value).endswith(f"(HTTP {status})")
    assert "\n" not in str(caught.value)
    assert len(server.asked) == attempts
    printed = capfd.readouterr()
    assert "a-secret-that-is-not-printed" not in printed.out + printed.err + str(caught.value)


def served(server: Kaggle) -> Piece:
    """Let the server have a piece; the piece."""
    piece = original("bach/bwv66.6")
    server.data = pickle.dumps([{"piece": roll_of(piece)}])
    return piece


@pytest.mark.slow
def test_what_passes_is_tried_again(server: Kaggle, capfd: Capture) -> None:
    piece = served(server)
    server.statuses = [429, 503, 500]
    (found,) = kaggle.read(CONFIG)
    assert isinstance(found, Piece)
    assert found.notes.tolist() == expected(piece)
    assert len(server.asked) == 4
    assert "(HTTP 503); attempt 3 of 5 in 0.02 s" in capfd.readouterr().err


@pytest.mark.slow
def test_a_server_that_says_how_long_is_not_asked_before(server: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    served(server)
    server.statuses, server.headers = [429], {"Retry-After": "7"}
    waited: list[float] = []
    monkeypatch.setattr(kaggle, "sleep", waited.append)
    assert len(list(kaggle.read(CONFIG))) == 1
    assert waited == [7]


@pytest.mark.slow
def test_a_lost_connection_goes_on_where_it_broke_off(server: Kaggle) -> None:
    piece = original("bach/bwv66.6")
    server.data = pickle.dumps([{"piece": roll_of(piece), "title": "long " * 600_000}])  # kept in parts of 2**20 bytes
    whole = len(server.data)
    server.cuts = [1_500_000, whole, 1_200_000]
    (found,) = kaggle.read(CONFIG)
    assert isinstance(found, Piece)
    assert found.notes.tolist() == expected(piece)
    assert found.checksum == hashlib.sha256(server.data).hexdigest()
    # Each attempt asks for the whole first, to learn whether it can be had in parts.
    assert server.ranges == [None, None, f"bytes={2**20}-", None, f"bytes={2**21}-"]


@pytest.mark.slow
def test_no_connection_and_damage_are_clear_lines(server: Kaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    server.data, server.md5 = b"something", base64.b64encode(b"0" * 16).decode()
    with pytest.raises(InputError, match="arrived damaged"):
        next(kaggle.read(CONFIG))
    monkeypatch.setenv("KAGGLE_HERE", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="no connection to Kaggle"):
        next(kaggle.read(CONFIG))


@pytest.mark.slow
def test_a_server_that_says_nothing_is_left_in_time(server: Kaggle) -> None:
    server.hangs = True
    config = replace(CONFIG, kaggle=replace(SETTINGS, seconds=15.0))  # Python starts within them
    began = time.monotonic()
    with pytest.raises(InputError, match=r"took longer than 15 seconds; .* or raise data.kaggle.seconds"):
        next(kaggle.read(config))
    assert time.monotonic() - began < 45
    assert len(server.asked) == 1


@pytest.mark.parametrize("content", ["KGAT_0123", "", '{"key": "a-secret-that-is-not-printed"}'])
@pytest.mark.slow
def test_credentials_that_cannot_be_read_are_named(
    server: Kaggle, tmp_path: Path, capfd: Capture, content: str
) -> None:
    served(server)
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home/kaggle.json").write_text(content)
    with pytest.raises(
        InputError, match=r"the credentials in ~/\.kaggle or KAGGLE_API_TOKEN cannot be read; make a token"
    ):
        next(kaggle.read(CONFIG))
    assert not server.asked
    printed = capfd.readouterr()
    assert "a-secret-that-is-not-printed" not in printed.out + printed.err


@pytest.mark.slow
def test_a_broken_file_in_the_cache_is_named(server: Kaggle, tmp_path: Path) -> None:
    piece = served(server)
    list(kaggle.read(CONFIG))
    (kept,) = (tmp_path / "home").rglob("music.pk")
    kept.write_bytes(kept.read_bytes()[:200])
    with pytest.raises(InputError, match=f"not a pickle of piano rolls: .*; delete {kept} to download it again"):
        list(kaggle.read(CONFIG))
    kept.unlink()
    (found,) = kaggle.read(CONFIG)
    assert isinstance(found, Piece)
    assert found.notes.tolist() == expected(piece)


@pytest.mark.slow
def test_the_client_ends_with_the_process_that_started_it(server: Kaggle) -> None:
    server.hangs = True
    command = [sys.executable, "-m", "pianoai.sources.fetch", SETTINGS.handle, SETTINGS.file, "1000000"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 30
        while not server.asked and time.monotonic() < end:
            time.sleep(0.05)
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()  # as when its parent has been killed
        assert process.wait(timeout=10) == 1


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()


@pytest.mark.parametrize("name", ["music.pk", "music.pk.zip"], ids=["as it is", "as a zip"])
@pytest.mark.slow
def test_a_zip_of_the_file_is_read(server: Kaggle, name: str) -> None:
    """Kaggle sends some files as a zip; kagglehub unpacks it where the address says so."""
    piece = served(server)
    server.data, server.name = zipped({"music.pk": server.data}), name
    (found,) = kaggle.read(CONFIG)
    assert isinstance(found, Piece)
    assert found.notes.tolist() == expected(piece)


@pytest.mark.parametrize("name", ["music.pk", "music.pk.zip"], ids=["as it is", "as a zip"])
@pytest.mark.parametrize("evil", ["../../climbed.pk", "/tmp/pianoai-climbed.pk"])
@pytest.mark.slow
def test_a_zip_writes_nowhere_else(server: Kaggle, tmp_path: Path, name: str, evil: str) -> None:
    served(server)
    server.data, server.name = zipped({evil: b"climbed", "music.pk": server.data}), name
    with contextlib.suppress(InputError):  # unpacked by kagglehub it is well, since only the file asked for is taken
        list(kaggle.read(CONFIG))
    assert not list(tmp_path.parent.rglob("*climbed*"))
    assert not Path("/tmp/pianoai-climbed.pk").exists()


@pytest.mark.parametrize("name", ["music.pk", "music.pk.zip"], ids=["as it is", "as a zip"])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.slow
def test_a_zip_bomb_is_refused(
    server: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: int
) -> None:
    monkeypatch.setattr(unpickling, "LARGEST_FILE", 1_000_000)
    server.data, server.name = zipped({"music.pk": bytes(20_000_000)}, method), name
    assert len(server.data) < 100_000
    with pytest.raises(
        InputError, match=r"is larger than 1,000,000 bytes once unpacked|is compressed in an unusual way"
    ):
        list(kaggle.read(CONFIG))
    assert max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1_000_000


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
    with pytest.raises(InputError, match=r"music.pk: asks for 'subprocess.check_output'"):
        unpickling.load(path, to_notes)
    assert not (tmp_path / "evil-was-here").exists()


def one(opcodes: bytes) -> bytes:
    """A pickle of a list with what these opcodes make."""
    return b"\x80\x04]" + opcodes + b"a."


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


RECONSTRUCT = named("numpy.core.multiarray", "_reconstruct")
ENCODE, COO = named("_codecs", "encode"), named("scipy.sparse.coo", "coo_matrix")
LARGE = b"\x8a\x06" + (10**13).to_bytes(6, "little")  # a whole number


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (named("os", "system") + b"X\x04\x00\x00\x00true\x85R", "asks for 'os.system', which no piano roll needs"),
        (named("builtins", "eval") + b"X\x01\x00\x00\x001\x85R", "asks for 'builtins.eval', which no piano roll needs"),
        (b"X\x04\x00\x00\x00trueX\x01\x00\x00\x001\x85R", "calls something that is no function of a piano roll"),
        (COO + b")R", "calls something that is no function of a piano roll"),
        (COO + b"}X\x06\x00\x00\x00becameX\x01\x00\x00\x001sb", "gives a state to something that is no part of"),
        (ENCODE + b"}X\x08\x00\x00\x00__code__X\x01\x00\x00\x001sb", "gives a state to something that is no part"),
        (ENCODE + b")\x81", "makes something that is no piano roll"),
        (b"X\x01\x00\x00\x00a)\x81", "makes something that is no piano roll"),
        (b"\x82\x01", "does something that no piano roll needs; do not trust this file"),  # an extension
        (b"X\x01\x00\x00\x00aQ", "does something that no piano roll needs; do not trust this file"),  # persistent
        (b"(ios\nsystem\n", "does something that no piano roll needs; do not trust this file"),  # an old instance
        (b"\x8e" + (1 << 40).to_bytes(8, "little"), "has a part of 1,099,511,627,776 bytes"),
        (named("os", "\x1b[31m") + b")R", r"asks for 'os.\\x1b\[31m'"),
        (b"}K\x01K\x01s", "has a dict whose keys are not texts"),
        (b"}(K\x01K\x01u", "has a dict whose keys are not texts"),
        (b"(K\x01K\x01d", "has a dict whose keys are not texts"),
        (b"})" + b"2\x86" * 60 + b"K\x01s", "has a dict whose keys are not texts"),  # its hash takes 2**60 steps
        (b"})" + b"\x85" * 200_000 + b"K\x01s", "has a dict whose keys are not texts"),  # its hash overflows the stack
        (b"\x8f", "does something that no piano roll needs"),  # a set
        (b"XX\x00\x00\x00" + bytes(88) + b"K\x01a", "appends to something that is no list"),
        (
            RECONSTRUCT + named("numpy", "ndarray") + LARGE + b"\x85C\x01b\x87R(K\x01" + LARGE + b"\x85"
            b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85R\x89C\x08" + bytes(8) + b"tb",
            "has a NumPy array of something else than numbers",
        ),
    ],
)
def test_a_hostile_pickle_is_refused(tmp_path: Path, opcodes: bytes, message: str) -> None:
    (tmp_path / "music.pk").write_bytes(one(opcodes))
    before = {name: dict(vars(kind)) for name, kind in vars(rolls).items() if isinstance(kind, type)}
    with pytest.raises(InputError, match=message):
        list(rolls.read(tmp_path / "music.pk", SETTINGS))
    assert {name: dict(vars(kind)) for name, kind in vars(rolls).items() if isinstance(kind, type)} == before


def test_a_file_that_uses_its_cells_again_and_again_is_refused(tmp_path: Path) -> None:
    matrix = coo_matrix(([0.5] * 100, (range(100), [60] * 100)), shape=(100, 128))
    again = [matrix]
    for _ in range(200):  # other matrices of the same arrays, which a pickle holds once
        again.append(matrix.copy())
        vars(again[-1]).update(vars(matrix))
    (tmp_path / "music.pk").write_bytes(pickle.dumps([{"piece": each} for each in again]))
    assert (tmp_path / "music.pk").stat().st_size < 201 * 100
    with pytest.raises(InputError, match=r"^music.pk: has more cells than bytes; do not trust this file"):
        list(rolls.read(tmp_path / "music.pk", SETTINGS))


def test_a_matrix_that_stands_for_several_pieces_is_read_once(tmp_path: Path) -> None:
    matrix = coo_matrix(([0.5] * 100, (range(100), [60] * 100)), shape=(100, 128))
    (tmp_path / "music.pk").write_bytes(pickle.dumps([{"piece": each} for each in (matrix, SMALL, matrix, matrix)]))
    first, second, *others = rolls.read(tmp_path / "music.pk", SETTINGS)
    assert isinstance(first, Piece)
    assert isinstance(second, Piece)
    assert [str(other) for other in others] == [
        str(Refused(name, "is the same matrix as entry 0000")) for name in ("0002", "0003")
    ]


def test_a_matrix_without_content_is_refused(tmp_path: Path) -> None:
    empty = pickle.GLOBAL + b"scipy.sparse._coo\ncoo_matrix\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ
    entry = pickle.EMPTY_DICT + pickle.BINUNICODE + struct.pack("<I", 5) + b"piece" + empty + pickle.SETITEM
    (tmp_path / "music.pk").write_bytes(pickle.PROTO + b"\2" + pickle.EMPTY_LIST + entry + pickle.APPEND + pickle.STOP)
    (refused,) = rolls.read(tmp_path / "music.pk", SETTINGS)
    assert refused == Refused("0000", "its matrix has no content")


def test_a_file_that_spells_bytes_again_and_again_is_refused(tmp_path: Path) -> None:
    text = pickle.BINUNICODE + struct.pack("<I", 1000) + b"a" * 1000 + pickle.BINPUT + b"\0"
    spell = pickle.GLOBAL + b"_codecs\nencode\n" + pickle.BINGET + b"\0" + pickle.TUPLE1 + pickle.REDUCE
    (tmp_path / "music.pk").write_bytes(
        pickle.PROTO + b"\2" + text + pickle.EMPTY_LIST + (spell + pickle.APPEND) * 9 + pickle.STOP
    )
    with pytest.raises(InputError, match=r"^music.pk: spells more bytes than it has; do not trust this file"):
        list(rolls.read(tmp_path / "music.pk", SETTINGS))


def test_a_pickle_of_too_many_steps_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "MOST_STEPS", 1000)
    (tmp_path / "music.pk").write_bytes(one(b"(" * 1000))
    with pytest.raises(InputError, match=r"takes more than 1,000 steps to read"):
        list(rolls.read(tmp_path / "music.pk", SETTINGS))


SMALL = coo_matrix(([0.5, 0.5], ([0, 1], [60, 64])), shape=(4, 128))


@given(data=st.data(), protocol=st.sampled_from([0, 2, 4, 5]))
@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_pickle_crashes_the_reader(tmp_path: Path, data: st.DataObject, protocol: int) -> None:
    """Whatever is changed in a good one, what comes out are pieces, refusals, or one line."""
    content = bytearray(pickle.dumps([{"piece": SMALL, "title": "two notes"}], protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    (tmp_path / "music.pk").write_bytes(content)
    assert re.fullmatch(r"pieces|music\.pk: .*", outcome(tmp_path / "music.pk"))


def outcome(path: Path) -> str:
    """What reading a file ends in; anything but pieces, refusals and an InputError is for the test to see."""
    try:
        assert all(isinstance(piece, Piece | Refused) for piece in rolls.read(path, SETTINGS))
    except InputError as error:
        return str(error)
    return "pieces"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_memory_is_of_the_largest_piece(tmp_path: Path, protocol: int) -> None:
    """Ten times the pieces, each of 1.6 MB and eight long notes, take no more of it while they are read."""
    roll = np.zeros((12_500, 128))
    roll[:-1, 60:68] = 0.5

    def peak(count: int) -> int:
        # A new matrix each time: pickle writes what it has seen only once.
        (tmp_path / "many.pk").write_bytes(pickle.dumps([{"piece": coo_matrix(roll)} for _ in range(count)], protocol))
        tracemalloc.start()
        found = list(rolls.read(tmp_path / "many.pk", SETTINGS))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [len(piece.notes) for piece in found if isinstance(piece, Piece)] == [8] * count
        return most

    few, many = peak(2), peak(20)
    assert (tmp_path / "many.pk").stat().st_size > 20 * 1.5e6
    assert many - few < 1e6


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
        unpickling.load(tmp_path / "music.pk", to_notes)


def read_one(tmp_path: Path, entry: object, settings: KaggleConfig = SETTINGS) -> Piece | Refused:
    (tmp_path / "one.pk").write_bytes(pickle.dumps([entry]))
    (found,) = rolls.read(tmp_path / "one.pk", settings)
    return found


def test_cells_become_notes(tmp_path: Path) -> None:
    roll = np.zeros((9, 128), np.float32)
    roll[[0, 1, 3, 4, 5], 60] = [0.5, 0.5, 0.25, 0.9, 0.9]  # two notes: the change at 4 is an overlap
    roll[8, 60] = roll[0, 61] = 2.6  # ends with the roll; begins where the one before ends
    roll[2, 109] = 1  # above a piano
    roll[4, 21] = 0.001
    settings = KaggleConfig(
        handle="a/b/versions/1", file="music.pk", frames_per_beat=16, velocity_scale=100.0, seconds=60.0
    )
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
