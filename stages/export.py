"""The selected model -> models/model.ts, and the proof that PyTorch, TorchScript and the runtime agree."""

import json
from pathlib import Path

from pianoai import params
from pianoai.stage import run, write_json


def main() -> None:
    """Write models/model.ts and metrics/export.json."""
    from pianoai import checkpoint, export, windows
    from pianoai.baseline import read_rates
    from pianoai.metrics.likelihood import Calibration, Thresholds

    config = params.read("export", export.ExportConfig)
    selected = checkpoint.read(Path("models/selected.pt"))
    scoring = json.loads(Path("metrics/selection.json").read_text("utf-8"))["scoring"]
    description = export.describe(
        selected,
        Calibration(**{key: tuple(pair) for key, pair in scoring["calibration"].items()}),
        Thresholds(**scoring["thresholds"]),
        read_rates(Path("models/copy.pt")),
        scoring["noise_samples"],
    )
    data = windows.read(Path("data"))
    archive = export.to_archive(selected.model(), description, config.weights)
    agreement = export.parity(selected, archive, export.choose_windows(data, config), config)
    agreement["rounding_nll"] = export.rounding_cost(selected, data, scoring["noise_samples"], config)
    Path("models/model.ts").write_bytes(archive)
    about = {"family": selected.family, "weights": config.weights, "bytes": len(archive)}
    write_json(Path("metrics/export.json"), about | agreement)
    print(
        f"export: {selected.family}, {len(archive) / 1e6:.1f} MB; probabilities differ by at most "
        f"{agreement['difference_runtime']:.1g}, notes in {agreement['frames_different']} of {config.frames} frames; "
        f"{config.weights} weights cost {agreement['rounding_nll']:.5f} nats a frame"
    )


if __name__ == "__main__":
    run(main, "export")
