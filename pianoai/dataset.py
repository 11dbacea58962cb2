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


class RollDataset(Dataset[Roll]):
    """The windows of one split as rolls (frames, 88), each transposed at random by up to `transpose` semitones."""

    def __init__(self, windows: Windows, split: str, transpose: int) -> None:
        self.frames = windows.frames
        self.starts = windows.starts[split]
        self.lengths = windows.lengths[split]
        self.transpose = transpose

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, at: int) -> Roll:
        roll: Roll = np.asarray(self.frames[self.starts[at] : self.starts[at] + self.lengths[at]])
        if not self.transpose:
            return roll
        shift = int(torch.randint(-self.transpose, self.transpose + 1, ()))
        return transposed(roll, shift)


def transposed(roll: Roll, shift: int) -> Roll:
    """The roll moved by `shift` semitones, or by as many of them as keep all its notes on the keyboard."""
    used = np.flatnonzero(roll.any(axis=0))
    if not len(used):
        return roll
    shift = max(-int(used[0]), min(PITCHES - 1 - int(used[-1]), shift))
    return np.roll(roll, shift, axis=1)


def collate(rolls: list[Roll]) -> Batch:
    """A batch from windows of different lengths, padded with silence that does not count."""
    longest = max(len(roll) for roll in rolls)
    padded = np.zeros((len(rolls), longest, PITCHES), np.uint8)
    loudness = np.zeros_like(padded)
    mask = np.zeros((len(rolls), longest - 1), np.float32)
    for at, roll in enumerate(rolls):
        padded[at, : len(roll)] = roll
        loudness[at, : len(roll)] = velocities(roll)
        mask[at, : len(roll) - 1] = 1
    features = planes(torch.from_numpy(padded), torch.from_numpy(loudness))
    return Batch(features[:, :-1], features[:, 1:], torch.from_numpy(mask))


def batches(windows: Windows, split: str) -> Iterator[Batch]:
    """The windows of a split one at a time, untransposed."""
    dataset = RollDataset(windows, split, 0)
    for at in range(len(dataset)):
        yield collate([dataset[at]])
