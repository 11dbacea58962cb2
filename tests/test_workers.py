"""Files are parsed in this process, in others of this machine, or on a cluster, with the same result."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from distributed import Client

from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.sources import Piece, pieces, workers
from pianoai.verification.emulator import free_ports
from tests.test_folder import config

ROOT = Path(__file__).parents[1]


def process(number: int, seconds: float = 0.0) -> tuple[int, int]:
    time.sleep(seconds)
    return number, os.getpid()


def end(number: int) -> None:
    """Ends a process as the system does where memory runs out, unless it is the first one."""
    if number:
        os.kill(os.getpid(), signal.SIGKILL)


LONG = """
import json, os
from joblib import effective_n_jobs
from pianoai.sources import workers
from tests.test_workers import process
workers.START = 1.0
done = workers.spread(process, [(number, 0.6) for number in range(8)], "loky")
print(json.dumps([effective_n_jobs(-1), os.getpid(), *done]))
"""


def test_order_is_kept_and_other_processes_begin_when_work_goes_on_for_long() -> None:
    quick = list(workers.spread(process, [(number,) for number in range(50)], "loky"))
    assert quick == [(number, os.getpid()) for number in range(50)]
    done = subprocess.run([sys.executable, "-c", LONG], cwd=ROOT, capture_output=True, text=True, check=True)
    jobs, own, *slow = json.loads(done.stdout.splitlines()[-1])
    assert [number for number, _ in slow] == list(range(8))
    assert [pid for _, pid in slow[:2]] == [own] * 2
    # joblib stays in one process where it may use one core only, or the system has no semaphores to share.
    assert (own in {pid for _, pid in slow[2:]}) == (jobs == 1)


@pytest.mark.parametrize(
    ("backend", "address", "message"),
    [
        ("dask", "", "DASK_SCHEDULER_ADDRESS: not set; data.backend: dask needs the cluster's address there"),
        ("ray", "", "RAY_ADDRESS: not set; data.backend: ray needs"),
        ("dask", "tcp://127.0.0.1:1", "DASK_SCHEDULER_ADDRESS: tcp://127.0.0.1:1: "),
    ],
)
def test_a_cluster_that_is_not_there_is_named(
    backend: str, address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "1s")
    for variable in workers.ADDRESS.values():
        monkeypatch.delenv(variable, raising=False)
        if address:
            monkeypatch.setenv(variable, address)
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(InputError) as caught:
        list(workers.spread(process, [(1,)], backend))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@contextmanager
def cluster(folder: Path, count: int, path: Path = ROOT) -> Iterator[str]:
    """A Dask scheduler and so many workers, in processes of their own on this machine; yields its address."""
    (port,) = free_ports(1)
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    commands = [[*dask, "scheduler", *local, "--port", str(port)]]
    for number in range(count):
        place = ["--local-directory", str(folder / f"worker-{number}"), "--name", f"worker-{number}"]
        commands.append([*dask, "worker", address, *local, "--nthreads", "1", "--no-nanny", *place])
    environment = os.environ | {"PYTHONPATH": str(path)}
    running = []
    try:
        for command in commands:
            running.append(
                subprocess.Popen(
                    command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        with Client(address, timeout=60) as client:
            client.wait_for_workers(count, timeout=60)
        yield address
    finally:
        for started in running:
            started.kill()
            started.wait()


@pytest.mark.slow
def test_a_dask_cluster_of_two_workers_reads_the_same(
    chorales: list[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for number, piece in enumerate(chorales * 5):
        (music / f"{number:02d}.mid").write_bytes(midi.write(piece.notes))
    (music / "torn.mid").write_bytes(b"MThd")
    here = list(pieces(config(music)))
    with cluster(tmp_path, 2) as address:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        there = list(pieces(replace(config(music), backend="dask")))
        with Client(address) as client:
            counts = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert [str(piece) for piece in there] == [str(piece) for piece in here]
    assert len(there) == 41
    assert len(counts) == 2
    assert all(counts.values())


@pytest.mark.slow
def test_a_worker_that_is_ended_is_said_in_one_line() -> None:
    tasks = [(number,) for number in range(4)]
    code = "from pianoai.sources import workers; from tests.test_workers import end; workers.START = 0\n"
    code += f"list(workers.spread(end, {tasks}, 'loky'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        pytest.skip("joblib has one process here")
    assert done.stderr.splitlines()[-1].startswith(
        "pianoai.runtime.errors.InputError: data.backend: loky: a process that parses files was ended, as where memory"
    )


@pytest.mark.slow
def test_workers_without_the_project_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "song.mid").write_bytes(b"MThd")
    with cluster(tmp_path, 1, tmp_path) as address:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        with pytest.raises(InputError, match=r"a worker there cannot load pianoai.sources.folder: .*pianoai"):
            list(pieces(replace(config(tmp_path), backend="dask")))
