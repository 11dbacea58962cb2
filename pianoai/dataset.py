"""Windows as PyTorch sees them: a dataset of rolls, and batches of planes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pianoai.models.frame import planes
from pianoai.runtime.roll import PITCHES, Roll, velocities
from pianoai.windows import Windows


class Batch(NamedTuple):
    """Windows padded with silence to one length; time is one frame shorter than the window."""

    features: Tensor  # (batch, time, 264) planes of the frames read
    targets: Tensor  # (batch, time, 264) planes of the frames to predict
    mask: Tensor  # (batch, time) 1 where the frame to predict is music


class RollDataset(Dataset[tuple[Roll, Roll]]):
    """The windows of one split, each transposed at random by up to `transpose` semitones.

    A window is its roll and the velocities of what sounds in it, held notes included, both (frames, 88).
    """

    def __init__(self, windows: Windows, split: str, transpose: int) -> None:
        self.frames = windows.frames
        self.starts = windows.starts[split]
        self.lengths = windows.lengths[split]
        self.held = windows.held[split]
        self.transpose = transpose

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, at: int) -> tuple[Roll, Roll]:
        start = self.starts[at]
        roll = np.vstack([self.held[at], self.frames[start : start + self.lengths[at]]])
        if self.transpose:
            roll = transposed(roll, int(torch.randint(-self.transpose, self.transpose + 1, ())))
        return roll[1:], velocities(roll)[1:]


def transposed(roll: Roll, shift: int) -> Roll:
    """The roll moved by `shift` semitones, or by as many of them as keep all its notes on the keyboard."""
    used = np.flatnonzero(roll.any(axis=0))
    if not len(used):
        return roll
    shift = max(-int(used[0]), min(PITCHES - 1 - int(used[-1]), shift))
    return np.roll(roll, shift, axis=1)


def collate(windows: list[tuple[Roll, Roll]]) -> Batch:
    """A batch from rolls and their velocities of different lengths, padded with silence that does not count."""
    longest = max(len(roll) for roll, _ in windows)
    rolls = np.zeros((len(windows), longest, PITCHES), np.uint8)
    loudness = np.zeros_like(rolls)
    mask = np.zeros((len(windows), longest - 1), np.float32)
    for at, (roll, velocity) in enumerate(windows):
        rolls[at, : len(roll)] = roll
        loudness[at, : len(roll)] = velocity
        mask[at, : len(roll) - 1] = 1
    features = planes(torch.from_numpy(rolls), torch.from_numpy(loudness))
    return Batch(features[:, :-1], features[:, 1:], torch.from_numpy(mask))


def batches(windows: Windows, split: str) -> Iterator[Batch]:
    """The windows of a split one at a time, untransposed."""
    dataset = RollDataset(windows, split, 0)
    for at in range(len(dataset)):
        yield collate([dataset[at]])
