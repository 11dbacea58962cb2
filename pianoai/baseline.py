"""Fits the copy baseline by counting, and reads its rates back."""

from pathlib import Path

import torch

from pianoai import checkpoint
from pianoai.checkpoint import Checkpoint
from pianoai.models.copy import Config, Model, count_rates
from pianoai.runtime.roll import Floats
from pianoai.windows import Windows


def count(windows: Windows) -> tuple[Checkpoint, Floats]:
    """The baseline as a checkpoint, and its rates (4, 88), from the training split."""
    rates = count_rates(windows.frames[start:end] for start, end in passages(windows))
    model = Model(Config(), windows.length)
    model.odds.data = torch.logit(rates)
    model.head.velocities.copy_(torch.tensor(windows.velocities()))
    fitted = Checkpoint(
        family="copy",
        config={},
        weights=dict(model.state_dict()),
        window=windows.length,
        frames_per_beat=windows.frames_per_beat,
        data=windows.checksum,
    )
    return fitted, rates.numpy()


def passages(windows: Windows) -> list[tuple[int, int]]:
    """Start and end of the pieces of the training split: its windows, joined where they overlap."""
    joined: list[tuple[int, int]] = []
    for start, length in sorted(zip(windows.starts["train"].tolist(), windows.lengths["train"].tolist(), strict=True)):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], start + length)
        else:
            joined.append((start, start + length))
    return joined


def read_rates(path: Path) -> Floats:
    """The rates (4, 88) in models/copy.pt."""
    rates: Floats = torch.sigmoid(checkpoint.read(path).weights["odds"]).numpy()
    return rates
