"""Measures the zip on this machine: cold starts, memory, and time a frame with and without Lambda's share of a CPU."""

import base64
import contextlib
import gzip
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pianoai import interpreters, packaging
from pianoai.packaging import MACHINES, DeployConfig
from pianoai.runtime.errors import InputError
from pianoai.verification.cgroups import ControlGroup, control_group
from pianoai.verification.emulator import Function, Setting, private_mounts, running
from pianoai.verification.limits import MIB, PIECE, SPARE_MB, cpu_share

TOOLS = Path("lambda_pkg/verify-requirements.txt")
COLD_STARTS, REPEATS = 3, 3
SHORT, LONG = 64, 192  # frames: what a frame costs is the difference, so that what a call costs is not in it
SEED = 7
# As many notes as an answer may hold: every second key in every frame, struck anew each time.
LARGE: dict[str, Any] = {
    "prompt": [list(range(21 + at % 2, 109, 2)) for at in range(181)],
    "include_prompt": True,
    "frames": 4,
}
# A browser that asks the function's URL for the page.
PAGE: dict[str, Any] = {
    "version": "2.0",
    "rawPath": "/",
    "headers": {"accept-encoding": "gzip"},
    "requestContext": {"http": {"method": "GET", "path": "/"}},
}


class Skip(Exception):
    """Nothing can be measured here; the message says what is missing."""


@dataclass(frozen=True)
class Bench:
    """Everything that a measurement needs, but for the control group."""

    archive: Path  # a copy of the zip
    setting: Setting
    mounts: list[str]  # command for private mounts, or empty
    own_numpy: bool  # the interpreter is not the one of Lambda, and brings its own NumPy


def verify(archive: Path, config: DeployConfig, work: Path) -> dict[str, Any]:
    """What running the zip `archive` costs, in the empty folder `work`; see `metrics/lambda.json`.

    Raises Skip where it cannot be measured, and InputError when the function fails in `config.memory_mb`.
    """
    bench = prepare(archive, config, work)
    with zipfile.ZipFile(bench.archive) as file:
        content = sum(entry.file_size for entry in file.infolist())
    beat = frames_per_beat(bench.archive)
    figures: dict[str, Any] = {
        "measured_on": "this machine",
        "zip_sha256": sha256(bench.archive),
        "zip_bytes": bench.archive.stat().st_size,
        "content_bytes": content,
        "memory_mb": config.memory_mb,
        "frames_per_beat": beat,
        "python": interpreters.full_version(bench.setting.python)
        + (f", since there is no {config.python} here" if bench.own_numpy else ""),
        "code_folder": "mounted read-only" if bench.mounts else "writable, without bytecode",
    }
    group = control_group(config.memory_mb * MIB)
    figures["memory_by"] = f"control group, version {group.version}" if group else "process"
    figures["cpu_by"] = "quota" if group else "calculated"
    runs = [
        measure(bench, control_group(config.memory_mb * MIB), PIECE * beat, cpu_share(config.memory_mb))
        for _ in range(COLD_STARTS)
    ]
    peaks = {"cgroup_peak_mb", "resident_mb"}
    for key in runs[0]:
        values = [run[key] for run in runs]
        known = [value for value in values if value is not None]
        figures[key] = round((max if key in peaks else statistics.median)(known), 3) if known else None
    small = control_group((config.memory_mb - SPARE_MB) * MIB)
    figures["survives_with_less"] = survives(bench, small, PIECE * beat) if small else None
    return figures


def prepare(archive: Path, config: DeployConfig, work: Path) -> Bench:
    """Interpreter, AWS's programs, a copy of the zip. Raises Skip; InputError when there is no zip."""
    copy = work / "function.zip"  # the pipeline may replace the other one meanwhile
    try:
        shutil.copyfile(archive, copy)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{archive}: no such file; run `make repro` first") from None
    if sys.platform != "linux":
        raise Skip(f"the zip runs on Linux, and this is {sys.platform}")
    machine = MACHINES[config.architecture]
    if platform.machine() != machine:
        raise Skip(f"the zip is for {machine}, and this machine is {platform.machine()}")
    found = interpreters.find(config.python)
    python, version = found or Path(sys.executable), config.python if found else "{}.{}".format(*sys.version_info)
    try:
        tools = packaging.wheels(TOOLS, replace(config, python=version), packaging.CACHE)
    except InputError as error:
        raise Skip(str(error)) from None
    client, emulator = work / "client", work / "aws-lambda-rie"
    for wheel in tools:
        with zipfile.ZipFile(wheel) as file:
            if wheel.name.startswith("aws_sam_cli"):
                name = f"samcli/local/rapid/aws-lambda-rie-{config.architecture}"
                emulator.write_bytes(file.read(name))
            else:
                file.extractall(client)
    emulator.chmod(0o755)
    # On Lambda the runtime client is part of the system, and compiled.
    subprocess.run([python, "-I", "-S", "-m", "compileall", "-q", client], check=True, capture_output=True)
    setting = Setting(python, work / "code", client, emulator, work / "log", config.memory_mb)
    return Bench(copy, setting, private_mounts(), own_numpy=found is None)


@contextlib.contextmanager
def unpacked(bench: Bench, group: ControlGroup | None) -> Iterator[None]:
    """The zip in the code folder, unpacked by a member of the group, and out of the page cache.

    Raises InputError when, at the end, anything has been written there.
    """
    folder = bench.setting.code
    join = "".join(f"echo $$ > '{path}' && " for path in (group.joins() if group else []))
    command = ["sh", "-c", f'{join}exec "$@"', "sh", sys.executable, "-I", "-S", "-m", "zipfile", "-e"]
    try:
        subprocess.run([*command, str(bench.archive), str(folder)], check=True, stdin=subprocess.DEVNULL)
        if bench.own_numpy:
            own_numpy(folder)
        cool(folder)
        if group:
            group.reset_peak()
        before = listing(folder)
        yield
        new = sorted(listing(folder) - before)
        if new:
            raise InputError(f"the function wrote into its code folder, which Lambda forbids: {', '.join(new[:3])}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(bench: Bench, group: ControlGroup | None, frames: int, share: float) -> dict[str, float | None]:
    """A cold start, one with the files in the page cache, and what then frames, a piece of `frames` and the page take.

    Times with `share` of a CPU are calculated where there is no group.
    """
    with contextlib.ExitStack() as stack:
        if group:
            stack.enter_context(group)
        stack.enter_context(unpacked(bench, group))
        with running(bench.setting, group, bench.mounts) as function:
            first = seconds(function, 1)
            init = function.init_seconds()
        with running(bench.setting, group, bench.mounts) as function:
            seconds(function, 1)
            cached = function.init_seconds()
            free = per_frame(function)
            piece = seconds(function, frames)
            if group:
                group.throttle(share)
                throttled, piece = per_frame(function), seconds(function, frames)
            else:
                throttled, piece = free / share, piece / share
            shown = page(function) / (1 if group else share)
            large(function)
            resident, peak = function.resident_mb(), group.peak() if group else None
    return {
        "init_seconds": init,
        "init_cached_seconds": cached,
        "cold_answer_seconds": first,
        "ms_per_frame": free * 1000,
        "throttled_ms_per_frame": throttled * 1000,
        f"compose_{PIECE}_beats_seconds": piece,
        "page_seconds": shown,
        "resident_mb": resident,
        "cgroup_peak_mb": None if peak is None else peak / MIB,
    }


def survives(bench: Bench, group: ControlGroup, frames: int) -> bool:
    """Whether the function starts and composes in the memory of this group."""
    with group, unpacked(bench, group), running(bench.setting, group, bench.mounts) as function:
        try:
            seconds(function, frames)
            large(function)
            function.init_seconds()
        except InputError:
            return False
    return True


def per_frame(function: Function) -> float:
    """Seconds that a further frame costs: the median of some repeats."""
    costs = [(seconds(function, LONG) - seconds(function, SHORT)) / (LONG - SHORT) for _ in range(REPEATS)]
    return statistics.median(costs)


def seconds(function: Function, frames: int) -> float:
    """Seconds until the answer with so many frames. Raises InputError for an answer without them."""
    answer, spent = function.invoke({"frames": frames, "seed": SEED, "temperature": 0.9})
    if answer.get("frames") != frames or "error" in answer:
        raise InputError(f"the function did not compose {frames} frames: {str(answer)[:200]}")
    return spent


def page(function: Function) -> float:
    """Seconds until the page is there. Raises InputError where it is no HTML that the browser may run."""
    answer, spent = function.invoke(PAGE)
    try:
        html = gzip.decompress(base64.b64decode(answer["body"])).decode()
        whole = answer["statusCode"] == 200 and html.rstrip().endswith("</html>")
        allowed = "script-src 'sha256-" in answer["headers"]["content-security-policy"]
    except (KeyError, TypeError, ValueError, OSError, EOFError):
        whole = allowed = False
    if not (whole and allowed):
        raise InputError(f"the function did not answer GET / with its page: {str(answer)[:200]}")
    return spent


def large(function: Function) -> None:
    """Have the largest answer written. Raises InputError when it is not."""
    answer, _ = function.invoke(LARGE)
    if answer.get("prompt_frames") != len(LARGE["prompt"]):
        raise InputError(f"the function did not answer its largest request: {str(answer)[:200]}")


def own_numpy(folder: Path) -> None:
    """Put the NumPy of this interpreter, trimmed alike, in the place of the one for Lambda."""
    for name in ("numpy", "numpy.libs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    installed = Path(np.__file__).parent.parent
    for source in [path for name in ("numpy", "numpy.libs") for path in (installed / name).rglob("*")]:
        name = source.relative_to(installed).as_posix()
        if source.is_file() and "__pycache__" not in source.parts and packaging.kept(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / name)
    shutil.copyfile(packaging.NUMPY_INIT, folder / "numpy/__init__.py")


def cool(folder: Path) -> None:
    """Write the folder's files to the disk and drop them from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def listing(folder: Path) -> set[str]:
    """The paths of everything in a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def frames_per_beat(archive: Path | BinaryIO) -> int:
    """The time resolution of the model in the zip, as its metadata says."""
    with zipfile.ZipFile(archive) as package, package.open("model.ts") as file, zipfile.ZipFile(file) as model:
        name = next(name for name in model.namelist() if name.endswith("extra/pianoai.json"))
        return int(json.loads(model.read(name))["frames_per_beat"])


def sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
