import os
from collections.abc import Sequence

import torch

from pianoai.parallel import spread


def doubled(things: Sequence[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    return [(os.getpid(), 2 * thing) for thing in things]


def test_all_is_done_in_order_and_little_of_it_here() -> None:
    things = [torch.tensor([float(at), 0.5]) for at in range(7)]
    for least, here in ((8, True), (1, os.cpu_count() == 1)):
        made = spread(doubled, things, least)
        assert all(torch.equal(found, 2 * thing) for (_, found), thing in zip(made, things, strict=True))
        assert all((process == os.getpid()) == here for process, _ in made)


def test_each_process_has_one_thread() -> None:
    threads = spread(lambda things: [torch.get_num_threads() for _ in things], range(4), 1)
    assert set(threads) == {1} or os.cpu_count() == 1


def test_nothing_is_made_of_nothing() -> None:
    assert spread(doubled, [], 4) == []
