"""How small the Transformer can be: experiments over its size, and the smallest that is nearly as good as the best.

python -m benchmarks.grid queue        queues an experiment for each of POINTS; then: dvc queue start -j 2
python -m benchmarks.grid queue --only width-64 heads-8 --seeds 2 3
python -m benchmarks.grid collect      their scores, and milliseconds a frame on the runtime, as a table and a picture

An experiment trains the Transformer alone, with the parameters that stand in params.yaml but for its size and for the
number of threads: one, so that there can be an experiment a core. It takes some seven minutes. Scores are of the
validation split, means where there are several seeds. A frame of four notes is timed, on one thread, in turns
with the others. Results are written to benchmarks/results/grid.csv, where those of other experiments with the same
parameters and data stay, and docs/grid.png.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.fingerprint import fingerprint, sections
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
ALIKE = 1.01  # times as many parameters, which is not larger
FRAMES, ROUNDS = 64, 24
NOTES = 4  # a frame that is timed: real music has 3.4
SCORE = "metrics/train/transformer.json:valid_nll"
PREFIX = "grid-"
# Sizes by name: all are `middle` but for what the name says; a width takes its feed-forward layer along. The largest
# come first, so that none is left running alone.
MIDDLE: dict[str, Any] = {"embed_dim": 96, "heads": 4, "blocks": 3, "feedforward": 384}
POINTS: dict[str, dict[str, Any]] = {
    "width-192": MIDDLE | {"embed_dim": 192, "feedforward": 768},
    "width-128": MIDDLE | {"embed_dim": 128, "feedforward": 512},
    "blocks-4": MIDDLE | {"blocks": 4},
    "middle": MIDDLE,
    "heads-8": MIDDLE | {"heads": 8},
    "feedforward-192": MIDDLE | {"feedforward": 192},
    "width-64": MIDDLE | {"embed_dim": 64, "feedforward": 256},
    "width-64-blocks-2": MIDDLE | {"embed_dim": 64, "feedforward": 256, "blocks": 2},
    "width-48": MIDDLE | {"embed_dim": 48, "feedforward": 192},
    "width-48-blocks-2": MIDDLE | {"embed_dim": 48, "feedforward": 192, "blocks": 2},
    "width-32": MIDDLE | {"embed_dim": 32, "feedforward": 128},
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
    values = {"determinism.threads": 1, "train.seed": seed}
    values |= {f"model.{key}": size for key, size in POINTS[name].items()}
    queue = f"-m dvc exp run --queue --name {PREFIX}{name}-seed-{seed}".split()
    settings = [part for key, value in values.items() for part in ("-S", f"{key}={value}")]
    return [sys.executable, *queue, *settings, "train@transformer"]


def collect() -> None:
    """Writes the table and the picture of the experiments that are done, and prints the table."""
    determinism.pin(replace(params.read("determinism", determinism.DeterminismConfig), threads=1))
    import dvc.api
    import pandas as pd

    from pianoai import windows
    from pianoai.models.transformer import Config

    scores = found(dvc.api.exp_show())
    if not scores:
        raise InputError("no experiment named grid-… is done: python -m benchmarks.grid queue, then dvc queue start")
    used = sections("determinism", "train", "loss", "model"), windows.read(Path("data")).checksum
    keys = {name: depends_on(name, *used) for name in POINTS}
    known = pd.read_csv(RESULTS).to_dict("records") if RESULTS.exists() else []
    earlier = [row for row in known if row["name"] in keys and row.get("key") == keys[row["name"]]]
    runs = {(row["name"], row["seed"]): row for row in [*earlier, *scores]}
    usual = params.read("model", Config)
    configs = {name: replace(usual, **POINTS[name]) for name, _ in runs}
    models = {name: random_model(config) for name, config in configs.items()}
    milliseconds = timed(models)
    table = pd.DataFrame(
        {"name": name, "seed": seed, "valid_nll": row["valid_nll"], "key": keys[name]}
        | {"parameters": models[name].metadata.parameters, "frame_ms": milliseconds[name]}
        | POINTS[name]
        for (name, seed), row in runs.items()
    ).sort_values(["parameters", "name", "seed"])
    write_csv(RESULTS, table)
    picture(means(table), PICTURE)
    print(markdown(means(table)))


def depends_on(name: str, used: dict[str, Any], data: str) -> str:
    """A checksum of what a run depends on besides its seed: `used` parameters, its size, the data."""
    return fingerprint(used | {"model": used["model"] | POINTS[name]}, data)


def found(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name, seed and validation nll of the experiments of the grid that are done."""
    scores: list[dict[str, Any]] = []
    for row in rows:
        name, _, seed = (row.get("Experiment") or "").removeprefix(PREFIX).rpartition("-seed-")
        if name in POINTS and isinstance(row.get(SCORE), float):  # a text while it runs
            scores.append({"name": name, "seed": int(seed), "valid_nll": row[SCORE]})
    return scores


def means(table: "pd.DataFrame") -> "pd.DataFrame":
    """One row a model, in the order of their parameters: the mean nll over its seeds, and how many they are."""
    grouped = table.groupby("name", sort=False)
    rows = grouped.first().assign(valid_nll=grouped["valid_nll"].mean(), seeds=grouped.size())
    return rows.reset_index().sort_values("parameters")


def smallest(table: "pd.DataFrame") -> str:
    """The name of the model with the fewest parameters whose nll is within NEAR of the best.

    Of those that have no more than ALIKE times as many, as numbers of heads make hardly any difference, the best.
    """
    near = table[table["valid_nll"] <= table["valid_nll"].min() + NEAR]
    alike = near[near["parameters"] <= ALIKE * near["parameters"].min()]
    return str(alike.loc[alike["valid_nll"].idxmin(), "name"])


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
    """Milliseconds of CPU time a generated frame, by name: the least of rounds in which the models take turns.

    A frame takes the longer the more notes it has, so all models are made to draw the same: their random numbers are
    below any probability for NOTES pitches, others in each frame, and above for all the rest.
    """
    from pianoai.runtime.roll import NOISE, PITCHES

    chance, one = np.random.Generator(np.random.PCG64(0)), np.float32(1)
    noise = np.full((FRAMES, NOISE), np.nextafter(one, np.float32(0)))
    for frame in noise:
        frame[chance.choice(PITCHES, NOTES, replace=False)] = 0
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            cells, state = np.zeros(PITCHES, np.float32), model.start()
            began = time.process_time()
            for numbers in noise:
                cells, _, state = model.step(cells, state, numbers, np.array(one))
                assert np.count_nonzero(cells) == NOTES
            times[name].append(1000 * (time.process_time() - began) / FRAMES)
    return {name: round(min(runs), 3) for name, runs in times.items()}


def picture(table: "pd.DataFrame", path: Path) -> None:
    """The curve: nll against parameters and against milliseconds a frame, with the line that is near enough.

    A model with several seeds is a full circle, one with a single seed a ring; the smallest that is near enough is red.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    chosen = smallest(table)
    figure, panels = plt.subplots(1, 2, figsize=(12, 5), sharey=True, layout="constrained")
    for panel, key, label in zip(
        panels, ("parameters", "frame_ms"), ("parameters", "ms a frame on the runtime, one thread"), strict=True
    ):
        panel.axhline(table["valid_nll"].min() + NEAR, color="grey", linewidth=1, label=f"{NEAR} above the best")
        panel.set_xlabel(label)
        panel.margins(x=0.2)
        for row in table.itertuples():
            colour = "crimson" if row.name == chosen else "steelblue"
            place = getattr(row, key), row.valid_nll
            panel.plot(*place, "o", color=colour, fillstyle="full" if row.seeds > 1 else "none")
    panels[0].set_ylabel("nats a frame, validation")
    panels[0].set_xscale("log")
    panels[1].legend(loc="upper right")
    figure.canvas.draw()
    for panel, key in zip(panels, ("parameters", "frame_ms"), strict=True):
        taken: list[Any] = [line.get_window_extent() for line in panel.get_lines()[1:]]
        for row in table.itertuples():
            taken.append(write_beside(panel, row.name, (getattr(row, key), row.valid_nll), taken))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def write_beside(panel: Any, text: str, place: tuple[float, float], taken: list[Any]) -> Any:
    """Write beside a point, where that covers nothing of what is taken if it can be; the box that it takes."""
    for x, y, side in ((6, -3, "left"), (-6, -3, "right"), (0, 7, "center"), (0, -13, "center"), (6, 7, "left")):
        label = panel.annotate(text, place, (x, y), textcoords="offset points", fontsize=8, ha=side)
        box = label.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            return box
        label.remove()
    return panel.annotate(text, place, (6, -13), textcoords="offset points", fontsize=8).get_window_extent()


def markdown(table: "pd.DataFrame") -> str:
    """The table for docs/results.md, the smallest that is good enough marked."""
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
