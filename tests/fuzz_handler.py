"""Events without end for the function, chosen by what code they reach: python -m tests.fuzz_handler SECONDS [MODEL.ts].

Needs atheris (pip install atheris), which is no dependency of the project. Runs the test of `test_any_event.py` and
ends with one line: events, seconds, memory after 20,000 events and at the end, the slowest answer that refuses.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

WARM = 20_000  # events after which memory must no longer grow


class Meter:
    """The handler, timed, around which the run is measured."""

    def __init__(self, handler: Any) -> None:
        self.answer = handler.lambda_handler
        self.events, self.warm, self.began, self.slowest = 0, 0, time.perf_counter(), 0.0

    def __call__(self, event: Any, context: Any) -> Any:
        began = time.perf_counter()
        found = self.answer(event, context)
        self.events += 1
        if found.get("statusCode", found.get("status", 200)) != 200:
            self.slowest = max(self.slowest, time.perf_counter() - began)
        if self.events == WARM:
            self.warm = resident()
        return found

    def __str__(self) -> str:
        seconds = time.perf_counter() - self.began
        return (
            f"{self.events:,} events in {seconds:.0f} s; resident {self.warm / 1024:.1f} MB after {WARM:,} events,"
            f" {resident() / 1024:.1f} MB at the end; slowest refusal {1000 * self.slowest:.1f} ms"
        )


def resident() -> int:
    """Memory of this process now, in kB."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main(seconds: str, model: str | None = None) -> None:
    """Runs until the time is up or an answer is not clean."""
    import atheris

    with atheris.instrument_imports(include=["pianoai"]):
        from pianoai.runtime import model as runtime
        from tests import test_any_event
        from tests.function import load_handler

    if model is not None:
        test_any_event.HANDLER = load_handler(Path(model), runtime.load(Path(model)))
    handler = test_any_event.HANDLER
    meter = handler.lambda_handler = Meter(handler)
    test: Any = test_any_event.test_whatever_comes_the_answer_is_clean
    fuzz = test.hypothesis.fuzz_one_input
    end = time.perf_counter() + float(seconds)

    def one(data: bytes) -> None:
        if time.perf_counter() > end:
            print(meter, flush=True)
            os._exit(0)  # the fuzzer itself has no other end than its own
        fuzz(data)

    atheris.Setup([sys.argv[0], "-max_len=4096", "-len_control=0", "-print_final_stats=0", "-verbosity=0"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
