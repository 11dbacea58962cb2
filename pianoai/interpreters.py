"""Finds the CPython that Lambda would run on this machine: on the path, or where pyenv and uv keep theirs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find(version: str) -> Path | None:
    """A working CPython of `version` ("3.13"), or None. The running interpreter comes first, then the path."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser() / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or "~/.local/share/uv/python").expanduser()
    candidates = [sys.executable, shutil.which(name) or ""]
    candidates += sorted(map(str, pyenv.glob(f"{version}.*/bin/{name}")))
    candidates += sorted(map(str, uv.glob(f"cpython-{version}.*/bin/{name}")))
    return next((Path(path) for path in candidates if path and full_version(path).startswith(f"{version}.")), None)


def full_version(python: str | Path) -> str:
    """The version of the CPython at this path, such as "3.13.2"; empty when it does not run or is no CPython."""
    code = "import platform; print(platform.python_implementation(), platform.python_version())"
    try:
        done = subprocess.run(
            [python, "-I", "-S", "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    implementation, _, version = done.stdout.strip().partition(" ")
    return version if done.returncode == 0 and implementation == "CPython" else ""
