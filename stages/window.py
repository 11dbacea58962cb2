"""notes -> frames, splits and windows."""

from pathlib import Path

from pianoai import collection, params, windows
from pianoai.stage import run, write_json

DATA = Path("data")


def main() -> None:
    """Write data/frames.npy, data/windows.npz and metrics/data.json."""
    summary = windows.write(
        collection.read(DATA),
        DATA,
        params.read("roll", windows.RollConfig),
        params.read("window", windows.WindowConfig),
        params.read("split", windows.SplitConfig),
    )
    write_json(Path("metrics/data.json"), summary)
    for split, counts in summary.items():
        print(f"window: {split}: {counts['pieces']} pieces, {counts['frames']} frames")


if __name__ == "__main__":
    run(main, "window")
