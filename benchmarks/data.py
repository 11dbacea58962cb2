"""How quick music becomes windows, against pypianoroll, and how memory grows with it.

python -m benchmarks.data --folder FOLDER                    (of MIDI files; ten minutes for 480)

`seconds` are from files to windows, both stages in one process, median of ROUNDS processes, after their imports.
`ratio_pypianoroll` is what the same files take as rolls of pypianoroll, median of ROUNDS in turns with those, divided
by that. They are read at 24 frames a beat, since it loses notes at 4, and pooled, in as many processes as there are
cores, which have loaded it.

`memory_growth_mb` is how much more memory of its own a stage's process needs when the music grows TEN times. For
`download` and `window` that is the files ten times, in other keys and with other notes left out, against the files; for
`train` the files against a tenth of them. Memory of its own is anonymous memory: pages of mapped files, as the frames
are, the kernel takes back when it needs them. `worker_mb` is what each process has that helps to parse files where
they are many, one to a core.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from ruamel.yaml import YAML

from pianoai import params
from pianoai.runtime import midi as writer
from pianoai.sources import DataConfig, Piece, midi
from pianoai.sources.folder import KINDS, walk

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results") / "data.json"
ROUNDS = 5
TEN = 10
PAUSE = 0.005  # seconds between two looks at the memory of a process


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, type=Path, help="of MIDI files")
    parser.add_argument("--once", action="store_true", help="only print the seconds from files to windows")
    given = parser.parse_args(arguments)
    if given.once:
        print(json.dumps(once(given.folder)))
        return
    files = midi_files(given.folder)
    if not files:
        sys.exit(f"error: {given.folder}: no MIDI files; name a folder that has some")
    seconds: list[float] = []
    theirs: list[float] = []
    with Parallel(n_jobs=-1) as parallel:
        parallel(delayed(through_pypianoroll)(path) for path in files[: TEN * (os.cpu_count() or 1)])
        for _ in range(ROUNDS):
            seconds.append(timed(given.folder))
            began = time.perf_counter()
            frames = sum(parallel(delayed(through_pypianoroll)(path) for path in files))
            theirs.append(time.perf_counter() - began)
    results: dict[str, Any] = {
        "files": len(files),
        "cores": os.cpu_count(),
        "frames_pypianoroll": frames,
        "seconds": round(statistics.median(seconds), 3),
        "ratio_pypianoroll": round(statistics.median(theirs) / statistics.median(seconds), 1),
    }
    results |= growth(given.folder, files)
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", "utf-8")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    grown = results["memory_growth_mb"]
    rows = [
        (f"{results['files']} MIDI files to windows", f"{results['seconds']:.2f} s"),
        ("pypianoroll takes", f"{results['ratio_pypianoroll']:.0f} times as long"),
        *((f"memory of `{stage}`, for ten times the music", f"{grown[stage]:+.0f} MB") for stage in grown),
        ("of each process that helps `download`, one to a core", f"{results['worker_mb']:.0f} MB"),
    ]
    return "\n".join(["| | |", "|---|---:|", *(f"| {what} | {figure} |" for what, figure in rows)])


def midi_files(folder: Path) -> list[Path]:
    """The MIDI files that the source `folder` finds below a folder, in order."""
    return sorted(folder / path for path in walk(folder) if KINDS.get(path.suffix.lower()) == "midi")


def once(folder: Path) -> float:
    """Seconds that it takes from files to windows, in this process."""
    from pianoai import collection, sources, windows

    config = settings(folder)
    sections = (("roll", windows.RollConfig), ("window", windows.WindowConfig), ("split", windows.SplitConfig))
    given: list[Any] = [params.read(section, kind) for section, kind in sections]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        collection.write(sources.pieces(config), directory, config.max_skipped)
        windows.write(collection.read(directory), directory, *given)
        return time.perf_counter() - began


def timed(folder: Path) -> float:
    """`once` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.data", "--folder", str(folder), "--once"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return float(done.stdout.splitlines()[-1])


def settings(folder: Path) -> DataConfig:
    """Section `data` of params.yaml, for a folder."""
    path = ROOT / "params.yaml"
    section = YAML(typ="safe").load(path.read_text("utf-8"))["data"]
    return params.build("data", DataConfig, section | {"source": "folder", "folder": str(folder)}, str(path))


def through_pypianoroll(path: Path) -> int:
    """A file as a roll of 4 frames a beat and 88 pitches; returns how many frames it has."""
    import pypianoroll

    song = pypianoroll.read(path, resolution=24)
    rolls = [track.pianoroll for track in song.tracks if not track.is_drum]
    length = -(-max((len(roll) for roll in rolls), default=0) // 6) * 6
    merged = np.zeros((length, 128), np.uint8)
    for roll in rolls:
        np.maximum(merged[: len(roll)], roll, out=merged[: len(roll)])
    return len(merged.reshape(-1, 6, 128).max(axis=1)[:, 21:109])


def growth(folder: Path, files: list[Path]) -> dict[str, Any]:
    """`memory_growth_mb` by stage, and `worker_mb`."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "few").mkdir()
        for number, path in enumerate(files[::TEN]):
            (work / "few" / f"{number}{path.suffix}").symlink_to(path.resolve())
        copies(files, work / "many")
        peaks: dict[str, dict[str, float]] = {}
        worker = 0.0
        for name, music in (("few", work / "few"), ("all", folder), ("many", work / "many")):
            project = work / f"project-{name}"
            project.mkdir()
            yaml = YAML()
            content = yaml.load(ROOT / "params.yaml")
            content["data"] |= {"source": "folder", "folder": str(music.resolve())}
            content["train"]["epochs"] = 1
            yaml.dump(content, project / "params.yaml")
            shutil.copy(ROOT / "requirements.lock", project)
            peaks[name] = {}
            for stage in ("download", "window", *(["train transformer"] if name != "many" else [])):
                own, helpers = peak(project, stage)
                peaks[name][stage.split()[0]] = own
                worker = max(worker, helpers)
    grown = {
        "download": peaks["many"]["download"] - peaks["all"]["download"],
        "window": peaks["many"]["window"] - peaks["all"]["window"],
        "train": peaks["all"]["train"] - peaks["few"]["train"],
    }
    return {"memory_growth_mb": {key: round(value, 1) for key, value in grown.items()}, "worker_mb": round(worker, 1)}


def copies(files: list[Path], folder: Path) -> None:
    """Each file TEN times, every copy in another key and without every thirteenth note, from another one on."""
    folder.mkdir()
    for number, path in enumerate(files):
        piece = midi.read(path.stem, path.read_bytes(), False)
        if not isinstance(piece, Piece):
            print(f"{path}: {piece.reason}; not copied", file=sys.stderr)
            continue
        for copy in range(TEN):
            kept = np.arange(len(piece.notes)) % 13 != copy
            notes = piece.notes[kept].copy()
            notes["pitch"] = np.clip(notes["pitch"].astype(int) + copy - TEN // 2, 21, 108)
            (folder / f"{number}-{copy}.mid").write_bytes(writer.write(notes))


def peak(project: Path, stage: str) -> tuple[float, float]:
    """The most anonymous memory of a stage's process, and of one of those that it starts, in MB (10^6 bytes)."""
    name, *item = stage.split()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"stages.{name}", *item]
    with subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        own = helpers = 0.0
        while running.poll() is None:
            own = max(own, anonymous(running.pid))
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            with contextlib.suppress(OSError):
                helpers = max([helpers, *(anonymous(int(child)) for child in children.read_text().split())])
            time.sleep(PAUSE)
    if running.returncode:
        sys.exit(f"error: stage {stage} failed with {running.returncode}")
    return own, helpers


def anonymous(pid: int) -> float:
    """Anonymous memory of a process in MB; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


if __name__ == "__main__":
    main()
