"""Work on many things that do not hang on each other, in as many processes as there are cores."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import cloudpickle
import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")


def spread(work: Callable[[Sequence[T]], list[R]], things: Sequence[T], least: int) -> list[R]:
    """What `work` makes of each of the things, in their order.

    It is given some of them at a time, on one thread, so that what it needs is loaded once a process. There are no
    more processes than leave each at least `least` things.
    """
    shares = max(1, min(cpu_count(), len(things) // least))
    if shares == 1:
        with one_thread():
            return work(things)
    # As bytes: joblib itself would hand PyTorch's tensors over as shared memory, for which its processes wait for ever.
    packed = [cloudpickle.dumps((work, things[at::shares])) for at in range(shares)]
    with parallel_config("loky", inner_max_num_threads=1):
        parts = Parallel(n_jobs=shares)(delayed(unpacked)(some) for some in packed)
    return [parts[at % shares][at // shares] for at in range(len(things))]


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, numerical libraries compute on one thread, as they do in the processes of `spread`."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # PyTorch has an MKL of its own, which threadpoolctl does not see
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def unpacked(packed: bytes) -> list[R]:
    """What a function makes of the things that are packed with it."""
    work, things = cloudpickle.loads(packed)
    made: list[R] = work(things)
    return made
