"""windows -> one trained model: python -m stages.train gan | wgan | transformer."""

import sys
from pathlib import Path

from pianoai import determinism, params
from pianoai.stage import run, write_csv, write_json

SECTIONS = {"gan": "gan", "wgan": "wgan", "transformer": "model"}


def main(name: str) -> None:
    """Write models/NAME.pt, plots/train/NAME.csv and metrics/train/NAME.json."""
    from pianoai import resume, training, windows
    from pianoai.checkpoint import family
    from pianoai.losses import LossConfig
    from pianoai.models.objective import TrainConfig
    from pianoai.runtime.errors import InputError

    section = SECTIONS[name]
    config, data = params.read(section, family(name).Config), windows.read(Path("data"))
    budget, loss = params.read("train", TrainConfig), params.read("loss", LossConfig)
    numerics = params.read("determinism", determinism.DeterminismConfig)
    # Machines need not share a folder, so trainings on several of them begin anew.
    shape = data.checksum, data.length, data.segment, data.frames_per_beat
    state = resume.place(name, config, budget, loss, numerics, shape) if budget.num_nodes == 1 else None
    try:
        checkpoint, curve, summary = training.train(name, config, data, budget, loss, state)
    except training.Diverged as error:
        raise InputError(f"{error}; make {section}.learning_rate smaller") from None
    checkpoint.write(Path(f"models/{name}.pt"))
    write_csv(Path(f"plots/train/{name}.csv"), curve)
    write_json(Path(f"metrics/train/{name}.json"), summary)
    if state is not None:
        resume.forget(state)
    print(f"train: {name}: best epoch {summary['best_epoch']}, valid nll {summary['valid_nll']:.3f}")


if __name__ == "__main__":
    model = sys.argv[1]
    run(lambda: main(model), f"train@{model}")
