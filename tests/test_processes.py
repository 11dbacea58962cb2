"""How several processes share a batch, and what each one's part counts."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import RandomSampler

from pianoai.dataset import Batch, Shuffled, share
from pianoai.losses import masked_mean
from pianoai.models.processes import own_part


def three_examples() -> Batch:
    """Of 2, 5 and 3 frames, whose features are their numbers."""
    mask = (torch.arange(5) < torch.tensor([2, 5, 3])[:, None]).float()
    features = torch.arange(3.0)[:, None, None].expand(3, 5, 265)
    return Batch(features, features[..., :264], mask)


def test_each_process_takes_every_other_example_no_longer_than_they_are() -> None:
    first, second = (share(three_examples(), process, 2) for process in (0, 1))
    assert first.features[:, 0, 0].tolist() == [0, 2]
    assert first.mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert second.targets.shape == (1, 5, 264)
    assert second.features[0, 0, 0] == 1
    assert all(part.is_contiguous() for part in first)


def test_a_process_has_all_frames_up_to_the_last_that_counts() -> None:
    batch = three_examples()
    batch.mask[2, 0] = 0  # read only
    only = Batch(*(part[2:] for part in batch))
    assert share(only, 0, 2).mask.tolist() == [[0, 1, 1]]


def test_a_process_without_an_example_takes_one_that_does_not_count() -> None:
    spare = share(three_examples(), 3, 4)
    assert spare.mask.tolist() == [[0]]
    assert spare.features.shape == (1, 1, 265)


def test_weighted_means_of_processes_are_the_mean_over_all_frames() -> None:
    batch = three_examples()
    values = torch.arange(15.0).view(3, 5) ** 2
    masks = [batch.mask[process::2] for process in (0, 1)]
    total = torch.stack([torch.stack([mask.sum(), mask.any(1).sum()]) for mask in masks]).sum(0)
    strategy = SimpleNamespace(reduce=lambda own, reduce_op: total)
    module: Any = SimpleNamespace(trainer=SimpleNamespace(world_size=2, strategy=strategy))
    parts = [own_part(module, mask) for mask in masks]
    assert [float(part.weight) for part in parts] == [1.0, 1.0]  # 2 + 3 frames, and 5
    parts = [own_part(module, mask) for mask in (batch.mask[:1], batch.mask[1:])]
    assert [float(part.weight) for part in parts] == pytest.approx([2 * 2 / 10, 8 * 2 / 10])
    assert {(part.examples, part.frames) for part in parts} == {(3, 10)}
    means = [masked_mean(values[:1], batch.mask[:1]), masked_mean(values[1:], batch.mask[1:])]
    mean = sum(float(part.weight * one) for part, one in zip(parts, means, strict=True)) / 2
    assert mean == pytest.approx(float(masked_mean(values, batch.mask)))


def test_one_process_alone_counts_in_full() -> None:
    module: Any = SimpleNamespace(trainer=SimpleNamespace(world_size=1))
    assert own_part(module, three_examples().mask) == (1.0, 3, 10)


def test_the_order_is_pytorchs_whichever_generator_it_comes_from() -> None:
    torch.manual_seed(5)
    expected = list(RandomSampler(range(17)))
    following = torch.rand(())
    torch.manual_seed(5)
    assert list(Shuffled(17)) == expected
    assert torch.rand(()) == following
    assert list(Shuffled(17, torch.Generator().manual_seed(5))) == expected
    assert sorted(expected) == list(range(17)) != expected
