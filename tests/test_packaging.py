"""The zip for Lambda: contents, limits, equal bytes; and the unpacked zip running on its own."""

import hashlib
import importlib.util
import marshal
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pianoai import interpreters
from pianoai.packaging import DeployConfig, build, bytecode, read_pins, write_zip
from pianoai.runtime.errors import InputError

ROOT = Path(__file__).parents[1]
CONFIG = DeployConfig("3.13", "x86_64", 50.0, 250.0, 128, False)
HASH = "0" * 64


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of the real runtime and small wheels that are already in the cache."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "pianoai", root / "pianoai", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "lambda_pkg").mkdir()
    for name in ("handler.py", "numpy_init.py"):
        shutil.copy(ROOT / "lambda_pkg" / name, root / "lambda_pkg")
    (root / "model.ts").write_bytes(b"weights" * 1000)
    (root / "page.json").write_bytes(b"page")
    cache = root / ".cache/wheels/python3.13-x86_64"
    cache.mkdir(parents=True)
    first = wheel(
        cache / f"numpy-{np.__version__}-cp313-cp313-manylinux_2_28_x86_64.whl",
        {
            "numpy/__init__.py": "import numpy.random",
            "numpy/__init__.pyi": "",
            "numpy/tests/test_a.py": "",
            "numpy/typing/__init__.py": "",
            "numpy/_core/include/numpy/a.h": "",
            "numpy/_core/lib/libnpymath.a": "",
            "numpy/_core/_umath.cpython-313.so": "code",
            "numpy/_core/_umath_tests.cpython-313.so": "",
            "numpy/f2py/__init__.py": "",
            "numpy/testing/__init__.py": "",
            "numpy/fft/__init__.py": "",
            "numpy/random/__init__.py": "",
            "numpy/linalg/LICENSE.md": "free",
            "numpy.libs/libopenblas.so": "fast",
            "numpy-1.dist-info/METADATA": "",
            "numpy-1.dist-info/RECORD": "",
            "numpy-1.dist-info/licenses/numpy/_core/include/numpy/COPYING": "free",
        },
    )
    second = wheel(
        cache / "mido-1.3.3-py3-none-any.whl",
        {
            "mido/__init__.py": "",
            "mido/scripts/mido_play.py": "",
            "mido-1.3.3.dist-info/LICENSE": "free",
            "mido-1.3.3.dist-info/entry_points.txt": "",
        },
    )
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (first, second)]
    (root / "lambda_pkg/requirements.txt").write_text(
        f"# pins\nnumpy=={np.__version__} \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{sums[0]}\n"
        f"mido==1.3.3 --hash=sha256:{sums[1]}\n"
    )
    return root


def no_network(*arguments: Any, **options: Any) -> None:
    raise AssertionError("nothing is to be downloaded")


def test_the_contents_of_the_zip(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_network)
    out = project / "function.zip"
    sizes = build(project / "model.ts", project / "page.json", out, CONFIG, project)
    runtime = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pianoai/runtime").rglob("*.py")}
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        entries = archive.infolist()
        assert archive.testzip() is None
        assert archive.read("model.ts") == b"weights" * 1000
        assert archive.read("numpy/__init__.py") == (ROOT / "lambda_pkg/numpy_init.py").read_bytes()
        assert archive.read("handler.py") == (ROOT / "lambda_pkg/handler.py").read_bytes()
    assert set(names) == runtime | {
        "handler.py",
        "model.ts",
        "page.json",
        "pianoai/__init__.py",
        "numpy/__init__.py",
        "numpy/_core/_umath.cpython-313.so",
        "numpy/linalg/LICENSE.md",
        "numpy.libs/libopenblas.so",
        "numpy-1.dist-info/METADATA",
        "numpy-1.dist-info/licenses/numpy/_core/include/numpy/COPYING",
        "mido/__init__.py",
        "mido-1.3.3.dist-info/LICENSE",
    }
    assert names == sorted(names)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    content = sum(entry.file_size for entry in entries)
    assert sizes == {
        "zip_bytes": out.stat().st_size,
        "content_bytes": content,
        "files": len(names),
        "zip_sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "python": "3.13",
        "architecture": "x86_64",
        "numpy": np.__version__,
        "bytecode": "none",
        "largest": sizes["largest"],
    }
    assert sizes["largest"]["model.ts"] == 7000
    assert sizes["largest"]["numpy"] == len((ROOT / "lambda_pkg/numpy_init.py").read_bytes()) + len("code") + len(
        "free"
    )
    assert sum(sizes["largest"].values()) == content


def test_equal_input_gives_equal_bytes(project: Path, tmp_path: Path) -> None:
    first = build(project / "model.ts", project / "page.json", project / "one.zip", CONFIG, project)
    copy = tmp_path / "elsewhere"
    shutil.copytree(project, copy)
    for path in copy.rglob("*.py"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    second = build(copy / "model.ts", copy / "page.json", copy / "two.zip", CONFIG, copy)
    assert first == second
    assert (project / "one.zip").read_bytes() == (copy / "two.zip").read_bytes()
    (copy / "model.ts").write_bytes(b"other")
    assert (
        build(copy / "model.ts", copy / "page.json", copy / "two.zip", CONFIG, copy)["zip_sha256"]
        != first["zip_sha256"]
    )


def running_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def test_bytecode_is_equal_everywhere_and_names_lambdas_folder() -> None:
    content = {"a.py": b"def f():\n    return f.__code__.co_filename\n", "b/c.py": b"X = {1, 2}\n", "d.txt": b""}
    first = bytecode(content, Path(sys.executable))
    assert bytecode(content, Path(sys.executable)) == first
    tag = sys.implementation.cache_tag
    assert sorted(first) == [f"__pycache__/a.{tag}.pyc", f"b/__pycache__/c.{tag}.pyc"]
    compiled = first[f"__pycache__/a.{tag}.pyc"]
    assert compiled[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(compiled[4:8], "little") == 0b01  # PEP 552: has a hash of its source, which is not checked
    scope: dict[str, Any] = {}
    exec(marshal.loads(compiled[16:]), scope)
    assert scope["f"]() == "/var/task/a.py"


def test_bytecode_that_does_not_compile_ends_in_a_message() -> None:
    with pytest.raises(InputError, match=r"the modules did not compile: .*/a\.py.*SyntaxError"):
        bytecode({"a.py": b"1 +"}, Path(sys.executable))


def test_the_zip_with_bytecode(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = project / "function.zip"
    compiled = replace(CONFIG, bytecode=True)
    monkeypatch.setattr(interpreters, "find", lambda version: None)
    with pytest.raises(InputError, match=r"deploy\.bytecode needs a Python 3\.13, and none was found"):
        build(project / "model.ts", project / "page.json", out, compiled, project)
    assert not out.exists()
    monkeypatch.setattr(interpreters, "find", lambda version: Path(sys.executable))
    sizes = build(project / "model.ts", project / "page.json", out, compiled, project)
    assert sizes["bytecode"] == platform.python_version()
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
    sources = [name for name in names if name.endswith(".py")]
    assert len(names) == sizes["files"]
    assert len([name for name in names if name.endswith(".pyc")]) == len(sources)
    assert f"__pycache__/handler.{sys.implementation.cache_tag}.pyc" in names


def test_interpreters_are_looked_for_where_pyenv_and_uv_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interpreters.find(running_version()) == Path(sys.executable)
    assert interpreters.full_version(sys.executable) == platform.python_version()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "uv"))

    def python(place: str, says: str) -> Path:
        path = tmp_path / place / "python3.99"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\necho {says}\n")
        path.chmod(0o755)
        return path

    assert interpreters.find("3.99") is None
    uv = python("uv/cpython-3.99.1-linux-x86_64-gnu/bin", "CPython 3.99.1")
    assert interpreters.find("3.99") == uv
    pyenv = python("pyenv/versions/3.99.0/bin", "CPython 3.99.0")
    assert interpreters.find("3.99") == pyenv
    shim = python("bin", "PyPy 3.99.0")
    assert interpreters.find("3.99") == pyenv
    shim.write_text("#!/bin/sh\necho CPython 3.99.4\n")
    assert interpreters.find("3.99") == shim


def test_limits_are_kept(project: Path) -> None:
    out = project / "function.zip"
    sizes = build(project / "model.ts", project / "page.json", out, CONFIG, project)
    before = out.read_bytes()
    exact = replace(CONFIG, zip_limit_mb=sizes["zip_bytes"] / 2**20, content_limit_mb=sizes["content_bytes"] / 2**20)
    assert build(project / "model.ts", project / "page.json", out, exact, project) == sizes
    tight = replace(exact, zip_limit_mb=(sizes["zip_bytes"] - 1) / 2**20)
    with pytest.raises(InputError, match=r"deploy\.zip_limit_mb"):
        build(project / "model.ts", project / "page.json", out, tight, project)
    tight = replace(exact, content_limit_mb=(sizes["content_bytes"] - 1) / 2**20)
    with pytest.raises(InputError, match=r"deploy\.content_limit_mb"):
        build(project / "model.ts", project / "page.json", out, tight, project)
    assert out.read_bytes() == before
    assert list(project.glob("*.part")) == []


def test_the_pinned_numpy_must_be_the_one_that_was_tested(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "__version__", "2.0.1")
    with pytest.raises(InputError, match=r"but 2\.0\.1 is installed"):
        build(project / "model.ts", project / "page.json", project / "function.zip", CONFIG, project)


def test_a_missing_model_is_named(project: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.ts: no such file"):
        build(project / "gone.ts", project / "page.json", project / "function.zip", CONFIG, project)


def test_a_wheel_with_a_wrong_checksum_is_not_used(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def fail(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: no network\n")

    monkeypatch.setattr(subprocess, "run", fail)
    cached = project / ".cache/wheels/python3.13-x86_64/mido-1.3.3-py3-none-any.whl"
    cached.write_bytes(cached.read_bytes() + b"x")
    with pytest.raises(InputError, match="could not be downloaded: ERROR: no network"):
        build(project / "model.ts", project / "page.json", project / "function.zip", CONFIG, project)
    assert not cached.exists()
    # For another machine nothing is in the cache.
    with pytest.raises(InputError, match="could not be downloaded"):
        build(
            project / "model.ts",
            project / "page.json",
            project / "x.zip",
            replace(CONFIG, architecture="arm64"),
            project,
        )
    assert "--require-hashes" in commands[1]
    assert "--python-version=3.13" in commands[1]
    assert "--platform=manylinux_2_28_aarch64" in commands[1]
    assert "--platform=manylinux_2_28_x86_64" in commands[0]


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "numpy==2.4.6", "numpy==2.4.6 --hash=sha256:12"])
def test_a_requirement_without_version_and_hash_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=r"requirements\.txt: not NAME==VERSION"):
        read_pins(path)


def test_the_projects_own_pins() -> None:
    pins = read_pins(ROOT / "lambda_pkg/requirements.txt")
    assert {name: version for name, (version, _) in pins.items()} == {
        "numpy": "2.4.6",
    }
    assert len(pins["numpy"][1]) == 6  # three versions of Python, two machines
    assert "//" not in (ROOT / "lambda_pkg/requirements.txt").read_text()


def test_a_zip_of_a_few_files(tmp_path: Path) -> None:
    write_zip({"b": b"2" * 999, "a/c": b""}, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["a/c", "b"]
        assert archive.getinfo("b").compress_size < 99
