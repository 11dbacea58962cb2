"""One short training of a family with other settings than params.yaml has: a row of benchmarks/results/search.csv.

python -m benchmarks.search wgan --epochs 2 --set width=128 critic_steps=2 train.averaging=0 --note "narrow"

It needs the data of the pipeline, and reads its training and validation splits alone. `valid_nll` is the mixture over
evaluate.noise_samples, of the weights that training keeps; density, silence and standstill are of the roll-outs that
`evaluate` makes; whatever else begins with `valid_` or `train_` stands in the curve at the epoch that was kept.
"""

import argparse
import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from pianoai import determinism, params
from pianoai.runtime.errors import InputError
from pianoai.stage import write_csv
from stages.train import SECTIONS

if TYPE_CHECKING:
    from pianoai.checkpoint import Checkpoint
    from pianoai.evaluation import EvaluateConfig
    from pianoai.windows import Windows

RESULTS = Path("benchmarks/results/search.csv")
BEHAVIOUR = ("density_ratio", "silence", "standstill", "longest_repeat")


def main(arguments: list[str]) -> None:
    """Trains once and adds the row."""
    parser = argparse.ArgumentParser("python -m benchmarks.search", description="See the module's first lines.")
    parser.add_argument("family", choices=SECTIONS)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], help="KEY=VALUE of the family's section, or train.KEY=VALUE")
    parser.add_argument("--every", type=int, default=1, help="train on every so manieth window")
    parser.add_argument("--note", default="", help="what the run is for")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    try:
        pinned = params.read("determinism", determinism.DeterminismConfig)
        determinism.pin(replace(pinned, threads=given.threads))
        found = row(given.family, given.set, given.epochs, given.every, given.seed)
    except InputError as error:
        sys.exit(f"error: {error}")
    import pandas as pd

    rows = [pd.read_csv(RESULTS)] if RESULTS.exists() else []
    table = pd.concat([*rows, pd.DataFrame([{"family": given.family, "note": given.note} | found])])
    write_csv(RESULTS, table)
    print(f"search: {given.family}: valid nll {found['valid_nll']:.3f}, density ratio {found['density_ratio']:.2f}")


def row(name: str, changes: list[str], epochs: int, every: int, seed: int) -> dict[str, Any]:
    """Settings and figures of one training."""
    from pianoai import windows
    from pianoai.checkpoint import family
    from pianoai.evaluation import EvaluateConfig
    from pianoai.export import count_parameters
    from pianoai.losses import LossConfig
    from pianoai.models.objective import TrainConfig
    from pianoai.training import Diverged, train

    own = [change for change in changes if not change.startswith("train.")]
    shared = [change.removeprefix("train.") for change in changes if change.startswith("train.")]
    config = changed(SECTIONS[name], family(name).Config, own)
    budget = replace(changed("train", TrainConfig, shared), epochs=epochs, seed=seed)
    settings = {"epochs": epochs, "every": every, "seed": seed, "batch": budget.batch, "averaging": budget.averaging}
    settings |= asdict(config)
    evaluation = params.read("evaluate", EvaluateConfig)
    data = thinned(windows.read(Path("data")), every)
    began = time.perf_counter()
    try:
        checkpoint, curve, summary = train(name, config, data, budget, params.read("loss", LossConfig))
    except Diverged:
        return settings | {"valid_nll": float("nan"), "density_ratio": float("nan")}
    seconds = time.perf_counter() - began
    best = curve.iloc[int(summary["best_epoch"]) - 1].drop(["epoch", "learning_rate", "valid_nll"])
    figures: dict[str, Any] = (
        settings
        | {"parameters": count_parameters(checkpoint.model()), "seconds": round(seconds, 1)}
        | {"valid_nll": valid_nll(checkpoint, data, evaluation)}
        | rolled_out(checkpoint, data, evaluation)
        | best.to_dict()
    )
    return figures


def thinned(data: "Windows", every: int) -> "Windows":
    """The same music with every so manieth training window alone, to be quicker."""

    def some(splits: dict[str, Any]) -> dict[str, Any]:
        return splits | {"train": splits["train"][::every]}

    return replace(data, starts=some(data.starts), lengths=some(data.lengths), held=some(data.held))


def changed(section: str, kind: Any, changes: list[str]) -> Any:
    """A section of params.yaml with other values for some keys, checked as if they stood there."""
    values = asdict(params.read(section, kind))
    for change in changes:
        key, _, value = change.partition("=")
        values[key] = YAML(typ="safe").load(value)
    return params.build(section, kind, values, "--set")


def valid_nll(checkpoint: "Checkpoint", data: "Windows", config: "EvaluateConfig") -> float:
    """Nats a frame of the validation split, the mean likelihood over noise samples."""
    import torch

    from pianoai.dataset import batches
    from pianoai.models.objective import validation_nll

    model = checkpoint.model()
    torch.manual_seed(config.seed)
    total = frames = 0.0
    with torch.no_grad():
        for batch in batches(data, "valid"):
            nats, count = validation_nll(model, batch, config.noise_samples)
            total += float(nats) * count
            frames += count
    return total / frames


def rolled_out(checkpoint: "Checkpoint", data: "Windows", config: "EvaluateConfig") -> dict[str, float]:
    """How the model behaves when it hears only itself, from the prompts of the validation split."""
    import numpy as np

    from pianoai import evaluation, export
    from pianoai.metrics.likelihood import Calibration, Thresholds
    from pianoai.metrics.stability import behaviour, roll_outs
    from pianoai.runtime.sampling import Settings

    rates = np.full((3, 88), 0.5, np.float32)
    description = export.describe(checkpoint, Calibration(), Thresholds(0.5, 0.5), rates, 1)
    load = partial(export.eager, checkpoint.model(), evaluation.read_description(description))
    prompts, real = evaluation.choose_prompts(data, config)
    generated = roll_outs(load, prompts, config.frames, Settings(config.temperature), config.seed)
    found = behaviour(generated, real, data.frames_per_beat)
    return {key: found[key] for key in BEHAVIOUR}


if __name__ == "__main__":
    main(sys.argv[1:])
