"""Windows as PyTorch sees them: a dataset of rolls, and batches of planes."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pianoai.models.frame import PLANES, read_features
from pianoai.runtime.roll import PITCHES, Floats, Roll, levels, velocities
from pianoai.windows import Windows


class Batch(NamedTuple):
    """Windows padded with silence to one length; time is one frame shorter than the window."""

    features: Tensor  # (batch, time, 265) of the frames read
    targets: Tensor  # (batch, time, 264) planes of the frames to predict
    mask: Tensor  # (batch, time) 1 where the frame to predict is music


class Window(NamedTuple):
    """What a model reads, frame by frame, and how many of its first frames are read only: they are not predicted."""

    roll: Roll  # (frames, 88)
    velocities: Roll  # (frames, 88) of what sounds in it, held notes included
    levels: Floats  # (frames,)
    lead: int = 0


PASSAGE = 512  # frames of a piece, or more, that are validated at once


class RollDataset(Dataset[Window]):
    """The windows of one split, each transposed at random by up to `transpose` semitones."""

    def __init__(self, windows: Windows, split: str, transpose: int, generator: torch.Generator | None = None) -> None:
        self.frames = windows.frames
        self.starts = windows.starts[split]
        self.lengths = windows.lengths[split]
        self.held = windows.held[split]
        self.transpose = transpose
        self.generator = generator  # of the transpositions; PyTorch's own where it is None

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, at: int) -> Window:
        start = self.starts[at]
        roll = np.vstack([self.held[at], self.frames[start : start + self.lengths[at]]])
        if self.transpose:
            shift = torch.randint(-self.transpose, self.transpose + 1, (), generator=self.generator)
            roll = transposed(roll, int(shift))
        return Window(roll[1:], velocities(roll)[1:], levels(roll)[1:])


class Passages(Dataset[Window]):
    """The windows of a split in passages that predict a limited number of frames, so that models need no more memory
    for a longer piece.

    Before a passage as many frames are read as can make a difference to it, `reach` to its first. It is PASSAGE long,
    or as long as what is read before. In order, each window is read once.
    """

    def __init__(self, windows: RollDataset, reach: int) -> None:
        self.windows = windows
        self.lead = reach - 1
        self.length = max(PASSAGE, self.lead)
        lengths = enumerate(windows.lengths.tolist())
        self.places = [(at, first) for at, length in lengths for first in range(0, length - 1, self.length)]
        self.last: tuple[int, Window] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Window:
        at, first = self.places[number]
        if self.last is None or self.last[0] != at:
            self.last = at, self.windows[at]
        window = self.last[1]
        begin, end = max(0, first - self.lead), first + self.length + 1
        roll, velocity, level = window.roll[begin:end], window.velocities[begin:end], window.levels[begin:end]
        return Window(roll, velocity, level, first - begin)


def transposed(roll: Roll, shift: int) -> Roll:
    """The roll moved by `shift` semitones, or by as many of them as keep all its notes on the keyboard."""
    used = np.flatnonzero(roll.any(axis=0))
    if not len(used):
        return roll
    shift = max(-int(used[0]), min(PITCHES - 1 - int(used[-1]), shift))
    return np.roll(roll, shift, axis=1)


def collate(windows: list[Window]) -> Batch:
    """A batch from windows of different lengths, padded with silence that does not count, nor do their leads."""
    longest = max(len(window.roll) for window in windows)
    rolls = np.zeros((len(windows), longest, PITCHES), np.uint8)
    loudness, level = np.zeros_like(rolls), np.zeros(rolls.shape[:2], np.float32)
    mask = np.zeros((len(windows), longest - 1), np.float32)
    for at, (roll, velocity, last, lead) in enumerate(windows):
        rolls[at, : len(roll)] = roll
        loudness[at, : len(roll)] = velocity
        level[at, : len(roll)] = last
        mask[at, lead : len(roll) - 1] = 1
    features = read_features(torch.from_numpy(rolls), torch.from_numpy(loudness), torch.from_numpy(level))
    return Batch(features[:, :-1], features[:, 1:, :PLANES], torch.from_numpy(mask))


class Shuffled(Sampler[int]):
    """The numbers from 0 to `size` in random order, as PyTorch's RandomSampler has them for the same generator.

    That sampler orders them in another way when it is given a generator than when it takes PyTorch's own.
    """

    def __init__(self, size: int, generator: torch.Generator | None = None) -> None:
        self.size = size
        self.generator = generator

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.generator))
        yield from torch.randperm(self.size, generator=torch.Generator().manual_seed(seed)).tolist()


def share(batch: Batch, process: int, processes: int) -> Batch:
    """The examples of a batch that one of several processes takes, every `processes`-th, as long as its longest.

    A process for which none is left takes one that does not count: its mask is 0.
    """
    own = Batch(*(part[process::processes] for part in batch))
    if not len(own.mask):
        own = Batch(batch.features[:1, :1], batch.targets[:1, :1], torch.zeros_like(batch.mask[:1, :1]))
    longest = max(1, int((own.mask * torch.arange(1, own.mask.shape[1] + 1)).max()))  # up to the last that counts
    return Batch(*(part[:, :longest].contiguous() for part in own))


def batches(windows: Windows, split: str) -> Iterator[Batch]:
    """The windows of a split one at a time, untransposed."""
    dataset = RollDataset(windows, split, 0)
    for at in range(len(dataset)):
        yield collate([dataset[at]])
