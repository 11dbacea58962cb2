"""windows -> the copy baseline: flip rates counted in the training split, and its metrics."""

from pathlib import Path

from pianoai import params
from pianoai.stage import run, write_csv, write_json


def main() -> None:
    """Write models/copy.pt, metrics/copy.json, plots/curves/copy.csv, and what followed the prompts as MIDI."""
    from pianoai import pictures, windows
    from pianoai.baseline import count
    from pianoai.evaluation import EvaluateConfig, evaluate

    data = windows.read(Path("data"))
    checkpoint, rates = count(data)
    untrained = {"valid_nll_spread": 0.0, "steps": 0}
    found = evaluate(checkpoint, untrained, rates, None, data, params.read("evaluate", EvaluateConfig))
    checkpoint.write(Path("models/copy.pt"))
    write_json(Path("metrics/copy.json"), found.metrics)
    write_csv(Path("plots/curves/copy.csv"), found.curve)
    for at, (prompt, _, real) in enumerate(found.examples, 1):
        pictures.write_midi(prompt, real, data.frames_per_beat, Path(f"plots/samples/real-{at}.mid"))
    print(f"baseline: copying scores {found.metrics['valid']['nll']:.3f} nats a frame on the validation split")


if __name__ == "__main__":
    run(main, "baseline")
