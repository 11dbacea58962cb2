"""Everything that is said of one model: the blocks of metrics/NAME.json, its curve, roll-outs and pictures."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import precision_recall_curve
from torch.utils.flop_counter import FlopCounterMode

from pianoai import export
from pianoai.checkpoint import Checkpoint
from pianoai.metrics import likelihood
from pianoai.metrics.stability import behaviour, roll_outs
from pianoai.models.base import FrameModel
from pianoai.params import bounded
from pianoai.runtime import model as runtime
from pianoai.runtime import torchscript
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES, Floats, Roll
from pianoai.windows import Windows

PICTURES = 3  # continuations of each model that are drawn and written as MIDI


@dataclass(frozen=True)
class EvaluateConfig:
    """The section `evaluate` of params.yaml."""

    noise_samples: int = bounded(least=1)
    rollouts: int = bounded(least=PICTURES)
    frames: int = bounded(least=8)
    prompt: int = bounded(least=1)
    temperature: float = bounded(least=0.01, most=5)
    seed: int = bounded(least=0, most=2**31)


@dataclass(frozen=True)
class Evaluation:
    """What a model is said to be, and what there is to see and hear of it."""

    metrics: dict[str, dict[str, Any]]
    curve: pd.DataFrame  # precision against recall of sounding pitches on the validation split
    prompts: list[Roll]
    generated: list[Roll]
    real: list[Roll]  # what followed the prompts


def evaluate(
    checkpoint: Checkpoint,
    training: dict[str, float],
    flip_rates: Floats,
    copy_nll: dict[str, float] | None,
    windows: Windows,
    config: EvaluateConfig,
) -> Evaluation:
    """Evaluate one model.

    `training` is its metrics/train/NAME.json; `flip_rates` (3, 88) and `copy_nll` (by split; None for the
    baseline itself, whose skill is 0) are the copy baseline's.
    """
    model = checkpoint.model()
    valid = likelihood.predict(model, windows, "valid", config.noise_samples, config.seed)
    # Only hidden noise makes a mean of probabilities that nothing was trained to calibrate.
    calibration = likelihood.calibrate(valid) if model.latent else likelihood.Calibration()
    calibrated = calibration.apply(valid)
    thresholds = likelihood.choose_thresholds(calibrated)
    # A mixture over noise that nothing was trained on can be worse than its calibrated marginals.
    joint = not model.latent or bool(valid.nats.mean() <= likelihood.nll(calibrated).mean())
    metrics: dict[str, dict[str, Any]] = {}
    for split in ("valid", "test"):
        raw = valid
        if split == "test":
            raw = likelihood.predict(model, windows, split, config.noise_samples, config.seed)
        scores = likelihood.scores(raw, calibration, thresholds, joint)
        scores["skill"] = copy_nll[split] - scores["nll"] if copy_nll else 0.0
        metrics[split] = rounded(scores)
    description = export.describe(checkpoint, calibration, thresholds, flip_rates, config.noise_samples)
    metrics["deployability"] = deployability(model, description)
    stepping = export.eager(model, read_description(description))
    prompts, real = choose_prompts(windows, config)
    generated = roll_outs(stepping, prompts, config.frames, config.temperature, config.seed)
    again = roll_outs(stepping, prompts[:1], config.frames // 8, config.temperature, config.seed)
    metrics["stability"] = rounded(
        behaviour(generated, real, windows.frames_per_beat)
        | {
            "valid_nll_spread": training["valid_nll_spread"],
            "same_output": int(np.array_equal(again[0], generated[0][: len(again[0])])),
        }
    )
    metrics["complexity"] = {
        "parameters": export.count_parameters(model),
        "multiply_adds": multiply_adds(model),
        "training_steps": int(training["steps"]),
    }
    metrics["scoring"] = {
        "calibration": asdict(calibration),
        "thresholds": asdict(thresholds),
        "noise_samples": description["samples"],
        "joint": joint,
    }
    curve = precision_recall(calibrated)
    return Evaluation(metrics, curve, prompts, generated, real)


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Six digits after the point, in blocks inside as well: enough to compare, and short enough to read."""
    return {
        key: rounded(value) if isinstance(value, dict) else value if isinstance(value, int) else round(value, 6)
        for key, value in values.items()
    }


def read_description(description: dict[str, Any]) -> runtime.Metadata:
    """A description as the runtime reads it from an archive."""
    import json

    return runtime.read_metadata(json.dumps(description).encode(), "the model")


def deployability(model: FrameModel, description: dict[str, Any]) -> dict[str, Any]:
    """A trial export: does it succeed, what is the runtime missing, how large is it, is it the same each time."""
    try:
        archive = export.to_archive(model, description)
        missing = torchscript.missing_operators(archive)
        same = archive == export.to_archive(model, description)
    except Exception as error:  # whatever the exporter or the runtime trips over is a finding, not a failure of ours
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return {"exports": 0, "reason": reason, "missing_operators": 0, "bytes": 0, "same_bytes": 0}
    return {
        "exports": 1,
        "reason": ", ".join(missing),
        "missing_operators": len(missing),
        "bytes": len(archive),
        "same_bytes": int(same),
    }


def multiply_adds(model: FrameModel) -> int:
    """Multiply-adds of one step, as PyTorch counts matrix products (half its number of operations)."""
    silent = torch.ones(model.noise)  # above any probability: no note is drawn
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.step(torch.zeros(PITCHES), model.initial_state(), silent, torch.tensor(1.0))
    return int(counter.get_total_flops()) // 2


def choose_prompts(windows: Windows, config: EvaluateConfig) -> tuple[list[Roll], list[Roll]]:
    """Prompts spread over the validation split, and what follows each of them, at least as long as the prompt.

    Raises InputError when there are fewer than PICTURES.
    """
    length = config.prompt
    chosen = windows.excerpts("valid", 2 * length, length, config.rollouts)
    if len(chosen) < PICTURES:
        raise InputError(
            f"evaluate.prompt: the validation split has {len(chosen)} passages of {2 * length} frames, and {PICTURES} "
            "are needed; make it smaller, or give more music"
        )
    return [roll[:length] for roll in chosen], [roll[length : length + config.frames] for roll in chosen]


def precision_recall(predictions: likelihood.Predictions) -> pd.DataFrame:
    """The precision-recall curve of sounding pitches at 51 recalls from 0 to 1."""
    precision, recall, _ = precision_recall_curve(predictions.truth.ravel(), predictions.sounds.ravel())
    grid = np.linspace(0, 1, 51)
    return pd.DataFrame({"recall": grid, "precision": np.interp(grid, recall[::-1], precision[::-1])})
