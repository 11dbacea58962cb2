"""A trained model and windows -> metrics/NAME.json, a curve, roll-outs as pictures and MIDI."""

import json
import sys
from pathlib import Path

from pianoai import params
from pianoai.stage import run, write_csv, write_json


def main(name: str) -> None:
    """Write metrics/NAME.json, plots/curves/NAME.csv, plots/music/NAME.csv and plots/samples/NAME-N.png and .mid."""
    from pianoai import checkpoint, pictures, windows
    from pianoai.baseline import read_rates
    from pianoai.evaluation import EvaluateConfig, evaluate

    data = windows.read(Path("data"))
    copied = json.loads(Path("metrics/copy.json").read_text("utf-8"))
    found = evaluate(
        checkpoint.read(Path(f"models/{name}.pt")),
        json.loads(Path(f"metrics/train/{name}.json").read_text("utf-8")),
        read_rates(Path("models/copy.pt")),
        {split: copied[split]["nll"] for split in ("valid", "test")},
        data,
        params.read("evaluate", EvaluateConfig),
    )
    write_json(Path(f"metrics/{name}.json"), found.metrics)
    write_csv(Path(f"plots/curves/{name}.csv"), found.curve)
    write_csv(Path(f"plots/music/{name}.csv"), found.features)
    for at, (prompt, generated, real) in enumerate(found.examples, 1):
        path = Path(f"plots/samples/{name}-{at}.png")
        pictures.draw(prompt, generated, real, data.frames_per_beat, name, path)
        pictures.write_midi(prompt, generated, data.frames_per_beat, path.with_suffix(".mid"))
    valid = found.metrics["valid"]
    print(f"evaluate: {name}: valid nll {valid['nll']:.3f}, skill {valid['skill']:.3f} nats a frame")


if __name__ == "__main__":
    model = sys.argv[1]
    run(lambda: main(model), f"evaluate@{model}")
