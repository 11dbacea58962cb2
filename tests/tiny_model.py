"""A model small enough to work out by hand, in NumPy and as a TorchScript archive."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pianoai.runtime.model import METADATA, Model, State, Step, read_metadata
from pianoai.runtime.roll import Floats

STAYS, BEGINS, AGAIN, LOUDNESS = 0.75, 0.25, 0.4, 0.5  # the probabilities, and the intensity


def metadata(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "format": 6,
        "version": "0.1.0",
        "family": "tiny",
        "frames_per_beat": 4,
        "window": 3,
        "noise": 177,
        "read": 0,
        "reach": 3,
        "state": [{"shape": [88], "dtype": "float32"}],
        "samples": 1,
        "calibration": {"sounding": [1, 0], "struck": [1, 0]},
        "thresholds": {"sounding": 0.5, "onset": 0.28},
        "flip_rates": {"on": [0.1] * 88, "stay": [0.8] * 88, "struck": [0.3] * 88},
        "data": "0" * 64,
        "parameters": 4,
    }
    return values | changes


def tiny_step(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
    """What sounds stays with 0.75, what is silent begins with 0.25; the state adds up all frames."""
    before = frame > 0.5
    probability = np.where(before, np.float32(STAYS), np.float32(BEGINS))
    sharp = 1 / (1 + np.exp(-np.log(probability / (1 - probability)) / temperature))
    again = 1 / (1 + np.exp(-np.log(AGAIN / (1 - AGAIN)) / temperature))
    sounds = noise[:88] < sharp
    struck = ~before | (noise[88:176] < again)
    cells = np.where(sounds, np.where(struck, 64, 1), 0).astype(np.float32)
    rest = np.full((2, 88), [[AGAIN], [LOUDNESS]], np.float32)
    return cells, np.vstack([probability, rest]).astype(np.float32), (state[0] + frame,)


def tiny_model(step: Step = tiny_step, **changes: Any) -> Model:
    return Model(read_metadata(json.dumps(metadata(**changes)).encode(), "tiny"), step)


def save_archive(path: Path, **changes: Any) -> None:
    """The same model, made with torch, as an archive at `path`."""
    import torch
    from torch import Tensor

    class Tiny(torch.nn.Module):
        def forward(
            self, frame: Tensor, state: tuple[Tensor], noise: Tensor, temperature: Tensor
        ) -> tuple[Tensor, Tensor, tuple[Tensor]]:
            before = frame > 0.5
            high, low = torch.full_like(frame, STAYS), torch.full_like(frame, BEGINS)
            probability = torch.where(before, high, low)
            again = torch.full_like(frame, AGAIN)
            sharp = torch.sigmoid(torch.log(probability / (1 - probability)) / temperature)
            repeat = torch.sigmoid(torch.log(again / (1 - again)) / temperature)
            sounds = noise[:88] < sharp
            struck = torch.logical_or(torch.logical_not(before), noise[88:176] < repeat)
            loud = torch.where(struck, torch.full_like(frame, 64), torch.ones_like(frame))
            cells = torch.where(sounds, loud, torch.zeros_like(frame))
            rows = torch.stack([probability, again, torch.full_like(frame, LOUDNESS)])
            return cells, rows, (state[0] + frame,)

    example = (torch.zeros(88), (torch.zeros(88),), torch.rand(177), torch.tensor(1.0))
    traced = torch.jit.freeze(torch.jit.trace(Tiny().eval(), example))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(path), _extra_files={METADATA: json.dumps(metadata(**changes))})
