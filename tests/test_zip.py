"""The zip with the real wheels, unpacked and run by a Python that Lambda has.

The wheels come from the cache; where it lacks them and no package index answers, the tests are skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pianoai import interpreters, packaging
from pianoai.packaging import DeployConfig, build, trim, wheels
from pianoai.runtime.errors import InputError
from pianoai.verification.local import own_numpy
from tests.tiny_model import save_archive

ROOT = Path(__file__).parents[1]


def pythons() -> dict[str, str]:
    """The interpreters of this machine that Lambda has too, by version."""
    if sys.platform != "linux":  # where the wheels for Lambda cannot run
        return {}
    return {version: str(python) for version in ("3.13", "3.12", "3.14") if (python := interpreters.find(version))}


RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import handler, numpy
print(json.dumps({
    "answer": handler.lambda_handler({"prompt": [[60], [60, 64]], "frames": 9, "seed": 3}, None),
    "numpy": [numpy.__version__, numpy.__file__], "python": list(sys.version_info[:2]),
    "modules": sorted(sys.modules),
}))
"""


def unpacked(folder: Path, python: str, model: Path) -> Path:
    """The zip for a Python of this machine, built in the project's own cache and unpacked."""
    machine = "arm64" if os.uname().machine in ("aarch64", "arm64") else "x86_64"
    config = DeployConfig(python, machine, 50.0, 250.0, 128, False)
    try:
        wheels(ROOT / "lambda_pkg/requirements.txt", config, ROOT / packaging.CACHE)
    except InputError as error:
        pytest.skip(str(error))
    (folder / "page.json").write_text("{}")
    build(model, folder / "page.json", folder / "function.zip", config, ROOT)
    with zipfile.ZipFile(folder / "function.zip") as archive:
        archive.extractall(folder / "task")
    return folder / "task"


@pytest.mark.slow
def test_the_unpacked_zip_answers_on_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    model = tmp_path / "model.ts"
    save_archive(model)
    available = pythons()
    # Without one of Lambda's interpreters, this one runs the same files with its own NumPy.
    version, python = next(iter(available.items()), ("3.13", sys.executable))
    task = unpacked(tmp_path, version, model)
    if not available:
        with capsys.disabled():
            print("\nno Python 3.12-3.14 here: the zip runs on this Python and its own NumPy")
        for name in ("numpy", "numpy.libs"):
            shutil.rmtree(task / name)
    script = tmp_path / "run.py"
    script.write_text(RUN)
    # -S leaves out installed packages, so only the unpacked folder can help.
    flags = ["-I", "-S"] if available else ["-I"]
    command = [python, *flags, "-B", str(script), str(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr == ""
    found = json.loads(done.stdout.splitlines()[-1])  # the log's line stands before it
    if available:
        assert found["python"] == [int(part) for part in version.split(".")]
        assert Path(found["numpy"][1]).is_relative_to(task)
    assert found["numpy"][0] == np.__version__
    assert not {"torch", "ruamel", "scipy", "pianoai.params"} & set(found["modules"])
    if available:  # an answer needs NumPy's core alone
        assert not {"numpy.lib", "numpy.linalg"} & set(found["modules"])
    answer = found["answer"]
    assert answer["seed"] == 3
    assert len(answer["notes"]) > 20
    here = subprocess.run(
        [sys.executable, "-c", RUN, str(ROOT / "lambda_pkg")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PIANOAI_MODEL": str(model), "PYTHONPATH": str(ROOT)},
    )
    assert json.loads(here.stdout.splitlines()[-1])["answer"] == answer


EVERY_KIND = """
import json, sys
sys.path.insert(0, sys.argv[1])
import handler
notes = [{"pitch": 60, "start": beat, "duration": 1} for beat in range(40)]
asked = [
    {"frames": 9, "prompt": [[60], [60, 64]]},
    {"beats": 4, "prompt": notes, "format": "midi", "include_prompt": True, "temperature": 0},
    {"frames": 9, "top_p": 0.9, "min_p": 0.1, "format": "roll", "variations": 2},
    {"route": "health"},
    {"frames": 0},
]
answers = [handler.lambda_handler(fields, None) for fields in asked]
answers.append(handler.lambda_handler({"frames": 9, "state": answers[0]["state"]}, None))
answers.append(handler.lambda_handler({"frames": 9, "prompt": answers[1]["midi"]}, None))
print(json.dumps([[answer.get("status") for answer in answers], sorted(sys.modules)]))
"""


@pytest.mark.slow
def test_the_model_that_ships_needs_numpys_core_alone(tmp_path: Path) -> None:
    """The rest of NumPy is a third of a start, and to import it for a request takes over a second of Lambda's share."""
    version, python = next(iter(pythons().items()), ("", ""))
    if not version:
        pytest.skip("no Python 3.12-3.14 here")
    task = unpacked(tmp_path, version, ROOT / "pianoai/model.ts")
    command = [python, "-I", "-S", "-B", "-c", EVERY_KIND, str(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    statuses, modules = json.loads(done.stdout.splitlines()[-1])
    assert statuses == [None, None, None, None, 400, None, None]
    assert not {"numpy.lib", "numpy.linalg", "numpy.matrixlib"} & set(modules)


def unpacked_without_a_model(folder: Path) -> tuple[str, str, Path]:
    """A version of Python that Lambda has too, its interpreter, and the zip for it, unpacked; skips where none is."""
    available = pythons()
    if not available:
        pytest.skip("no Python 3.12-3.14 here")
    version, python = next(iter(available.items()))
    model = folder / "model.ts"
    model.write_bytes(b"")
    return version, python, unpacked(folder, version, model)


NAMES = """
import ast, importlib, json, pathlib, sys
task = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(task))
known, names = {"np": "numpy", "numpy": "numpy"}, set()
for path in [task / "handler.py", *(task / "pianoai").rglob("*.py")]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        # np.a.b.c, and imports
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if text.split(".")[0] in known and text.replace(".", "").replace("_", "").isalnum():
                names.add(text)
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names |= {f"{node.module}.{each.name}" for each in node.names}
names = {name for name in names if name.split(".")[0] in (*known, "pianoai")}
for name in sorted(names):
    first, *rest = name.split(".")
    found = importlib.import_module(known.get(first, first))
    for part in rest:
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
print(json.dumps(sorted(names)))
"""


@pytest.mark.slow
def test_the_trimmed_wheels_have_every_name_that_the_zip_uses(tmp_path: Path) -> None:
    _, python, task = unpacked_without_a_model(tmp_path)
    # The model is empty, so the handler itself is read and not imported.
    command = [python, "-I", "-S", "-B", "-W", "error", "-c", NAMES, str(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    used = json.loads(done.stdout)
    assert {"np.maximum.accumulate", "np.tile"} <= set(used)
    (task / "pianoai/runtime/extra.py").write_text("import numpy as np\nnp.fft.fft\n")
    broken = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "No module named 'numpy.fft'" in broken.stderr


LEFT_OUT = {"char", "core", "ctypeslib", "emath", "f2py", "fft", "ma", "polynomial", "random", "rec", "test", "testing"}
LEFT_OUT |= {"__array_namespace_info__", "show_config", "typing"}


def test_the_file_in_the_place_of_numpys_own_has_its_names(tmp_path: Path) -> None:
    own_numpy(tmp_path)
    code = (
        "import json, sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import numpy\n"
        "assert not {'numpy.lib', 'numpy.linalg', 'numpy.typing'} & set(sys.modules)\n"
        "missing = [name for name in json.loads(sys.argv[1]) if not hasattr(numpy, name)]\n"
        "print(json.dumps([numpy.__file__, numpy.__version__, missing, numpy.tri(2).tolist()]))"
    )
    command = [sys.executable, "-I", "-S", "-B", "-c", code, json.dumps(np.__all__)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    file, version, missing, lower = json.loads(done.stdout)
    assert Path(file).is_relative_to(tmp_path)
    assert version == np.__version__
    assert set(missing) == LEFT_OUT & set(np.__all__)
    assert lower == [[1, 0], [1, 1]]


@pytest.mark.slow
def test_the_trimmed_numpy_computes_and_keeps_its_licences(tmp_path: Path) -> None:
    version, python, task = unpacked_without_a_model(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(task)!r})\n"
        "import numpy, sys\n"
        "assert 'numpy.lib' not in sys.modules\n"
        "a = numpy.eye(50) + numpy.tri(50) / 50\n"  # from numpy.lib
        "assert abs(numpy.linalg.inv(a) @ a - numpy.eye(50)).max() < 1e-9\n"
        "import numpy.strings, numpy.lib.format\n"
        "print(numpy.__file__)"
    )
    done = subprocess.run([python, "-I", "-S", "-B", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert Path(done.stdout.strip()).is_relative_to(task)
    names = {path.relative_to(task).as_posix() for path in task.rglob("*") if path.is_file()}
    assert not [name for name in names if re.search(r"/tests/|\.pyi$|\.h$|\.a$|/f2py/|^numpy/(fft|ma|testing)/", name)]
    licences = [name for name in names if re.search("licen[cs]e|copying", name.lower())]
    original = next((ROOT / packaging.CACHE).glob(f"python{version}-*/numpy-*.whl"))
    with zipfile.ZipFile(original) as archive:
        assert {name for name in archive.namelist() if re.search("dist-info/licenses/.*[^/]$", name)} <= set(licences)
    assert trim(original).keys() <= names
    assert (task / "numpy/__init__.py").read_bytes() == (ROOT / "lambda_pkg/numpy_init.py").read_bytes()
