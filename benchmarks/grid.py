"""How small the Transformer can be: experiments over its size, and the smallest that is nearly as good as the best.

python -m benchmarks.grid queue        queues an experiment for each of POINTS; then: dvc queue start -j 2
python -m benchmarks.grid queue --only width-96 heads-8 --seeds 2 3
python -m benchmarks.grid collect      their scores, and milliseconds a frame on the runtime, as a table and a picture

An experiment trains and evaluates the Transformer alone on one thread, some ten minutes, so that there can be one a
core. Scores are of the validation split, means where there are several seeds. A frame is timed with random weights, on
one thread, in turns with the others. Results are written to benchmarks/results/grid.csv, where those of other
experiments stay, and docs/grid.png.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pianoai import determinism, params
from pianoai.runtime.errors import InputError
from pianoai.stage import write_csv

if TYPE_CHECKING:
    import pandas as pd

    from pianoai.models.transformer import Config
    from pianoai.runtime.model import Model

RESULTS = Path("benchmarks/results/grid.csv")
PICTURE = Path("docs/grid.png")
NEAR = 0.05  # nats a frame within which a smaller model is preferred
FRAMES, ROUNDS = 64, 8
METRICS = "metrics/transformer.json"
BUDGET = {"determinism.threads": 1, "train.epochs": 6, "train.batch": 8}  # of every experiment
# Settings of the section `model` by name; what is not named stays. The largest come first, so that none is left running
# alone.
MIDDLE: dict[str, Any] = {"embed_dim": 128, "heads": 4, "blocks": 3, "feedforward": 512}
POINTS: dict[str, dict[str, Any]] = {
    "width-192": MIDDLE | {"embed_dim": 192, "feedforward": 768},
    "feedforward-1024": MIDDLE | {"feedforward": 1024},
    "blocks-4": MIDDLE | {"blocks": 4},
    "middle": MIDDLE,
    "heads-2": MIDDLE | {"heads": 2},
    "heads-8": MIDDLE | {"heads": 8},
    "width-96": MIDDLE | {"embed_dim": 96, "feedforward": 384},
    "feedforward-256": MIDDLE | {"feedforward": 256},
    "blocks-2": MIDDLE | {"blocks": 2},
    "blocks-2-feedforward-256": MIDDLE | {"blocks": 2, "feedforward": 256},
    "blocks-2-width-96": MIDDLE | {"blocks": 2, "embed_dim": 96, "feedforward": 384},
    "blocks-1": MIDDLE | {"blocks": 1},
    "width-64": MIDDLE | {"embed_dim": 64, "feedforward": 256},
    "blocks-2-width-64": MIDDLE | {"blocks": 2, "embed_dim": 64, "feedforward": 256},
}


def main(arguments: list[str]) -> None:
    """Queues or collects."""
    parser = argparse.ArgumentParser("python -m benchmarks.grid", description="See the module's first lines.")
    parser.add_argument("what", choices=("queue", "collect"))
    parser.add_argument("--only", nargs="+", choices=POINTS, default=list(POINTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    given = parser.parse_args(arguments)
    try:
        if given.what == "queue":
            for name, seed in product(given.only, given.seeds):
                if subprocess.run(command(name, seed), check=False).returncode:
                    raise InputError(f"DVC did not take the experiment {name}; its message stands above")
        else:
            collect()
    except InputError as error:
        sys.exit(f"error: {error}")


def command(name: str, seed: int) -> list[str]:
    """What queues one experiment."""
    values = BUDGET | {"train.seed": seed} | {f"model.{key}": value for key, value in POINTS[name].items()}
    settings = [part for key, value in values.items() for part in ("-S", f"{key}={value}")]
    return [
        sys.executable,
        "-m",
        "dvc",
        "exp",
        "run",
        "--queue",
        "--name",
        f"grid-{name}-seed-{seed}",
        *settings,
        "evaluate@transformer",
    ]


def collect() -> None:
    """Writes the table and the picture of the experiments that are done, and prints the table."""
    determinism.pin(replace(params.read("determinism", determinism.DeterminismConfig), threads=1))
    import dvc.api
    import pandas as pd

    from pianoai.models.transformer import Config

    scores = found(dvc.api.exp_show())
    if not scores:
        raise InputError("no experiment named grid-… is done: python -m benchmarks.grid queue, then dvc queue start")
    known = pd.read_csv(RESULTS)[list(scores[0])].to_dict("records") if RESULTS.exists() else []
    runs = {(row["name"], row["seed"]): row for row in [*known, *scores]}
    usual = params.read("model", Config)
    configs = {name: replace(usual, **POINTS[name]) for name, _ in runs}
    milliseconds = timed({name: random_model(config) for name, config in configs.items()})
    rows = [row | asdict(configs[name]) | {"frame_ms": milliseconds[name]} for (name, _), row in runs.items()]
    table = pd.DataFrame(rows).sort_values(["parameters", "seed"])
    write_csv(RESULTS, table)
    picture(means(table), PICTURE)
    print(markdown(means(table)))


def found(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name, seed, validation nll and parameters of the experiments of the grid that are done."""
    scores: list[dict[str, Any]] = []
    for row in rows:
        name, _, seed = (row.get("Experiment") or "").removeprefix("grid-").rpartition("-seed-")
        nll = row.get(f"{METRICS}:valid.nll")
        if name in POINTS and nll is not None:
            count = int(row[f"{METRICS}:complexity.parameters"])
            scores.append({"name": name, "seed": int(seed), "valid_nll": float(nll), "parameters": count})
    return scores


def means(table: "pd.DataFrame") -> "pd.DataFrame":
    """One row a model, in the order of their parameters: the mean nll over its seeds, and how many they are."""
    grouped = table.groupby("name", sort=False)
    rows = grouped.first().assign(valid_nll=grouped["valid_nll"].mean(), seeds=grouped.size())
    return rows.reset_index().sort_values("parameters")


def smallest(table: "pd.DataFrame") -> str:
    """The name of the model with the fewest parameters whose nll is within NEAR of the best."""
    near = table[table["valid_nll"] <= table["valid_nll"].min() + NEAR]
    return str(near.loc[near["parameters"].idxmin(), "name"])


def random_model(config: "Config") -> "Model":
    """A model of that size with random weights, as it would ship."""
    import torch

    from benchmarks.runtime import archive
    from pianoai.models.transformer import Model as Transformer
    from pianoai.runtime import model as runtime
    from pianoai.windows import WindowConfig

    torch.manual_seed(0)
    model = Transformer(config, params.read("window", WindowConfig).length).eval()
    return runtime.load(archive(model, "float32", config))


def timed(models: "dict[str, Model]") -> dict[str, float]:
    """Milliseconds of CPU time a generated frame, by name: the median of rounds in which the models take turns."""
    from pianoai.runtime.sampling import generate

    times: dict[str, list[float]] = {name: [] for name in models}
    for at in range(ROUNDS + 1):
        for name, model in models.items():
            began = time.process_time()
            generate(model, None, FRAMES, seed=at)
            times[name].append(1000 * (time.process_time() - began) / FRAMES)
    return {name: round(float(np.median(runs[1:])), 3) for name, runs in times.items()}  # the first warms up


def picture(table: "pd.DataFrame", path: Path) -> None:
    """The curve: nll against parameters and against milliseconds a frame, with the line that is near enough."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
    for panel, key, label in zip(
        panels, ("parameters", "frame_ms"), ("parameters", "ms a frame on the runtime, one thread"), strict=True
    ):
        panel.scatter(table[key], table["valid_nll"], color="steelblue")
        for row in table.itertuples():
            panel.annotate(row.name, (getattr(row, key), row.valid_nll), (4, 4), textcoords="offset points", fontsize=8)
        panel.axhline(table["valid_nll"].min() + NEAR, color="crimson", linewidth=1)
        panel.set_xlabel(label)
        panel.margins(x=0.15)
    panels[0].set_ylabel("nats a frame, validation")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def markdown(table: "pd.DataFrame") -> str:
    """The table for the README, the smallest that is good enough marked."""
    chosen = smallest(table)
    lines = [
        "| | width | heads | blocks | feed-forward | parameters | nats a frame, validation | seeds | ms a frame |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in table.to_dict("records"):
        name = f"**{row['name']}**" if row["name"] == chosen else row["name"]
        sizes = " | ".join(str(row[key]) for key in ("embed_dim", "heads", "blocks", "feedforward"))
        measured = f"{row['valid_nll']:.3f} | {row['seeds']} | {row['frame_ms']:.2f}"
        lines.append(f"| {name} | {sizes} | {row['parameters']:,} | {measured} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
