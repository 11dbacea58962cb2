"""The table at the end of `make repro`: the models, who was chosen and why, the zip, where the time went."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from pianoai.runtime.errors import InputError
from pianoai.verification.limits import PIECE, cpu_share, frame_ms, stale

SHOWN = {
    "nll": "nll",
    "nll_changed": "nll changed",
    "skill": "skill",
    "f1": "F1",
    "onset_f1": "onset F1",
    "average_precision": "AP",
    "mse": "MSE",
    "cosine": "cosine",
}
MODELS = ("copy", "gan", "wgan", "transformer")


def main() -> None:
    """Print the table; exit with 1 and one line when the pipeline has not run."""
    try:
        print(summary(Path("metrics")))
    except InputError as error:
        sys.exit(f"error: {error}")


def summary(metrics: Path) -> str:
    """Models against validation scores, the choice, sizes, and seconds by stage, as text."""
    rows = {name: read(metrics / f"{name}.json") for name in MODELS}
    table = pd.DataFrame(
        {
            name: {column: blocks["valid"][key] for key, column in SHOWN.items()}
            | {"MSE": f"{blocks['valid']['mse']:.5f}"}
            | {"test nll": blocks["test"]["nll"], "parameters": f"{blocks['complexity']['parameters']:,}"}
            for name, blocks in rows.items()
        }
    ).T
    chosen, package = read(metrics / "selection.json"), read(metrics / "package.json")
    timings = read(metrics / "timings.json")
    spent = ", ".join(f"{name} {cost['seconds']:.0f}" for name, cost in timings.items())
    total = sum(cost["seconds"] for cost in timings.values())
    refused = "".join(f"\n  not {name}: {why}" for name, why in chosen["failed"].items() if why)
    return (
        "Validation scores (nll and skill in nats a frame); the test split is reported and never chosen on\n"
        f"{table.to_string(float_format='{:.3f}'.format)}\n"
        f"Chosen: {chosen['winner']}: {chosen['reason']}{refused}\n"
        f"lambda_pkg/function.zip: {package['zip_bytes'] / 1e6:.1f} MB, "
        f"{package['content_bytes'] / 1e6:.1f} MB unpacked\n"
        f"{on_lambda(metrics / 'lambda.json', package)}\n"
        f"Seconds by stage, when each last ran: {spent}; {total:.0f} in all"
    )


def on_lambda(path: Path, package: dict[str, Any]) -> str:
    """What `make verify` measured, as a line, unless it was measured on another zip."""
    if not path.exists():
        return "Under Lambda's conditions: not measured: make verify"
    figures = read(path)
    if stale(figures, package):
        return "Under Lambda's conditions: measured on another zip: make verify"
    init, resident = figures["init_seconds"], figures["resident_mb"]
    return (
        f"In {figures['memory_mb']} MB with {cpu_share(figures['memory_mb']):.1%} of a CPU, on"
        f" {figures['measured_on']}: "
        + ("" if init is None else f"starts in {init:.2f} s, ")
        + f"{PIECE} beats in {figures[f'compose_{PIECE}_beats_seconds']:.1f} s, "
        f"{figures['throttled_ms_per_frame']:.0f} ms a frame of {frame_ms(figures['frames_per_beat']):.0f}"
        + ("" if resident is None else f", {resident:.0f} MB resident")
    )


def read(path: Path) -> Any:
    """A metrics file. Raises InputError when it is not there."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run `make repro` first") from None


if __name__ == "__main__":
    main()
