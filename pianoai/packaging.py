"""Builds the zip that AWS Lambda runs: handler, model, runtime, and a trimmed wheel of NumPy."""

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pianoai import interpreters
from pianoai.params import bounded
from pianoai.runtime.errors import InputError

MB = 2**20  # Lambda's limits of 50 and 250 MB are 52,428,800 and 262,144,000 bytes
CACHE = Path(".cache/wheels")
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")  # runtimes have 2.34
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}  # Lambda's name, and that of wheels
DATE = (1980, 1, 1, 0, 0, 0)
LAMBDA_FOLDER = "/var/task"  # where Lambda unpacks the zip
MODE = 0o100644  # a plain file that everyone may read

# Parts of NumPy that nothing in the zip names. A test looks for every name of the zip's code in what is left.
UNREACHED = re.compile(r"numpy/(char|core|ctypeslib|fft|ma|polynomial|random|rec|testing|typing)/|numpy/matlib\.py$")
NUMPY_INIT = Path("lambda_pkg/numpy_init.py")  # instead of NumPy's own, which imports all there is
# What a wheel holds for developers.
UNUSED_FOLDERS = {"tests", "include", "f2py", "_pyinstaller", "_examples", "doc", "docs", "scripts"}
UNUSED_FILES = re.compile(
    r"\.(pyi|pxd|pyx|a|h|c|rst)$|/(py\.typed|conftest\.py|RECORD|entry_points\.txt|top_level\.txt)$"
    r"|/(_simd|_\w+_tests)\.[^/]*\.so$|/(npy-pkg-config|pkgconfig)/|/API_CHANGES\.txt$"
)
LICENCE = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)


@dataclass(frozen=True)
class DeployConfig:
    """Section `deploy` of params.yaml."""

    python: str = bounded(choices=("3.12", "3.13", "3.14"))  # Lambda's runtime
    architecture: str = bounded(choices=tuple(MACHINES))
    zip_limit_mb: float = bounded(least=0.001)  # of the upload: Lambda takes 50
    content_limit_mb: float = bounded(least=0.001)  # unpacked: Lambda takes 250
    memory_mb: int = bounded(least=128, most=10_240)  # of the function: what Lambda offers
    bytecode: bool = bounded()  # ship modules compiled as well


def build(model: Path, page: Path | None, out: Path, config: DeployConfig, root: Path = Path()) -> dict[str, Any]:
    """Writes the zip `out`, with a page or without one, the same bytes for the same input; returns its sizes.

    Reads ``lambda_pkg``, ``pianoai`` and the wheel cache under `root`. The result has zip_bytes,
    content_bytes, files, zip_sha256, python, architecture, numpy, bytecode (the exact version of the
    Python that compiled it, or none), and largest (unpacked bytes of each top folder).

    Raises InputError for a missing model or page, pins that do not hold, a failed download, no interpreter to
    compile with, or a size over its limit.
    """
    requirements = root / "lambda_pkg/requirements.txt"
    pins = read_pins(requirements)
    pinned = pins.get("numpy", ("none", set()))[0]
    if pinned != np.__version__:
        raise InputError(
            f"{requirements} ships numpy {pinned}, but {np.__version__} is installed here, so what was"
            f" checked is not what would run: install numpy {pinned}, or pin {np.__version__} with its hashes"
        )
    for file, stage in ((model, "export"), (page, "web")):
        if file and not file.is_file():
            raise InputError(f"{file}: no such file; the stage '{stage}' makes it")
    content = {
        "handler.py": (root / "lambda_pkg/handler.py").read_bytes(),
        "model.ts": model.read_bytes(),
        "pianoai/__init__.py": (root / "pianoai/__init__.py").read_bytes(),
    }
    if page:
        content["page.json"] = page.read_bytes()
    for module in (root / "pianoai/runtime").rglob("*.py"):
        content[module.relative_to(root).as_posix()] = module.read_bytes()
    for wheel in wheels(requirements, config, root / CACHE):
        content.update(trim(wheel))
    content["numpy/__init__.py"] = (root / NUMPY_INIT).read_bytes()
    compiled = "none"
    if config.bytecode:
        python = interpreters.find(config.python)
        if python is None:
            raise InputError(
                f"params.yaml: deploy.bytecode needs a Python {config.python}, and none was found on the path or where"
                " pyenv and uv keep theirs: install one, or set deploy.bytecode to false"
            )
        compiled = interpreters.full_version(python)
        content.update(bytecode(content, python))
    size = sum(map(len, content.values()))
    if size > config.content_limit_mb * MB:
        raise InputError(
            f"the package unpacks to {size / MB:.1f} MB, over deploy.content_limit_mb = {config.content_limit_mb:g}"
        )
    part = out.with_name(out.name + ".part")
    write_zip(content, part)
    zipped = part.stat().st_size
    if zipped > config.zip_limit_mb * MB:
        part.unlink()
        raise InputError(f"the zip has {zipped / MB:.1f} MB, over deploy.zip_limit_mb = {config.zip_limit_mb:g}")
    part.replace(out)
    folders: Counter[str] = Counter()
    for name, data in content.items():
        folders[name.split("/")[0]] += len(data)
    return {
        "zip_bytes": zipped,
        "content_bytes": size,
        "files": len(content),
        "zip_sha256": _sha256(out),
        "python": config.python,
        "architecture": config.architecture,
        "numpy": pinned,
        "bytecode": compiled,
        "largest": dict(sorted(folders.items())),
    }


def read_pins(requirements: Path) -> dict[str, tuple[str, set[str]]]:
    """Version and allowed SHA-256 sums by package, from a requirements file with hashes.

    Raises InputError for a line that does not pin a version with hashes.
    """
    text = requirements.read_text("utf-8").replace("\\\n", " ")
    pins: dict[str, tuple[str, set[str]]] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin = re.fullmatch(r"([\w.-]+)==([\w.]+)((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line)
        if pin is None:
            raise InputError(f"{requirements}: not NAME==VERSION with --hash=sha256:…: {line.split('--')[0]}")
        pins[pin[1]] = pin[2], set(re.findall(r"sha256:([0-9a-f]{64})", pin[3]))
    return pins


def wheels(requirements: Path, config: DeployConfig, cache: Path) -> list[Path]:
    """The pinned wheels for Lambda; downloads those that are not in `cache` with the right checksum."""
    folder = cache / f"python{config.python}-{config.architecture}"
    folder.mkdir(parents=True, exist_ok=True)
    pins = read_pins(requirements)
    found = _cached(pins, folder)
    if len(found) < len(pins):
        machine = MACHINES[config.architecture]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--require-hashes", "--only-binary=:all:", "--no-deps", "--implementation=cp"]
        command += [f"--python-version={config.python}", f"--dest={folder}", f"--requirement={requirements}"]
        command += [f"--platform={glibc}_{machine}" for glibc in GLIBC]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        found = _cached(pins, folder)
        if done.returncode or len(found) < len(pins):
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise InputError(f"{requirements}: the wheels for Lambda could not be downloaded: {reason}")
    return found


def _cached(pins: dict[str, tuple[str, set[str]]], folder: Path) -> list[Path]:
    """The wheels in `folder` that have an allowed checksum, in the order of `pins`; others are deleted."""
    found = []
    for name, (version, allowed) in pins.items():
        for wheel in sorted(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")):
            if _sha256(wheel) in allowed:
                found.append(wheel)
                break
            wheel.unlink()
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def trim(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel that a running program needs, and every licence, by path."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/") and kept(name)}


def kept(name: str) -> bool:
    """Whether a running program needs this file of a wheel, or its licence asks for it."""
    path = PurePosixPath(name)
    if ".dist-info" in path.parts[0]:
        return path.name == "METADATA" or LICENCE.search(name) is not None
    return (
        UNUSED_FOLDERS.isdisjoint(path.parts[:-1])
        and UNUSED_FILES.search(name) is None
        and UNREACHED.match(name) is None
    )


def bytecode(content: dict[str, bytes], python: Path) -> dict[str, bytes]:
    """The compiled modules of `content` as `python` makes them, by path in the zip.

    They are marked as valid without a look at their sources (PEP 552, unchecked hashes): the zip's dates mean
    nothing, and nothing writes to Lambda's code folder. Paths inside them are those of Lambda.

    Raises InputError with the compiler's complaint.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, data in content.items():
            if name.endswith(".py"):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        command = [str(python), "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
        command += ["-s", temporary, "-p", LAMBDA_FOLDER, temporary]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            complaint = " ".join((done.stdout + done.stderr).split())
            raise InputError(f"{python}: the modules did not compile: {complaint[:300]}")
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.pyc")}


def write_zip(content: dict[str, bytes], out: Path) -> None:
    """A zip of the files with one date, one mode and sorted names: equal content, equal bytes."""
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, DATE)
            entry.create_system = 3  # Unix, wherever it was built, or the mode would not count
            entry.external_attr = MODE << 16
            archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED, 9)
