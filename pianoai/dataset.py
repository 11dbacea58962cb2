"""Windows as PyTorch sees them: a dataset of rolls, and batches of planes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pianoai.models.frame import PLANES, read_features
from pianoai.runtime.roll import PITCHES, Floats, Roll, levels, velocities
from pianoai.windows import Windows


class Batch(NamedTuple):
    """Windows padded with silence to one length; time is one frame shorter than the window."""

    features: Tensor  # (batch, time, 265) of the frames read
    targets: Tensor  # (batch, time, 264) planes of the frames to predict
    mask: Tensor  # (batch, time) 1 where the frame to predict is music


Window = tuple[Roll, Roll, Floats]


class RollDataset(Dataset[Window]):
    """The windows of one split, each transposed at random by up to `transpose` semitones.

    A window is its roll, the velocities of what sounds in it, held notes included, both (frames, 88), and its levels
    (frames,).
    """

    def __init__(self, windows: Windows, split: str, transpose: int) -> None:
        self.frames = windows.frames
        self.starts = windows.starts[split]
        self.lengths = windows.lengths[split]
        self.held = windows.held[split]
        self.transpose = transpose

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, at: int) -> Window:
        start = self.starts[at]
        roll = np.vstack([self.held[at], self.frames[start : start + self.lengths[at]]])
        if self.transpose:
            roll = transposed(roll, int(torch.randint(-self.transpose, self.transpose + 1, ())))
        return roll[1:], velocities(roll)[1:], levels(roll)[1:]


def transposed(roll: Roll, shift: int) -> Roll:
    """The roll moved by `shift` semitones, or by as many of them as keep all its notes on the keyboard."""
    used = np.flatnonzero(roll.any(axis=0))
    if not len(used):
        return roll
    shift = max(-int(used[0]), min(PITCHES - 1 - int(used[-1]), shift))
    return np.roll(roll, shift, axis=1)


def collate(windows: list[Window]) -> Batch:
    """A batch from windows of different lengths, padded with silence that does not count."""
    longest = max(len(roll) for roll, _, _ in windows)
    rolls = np.zeros((len(windows), longest, PITCHES), np.uint8)
    loudness, level = np.zeros_like(rolls), np.zeros(rolls.shape[:2], np.float32)
    mask = np.zeros((len(windows), longest - 1), np.float32)
    for at, (roll, velocity, last) in enumerate(windows):
        rolls[at, : len(roll)] = roll
        loudness[at, : len(roll)] = velocity
        level[at, : len(roll)] = last
        mask[at, : len(roll) - 1] = 1
    features = read_features(torch.from_numpy(rolls), torch.from_numpy(loudness), torch.from_numpy(level))
    return Batch(features[:, :-1], features[:, 1:, :PLANES], torch.from_numpy(mask))


def batches(windows: Windows, split: str) -> Iterator[Batch]:
    """The windows of a split one at a time, untransposed."""
    dataset = RollDataset(windows, split, 0)
    for at in range(len(dataset)):
        yield collate([dataset[at]])
