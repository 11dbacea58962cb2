"""The arithmetic of costs, by hand, and the table about PyTorch."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import cost, pauses, why_not_torch
from pianoai.runtime.errors import InputError
from tests.test_template import TEMPLATE
from tests.tiny_model import tiny_model


def test_costs_worked_out_by_hand() -> None:
    # 4 s x 0.125 GB = half a GB-second a piece.
    assert cost.cost(1_000_000, 4.0, "x86_64") == pytest.approx(8.33335 + 0.20, rel=1e-12)
    assert cost.cost(1_000_000, 4.0, "arm64") == pytest.approx(6.6667 + 0.20, rel=1e-12)
    assert cost.cost(1, 0.0, "arm64") == pytest.approx(2e-7, rel=1e-12)


@pytest.mark.parametrize(("seconds", "billed"), [(0.0, 0.0), (1.0001, 1.001), (1.001, 1.001), (2.0019999, 2.002)])
def test_time_is_billed_by_the_millisecond_begun(seconds: float, billed: float) -> None:
    assert cost.billed(seconds) == billed


def test_the_arithmetic_is_shown(tmp_path: Path) -> None:
    lambda_metrics = {"zip_sha256": "a", "compose_32_beats_seconds": 3.9999}
    (tmp_path / "lambda.json").write_text(json.dumps(lambda_metrics))
    (tmp_path / "package.json").write_text(json.dumps({"zip_sha256": "a", "architecture": "x86_64"}))
    assert cost.arithmetic(tmp_path).splitlines() == [
        "1,000 pieces on x86_64: 1,000 x (4.000 s x 0.125 GB x 0.0000166667 + 0.0000002) = 0.0085 USD",
        "1,000 pieces on arm64: 1,000 x (4.000 s x 0.125 GB x 0.0000133334 + 0.0000002) = 0.0069 USD, if as quick",
    ]
    (tmp_path / "package.json").write_text(json.dumps({"zip_sha256": "b", "architecture": "x86_64"}))
    with pytest.raises(InputError, match=r"lambda\.json was measured on another zip; run `make verify`"):
        cost.arithmetic(tmp_path)


def test_costs_are_of_the_memory_in_the_template() -> None:
    assert f"MemorySize: {cost.MEMORY_GB * 1024:.0f}\n" in TEMPLATE.read_text("utf-8")


def test_an_import_is_measured_in_an_interpreter_of_its_own() -> None:
    seconds, peak, anonymous = why_not_torch.imported("json")
    assert 0 < seconds < 5
    assert 2 < anonymous < peak < 60  # this process has torch, and with it more than 100 MB


def test_without_strip_a_library_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.so").write_bytes(b"a" * 5_000_000)
    assert why_not_torch.stripped(tmp_path / "a.so") == (5_000_000, len(zlib.compress(b"a" * 5_000_000, 6)))


def test_the_table() -> None:
    lines = why_not_torch.table([("size, MB", 413.6, "250 unpacked"), ("seconds", 1.171, "")]).splitlines()
    assert lines[1:] == ["|---|---:|---|", "| size, MB | 414 | 250 unpacked |", "| seconds | 1.17 |  |"]


def test_frames_after_a_pause_are_timed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that a pause advances by a second and a frame by as many as have been drawn since."""
    monkeypatch.setattr(pauses, "PAUSES", 5)
    since = 0
    clock = 0.0

    def rest() -> None:
        nonlocal since
        since = 0

    def frames(*_: object) -> Iterator[None]:
        nonlocal since, clock
        while True:
            since += 1
            clock += since
            yield None

    monkeypatch.setattr("benchmarks.pauses.sampling.play", frames)
    monkeypatch.setattr(pauses, "thread_time", lambda: clock)
    assert pauses.after(tiny_model(), rest) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
