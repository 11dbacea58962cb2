"""The runtime against ONNX Runtime and PyTorch's TorchScript: one Transformer, one thread, frame by frame.

make bench-runtime     (about a minute; Linux only; writes benchmarks/results/runtime.json)

Each figure of ONNX Runtime is its best: `onnx_step` says what its graph is; time, memory and cold start are of a file
that it optimised beforehand, the package holds one with matrices in half precision, as our archive has them. Processes
have NumPy as it is installed for ONNX Runtime and as the zip has it for ours; the figures of ONNX Runtime beside the
zip's NumPy are measured too (`onnxruntime_lean`).
TorchScript gets an archive in single precision, or it would convert the matrices in every call.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from benchmarks import onnx_step, players
from benchmarks.players import FRAMES, NOISE, Player
from pianoai import export, packaging, params
from pianoai.checkpoint import Checkpoint
from pianoai.metrics.likelihood import Calibration, Thresholds
from pianoai.models.transformer import Config, Model
from pianoai.packaging import MB, DeployConfig
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import PITCHES, Floats
from pianoai.verification.local import own_numpy

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # read when NumPy and PyTorch are imported
CONFIG = Config(
    embed_dim=128,
    heads=4,
    blocks=4,
    feedforward=512,
    head="independent",
    head_units=1,
    recall_heads=1,
    dropout=0.0,
    learning_rate=0.001,
)
WINDOW = 64
SEED = 1
COMPARED = 200  # frames in which probabilities are compared
TOLERANCE = 1e-5
TIES = 1  # frames that may be drawn otherwise, since a random number can lie between two nearly equal probabilities
ROUNDS = 60  # of FRAMES frames
STARTS = 15  # fresh processes
WHEELS = Path("benchmarks/onnxruntime_wheels.txt")
RESULTS = Path("benchmarks/results/runtime.json")
# Of the package onnxruntime, what a session does not need: converters, and a second copy of the library for C.
UNUSED_FOLDERS = {"backend", "datasets", "quantization", "tools", "transformers"}
UNUSED_PREFIX = "onnxruntime/capi/libonnxruntime.so"
# Ratios and what is wished for.
TARGETS = {
    "frame_ratio_ort": 1.0,
    "memory_ratio_ort": 0.6,
    "cold_ratio_ort": 0.6,
    "package_ratio_ort": 0.4,
    "frame_ratio_torchscript": 0.5,
}
LEAN = "_lean"  # beside the NumPy of the zip
FIGURES = {
    "frame_ms": "a frame, ms of CPU time",
    "memory_mb": "peak memory of a process that makes 64 frames, MB",
    "cold_ms": "from the start of a process to its first frame, ms",
    "package_mb": "package for Lambda, MB",
    "unpacked_mb": "package, unpacked, MB",
}
Figures = dict[str, dict[str, float]]  # by player and figure


def main() -> None:
    """Measures, prints the table, writes the file."""
    try:
        if not Path("/proc/self/status").is_file():
            raise InputError("memory is read from /proc, which only Linux has")
        if any(os.environ.get(name) != "1" for name in THREADS):
            raise InputError(f"{', '.join(THREADS)} must be 1, as `make bench-runtime` sets them")
        with tempfile.TemporaryDirectory() as folder:
            results = measure(Path(folder))
    except InputError as error:
        sys.exit(f"error: {error}")
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", "utf-8")
    print(table(results))
    missed = [name for name, target in TARGETS.items() if results[name] > target]
    print("Not reached: " + ", ".join(missed) if missed else "All targets reached")


def measure(folder: Path) -> dict[str, Any]:
    """All figures, of models that it writes into `folder`. Raises InputError where the three disagree."""
    torch.set_num_threads(1)
    model = random_model()
    export.rounded(model, "float16")  # what half precision can hold, so that all files have the same weights
    files = {name: folder / name for name in ("model.ts", "single.ts", "half.onnx", "plain.onnx", "optimised.onnx")}
    files["model.ts"].write_bytes(archive(model, "float16"))
    files["single.ts"].write_bytes(archive(model, "float32"))
    files["half.onnx"].write_bytes(onnx_step.build(model, half=True))
    files["plain.onnx"].write_bytes(onnx_step.build(model, half=False))
    players.optimise(files["plain.onnx"], files["optimised.onnx"])
    chosen = {"ours": "model.ts", "onnxruntime": "optimised.onnx", "torchscript": "single.ts"}
    own_numpy(folder / "lean")

    shipped: Figures = {
        "ours": our_package(files["model.ts"], folder / "ours.zip"),
        "onnxruntime": their_package(files["half.onnx"], folder / "theirs.zip"),
    }
    fresh: dict[str, list[tuple[float, float]]] = {name: [] for name in (*shipped, "onnxruntime" + LEAN)}
    for _ in range(STARTS + 1):
        for name, runs in fresh.items():
            player = name.removesuffix(LEAN)
            lean = folder / "lean" if player == "ours" or player != name else None
            runs.append(fresh_process(player, files[chosen[player]], lean))
    compared = {name: players.PLAYERS[name](files[file]) for name, file in chosen.items()}
    difference = compare(compared)
    frames = frame_times(compared)
    figures: Figures = {name: {"frame_ms": ms} for name, ms in frames.items()}
    for name, runs in fresh.items():
        cold, memory = (statistics.median(column) for column in zip(*runs[1:], strict=True))  # the first compiles
        figures.setdefault(name, {}).update({"cold_ms": cold, "memory_mb": memory} | shipped.get(name, {}))
    rounded = {name: {key: round(value, 4) for key, value in each.items()} for name, each in figures.items()}
    return {
        **ratios(rounded),
        "figures": rounded,
        "largest_difference": difference,
        "parameters": export.count_parameters(model),
        "machine": platform.machine(),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("numpy", "onnxruntime", "torch")},
    }


def random_model() -> Model:
    """A Transformer of 0.86 million parameters, its vectors moved away from zero and one."""
    torch.manual_seed(SEED)
    model = Model(CONFIG, WINDOW).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not export.is_matrix(parameter):
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def archive(model: Model, weights: str, config: Config = CONFIG) -> bytes:
    """The archive of a model that was never trained; what it says besides weights is not used here."""
    checkpoint = Checkpoint("transformer", asdict(config), model.state_dict(), model.window, 4, "0" * 64)
    rates = np.full((3, PITCHES), 0.5, np.float32)
    said = export.describe(checkpoint, Calibration(), Thresholds(0.5, 0.5), rates, 1)
    return export.to_archive(model, said, weights)


def compare(compared: Mapping[str, Player]) -> float:
    """The largest difference of a probability from ours, all hearing the frames that ours draws.

    Raises InputError where it is above TOLERANCE, or other notes are drawn.
    """
    noise = np.random.Generator(np.random.PCG64(SEED)).random((COMPARED, NOISE), np.float32)
    frame = np.zeros(PITCHES, np.float32)
    worst, others = dict.fromkeys(compared, 0.0), dict.fromkeys(compared, 0)
    for player in compared.values():
        player.start()
    for row in noise:
        answers = {name: player.step(frame, row) for name, player in compared.items()}
        frame, said = answers["ours"]
        for name, (drawn, probabilities) in answers.items():
            others[name] += bool((drawn != frame).any())
            worst[name] = float(np.maximum(worst[name], np.abs(probabilities - said).max()))  # keeps NaN
    for name, difference in worst.items():
        if not difference <= TOLERANCE:
            raise InputError(f"{name} computes something else: probabilities differ by {difference:.2g}")
        if others[name] > TIES:
            raise InputError(f"{name} draws something else in {others[name]} of {COMPARED} frames")
    return max(worst.values())


def frame_times(
    compared: Mapping[str, Player], rounds: int = ROUNDS, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Milliseconds a frame of each player, medians of rounds in which they take turns.

    CPU time of all threads: on an idle machine it is the time that passes, on a busy one the others do not count.
    """
    noise = np.random.Generator(np.random.PCG64(SEED)).random((FRAMES, NOISE), np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in compared}
    for _ in range(rounds + 1):
        for name, player in compared.items():
            player.start()
            frame: Floats = np.zeros(PITCHES, np.float32)
            start = clock()
            for row in noise:
                frame, _ = player.step(frame, row)
            seconds[name].append(clock() - start)
    return {name: statistics.median(each[1:]) / FRAMES * 1000 for name, each in seconds.items()}  # the first warms up


def fresh_process(name: str, model: Path, lean: Path | None) -> tuple[float, float]:
    """Milliseconds from the start of a process to its first frame, and its peak memory in MB after FRAMES frames.

    The process has the modules in `lean`, the interpreter's own and the paths of this one, without the search for
    .pth files.
    """
    paths = [str(Path.cwd()), *([str(lean)] if lean else []), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages come with bytecode, so ours has it too
    command = [sys.executable, "-S", players.__file__, name, str(model)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - start
        rest = process.stdout.read()
    if process.returncode or first != "first\n":
        raise InputError(f"{name} made no frame in a fresh process; its message stands above")
    return seconds * 1000, int(rest) / 1024


def deploy_config() -> DeployConfig:
    """What params.yaml says of the function, but modules are shipped as source alone, in both packages."""
    return replace(params.read("deploy", DeployConfig), bytecode=False)


def our_package(archive: Path, out: Path) -> dict[str, float]:
    """Sizes in MB of the package for Lambda but for its page: handler, runtime, NumPy and the model."""
    sizes = packaging.build(archive, None, out, deploy_config())
    return {"package_mb": sizes["zip_bytes"] / MB, "unpacked_mb": sizes["content_bytes"] / MB}


def their_package(model: Path, out: Path) -> dict[str, float]:
    """Sizes in MB of the least that runs the model with ONNX Runtime: it, NumPy and the model, without a handler."""
    config = deploy_config()
    content = {"model.onnx": model.read_bytes()}
    for requirements in (WHEELS, Path("lambda_pkg/requirements.txt")):
        for wheel in packaging.wheels(requirements, config, packaging.CACHE):
            if wheel.name.startswith(("onnxruntime-", "numpy-")):
                content |= {name: data for name, data in packaging.trim(wheel).items() if needed(name)}
    packaging.write_zip(content, out)
    return {"package_mb": out.stat().st_size / MB, "unpacked_mb": sum(map(len, content.values())) / MB}


def needed(name: str) -> bool:
    """Whether a file of a trimmed wheel is needed by a session of ONNX Runtime."""
    parts = PurePosixPath(name).parts
    tool = len(parts) > 2 and parts[0] == "onnxruntime" and parts[1] in UNUSED_FOLDERS
    return not tool and not name.startswith(UNUSED_PREFIX)


def ratios(figures: Figures) -> dict[str, float]:
    """Our figures over theirs."""
    keys = {"frame": "frame_ms", "memory": "memory_mb", "cold": "cold_ms", "package": "package_mb"}
    ours, theirs = figures["ours"], figures["onnxruntime"]
    found = {f"{name}_ratio_ort": ours[key] / theirs[key] for name, key in keys.items()}
    lean = figures["onnxruntime" + LEAN]
    found |= {f"{name}_ratio_ort{LEAN}": ours[keys[name]] / lean[keys[name]] for name in ("memory", "cold")}
    found["frame_ratio_torchscript"] = ours["frame_ms"] / figures["torchscript"]["frame_ms"]
    return {name: round(ratio, 3) for name, ratio in found.items()}


def table(results: Mapping[str, Any]) -> str:
    """The figures as Markdown; the ratio is ours over ONNX Runtime's."""
    versions = results["versions"]
    heads = {
        "ours": f"this runtime, NumPy {versions['numpy']}",
        "onnxruntime": f"ONNX Runtime {versions['onnxruntime']}",
        "onnxruntime" + LEAN: "the same, with the zip's NumPy",
        "torchscript": f"TorchScript, PyTorch {versions['torch']}",
    }
    title = f"{results['parameters'] / 1e6:.2f} M parameters, one thread"
    lines = [f"| {' | '.join([title, *heads.values(), 'ratio'])} |", "|---|" + "---:|" * (len(heads) + 1)]
    for key, label in FIGURES.items():
        values = [results["figures"][name].get(key) for name in heads]
        cells = ["" if value is None else f"{value:.{2 if value < 10 else 0}f}" for value in values]
        lines.append(f"| {label} | {' | '.join(cells)} | {values[0] / values[1]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
