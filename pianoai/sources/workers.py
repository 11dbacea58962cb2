"""Reads many files at once, on the cores of this machine or on the machines of a cluster."""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from time import perf_counter
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config

from pianoai.runtime.errors import InputError

R = TypeVar("R")

START = 1.5  # seconds that work goes on in this process before others are started, which takes about as long
AT_ONCE = 1000  # tasks under way, whose results may wait
LOST = ("TerminatedWorkerError", "KilledWorker", "WorkerCrashedError", "OutOfMemoryError")  # of loky, Dask and Ray
ADDRESS = {"dask": "DASK_SCHEDULER_ADDRESS", "ray": "RAY_ADDRESS"}  # variables of the environment


def spread(work: Callable[..., R], tasks: Iterable[tuple[Any, ...]], backend: str) -> Iterator[R]:
    """What `work` makes of each task, its arguments, in their order; at most AT_ONCE are under way.

    `backend` is loky, for the cores of this machine, or the cluster ray or dask, whose address is in the environment,
    and whose machines must have this project and see the same files. Raises InputError where there is none.
    """
    waiting = iter(tasks)
    if backend == "loky":
        end = perf_counter() + START
        for task in waiting:
            yield work(*task)
            if perf_counter() > end:
                break
        else:
            return
    with connected(backend, work.__module__):
        with parallel_config(backend):
            # Ray gives nothing back before all is done.
            jobs = Parallel(n_jobs=-1, return_as="list" if backend == "ray" else "generator")
        try:
            while some := list(islice(waiting, AT_ONCE)):
                yield from jobs(delayed(work)(*task) for task in some)
        except Exception as error:
            if type(error).__name__ not in LOST:
                raise
            raise InputError(
                f"data.backend: {backend}: a process that parses files was ended, as where memory runs out"
                f" ({type(error).__name__}); run the stage again, with more memory or on fewer cores"
            ) from None


@contextmanager
def connected(backend: str, module: str) -> Iterator[None]:
    """Inside, joblib knows the cluster, on whose machines a module must be importable."""
    if backend == "loky":
        yield
        return
    variable = ADDRESS[backend]
    if not os.environ.get(variable):
        raise InputError(f"{variable}: not set; data.backend: {backend} needs the cluster's address there")
    try:
        library = importlib.import_module("distributed" if backend == "dask" else backend)
    except ImportError:
        raise InputError(f"data.backend: {backend} needs its library: pip install '.[{backend}]'") from None
    try:
        client = library.Client(os.environ[variable]) if backend == "dask" else library.init()
    except Exception as error:  # each library raises its own
        raise InputError(f"{variable}: {os.environ[variable]}: {' '.join(str(error).split())}") from None
    with client:
        if backend == "ray":
            importlib.import_module("ray.util.joblib").register_ray()
        else:  # joblib would wait for ever for workers that cannot begin
            try:
                client.run(importlib.import_module, module)
            except Exception as error:
                raise InputError(f"{variable}: a worker there cannot load {module}: {error}") from None
        yield
