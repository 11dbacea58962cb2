"""Pins what changes trained weights: threads, instruction set. Call it before torch is imported."""

import os
import platform
import sys
from dataclasses import dataclass

from pianoai.params import bounded


@dataclass(frozen=True)
class DeterminismConfig:
    """The section `determinism` of params.yaml."""

    threads: int = bounded(least=1)
    instruction_set: str = bounded(choices=("avx2", "default"))


def environment(config: DeterminismConfig) -> dict[str, str]:
    """What torch, MKL, oneDNN and OpenBLAS read from the environment when they are loaded.

    `avx2` caps the kernels on x86, so that a newer CPU rounds like an older one; elsewhere there is nothing to cap.
    """
    wanted = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(config.threads))
    if platform.machine().lower() in ("x86_64", "amd64"):
        name = config.instruction_set
        wanted["ATEN_CPU_CAPABILITY"] = name
        if name == "avx2":
            wanted |= {"MKL_CBWR": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    return wanted


def pin(config: DeterminismConfig) -> None:
    """Set the `environment`. Raises RuntimeError when torch was loaded under other settings."""
    wanted = environment(config)
    late = [key for key, value in wanted.items() if os.environ.get(key) != value]
    if late and "torch" in sys.modules:
        raise RuntimeError(f"determinism.pin came after torch was imported: {', '.join(late)}")
    os.environ |= wanted
