"""Events without end for the function, chosen by what code they reach: python -m tests.fuzz_handler SECONDS [MODEL.ts].

Needs atheris (pip install atheris), which is no dependency of the project. Runs the test of `test_any_event.py` until
the time is up or an answer is not clean. The fuzzer's own memory grows with what it learns, so the function's is
measured after it: a process of its own answers the last events over and over again.
"""

import contextlib
import io
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

KEPT = 5000  # events for the measurement of memory
REPLAYED = 100_000
WARM = 20_000  # replayed events after which memory must no longer grow


class Meter:
    """The handler, counted and timed, with the last events that it was given."""

    def __init__(self, handler: Any) -> None:
        self.answer = handler.lambda_handler
        self.events, self.began, self.slowest = 0, time.perf_counter(), 0.0
        self.last: deque[tuple[Any, Any]] = deque(maxlen=KEPT)

    def __call__(self, event: Any, context: Any) -> Any:
        self.last.append((event, context))
        began = time.perf_counter()
        found = self.answer(event, context)
        self.events += 1
        if found.get("statusCode", found.get("status", 200)) != 200:
            self.slowest = max(self.slowest, time.perf_counter() - began)
        return found

    def report(self, model: list[str]) -> None:
        """Prints what the run came to, and the memory that the last events take in a process of its own."""
        seconds = time.perf_counter() - self.began
        print(f"{self.events:,} events in {seconds:.0f} s; slowest refusal {1000 * self.slowest:.1f} ms", flush=True)
        with tempfile.NamedTemporaryFile() as file:
            file.write(pickle.dumps(list(self.last)))
            file.flush()
            subprocess.run([sys.executable, "-m", "tests.fuzz_handler", "replay", file.name, *model], check=True)


def replay(events: str, *model: str) -> None:
    """Answers the events in a file again and again, and prints how memory grows."""
    handler = load(*model)
    found = pickle.loads(Path(events).read_bytes())
    warm = 0
    for at in range(REPLAYED):
        if at == WARM:
            warm = resident()
        with contextlib.redirect_stdout(io.StringIO()):
            handler.lambda_handler(*found[at % len(found)])
    print(f"{REPLAYED:,} events again: {warm / 1024:.1f} MB after {WARM:,}, {resident() / 1024:.1f} MB at the end")


def load(*model: str) -> Any:
    """The function with the model in a file, or with the one of the tests."""
    from pianoai.runtime import model as runtime
    from tests import test_any_event
    from tests.function import load_handler

    if model:
        test_any_event.HANDLER = load_handler(Path(model[0]), runtime.load(Path(model[0])))
    return test_any_event.HANDLER


def resident() -> int:
    """Memory of this process now, in kB."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main(seconds: str, *model: str) -> None:
    """Runs until the time is up or an answer is not clean."""
    import atheris

    with atheris.instrument_imports(include=["pianoai"]):
        handler = load(*model)
        from tests import test_any_event

    meter = handler.lambda_handler = Meter(handler)
    test: Any = test_any_event.test_whatever_comes_the_answer_is_clean
    fuzz = test.hypothesis.fuzz_one_input
    end = time.perf_counter() + float(seconds)

    def one(data: bytes) -> None:
        if time.perf_counter() > end:
            meter.report(list(model))
            os._exit(0)  # the fuzzer itself has no other end than its own
        fuzz(data)

    options = ["-max_len=4096", "-len_control=0", "-rss_limit_mb=0", "-timeout=600", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "replay":
        replay(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
