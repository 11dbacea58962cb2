"""What each ingredient of the Transformer brings on the benchmark of `piano_midi`: short trainings without it.

python -m benchmarks.ablations --mat Piano_midi.mat            all of VARIATIONS, 6 to 15 minutes each on one core
python -m benchmarks.ablations --mat Piano_midi.mat --only mse window-16

Every run has the same data, number of epochs and seed. What is compared is the likelihood of the validation split; that
of the test split is not told. Results are written to benchmarks/results/, named after the file, whenever a run is
done; runs of as many epochs that are not asked for stay.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.piano_midi import SETTINGS, Settings, run, side_by_side
from pianoai import matfile
from pianoai.models import heads, transformer
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import Roll
from pianoai.stage import write_json
from pianoai.windows import SPLITS

RESULTS = Path("benchmarks/results")
EPOCHS = 12
PLACES = 16  # frames after which a place in the bar comes again


class Forgetful(transformer.Recall):
    """Recalls nothing."""

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Zeros in the shape of what would be found."""
        return torch.zeros_like(super().forward(x, features))


class Alone(heads.Surroundings):
    """Sees the pitch itself alone."""

    def __init__(self, channels: int, outputs: int, taps: int, spacing: int) -> None:
        super().__init__(channels, outputs, 1, 1)


class Placed(transformer.Model):
    """Is also told each frame's place in the bar, as pieces of these files have it from their first frame on."""

    def __init__(self, config: transformer.Config, window: int) -> None:
        super().__init__(config, window)
        self.embed = PlacedLinear(self.embed.in_features, self.embed.out_features)


class PlacedLinear(nn.Linear):
    """A linear layer that adds a vector of its own at every place in the bar."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.place = nn.Parameter(torch.zeros(PLACES, outputs))

    def forward(self, input: Tensor) -> Tensor:
        """(batch, time, inputs) -> (batch, time, outputs)."""
        return super().forward(input) + self.place[torch.arange(input.shape[1]) % PLACES]


def unturned(window: int, width: int) -> Tensor:
    """Rotations by nothing."""
    return torch.stack([torch.ones(4 * window, width), torch.zeros(4 * window, width)], 1)


@dataclass(frozen=True)
class Variation:
    """What a run changes: SETTINGS, params.yaml by section, and names in modules."""

    what: str
    settings: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    patches: tuple[tuple[Any, str, Any], ...] = ()


VARIATIONS = {
    "none": Variation("nothing"),
    "head": Variation(
        "pitches independent of each other, nothing recalled", changes={"model": {"head": "independent"}}
    ),
    "recall": Variation("nothing recalled", patches=((transformer, "Recall", Forgetful),)),
    "pitch": Variation("nothing seen around a pitch", patches=((heads, "Surroundings", Alone),)),
    "transposition": Variation("no transposition", {"transpose": 0}),
    "rotary": Variation("no rotary positions", patches=((transformer, "rotations", unturned),)),
    "places": Variation("places in the bar as input, besides", patches=((transformer, "Model", Placed),)),
    "window-32": Variation("a window of 32 frames", changes={"window": {"length": 32}}),
    "window-16": Variation("a window of 16 frames", changes={"window": {"length": 16}}),
    "dropout": Variation("no dropout", {"dropout": 0.0}),
    "decay": Variation("weight decay of the pipeline, 0.01", {"weight_decay": 0.01}),
    "averaging": Variation("no averaging of weights", {"averaging": 0.0}),
    "mse": Variation("no mean squared error in the loss", changes={"loss": {"mse": 0.0}}),
    "cosine": Variation("no cosine distance in the loss", changes={"loss": {"cosine": 0.0}}),
    "variance": Variation("no variance term in the loss", changes={"loss": {"variance": 0.0}}),
    "regression": Variation("cross-entropy alone", changes={"loss": {"mse": 0.0, "cosine": 0.0, "variance": 0.0}}),
}


def main(arguments: list[str]) -> None:
    """Trains, writes the file, prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.ablations", description="See the module's first lines.")
    parser.add_argument("--mat", type=Path, required=True, help="Piano_midi.mat")
    parser.add_argument("--only", nargs="+", choices=VARIATIONS, default=list(VARIATIONS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    given = parser.parse_args(arguments)
    try:
        if given.mat.stem.lower() not in SETTINGS:
            raise InputError(f"{given.mat}: no settings for it; there are {', '.join(SETTINGS)}")
        settings = replace(SETTINGS[given.mat.stem.lower()], epochs=given.epochs)
        splits = {split: matfile.read(given.mat, split) for split in SPLITS}
        path = RESULTS / f"ablations_{given.mat.stem.lower()}.json"
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        results = {name: found for name, found in kept.items() if found["epochs"] == given.epochs}
        runs = side_by_side([partial(varied, splits, settings, name) for name in given.only], given.jobs)
        for name, found in zip(given.only, runs, strict=True):
            results[name] = found
            write_json(path, results)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(table(results))


def varied(splits: dict[str, list[Roll]], settings: Settings, name: str) -> dict[str, Any]:
    """One run of VARIATIONS."""
    variation = VARIATIONS[name]
    with ExitStack() as stack:
        for module, attribute, other in variation.patches:
            stack.enter_context(mock.patch.object(module, attribute, other))
        found = run(splits, replace(settings, **variation.settings), 1, variation.changes)
    return {key: found[key] for key in ("valid_nll", "parameters", "seconds", "best_epoch")} | {
        "epochs": settings.epochs
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The runs in Markdown; differences are to the run that leaves nothing out."""
    lines = ["| changed | nats a frame, validation | difference | parameters |", "|---|---:|---:|---:|"]
    whole = results.get("none", {}).get("valid_nll")
    for name, variation in VARIATIONS.items():
        if name in results:
            found = results[name]
            difference = "" if whole is None or name == "none" else f"{found['valid_nll'] - whole:+.2f}"
            lines.append(f"| {variation.what} | {found['valid_nll']:.2f} | {difference} | {found['parameters']:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
