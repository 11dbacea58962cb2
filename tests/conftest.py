"""Real music and tiny models for the tests; pins the numerical libraries before anything imports torch."""

from pianoai.determinism import DeterminismConfig, pin

pin(DeterminismConfig(threads=2, instruction_set="avx2"))

from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from music21.common import getCorpusFilePath  # noqa: E402

from pianoai import windows  # noqa: E402
from pianoai.collection import Collection, read, write  # noqa: E402
from pianoai.sources import Piece  # noqa: E402
from pianoai.sources.corpus import read_score  # noqa: E402

CHORALES = ("bwv1.6", "bwv10.7", "bwv101.7", "bwv102.7", "bwv103.6", "bwv104.6", "bwv108.6", "bwv11.6")


@pytest.fixture(scope="session")
def chorales() -> list[Piece]:
    """Eight chorales by Bach, parsed from the scores that music21 carries."""
    folder = Path(getCorpusFilePath()) / "bach"
    pieces = [read_score(f"bach/{name}", folder / f"{name}.mxl") for name in CHORALES]
    assert all(isinstance(piece, Piece) for piece in pieces)
    return [piece for piece in pieces if isinstance(piece, Piece)]


@pytest.fixture(scope="session")
def collection(chorales: list[Piece], tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The chorales as `download` leaves them."""
    folder = tmp_path_factory.mktemp("collection")
    write(chorales, folder, 0.0)
    return read(folder)


@pytest.fixture(scope="session")
def music(collection: Collection, tmp_path_factory: pytest.TempPathFactory) -> windows.Windows:
    """The chorales as windows of 16 frames, 4 frames a beat: six pieces to train on, one each to choose and test on."""
    folder = tmp_path_factory.mktemp("windows")
    windows.write(
        collection,
        folder,
        windows.RollConfig(4),
        windows.WindowConfig(length=16, segment=64, hop=64),
        windows.SplitConfig(valid=0.125, test=0.125, seed=1),
    )
    return windows.read(folder)
