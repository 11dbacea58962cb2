"""Stage `download`: reads all pieces from the chosen source and writes them as one collection of notes."""

from pathlib import Path

from pianoai import collection, params
from pianoai.sources import DataConfig, pieces
from pianoai.stage import run


def main() -> None:
    """data.* of params.yaml -> data/notes.npy, data/pieces.csv, data/skipped.csv."""
    config = params.read("data", DataConfig)
    collection.write(pieces(config), Path("data"), config.max_skipped)


if __name__ == "__main__":
    run(main, "download")
