"""The Transformer on the polyphonic-music benchmark of 2012 (Boulanger-Lewandowski, Bengio, Vincent: "Modeling temporal
dependencies in high-dimensional sequences", ICML 2012), beside what was published.

python -m benchmarks.piano_midi --mat Piano_midi.mat              three seeds, 15 minutes each on one core
python -m benchmarks.piano_midi --mat JSB_Chorales.mat --seeds 1

The score is the negative log-likelihood of a frame in nats, summed over 88 pitches, mean over all frames of all pieces
but each piece's first. The model is the one of the pipeline, trained by the pipeline's code; SETTINGS says what
differs. Seeds are trained side by side, one thread each. Weights are those of the epoch with the best validation
likelihood; the test split is scored once, with them. Results are written to benchmarks/results/, named after the file,
whenever a seed is done.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from pianoai import determinism, losses, matfile, params
from pianoai.dataset import batches
from pianoai.export import count_parameters
from pianoai.losses import LossConfig
from pianoai.models.base import FrameModel
from pianoai.models.copy import count_rates
from pianoai.models.objective import TrainConfig
from pianoai.models.transformer import Config
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES, Roll
from pianoai.runtime.scoring import cross_entropy
from pianoai.stage import write_json
from pianoai.training import train
from pianoai.windows import SPLITS, WindowConfig, Windows, cut

RESULTS = Path("benchmarks/results")
Section = TypeVar("Section", Config, TrainConfig, WindowConfig)


@dataclass(frozen=True)
class Settings:
    """What differs from params.yaml for one file, by the names there; chosen on its validation split."""

    epochs: int
    dropout: float
    transpose: int
    embed_dim: int = 128
    feedforward: int = 512
    batch: int = 8
    learning_rate: float = 0.005
    weight_decay: float = 0.3
    averaging: float = 0.997
    segment: int = 192
    hop: int = 192
    patience: int = 20


SETTINGS = {
    "piano_midi": Settings(epochs=30, dropout=0.3, transpose=6),
    "jsb_chorales": Settings(epochs=60, dropout=0.3, transpose=5),
}
# Nats a frame on the test split.
PUBLISHED = {
    "piano_midi": {
        "RNN": (8.37, "Boulanger-Lewandowski et al. 2012"),
        "DMM": (7.83, "Krishnan, Shalit, Sontag 2017"),
        "RNN-NADE": (7.05, "Boulanger-Lewandowski et al. 2012"),
    },
    "jsb_chorales": {"RNN-NADE": (5.56, "Boulanger-Lewandowski et al. 2012")},
}


def main(arguments: list[str]) -> None:
    """Trains, prints the table, writes the file."""
    parser = argparse.ArgumentParser("python -m benchmarks.piano_midi", description="See the module's first lines.")
    parser.add_argument("--mat", type=Path, required=True, help="Piano_midi.mat or JSB_Chorales.mat")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="instead of those in SETTINGS")
    parser.add_argument("--jobs", type=int, default=2, help="seeds that are trained at a time")
    given = parser.parse_args(arguments)
    try:
        name = given.mat.stem.lower()
        if name not in SETTINGS:
            raise InputError(f"{given.mat}: no settings for it; there are {', '.join(SETTINGS)}")
        settings = SETTINGS[name] if given.epochs is None else replace(SETTINGS[name], epochs=given.epochs)
        splits = {split: matfile.read(given.mat, split) for split in SPLITS}
        runs: list[dict[str, Any]] = []
        plain = baselines(splits)
        for found in side_by_side([partial(run, splits, settings, seed) for seed in given.seeds], given.jobs):
            runs.append(found)
            write_json(RESULTS / f"{name}.json", plain | summary(runs))
    except InputError as error:
        sys.exit(f"error: {error}")
    print(table(name, plain | summary(runs)))


def side_by_side(calls: list[Callable[[], dict[str, Any]]], jobs: int) -> Iterator[dict[str, Any]]:
    """What functions return, each called in a process of its own with one thread, as many at a time as `jobs`."""
    numerics = replace(params.read("determinism", determinism.DeterminismConfig), threads=1)
    wanted = determinism.environment(numerics) | {"LOKY_MAX_CPU_COUNT": "1"}  # nor do they start processes of their own
    spawn = multiprocessing.get_context("spawn")
    # Fresh processes read the environment when they load PyTorch; afterwards it is as it was.
    with patch.dict(os.environ, wanted), ProcessPoolExecutor(jobs, spawn, max_tasks_per_child=1) as pool:
        for waiting in [pool.submit(call) for call in calls]:
            yield waiting.result()


def run(
    splits: dict[str, list[Roll]], settings: Settings, seed: int, changes: dict[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Trains with one seed: nats a frame of both held-out splits, parameters, seconds.

    `changes` are of params.yaml, by section.
    """
    changes = changes or {}
    config = settled(params.read("model", Config), settings)
    budget = replace(settled(params.read("train", TrainConfig), settings), seed=seed)
    # The files do not tell a repeated note from a held one, so that none is ever struck again, which is soon learnt.
    loss = replace(params.read("loss", LossConfig), **changes.get("loss", {}))
    window = replace(params.read("window", WindowConfig), **changes.get("window", {}))
    windows = arrange(splits, window, settings)
    began = time.perf_counter()
    checkpoint, _, training = train("transformer", replace(config, **changes.get("model", {})), windows, budget, loss)
    seconds = time.perf_counter() - began
    model = checkpoint.model()
    return {
        "seed": seed,
        "valid_nll": nll(model, windows, "valid"),
        "test_nll": nll(model, windows, "test"),
        "parameters": count_parameters(model),
        "seconds": round(seconds, 1),
        "best_epoch": training["best_epoch"],
    }


def settled(section: Section, settings: Settings) -> Section:
    """A section of params.yaml with what the settings say of it."""
    said = {key: value for key, value in asdict(settings).items() if hasattr(section, key)}
    return replace(section, **said)


def arrange(splits: dict[str, list[Roll]], window: WindowConfig, settings: Settings) -> Windows:
    """The rolls of a file as windows: segments of the training pieces, whole pieces of the others."""
    cutting = settled(window, settings)
    rolls = [roll for split in SPLITS for roll in splits[split]]
    starts: dict[str, NDArray[np.int64]] = {}
    lengths: dict[str, NDArray[np.int64]] = {}
    begin = 0
    for split in SPLITS:
        spans = []
        for roll in splits[split]:
            if len(roll) > 1:
                spans.append((begin, len(roll)))
            begin += len(roll)
        starts[split], lengths[split] = np.array(list(cut(spans, cutting)) if split == "train" else spans).T
    held = {split: np.zeros((len(starts[split]), PITCHES), np.uint8) for split in SPLITS}
    return Windows(np.concatenate(rolls), starts, lengths, held, 4, window.length, settings.segment, "0" * 64)


@torch.no_grad()
def nll(model: FrameModel, windows: Windows, split: str) -> float:
    """Nats a frame of which pitches sound."""
    total = frames = 0.0
    for batch in batches(windows, split):
        logits = model.head(model(batch.features, torch.zeros(*batch.features.shape[:2], 0)), batch.targets)
        count = float(batch.mask.sum())
        total += count * float(losses.sounding(logits[..., 0, :], batch.targets[..., :PITCHES], batch.mask))
        frames += count
    return round(total / frames, 5)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and every run."""
    means = {key: float(np.mean([run[key] for run in runs])) for key in ("test_nll", "valid_nll", "seconds")}
    rounded = {key: round(value, 4) for key, value in means.items()}
    return rounded | {"parameters": runs[0]["parameters"], "seeds": runs}


def baselines(splits: dict[str, list[Roll]]) -> dict[str, float]:
    """Nats a frame of the test split with rates of the training split: each pitch has one, or two, by what it did last.

    Rates are (events + 1) / (chances + 2).
    """
    before = np.concatenate([roll[:-1] > 0 for roll in splits["test"]])
    after = np.concatenate([roll[1:] > 0 for roll in splits["test"]])
    sounds = np.concatenate([roll[1:] > 0 for roll in splits["train"]])
    own = np.broadcast_to((sounds.sum(0) + 1) / (len(sounds) + 2), after.shape)
    silent, sounded = count_rates(splits["train"]).double().numpy()[:2]
    rates = {"marginal_nll": own, "copy_nll": np.where(before, sounded, silent)}
    return {name: round(float(cross_entropy(rate, after).sum(1).mean()), 4) for name, rate in rates.items()}


def table(name: str, results: dict[str, Any]) -> str:
    """Two baselines, what was published, and what came out here."""
    lines = [f"{results['marginal_nll']:6.2f}  each pitch at its own rate"]
    lines += [f"{results['copy_nll']:6.2f}  copying, each pitch with its rates of change"]
    lines += [f"{value:6.2f}  {model} ({source})" for model, (value, source) in PUBLISHED[name].items()]
    each = ", ".join(f"{run['test_nll']:.3f}" for run in results["seeds"])
    lines.append(f"{results['test_nll']:6.2f}  this, {results['parameters'] / 1e6:.2f} M parameters (seeds: {each})")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
