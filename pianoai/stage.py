"""Runs a stage: pinned, bad input ends in one line and exit code 1, and its cost goes to metrics/timings.json."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pianoai import determinism, params
from pianoai.runtime.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

TIMINGS = Path("metrics/timings.json")


def run(main: Callable[[], None], name: str) -> None:
    """Pin, call `main`, then record seconds and peak memory under `name`; exit with 1 on InputError.

    `main` imports PyTorch, where it needs it, itself: this program may be started anew (`determinism.begin`).
    """
    began = time.perf_counter()
    try:
        determinism.begin(params.read("determinism", determinism.DeterminismConfig))
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    seconds = time.perf_counter() - began
    record(name, {"seconds": round(seconds, 1), "peak_mb": peak_mb()})


def record(name: str, cost: dict[str, float]) -> None:
    """Put `cost` under `name` in metrics/timings.json, which no stage owns."""
    timings = json.loads(TIMINGS.read_text("utf-8")) if TIMINGS.exists() else {}
    timings[name] = cost
    write_json(TIMINGS, timings)


def peak_mb() -> float:
    """Peak resident memory of this process in MB (10^6 bytes); 0 where the system does not tell.

    Processes that it spreads work over are not in it.
    """
    try:
        import resource
    except ImportError:  # not a POSIX system
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return round(peak * unit / 1e6, 1)


def write_json(path: Path, content: object) -> None:
    """Write JSON the same way every time: sorted keys, two spaces, a newline at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table without its index, numbers with six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
