"""Everything that is said of one model: the blocks of metrics/NAME.json, its curve, roll-outs and pictures."""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import precision_recall_curve
from torch.utils.flop_counter import FlopCounterMode

from pianoai import export
from pianoai.baseline import passages
from pianoai.checkpoint import Checkpoint
from pianoai.metrics import likelihood, music
from pianoai.metrics.memorisation import known_passages, memorised
from pianoai.metrics.stability import behaviour, roll_outs
from pianoai.models.base import FrameModel
from pianoai.params import bounded
from pianoai.runtime import model as runtime
from pianoai.runtime import torchscript
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES, Floats, Roll
from pianoai.runtime.sampling import Settings
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
    features: pd.DataFrame  # see `distributions`
    prompts: list[Roll]
    generated: list[Roll]
    real: list[Roll]  # what followed the prompts

    @property
    def examples(self) -> list[tuple[Roll, Roll, Roll]]:
        """PICTURES of them, evenly spread: prompt, continuation, what followed."""
        spread = len(self.prompts) // PICTURES
        everything = zip(self.prompts, self.generated, self.real, strict=True)
        return list(everything)[: PICTURES * spread : spread]


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
    metrics["deployability"], archive = deployability(model, description)
    if archive is None:
        load = partial(export.eager, model, read_description(description))
    else:
        load = partial(runtime.load, archive)
    prompts, real = choose_prompts(windows, config)
    settings = Settings(config.temperature)
    generated = roll_outs(load, prompts, config.frames, settings, config.seed)
    (again,) = roll_outs(load, prompts[:1], config.frames // 8, settings, config.seed)
    metrics["stability"] = rounded(
        behaviour(generated, real, windows.frames_per_beat)
        | {
            "valid_nll_spread": training["valid_nll_spread"],
            "same_output": int(np.array_equal(again, generated[0][: len(again)])),
        }
    )
    metrics["music"] = rounded(musical(generated, real, windows, config))
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
    features = distributions(generated, real, windows.frames_per_beat)
    return Evaluation(metrics, curve, features, prompts, generated, real)


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


def deployability(model: FrameModel, description: dict[str, Any]) -> tuple[dict[str, Any], bytes | None]:
    """A trial export: does it succeed, what is the runtime missing, how large is it, is it the same each time.

    Also returns the archive as it would ship, if the runtime can run it.
    """
    try:
        archive = export.to_archive(model, description)
        missing = torchscript.missing_operators(archive)
        same = archive == export.to_archive(model, description)
        if not missing:
            runtime.load(archive)
    except Exception as error:  # whatever the exporter or the runtime trips over is a finding, not a failure of ours
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return {"exports": 0, "reason": reason, "missing_operators": 0, "bytes": 0, "same_bytes": 0}, None
    found = {
        "exports": 1,
        "reason": ", ".join(missing),
        "missing_operators": len(missing),
        "bytes": len(archive),
        "same_bytes": int(same),
    }
    return found, None if missing else archive


def multiply_adds(model: FrameModel) -> int:
    """Multiply-adds of one step, as PyTorch counts matrix products (half its number of operations)."""
    silent = torch.ones(model.noise)  # above any probability: no note is drawn
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.step(torch.zeros(PITCHES), model.initial_state(), silent, torch.tensor(1.0))
    return int(counter.get_total_flops()) // 2


def choose_prompts(windows: Windows, config: EvaluateConfig) -> tuple[list[Roll], list[Roll]]:
    """Prompts spread over the validation split, and the `config.frames` that follow each of them, or its piece's rest.

    That is at least `config.frames` frames long, or half of it, or a quarter, … where fewer than PICTURES passages
    are so long. Raises InputError when that many do not even have two bars after a prompt.
    """
    prompt, least, following = config.prompt, 2 * music.BAR * windows.frames_per_beat, config.frames
    while following >= least:
        chosen = windows.excerpts("valid", prompt + following, prompt, config.rollouts)
        if len(chosen) >= PICTURES:
            return [roll[:prompt] for roll in chosen], [roll[prompt : prompt + config.frames] for roll in chosen]
        following //= 2
    raise InputError(
        f"evaluate.prompt: the validation split has no {PICTURES} passages of {prompt} frames with two bars ({least} "
        "frames) to follow, or evaluate.frames is less than those; make it smaller, or give more music"
    )


def musical(generated: list[Roll], real: list[Roll], windows: Windows, config: EvaluateConfig) -> dict[str, Any]:
    """The block `music`: roll-outs against what really followed their prompts, all cut to one length.

    `real` says the same of real music; where music is compared with other music, that is every other passage with
    the rest.
    """
    compared, per_beat = min(map(len, real)), windows.frames_per_beat
    generated, real = ([roll[:compared] for roll in rolls] for rolls in (generated, real))
    trained = known_passages((np.asarray(windows.frames[start:end]) for start, end in passages(windows)), per_beat)

    def alone(rolls: list[Roll]) -> dict[str, float]:
        return music.character(rolls, per_beat) | {"memorised": memorised(rolls, trained, per_beat)}

    found = music.compare(generated, real, per_beat) | alone(generated)
    found["real"] = music.compare(real[::2], real[1::2], per_beat) | alone(real)
    return {"passages": len(real), "frames": compared} | found


def distributions(generated: list[Roll], real: list[Roll], frames_per_beat: int) -> pd.DataFrame:
    """The features of `music.histograms` as a table of shares, of continuations and of what really followed.

    Columns: feature, value, generated, real. All are cut to one length, as for the block `music`.
    """
    compared = min(map(len, real))
    found, wanted = (
        music.histograms([roll[:compared] for roll in rolls], frames_per_beat) for rolls in (generated, real)
    )
    tables = [
        pd.DataFrame(
            {
                "feature": name,
                "value": np.arange(len(wanted[name])),
                "generated": found[name] / max(found[name].sum(), 1),
                "real": wanted[name] / max(wanted[name].sum(), 1),
            }
        )
        for name in wanted
    ]
    return pd.concat(tables, ignore_index=True)


def precision_recall(predictions: likelihood.Predictions) -> pd.DataFrame:
    """The precision-recall curve of sounding pitches at 51 recalls from 0 to 1."""
    precision, recall, _ = precision_recall_curve(predictions.truth.ravel(), predictions.sounds.ravel())
    grid = np.linspace(0, 1, 51)
    return pd.DataFrame({"recall": grid, "precision": np.interp(grid, recall[::-1], precision[::-1])})
