"""The three families of params.yaml trained with several seeds, so that a difference can be told from chance.

python -m benchmarks.families                                        three seeds each, some 70 minutes on two cores
python -m benchmarks.families --families gan wgan --seeds 1 2

`no-critic` is the GAN with a weight of 0 for what its critic says: what is left is the generator and the loss terms.

It needs the pipeline's data (`dvc repro window`), trains with the pipeline's code and parameters but for the number of
threads, one each, so that two can be trained side by side, and scores with its evaluation.
benchmarks/results/families.json is written after every training; a seed that stands there for the same data,
parameters and `fingerprint.VERSION` is not trained again.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fingerprint import fingerprint, sections
from benchmarks.piano_midi import side_by_side
from pianoai import evaluation, params, training, windows
from pianoai.baseline import count
from pianoai.checkpoint import family
from pianoai.losses import LossConfig
from pianoai.models.objective import TrainConfig
from pianoai.runtime.errors import InputError
from pianoai.stage import write_json
from stages.train import SECTIONS

RESULTS = Path("benchmarks/results/families.json")
# By name the family, and what is changed in its section of params.yaml.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in SECTIONS} | {
    "no-critic": ("gan", {"adversarial": 0.0})
}
# `valid_nll` is what a family is chosen by; `valid_nll_joint` is of whole frames, of a GAN the mixture over
# its noise samples; `overlap` that of the features of generated music with those of real music.
FIGURES = ("valid_nll", "valid_nll_joint", "test_nll", "density_ratio", "overlap")


def main(arguments: list[str]) -> None:
    """Trains what is missing, writes the file, prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.families", description="See the module's first lines.")
    parser.add_argument("--families", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    given = parser.parse_args(arguments)
    results: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    try:
        for name in given.families:
            key = depends_on(name)
            if results.get(name, {}).get("key") != key:
                results[name] = {"key": key, "seeds": []}
        known = {(name, run["seed"]) for name, found in results.items() for run in found["seeds"]}
        missing = [(name, seed) for name in given.families for seed in given.seeds if (name, seed) not in known]
        runs = side_by_side([partial(trained, name, seed) for name, seed in missing], given.jobs)
        for (name, _), run in zip(missing, runs, strict=True):
            seeds = sorted([*results[name]["seeds"], run], key=lambda each: int(each["seed"]))
            results[name] |= {"seeds": seeds} | summary(seeds)
            write_json(RESULTS, results)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(table(results))


def depends_on(name: str) -> str:
    """A checksum of all that a run depends on besides its seed."""
    kind, changes = RUNS[name]
    used = sections("determinism", "train", "loss", "evaluate", SECTIONS[kind])
    used[SECTIONS[kind]] |= changes
    return fingerprint(used, windows.read(Path("data")).checksum)


def trained(name: str, seed: int) -> dict[str, float]:
    """One training and its evaluation; `seconds` is of the training."""
    data = windows.read(Path("data"))
    budget = replace(params.read("train", TrainConfig), seed=seed)
    began = time.perf_counter()
    kind, changes = RUNS[name]
    config = replace(params.read(SECTIONS[kind], family(kind).Config), **changes)
    checkpoint, _, summed = training.train(kind, config, data, budget, params.read("loss", LossConfig))
    seconds = time.perf_counter() - began
    _, rates = count(data)
    settings = params.read("evaluate", evaluation.EvaluateConfig)
    metrics = evaluation.evaluate(checkpoint, summed, rates, None, data, settings).metrics
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "valid_nll": metrics["valid"]["nll"],
        "valid_nll_joint": metrics["valid"]["nll_joint"],
        "test_nll": metrics["test"]["nll"],
        "density_ratio": metrics["stability"]["density_ratio"],
        "overlap": metrics["music"]["overlap"],
    }


def summary(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation of every figure; the deviation is 0 with a single seed."""
    values = {figure: np.array([run[figure] for run in runs]) for figure in FIGURES}
    few = int(len(runs) > 1)
    return {
        "mean": {figure: round(float(each.mean()), 6) for figure, each in values.items()},
        "spread": {figure: round(float(each.std(ddof=few)), 6) for figure, each in values.items()},
    }


def table(results: dict[str, Any]) -> str:
    """One line a family: means over its seeds, and the deviations."""
    lines = [f"{'':12}" + "".join(f"{figure.replace('_', ' '):>17}" for figure in FIGURES)]
    for name, found in results.items():
        cells = [f"{found['mean'][figure]:.3f} ± {found['spread'][figure]:.3f}" for figure in FIGURES]
        lines.append(f"{name:12}" + "".join(f"{cell:>17}" for cell in cells) + f"  {len(found['seeds'])} seeds")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
