"""docs/runtime.md: its Python and its commands run, and its tables and numbers are those of the code.

python -m tests.test_runtime_page       measures a start of the function's parts, as the page shows it
"""

import compileall
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pianoai import params
from pianoai.runtime import archive, compiler, limits, model, recording, roll, sampling, torchscript
from pianoai.runtime.operators import (
    OPERATORS,
    activations,
    creation,
    elementwise,
    indexing,
    layers,
    promotion,
    reductions,
    shapes,
    values,
)
from pianoai.verification.local import own_numpy

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/runtime.md").read_text("utf-8")
MODEL = ROOT / "pianoai/model.ts"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
END = "-- end of a block --"
PARTS = {
    "Python": "pass",
    "NumPy": "import numpy as np",
    "modules of the runtime": "from pianoai.runtime import function, model, stepping, torchscript",
    "archive read, code compiled": "script = torchscript.load('model.ts')",
    "step planned": "it = stepping.model(script, model.read_metadata(script.extra['pianoai.json'], 'model.ts'))",
    "read planned": "it.read(np.zeros((it.metadata.read, 88), np.uint8), it.start())",
}
CHILD = f"""import time
for statement in {list(PARTS.values())}:
    exec(statement)
    status = open("/proc/self/status").read().split()
    print(time.process_time() * 1000, int(status[status.index("VmRSS:") + 1]) / 1024)"""
KINDS = {
    "element by element": elementwise.ELEMENTWISE,
    "activations": activations.ACTIVATIONS,
    "shapes": shapes.SHAPES,
    "indices": indexing.INDEXING,
    "reductions": reductions.REDUCTIONS,
    "products, layers": layers.LAYERS,
    "new tensors": creation.CREATION,
    "values, lists, types": values.VALUES,
}


def main() -> None:
    """Print the table of a start."""
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree("pianoai", f"{folder}/pianoai", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(MODEL, folder)
        own_numpy(Path(folder))
        columns = [measured(folder)]
        compileall.compile_dir(folder, quiet=1)
        columns.append(measured(folder))
        shutil.rmtree(f"{folder}/numpy")
        columns.append(measured(folder, *filter(None, sys.path)))
    print("".join(f"{head:23}" for head in ("as shipped", "with bytecode", "and all of NumPy")).rstrip())
    for name, *row in zip(PARTS, *columns, strict=True):
        print("".join(f"{ms:5.0f} ms {mb:5.1f} MB       " for ms, mb in row)[:-4] + name)


def measured(folder: str, *more: str) -> Any:
    """Milliseconds of CPU time and MB resident at the end of each part, medians of five processes."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, *more]), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-S", "-B", "-c", CHILD]
    runs = [subprocess.check_output(command, cwd=folder, env=environment, text=True).split() for _ in range(5)]
    return np.median(np.array(runs, float), 0).reshape(-1, 2)


def without_numbers(text: str) -> list[str]:
    return re.sub(r"[\d.]+", "0", text).split()


def run(command: list[str], folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the model where the page has it."""
    (tmp_path / "pianoai").mkdir()
    shutil.copy(MODEL, tmp_path / "pianoai")
    return tmp_path


@pytest.mark.slow
def test_python_prints_what_the_page_shows(folder: Path) -> None:
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == PAGE.count("```python")
    (folder / "session.py").write_text("".join(f"{code}\nprint({END!r})\n" for code, _ in blocks))
    printed = run([sys.executable, "-W", "ignore", "session.py"], folder).split(f"{END}\n")[:-1]
    for (code, shown), found in zip(blocks, printed, strict=True):
        if "_time()" in code:
            assert without_numbers(found) == without_numbers(shown)
        elif shown:
            assert found == shown
    largest = float(printed[-1].split()[-1])
    assert largest < 1e-5


@pytest.mark.slow
def test_the_example_of_a_model_of_ones_own_stands_alone(tmp_path: Path) -> None:
    ((code, shown),) = [block for block in BLOCK.findall(PAGE) if "torch.jit.save" in block[0]]
    assert run([sys.executable, "-W", "ignore", "-c", code], tmp_path) == shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_commands_print_what_the_page_shows(folder: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks))
    assert len(commands) == 6
    for line, shown in commands:
        found = run(["bash", "-c", line.replace(".venv/bin/python", sys.executable)], folder)
        if "tests.test_runtime_page" in line:
            assert without_numbers(found) == without_numbers(shown)
        elif shown:
            assert found == shown
        else:
            assert found or "zipfile -e" in line, line


def test_the_table_of_operators_is_that_of_the_code() -> None:
    rows = dict(
        re.findall(r"(?m)^\| ([a-z, ]+) \| ([\w`(). ]+) \|$", PAGE.partition("| kind |")[2].partition("\n\n")[0])
    )
    assert list(rows) == list(KINDS)
    for kind, table in KINDS.items():
        named: list[str] = []
        for each in rows[kind].replace("`", "").split():
            name = each.removesuffix("(_)")
            plain = name in ("int", "float", "bool") or "." in name
            named += [name if plain else f"torch.{name}"] + ([f"torch.{name}_"] if name != each else [])
        assert sorted(named) == sorted(table), kind
    assert sum(map(len, KINDS.values())) == len(OPERATORS)
    assert f"{len(OPERATORS)} operators in NumPy" in PAGE
    dtypes = re.search(r"\*\*Dtypes\*\*: (.*?);", PAGE, re.DOTALL)
    assert dtypes
    known = {str(dtype) for dtype in promotion.CODES.values()}
    assert set(re.findall(r"`(\w+)`", dtypes[1])) == known


def test_the_entries_and_fields_are_those_of_the_archive() -> None:
    opened = archive.Archive(MODEL)
    (code,) = opened.code
    assert f"`code/{code.replace('.', '/')}.py`" in PAGE
    row = next(line for line in PAGE.splitlines() if line.startswith("| `code/"))
    program = compiler.Program(opened)
    assert {f"`{name.rpartition('.')[2]}`" for name in program.functions} == set(re.findall(r"`\w+`", row))
    row = next(line for line in PAGE.splitlines() if line.startswith("| `extra/pianoai.json`"))
    fields = set(re.findall(r"`(\w+)`", row)) - {"read"}
    assert fields == set(json.loads(opened.extra[model.METADATA])) - {"read"}
    assert "`read` (frames that `read` takes)" in row
    assert not opened.attributes.state
    stored = [value for value in archive.Archive(MODEL).constants if isinstance(value, np.ndarray)]
    assert {value.ndim for value in stored if value.dtype == np.float16} == {2}


def test_the_steps_of_a_frame_are_those_of_the_plans() -> None:
    script = torchscript.load(MODEL)
    said = model.read_metadata(script.extra[model.METADATA], "model.ts")
    state = tuple(np.zeros(shape, dtype) for shape, dtype in said.state)
    frame, noise = np.zeros(88, np.float32), np.zeros(said.noise, np.float32)
    plans: dict[str, Any] = {"hear": script.plan("hear", frame, state, noise)}
    context = plans["hear"].outputs[0]
    plans["begin"] = script.plan("begin", context, frame, noise, np.array(1, np.float32))
    hidden, logits, quantiles, last = plans["begin"].outputs
    plans["turn"] = script.plan("turn", hidden, last.copy(), logits, quantiles)
    plans["end"] = script.plan("end", plans["turn"].outputs[2], quantiles)
    for name, plan in plans.items():
        assert re.search(rf"  {name} +{len(plan._steps)} steps:", PAGE), name
    reading = script.plan("read", np.zeros((said.read, 264), np.float32), *(part.copy() for part in state[:2]))
    given = script.plan("given", context.copy(), np.zeros(264, np.float32))
    assert reading is not None
    assert given is not None
    assert f"`read` ({len(reading._steps)} steps) hears {said.read} frames" in PAGE
    assert f"`given` ({len(given._steps)} steps)" in PAGE
    program = compiler.Program(archive.Archive(MODEL))
    count = 0

    def counted(name: str, operator: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            return operator(*args, **kwargs)

        return call

    method = next(name for name in program.functions if name.endswith(".hear"))
    program.bind(counted, dict)[method](program.archive.attributes, frame, state, noise)
    assert f"`hear` had {count} calls" in PAGE


def test_the_limits_are_those_of_the_code() -> None:
    exponents = {limits.LARGEST: "2^25", limits.WORK: "2^32", archive.LARGEST: "2^28", compiler.LONGEST_CODE: "2^20"}
    exponents |= {model.LARGEST: "2^22"}
    for value, shown in exponents.items():
        assert value == eval(shown.replace("^", "**"))
        assert shown in PAGE
    for text in (
        f"| all entries, unpacked | {archive.LARGEST >> 20} MB |",
        f"| {archive.LONGEST_PICKLE >> 20} MB; {archive.MOST_DIMENSIONS} dimensions, 2^28 elements |",
        f"| {limits.STEPS:,} |",
        f"| {limits.MADE >> 30} GB; 2^32 bytes and multiply-adds |",
        f"| {limits.LONGEST:,} items |",
        f"| {limits.KEPT >> 20} MB each |",
        f"| {recording.LONGEST:,} calls, {recording.LARGEST >> 20} MB of results |",
        f"| {roll.PITCHES + 1} |",
        f"A step takes {roll.NOISE}: {roll.PITCHES} for sounding",
        f"the {2 * roll.PITCHES} of notes",
        f"after {sampling.CALM:g} beats",
    ):
        assert text in PAGE, text
    names = ["archive", "translation", "compiler", "limits", "recording", "plan", "torchscript"]
    files = [ROOT / f"pianoai/runtime/{name}.py" for name in names]
    files += (ROOT / "pianoai/runtime/operators").glob("*.py")
    lines = sum(len(file.read_text("utf-8").splitlines()) for file in files)
    assert f"the {round(lines, -2):,} lines" in PAGE


def test_figures_are_those_that_were_measured() -> None:
    from pianoai.export import ExportConfig  # and PyTorch, which `main` does not need

    export = json.loads((ROOT / "metrics/export.json").read_text("utf-8"))
    verified = json.loads((ROOT / "metrics/lambda.json").read_text("utf-8"))
    figures = json.loads((ROOT / "benchmarks/results/runtime.json").read_text("utf-8"))["figures"]
    ours, theirs = figures["ours"], figures["onnxruntime"]
    chosen = params.read("export", ExportConfig, ROOT / "params.yaml")
    torch_version = re.search(r"(?m)^torch==(.*)$", (ROOT / "requirements.lock").read_text("utf-8"))
    assert torch_version
    flat = " ".join(PAGE.split())
    for text in (
        f"{theirs['frame_ms']:.2f} ms a frame to {ours['frame_ms']:.2f} here",
        f"a package of {theirs['package_mb']:.0f} MB to {ours['package_mb']:.0f}",
        f"a process of {theirs['memory_mb']:.0f} MB to {ours['memory_mb']:.0f}",
        f"costs {export['rounding_nll']:.0e} nats a frame",
        f"(the runtime's: {export['difference_runtime']:.0e})",
        f"each draws {export['frames_drawn']} frames",
        f"(`near_ties`: {export['near_ties']})",
        f"on {chosen.windows} windows",
        f"`export.tolerance`, {chosen.tolerance:.0e}".replace("e-05", "e-5"),
        f"with AWS's client, it has found {verified['resident_mb']:.0f} MB resident",
        f"PyTorch {torch_version[1]}, which",
    ):
        assert text in flat, text


def test_what_is_said_of_a_start_is_what_its_table_shows() -> None:
    rows = re.findall(r"(?m)^ +(\d+) ms +([\d.]+) MB +(\d+) ms +([\d.]+) MB +(\d+) ms +([\d.]+) MB   (.*)$", PAGE)
    shown = {name: [float(number) for number in row] for *row, name in rows}
    assert list(shown) == list(PARTS)
    saved = np.subtract(shown["NumPy"][4:], shown["NumPy"][2:4])
    planned = np.subtract(shown["step planned"], shown["archive read, code compiled"])
    read = np.subtract(shown["read planned"], shown["step planned"])
    flat = " ".join(PAGE.split())
    assert f"{saved[0]:.0f} ms and {saved[1]:.1f} MB less, with bytecode" in flat
    assert f"a step takes {planned[0]:.0f} ms and {planned[1]:.1f} MB" in flat
    assert f"and `read` {read[0]:.0f} ms and {read[1]:.1f} MB" in flat


if __name__ == "__main__":
    main()
