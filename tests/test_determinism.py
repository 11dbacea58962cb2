"""What every stage is pinned to, whatever the environment says that it is started in."""

import ast
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pianoai import determinism
from pianoai.determinism import AVX2, LIBRARIES, THREADS, DeterminismConfig, environment, other_versions, pin
from tests.imports import ROOT

X86 = platform.machine().lower() in ("x86_64", "amd64")
# The opposite of what is pinned, as a user's shell may have it.
HOSTILE = dict.fromkeys(THREADS, "1") | {
    "PYTHONHASHSEED": "12345",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3",
    "OMP_DYNAMIC": "true",
    "OMP_THREAD_LIMIT": "1",
    "MKL_DYNAMIC": "TRUE",
    "MKL_DOMAIN_NUM_THREADS": "MKL_DOMAIN_ALL=1",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
}
PROBE = """
import json, os, sys
from pianoai.stage import run

def about():
    return {"environment": dict(os.environ), "hash": hash("pianoai"), "random": sys.flags.hash_randomization}

def main():
    assert "torch" not in sys.modules
    import numpy, torch
    from joblib import Parallel, delayed
    from threadpoolctl import threadpool_info
    kernels = numpy._core._multiarray_umath.__cpu_dispatch__  # what NumPy has loops of its own for
    blas = [library for library in threadpool_info() if library["internal_api"] == "openblas"]
    print(json.dumps(about() | {
        "options": sys.orig_argv,
        "threads": [torch.get_num_threads()] + [library["num_threads"] for library in blas],
        "torch": torch.backends.cpu.get_cpu_capability(),
        "openblas": sorted({library["architecture"] for library in blas}),
        "numpy": {name: numpy._core._multiarray_umath.__cpu_features__[name] for name in kernels},
        "child": Parallel(n_jobs=2)([delayed(about)() for _ in range(2)])[1],
    }))

if __name__ == "__main__":
    run(main, "probe")
"""


def probe(folder: Path, variables: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run PROBE as a stage in a folder with params.yaml and requirements.lock."""
    (folder / "probe.py").write_text(PROBE)
    for name in ("params.yaml", "requirements.lock"):
        if not (folder / name).exists():
            shutil.copyfile(ROOT / name, folder / name)
    command = [sys.executable, *options, "probe.py", "one", "two"]
    clean = {key: value for key, value in os.environ.items() if key not in HOSTILE} | variables
    clean["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    done = probe(tmp_path_factory.mktemp("pinned"), HOSTILE)
    assert done.returncode == 0, done.stderr
    assert "warning: results may differ" not in done.stderr
    return json.loads(done.stdout)


def test_every_stage_runs_on_as_many_threads_as_params_say(pinned: Any) -> None:
    assert set(pinned["threads"]) == {2}


@pytest.mark.skipif(not X86, reason="the instruction set is pinned on x86 alone")
def test_every_library_is_capped(pinned: Any) -> None:
    assert {key: pinned["environment"][key] for key in AVX2} == AVX2
    assert pinned["torch"] == "AVX2"
    assert pinned["openblas"] == ["Haswell"]
    assert pinned["numpy"] == {"X86_V3": True, "X86_V4": False, "AVX512_ICL": False, "AVX512_SPR": False}


def test_texts_hash_the_same_in_every_run_and_in_child_processes(pinned: Any) -> None:
    command = [sys.executable, "-c", "print(hash('pianoai'))"]
    fixed = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, check=True)
    assert pinned["hash"] == pinned["child"]["hash"] == int(fixed.stdout)
    assert pinned["random"] == pinned["child"]["random"] == 0


def test_the_command_stays_what_it_was_when_the_program_starts_anew(pinned: Any) -> None:
    assert pinned["options"][1:] == ["probe.py", "one", "two"]


def test_what_cannot_be_pinned_or_is_another_version_is_said_in_a_line(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    (tmp_path / "requirements.lock").write_text(
        lock.replace("\nmusic21==", "\nmusic21==1.").replace("\nscipy==", "\ns")
    )
    done = probe(tmp_path, {"PYTHONHASHSEED": "0"}, "-R")
    assert done.returncode == 1
    assert done.stderr == "error: PYTHONHASHSEED is not heard: run Python without its options -E, -I and -R\n"
    found = "\n".join(other_versions((tmp_path / "requirements.lock").read_text("utf-8")))
    versions = {name: found for name, _, found in (line.partition("==") for line in lock.splitlines()) if found}
    assert found.splitlines() == [
        f"scipy is {versions['scipy']}, pinned is none",
        f"music21 is {versions['music21']}, pinned is 1.{versions['music21']}",
    ]
    done = probe(tmp_path, {})
    assert done.returncode == 0
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("warning: results may differ"))
    assert f"music21 is {versions['music21']}, pinned is 1.{versions['music21']};" in line
    assert line.endswith("`python -m pip install -r requirements.lock` installs what is pinned")


def test_the_libraries_that_are_compared_are_pinned() -> None:
    assert not list(other_versions((ROOT / "requirements.lock").read_text("utf-8")))
    assert [phrase for phrase in other_versions("") if not phrase.endswith(", pinned is none")] == []
    assert len(list(other_versions(""))) == len(LIBRARIES)


@pytest.mark.skipif(not X86, reason="the instruction set is pinned on x86 alone")
def test_without_a_cap_none_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment(DeterminismConfig(2, "avx2")).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    pin(DeterminismConfig(3, "default"))
    assert not set(AVX2) & set(os.environ)
    assert os.environ["MKL_NUM_THREADS"] == "3"
    pin(DeterminismConfig(3, "compatible"))
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


def test_pinning_too_late_is_an_error() -> None:
    importlib.import_module("torch")
    pin(DeterminismConfig(threads=2, instruction_set="avx2"))  # as conftest.py did: nothing changes
    with pytest.raises(RuntimeError, match="came after torch was imported: MKL_NUM_THREADS, OMP_NUM_THREADS"):
        pin(DeterminismConfig(threads=3, instruction_set="avx2"))


SEEDED = {"default_rng", "Generator", "PCG64"}  # of numpy.random, and only with a seed


def test_no_stage_draws_from_a_generator_without_a_seed() -> None:
    """PyTorch's own generator is seeded where training begins, and used only in what training runs."""
    for path in (*(ROOT / "pianoai").rglob("*.py"), *(ROOT / "stages").glob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name == "pianoai/resume.py":  # it keeps the states of all generators, and draws from none
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert "random" not in imported, name
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called.startswith("np.random."):
                assert called.rpartition(".")[2] in SEEDED, f"{name}: {called}"
                assert node.args, f"{name}: {called} without a seed"
            if called in ("torch.rand", "torch.randn", "torch.randint", "torch.randperm", "torch.bernoulli"):
                given = {keyword.arg for keyword in node.keywords}
                training = name in {"pianoai/dataset.py"} or name.startswith("pianoai/models/")
                assert "generator" in given or training, f"{name}: {called}"


def test_every_stage_goes_through_the_one_door() -> None:
    for path in (ROOT / "stages").glob("*.py"):
        if path.stem not in ("__init__", "verify"):  # `verify` is no stage: it measures
            assert f'"{path.stem}' in path.read_text("utf-8").split('if __name__ == "__main__":')[1], path
            assert "run(" in path.read_text("utf-8").split('if __name__ == "__main__":')[1], path
    assert "determinism.begin(" in (ROOT / "pianoai/stage.py").read_text("utf-8")
    assert determinism.LOCK.name in os.listdir(ROOT)  # noqa: PTH208
