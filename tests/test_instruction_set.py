"""The same weights on another CPU: tiny trainings on this machine's, and on CPU models that QEMU emulates.

What that covers: which kernels are chosen by what a CPU says that it is and has. QEMU's models have no AVX-512, so that
what a cap hides of it is seen where this machine's own CPU has it. What it does not cover: how a CPU computes where its
maker is free to choose, as approximate reciprocals, but for that of this machine's.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pianoai import windows
from pianoai.collection import read, write
from pianoai.determinism import DeterminismConfig, environment
from pianoai.sources import Piece
from tests.imports import ROOT

QEMU = "qemu-x86_64"
FAMILIES = ("transformer", "wgan")  # all layers and optimisers that there are
MODELS = {"intel": "Haswell", "amd": "EPYC-Rome"}  # a run of one takes two to three minutes of processor time
Trained = dict[str, str]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64",
        reason="other CPU models are emulated on Linux on x86-64",
    ),
]


def maker() -> str:
    """Whose CPU this is, as far as MKL cares."""
    return "intel" if "GenuineIntel" in Path("/proc/cpuinfo").read_text() else "amd"


@pytest.fixture(scope="module")
def train(chorales: list[Piece], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Trained]:
    """Trains on four chorales under an instruction set, on this CPU ("") or a model of QEMU's."""
    folder = tmp_path_factory.mktemp("music")
    write(chorales[:4], folder, 0.0)
    windows.write(
        read(folder),
        folder,
        windows.RollConfig(4),
        windows.WindowConfig(length=16, segment=64, hop=64),
        windows.SplitConfig(valid=0.25, test=0.25, seed=1),
    )

    def on(cpu: str, instruction_set: str) -> Trained:
        capped = environment(DeterminismConfig(2, "avx2"))
        clean = {key: value for key, value in os.environ.items() if key not in capped}
        wanted = environment(DeterminismConfig(2, instruction_set)) | {"PYTHONPATH": str(ROOT)}
        emulator = [QEMU, "-cpu", cpu] if cpu else []
        command = [*emulator, sys.executable, "-m", "tests.tiny_training", str(folder), instruction_set, *FAMILIES]
        done = subprocess.run(command, cwd=ROOT, env=clean | wanted, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: Trained = json.loads(done.stdout.splitlines()[-1])
        assert set(found) == {"kernels", *FAMILIES}
        return found

    return on


def test_another_model_of_the_same_maker_and_compatible_kernels_on_any(train: Callable[[str, str], Trained]) -> None:
    if not shutil.which(QEMU) and "PIANOAI_CI" not in os.environ:
        pytest.skip("needs qemu-user: apt-get install --no-install-recommends qemu-user")
    other = MODELS["amd" if maker() == "intel" else "intel"]
    runs = [(MODELS[maker()], "avx2"), (other, "compatible"), ("", "avx2"), ("", "compatible")]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        emulated, elsewhere, here, compatible = pool.map(lambda run: train(*run), runs)
    assert here["kernels"] == "AVX2"
    assert here == emulated
    assert compatible == elsewhere
    assert all(re.fullmatch(r"[0-9a-f]{64}", here[name]) for name in FAMILIES)
    assert compatible["transformer"] != here["transformer"]  # so MKL listens


def test_without_a_cap_training_runs_and_may_round_differently(train: Callable[[str, str], Trained]) -> None:
    capped, free = train("", "avx2"), train("", "default")
    flags = Path("/proc/cpuinfo").read_text()
    assert free["kernels"] == ("AVX512" if re.search(r"\bavx512vl\b", flags) else "AVX2")
    differ = [name for name in FAMILIES if free[name] != capped[name]]
    print(f"without the cap other weights: {', '.join(differ) or 'none'}")
