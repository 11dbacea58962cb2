import os
import re
from collections.abc import Sequence

import pytest
import torch
from threadpoolctl import threadpool_info

from pianoai import parallel
from pianoai.parallel import spread
from pianoai.runtime.errors import InputError


def doubled(things: Sequence[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    return [(os.getpid(), 2 * thing) for thing in things]


@pytest.mark.parametrize(("cores", "least", "processes"), [(1, 1, 1), (2, 1, 2), (3, 1, 3), (3, 3, 2), (3, 8, 1)])
def test_all_is_done_in_order(cores: int, least: int, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cpu_count", lambda: cores)
    things = [torch.tensor([float(at), 0.5]) for at in range(7)]
    made = spread(doubled, things, least)
    assert all(torch.equal(found, 2 * thing) for (_, found), thing in zip(made, things, strict=True))
    assert 1 <= len({process for process, _ in made}) <= processes
    assert all((process == os.getpid()) == (processes == 1) for process, _ in made)


def threads(things: Sequence[int]) -> list[set[int]]:
    """The numbers of threads of PyTorch, of the MKL inside it, and of the libraries of NumPy and OpenMP."""
    torch.ones(2, 2) @ torch.ones(2, 2)
    mkl = re.findall(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
    pools = {int(pool["num_threads"]) for pool in threadpool_info()}
    return [{torch.get_num_threads(), *map(int, mkl), *pools} for _ in things]


@pytest.mark.parametrize("cores", [1, 2])
def test_work_has_one_thread(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cpu_count", lambda: cores)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert spread(threads, range(4), 1) == [{1}] * 4
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(things: Sequence[int]) -> list[int]:
        raise InputError(f"{things[0]} is refused")

    monkeypatch.setattr(parallel, "cpu_count", lambda: 2)
    with pytest.raises(InputError, match=r"^0 is refused$"):
        spread(refuse, range(4), 1)


def test_nothing_is_made_of_nothing() -> None:
    assert spread(doubled, [], 4) == []
