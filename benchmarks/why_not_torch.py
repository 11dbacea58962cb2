"""Why PyTorch itself is not in the zip: its size, memory and time to import, against what Lambda gives.

python -m benchmarks.why_not_torch     (under a minute; Linux only)
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable
from importlib.metadata import distribution, version
from pathlib import Path

from pianoai.packaging import MB
from pianoai.runtime.errors import InputError

UNPACKED_MB = 250  # of a function and its layers
ZIPPED_MB = 50  # of a zip that is uploaded directly
MEMORY_MB = 128
REPEATS = 5
PROBE = """
import time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(seconds, *(int(fields[name].split()[0]) for name in ("VmHWM", "RssAnon")))
"""


def main() -> None:
    """Measures and prints the table."""
    try:
        print(table(measure()))
    except InputError as error:
        sys.exit(f"error: {error}")


def measure() -> list[tuple[str, float, str]]:
    """Rows of what, figure and limit. Raises InputError where there is no PyTorch, or no Linux to ask."""
    if not Path("/proc/self/status").is_file():
        raise InputError("memory is read from /proc, which only Linux has")
    files = [Path(str(file.locate())) for file in distribution("torch").files or ()]
    library = next((file for file in files if file.name == "libtorch_cpu.so"), None)
    if library is None or not library.is_file():
        raise InputError("libtorch_cpu.so of the package torch was not found; is a CPU build installed?")
    all_files = sum(file.stat().st_size for file in files if file.is_file())
    least, zipped = stripped(library)
    rows = [
        ("torch as installed, MB", all_files / MB, f"{UNPACKED_MB} unpacked"),
        ("libtorch_cpu.so alone, MB", library.stat().st_size / MB, f"{UNPACKED_MB} unpacked"),
        ("libtorch_cpu.so without symbols, MB", least / MB, f"{UNPACKED_MB} unpacked"),
        ("that, compressed, MB", zipped / MB, f"{ZIPPED_MB} uploaded directly"),
    ]
    for module in ("torch", "numpy"):
        seconds, peak, anonymous = imported(module)
        rows += [
            (f"import {module}, peak memory, MB", peak, f"{MEMORY_MB} in all"),
            (f"import {module}, of it not backed by files, MB", anonymous, f"{MEMORY_MB} in all"),
            (f"import {module}, seconds", seconds, ""),
        ]
    return rows


def stripped(library: Path) -> tuple[int, int]:
    """Bytes of a copy of the library that `strip` has been through, and bytes of that as a zip would hold it.

    Without the program `strip` the library is taken as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / library.name
        shutil.copyfile(library, copy)
        if shutil.which("strip"):
            subprocess.run(["strip", "--strip-unneeded", copy], check=True, capture_output=True)
        deflate = zlib.compressobj(6)
        zipped = 0
        with copy.open("rb") as file:
            while block := file.read(2**20):
                zipped += len(deflate.compress(block))
        return copy.stat().st_size, zipped + len(deflate.flush())


def imported(module: str) -> tuple[float, float, float]:
    """Seconds to import a module in a fresh interpreter, and its peak and anonymous memory in MB: medians."""
    runs = []
    for _ in range(REPEATS):
        done = subprocess.run(
            [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, check=True
        )
        runs.append([float(number) for number in done.stdout.split()])
    seconds, peak, anonymous = (statistics.median(column) for column in zip(*runs, strict=True))
    return seconds, peak / 1024, anonymous / 1024


def table(rows: Iterable[tuple[str, float, str]]) -> str:
    """Rows as Markdown: figures below 10 with two decimals, others whole."""
    lines = [
        f"| torch {version('torch')}, numpy {version('numpy')} | measured | Lambda's limit |",
        "|---|---:|---|",
    ]
    lines += [f"| {what} | {figure:.{2 if figure < 10 else 0}f} | {limit} |" for what, figure, limit in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
