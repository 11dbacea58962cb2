"""windows -> one trained model: python -m stages.train gan | wgan | transformer."""

import sys
from pathlib import Path

from pianoai import params
from pianoai.stage import run, write_csv, write_json

SECTIONS = {"gan": "gan", "wgan": "wgan", "transformer": "model"}


def main(name: str) -> None:
    """Write models/NAME.pt, plots/train/NAME.csv and metrics/train/NAME.json."""
    from pianoai import training, windows
    from pianoai.checkpoint import family
    from pianoai.losses import LossConfig
    from pianoai.models.objective import TrainConfig
    from pianoai.runtime.errors import InputError

    section = SECTIONS[name]
    try:
        checkpoint, curve, summary = training.train(
            name,
            params.read(section, family(name).Config),
            windows.read(Path("data")),
            params.read("train", TrainConfig),
            params.read("loss", LossConfig),
        )
    except training.Diverged as error:
        raise InputError(f"{error}; make {section}.learning_rate smaller") from None
    checkpoint.write(Path(f"models/{name}.pt"))
    write_csv(Path(f"plots/train/{name}.csv"), curve)
    write_json(Path(f"metrics/train/{name}.json"), summary)
    print(f"train: {name}: best epoch {summary['best_epoch']}, valid nll {summary['valid_nll']:.3f}")


if __name__ == "__main__":
    model = sys.argv[1]
    run(lambda: main(model), f"train@{model}")
