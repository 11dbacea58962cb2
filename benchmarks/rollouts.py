"""How the model that ships behaves when it plays on for long, beside real music.

python -m benchmarks.rollouts            32 prompts and 8 silences, each continued for 2,048 frames; two minutes

Each is continued again without `sampling.restless`, which keeps music from getting stuck. The pipeline's data and model
are needed (`dvc repro export`). Prompts are from the validation split, the temperature is the default. Results are
written to benchmarks/results/rollouts.json.
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np

from pianoai import windows
from pianoai.metrics.stability import density, long_silence, roll_outs, standstill, velocity, velocity_moves
from pianoai.runtime import model as runtime
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import Roll
from pianoai.runtime.sampling import Settings
from pianoai.stage import write_json

RESULTS = Path("benchmarks/results/rollouts.json")
MODEL = Path("models/model.ts")
PROMPT = 64  # frames
SEED = 1
PATIENT = ", never restless"


def main(arguments: list[str]) -> None:
    """Plays, writes the file, prints the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.rollouts", description="See the module's first lines.")
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--silences", type=int, default=8)
    given = parser.parse_args(arguments)
    try:
        music, model = windows.read(Path("data")), partial(runtime.load, MODEL)
        prompts = [roll[:PROMPT] for roll in music.excerpts("valid", 2 * PROMPT, PROMPT, given.prompts)]
        begun: dict[str, list[Roll | None]] = {"after prompts": [*prompts], "after silence": [None] * given.silences}
        rolls = {"real music": [np.asarray(roll) for roll in music.rolls("valid")]}
        for what, settings in (("", Settings()), (PATIENT, Settings(calm=math.inf))):
            for name, each in begun.items():
                rolls[name + what] = roll_outs(model, each, given.frames, settings, SEED)
    except InputError as error:
        sys.exit(f"error: {error}")
    results = {name: figures(found, music.frames_per_beat) for name, found in rolls.items()}
    write_json(RESULTS, results)
    print(table(results))


def figures(rolls: list[Roll], frames_per_beat: int) -> dict[str, float]:
    """What the table shows of rolls (frames, 88)."""
    return {
        "rolls": len(rolls),
        "density": round(density(rolls), 4),
        "standstill": round(standstill(rolls, frames_per_beat), 4),
        "long_silence": round(long_silence(rolls, frames_per_beat), 4),
        "velocity": round(velocity(rolls), 2),
        "velocity_moves": round(velocity_moves(rolls), 3),
        "first_note": max(int(roll.any(axis=1).argmax()) if roll.any() else len(roll) for roll in rolls),
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """A row for each kind of music, in Markdown."""
    lines = [
        "| | notes a frame | stands still for over 4 beats, % | silent for over 4 beats, % | first note by frame "
        "| velocity | changes by |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in sorted(results, key=lambda name: (name != "real music", PATIENT in name, name)):
        found = results[name]
        shares = " | ".join(f"{100 * found[key]:.1f}" for key in ("standstill", "long_silence"))
        loud = f"{found['velocity']:.0f} | {found['velocity_moves']:.1f}"
        lines.append(f"| {name} | {found['density']:.2f} | {shares} | {found['first_note']} | {loud} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
