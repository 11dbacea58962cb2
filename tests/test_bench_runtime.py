"""The benchmark's own arithmetic, by hand; that the three runtimes agree is for the benchmark itself to check."""

import json
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from benchmarks import players, runtime
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import NOISE, Floats
from tests.tiny_model import save_archive


class Recorded:
    """A player that says one probability whatever it hears."""

    def __init__(self, said: float, drawn: float = 0.0) -> None:
        self._said, self._drawn = said, drawn
        self.starts = self.steps = 0

    def start(self) -> None:
        self.starts += 1

    def step(self, frame: Floats, noise: Floats) -> tuple[Floats, Floats]:
        self.steps += 1
        return np.full(88, self._drawn, np.float32), np.full((3, 88), self._said, np.float32)


FIGURES = {
    "ours": {"frame_ms": 0.3, "memory_mb": 40.0, "cold_ms": 90.0, "package_mb": 15.0, "unpacked_mb": 46.0},
    "onnxruntime": {"frame_ms": 0.4, "memory_mb": 64.0, "cold_ms": 150.0, "package_mb": 28.0, "unpacked_mb": 80.0},
    "onnxruntime_lean": {"memory_mb": 50.0, "cold_ms": 120.0},
    "torchscript": {"frame_ms": 0.8},
}


def test_ratios_are_ours_over_theirs() -> None:
    assert runtime.ratios(FIGURES) == {
        "frame_ratio_ort": 0.75,
        "memory_ratio_ort": 0.625,
        "cold_ratio_ort": 0.6,
        "package_ratio_ort": 0.536,
        "memory_ratio_ort_lean": 0.8,
        "cold_ratio_ort_lean": 0.75,
        "frame_ratio_torchscript": 0.375,
    }
    assert runtime.TARGETS.keys() <= runtime.ratios(FIGURES).keys()


def test_players_are_given_as_many_random_numbers_as_a_frame_takes() -> None:
    assert players.NOISE == NOISE


def test_the_table() -> None:
    versions = {"numpy": "2.4", "onnxruntime": "1.32", "torch": "2.13"}
    results = {"figures": FIGURES, "parameters": 861_576, "versions": versions}
    assert runtime.table(results).splitlines() == [
        "| 0.86 M parameters, one thread | this runtime, NumPy 2.4 | ONNX Runtime 1.32 | the same, with the zip's NumPy"
        " | TorchScript, PyTorch 2.13 | ratio |",
        "|---|---:|---:|---:|---:|---:|",
        "| a frame, ms of CPU time | 0.30 | 0.40 |  | 0.80 | 0.75 |",
        "| peak memory of a process that makes 64 frames, MB | 40 | 64 | 50 |  | 0.62 |",
        "| from the start of a process to its first frame, ms | 90 | 150 | 120 |  | 0.60 |",
        "| package for Lambda, MB | 15 | 28 |  |  | 0.54 |",
        "| package, unpacked, MB | 46 | 80 |  |  | 0.57 |",
    ]


def test_the_readme_quotes_the_results() -> None:
    results = json.loads(runtime.RESULTS.read_text("utf-8"))
    found = runtime.ratios(results["figures"])
    assert found == {name: results[name] for name in found}
    assert runtime.table(results) in Path("docs/function.md").read_text("utf-8")


def test_players_take_turns_and_the_median_counts() -> None:
    # A reading of the clock before and after each turn; turns of 9 (warming up), 64, 640 and 128 ms, and half as long.
    turns = [0.009, 0.0045, 0.064, 0.032, 0.64, 0.32, 0.128, 0.064]
    readings = iter([0.0, *accumulate(seconds for turn in turns for seconds in (turn, 1.0))])
    compared = {"ours": Recorded(0.5), "onnxruntime": Recorded(0.5)}
    times = runtime.frame_times(compared, 3, lambda: next(readings))
    assert times == pytest.approx({"ours": 2.0, "onnxruntime": 1.0})
    assert [(each.starts, each.steps) for each in compared.values()] == [(4, 4 * 64)] * 2


def test_players_that_disagree_are_refused() -> None:
    assert runtime.compare({"ours": Recorded(0.5), "onnxruntime": Recorded(0.500008)}) == pytest.approx(8e-6, rel=0.01)
    with pytest.raises(InputError, match=r"^onnxruntime computes something else: probabilities differ by 1\.2e-05$"):
        runtime.compare({"ours": Recorded(0.5), "torchscript": Recorded(0.5), "onnxruntime": Recorded(0.500012)})
    with pytest.raises(InputError, match="torchscript computes something else"):
        runtime.compare({"ours": Recorded(0.5), "torchscript": Recorded(float("nan"))})
    with pytest.raises(InputError, match=r"^torchscript draws something else in 200 of 200 frames$"):
        runtime.compare({"ours": Recorded(0.5), "torchscript": Recorded(0.5, 64)})


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("onnxruntime/__init__.py", True),
        ("onnxruntime/capi/onnxruntime_pybind11_state.cpython-313-x86_64-linux-gnu.so", True),
        ("onnxruntime/capi/libonnxruntime.so.1.32.0", False),
        ("onnxruntime/capi/libonnxruntime_providers_shared.so", True),
        ("onnxruntime/tools/symbolic_shape_infer.py", False),
        ("onnxruntime/LICENSE", True),
        ("numpy/tools/x.py", True),
    ],
)
def test_what_a_session_needs(name: str, needed: bool) -> None:
    assert runtime.needed(name) is needed


def test_a_fresh_process_makes_frames(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_archive(tmp_path / "model.ts")
    milliseconds, memory = runtime.fresh_process("ours", tmp_path / "model.ts", None)
    assert 1 < milliseconds < 60_000
    assert 10 < memory < 120  # PyTorch alone would take more
    with pytest.raises(InputError, match=r"^ours made no frame in a fresh process; its message stands above$"):
        runtime.fresh_process("ours", tmp_path / "none.ts", None)
    assert "none.ts: no such file" in capfd.readouterr().err


def test_ours_and_torchscript_play_alike(tmp_path: Path) -> None:
    save_archive(tmp_path / "model.ts")
    compared: dict[str, players.Player] = {
        "ours": players.Ours(tmp_path / "model.ts"),
        "torchscript": players.TorchScript(tmp_path / "model.ts"),
    }
    assert runtime.compare(compared) < 1e-6


def test_one_thread_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(
        SystemExit, match="OMP_NUM_THREADS, MKL_NUM_THREADS must be 1, as `make bench-runtime` sets them"
    ):
        runtime.main()
