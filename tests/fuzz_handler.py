"""Events without end for the function, chosen by what code they reach: python -m tests.fuzz_handler SECONDS [MODEL.ts].

Needs atheris (pip install atheris), which is no dependency of the project. Runs the tests of `test_any_event.py` until
the time is up or an answer is not clean. The fuzzer takes memory for what it learns, and time to learn it, so the
function's are measured after it: a process of its own answers the last events, and the slowest refusals, over and over
again. Where memory grows or a refusal takes long the run ends with one line and exit status 1.
"""

import contextlib
import copy
import heapq
import io
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

RARELY = 100  # one event in so many has a long prompt, left to chance, since the fuzzer would take to them
KEPT = 2500  # events for the measurement of memory
SLOWEST = 20  # refusals for the measurement of time
ROUNDS = 20  # that all of them are answered in
MOST_GROWTH = 4.0  # MB between the first fifth of the rounds and the last: for caches that fill and what NumPy keeps
MOST_SECONDS = 0.05  # processor time of a whole processor that a refusal may take

Call = tuple[Any, Any]  # event and context


class Meter:
    """The handler, counted and timed, with the last events that it was given and the refusals that took longest."""

    def __init__(self, handler: Any) -> None:
        self.answer = handler.lambda_handler
        self.events, self.began = 0, time.perf_counter()
        self.last: deque[Call] = deque(maxlen=KEPT)
        self.slowest: list[tuple[float, int, Call]] = []

    def __call__(self, event: Any, context: Any) -> Any:
        call = event, copy.copy(context)  # a context's clock runs, and is to run again
        self.last.append(call)
        began = time.process_time()
        found = self.answer(event, context)
        spent = time.process_time() - began
        self.events += 1
        if refused(found):
            self.slowest = heapq.nlargest(SLOWEST, [*self.slowest, (spent, self.events, call)])
        return found

    def report(self, model: list[str]) -> int:
        """Says what the run came to, and has its last and slowest events answered again; an exit status."""
        print(f"{self.events:,} events in {time.perf_counter() - self.began:.0f} s", flush=True)
        with tempfile.NamedTemporaryFile() as file:
            file.write(pickle.dumps([*self.last, *(call for _, _, call in self.slowest)]))
            file.flush()
            command = [sys.executable, "-m", "tests.fuzz_handler", "replay", file.name, *model]
            return subprocess.run(command, check=False).returncode


def replay(handler: Any, calls: list[Call], rounds: int) -> tuple[float, float]:
    """Answers some events so many times: MB that memory grows by after the first fifth of it, and the processor time in
    seconds that the slowest refusal takes when it is quickest, since another process may have been in its way.
    """
    early, quickest = 0, [0.0] * len(calls)
    for done in range(rounds):
        if done == rounds // 5:
            early = resident()
        for at, (event, context) in enumerate(calls):
            context = copy.copy(context)
            began = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                found = handler.lambda_handler(event, context)
            spent = time.process_time() - began
            if refused(found):
                quickest[at] = min(spent, quickest[at] or spent)
    return (resident() - early) / 1024, max(quickest, default=0.0)


def failures(growth: float, seconds: float) -> list[str]:
    """What is wrong with the figures of `replay`, a line each."""
    lines = []
    if growth > MOST_GROWTH:
        lines.append(f"memory grew by {growth:.1f} MB after the first fifth of the events, more than {MOST_GROWTH:g}")
    if seconds > MOST_SECONDS:
        lines.append(f"a refusal took {1000 * seconds:.1f} ms of processor time, more than {1000 * MOST_SECONDS:g}")
    return lines


def refused(answer: Any) -> bool:
    """Whether an answer is that to a request which cannot be met."""
    return bool(answer.get("statusCode", answer.get("status", 200)) != 200)


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


def repeat(events: str, *model: str) -> int:
    """Has the events in a file answered again and again, and prints how that went; an exit status."""
    handler = load(*model)
    calls = pickle.loads(Path(events).read_bytes())
    growth, seconds = replay(handler, calls, ROUNDS)
    print(f"{ROUNDS * len(calls):,} events again: memory grew by {growth:.1f} MB after the first fifth of them")
    print(f"slowest refusal: {1000 * seconds:.1f} ms of processor time", flush=True)
    wrong = failures(growth, seconds)
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


def main(seconds: str, *model: str) -> None:
    """Runs until the time is up or an answer is not clean."""
    import atheris

    with atheris.instrument_imports(include=["pianoai"]):
        handler = load(*model)
        from tests import test_any_event

    meter = handler.lambda_handler = Meter(handler)
    usual: Any = test_any_event.test_whatever_comes_the_answer_is_clean
    rare: Any = test_any_event.test_however_long_the_prompt_the_answer_is_clean
    end, dice = time.perf_counter() + float(seconds), random.Random(0)

    def one(data: bytes) -> None:
        if time.perf_counter() > end:
            os._exit(meter.report(list(model)))  # the fuzzer itself has no other end than its own
        if meter.events % RARELY:
            usual.hypothesis.fuzz_one_input(data)
        else:
            rare.hypothesis.fuzz_one_input(dice.randbytes(1024))

    options = ["-max_len=4096", "-len_control=0", "-rss_limit_mb=0", "-timeout=600", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "replay":
        sys.exit(repeat(*sys.argv[2:]))
    main(*sys.argv[1:])
