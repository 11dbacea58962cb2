"""What a pause costs: the CPU time of the first frames after one, on the runtime and on one thread.

python -m benchmarks.pauses            needs models/model.ts: dvc repro export

Lambda lets 128 MB work for 1.44 ms in every 20 ms. What the caches hold after the rest is somebody else's; the third
row shows the same without a rest, when 64 MB have been read in between.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep, thread_time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from pianoai.runtime import model, sampling
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model
from pianoai.runtime.roll import PITCHES

PAUSE = 0.0185  # seconds
FRAMES, PAUSES, WARM = 6, 60, 64  # frames after a pause, of which there are so many; frames before the first
CACHES = 64 << 20  # bytes: more than any cache holds


def main() -> None:
    """Print the table."""
    try:
        loaded = model.load(Path("models/model.ts"))
    except InputError as error:
        sys.exit(f"error: {error}")
    print(table(loaded))


def table(loaded: Model) -> str:
    """A row for each kind of pause: microseconds of CPU time of the first, second, … frame after it, medians."""
    much = np.ones(CACHES, np.uint8)
    pauses: dict[str, Callable[[], object]] = {
        "no pause": lambda: None,
        f"a rest of {PAUSE * 1000:.1f} ms": lambda: sleep(PAUSE),
        f"reading {CACHES >> 20} MB": much.max,
    }
    lines = [f"{'us a frame after':20}" + "".join(f"{number:>7}" for number in range(1, FRAMES + 1))]
    for name, pause in pauses.items():
        lines.append(f"{name:20}" + "".join(f"{cost * 1e6:7.0f}" for cost in after(loaded, pause)))
    return "\n".join(lines)


def after(loaded: Model, pause: Callable[[], object]) -> list[float]:
    """Seconds of CPU time of the frames after a pause, each the median over PAUSES of them."""
    silence = np.zeros((1, PITCHES), np.uint8)
    frames = sampling.play(loaded, loaded.start(), silence, sampling.Settings(), 7)
    for _ in range(WARM):
        next(frames)
    costs = np.empty((PAUSES, FRAMES))
    for row in costs:
        pause()
        for number in range(FRAMES):
            began = thread_time()
            next(frames)
            row[number] = thread_time() - began
    found: list[float] = np.median(costs, axis=0).tolist()
    return found


if __name__ == "__main__":
    main()
