"""Pins what changes results: threads, instruction set, hash randomisation; says which libraries are other versions.

`stage.run` has every stage begin here, before PyTorch is imported. Seeds stand in the sections of params.yaml that they
belong to, and what lists a folder or goes through a set sorts it.
"""

import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pianoai.params import bounded
from pianoai.runtime.errors import InputError

LOCK = Path("requirements.lock")
# Another version of one of these may write other bytes.
LIBRARIES = (
    *("torch", "pytorch-lightning", "numpy", "scipy", "scikit-learn", "pandas"),
    *("music21", "symusic", "matplotlib", "pillow"),
)


@dataclass(frozen=True)
class DeterminismConfig:
    """The section `determinism` of params.yaml."""

    threads: int = bounded(least=1)
    instruction_set: str = bounded(choices=("avx2", "compatible", "default"))


AS_MANY = {"OMP_DYNAMIC": "false", "MKL_DYNAMIC": "FALSE"}  # threads as are asked for
UNWANTED = ("OMP_THREAD_LIMIT", "MKL_DOMAIN_NUM_THREADS", "MKL_ENABLE_INSTRUCTIONS", "NPY_ENABLE_CPU_FEATURES")
STARTED = "PIANOAI_PINNED"  # is set when a program has been started anew
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# For PyTorch's own kernels, MKL, oneDNN, OpenBLAS and NumPy's own loops, in this order.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def environment(config: DeterminismConfig) -> dict[str, str]:
    """What Python and numerical libraries read from the environment when they are loaded.

    `avx2` caps the kernels on x86, so that a newer CPU rounds like an older one of the same maker. MKL looks at the
    maker too: for `compatible` it takes slower kernels, the same for all. On other processors there is nothing to cap.
    """
    wanted = dict.fromkeys(THREADS, str(config.threads)) | AS_MANY | {"PYTHONHASHSEED": "0"}
    if config.instruction_set != "default" and platform.machine().lower() in ("x86_64", "amd64"):
        wanted |= AVX2
        if config.instruction_set == "compatible":
            wanted["MKL_CBWR"] = "COMPATIBLE"
    return wanted


def differing(wanted: dict[str, str]) -> list[str]:
    """Variables that are not as they should be, those among them that should not be set."""
    return [key for key in sorted({*wanted, *AVX2, *UNWANTED}) if os.environ.get(key) != wanted.get(key)]


def pin(config: DeterminismConfig) -> None:
    """Set the `environment`, in this process and those it starts; texts of this process go on to hash as they do.

    Raises RuntimeError when torch was loaded under other settings.
    """
    wanted = environment(config)
    late = [key for key in differing(wanted) if key != "PYTHONHASHSEED"]
    if late and "torch" in sys.modules:
        raise RuntimeError(f"determinism.pin came after torch was imported: {', '.join(late)}")
    settle(wanted)


def settle(wanted: dict[str, str]) -> None:
    """Make the environment what is wanted."""
    for key in (*AVX2, *UNWANTED):
        os.environ.pop(key, None)
    os.environ |= wanted


def begin(config: DeterminismConfig) -> None:
    """Start this program anew under the `environment`, unless it runs under it; then warn of other libraries.

    Python reads the hash seed before anything else, and what is loaded already has read the rest. Raises InputError
    where Python was told to ignore the environment.
    """
    wanted = environment(config)
    if others := differing(wanted):
        if STARTED in os.environ:
            raise InputError(
                f"{', '.join(others)}: set by something that runs whenever Python starts; take it out of there"
            )
        settle(wanted | {STARTED: "1"})
        sys.stdout.flush()
        os.execv(sys.executable, sys.orig_argv)
    os.environ.pop(STARTED, None)
    if sys.flags.hash_randomization:
        raise InputError("PYTHONHASHSEED is not heard: run Python without its options -E, -I and -R")
    if not LOCK.is_file():
        raise InputError(f"{LOCK}: not found; run from the root of the project")
    if versions := list(other_versions(LOCK.read_text("utf-8"))):
        print(
            f"warning: results may differ from the committed ones: {', '.join(versions)};"
            f" `python -m pip install -r {LOCK}` installs what is pinned",
            file=sys.stderr,
        )


def other_versions(lock: str) -> Iterator[str]:
    """A phrase for each of LIBRARIES that is not installed as the text of requirements.lock pins it.

    What stands behind a plus, as in 2.13.0+cpu, names a build and does not count.
    """
    for name in LIBRARIES:
        pinned = re.search(rf"^{name}==([^\s;]+)", lock, re.M)
        wanted = pinned[1] if pinned else "none"
        try:
            found = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            found = "missing"
        if found != wanted:
            yield f"{name} is {found}, pinned is {wanted}"
