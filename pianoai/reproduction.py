"""Runs the whole pipeline again and says what came out equal to the last commit, and whether the rest agrees with it.

python -m pianoai.reproduction                exit code 1 where metrics do not agree
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from pianoai.runtime.errors import InputError
from pianoai.summary import MODELS

# Three standard deviations over seeds, of the family that has the most, the Transformer and the GAN
# (benchmarks/results/families.json): where rounding differs, training takes another path, as with another seed.
TOLERANCE = {"nll": 0.12, "overlap": 0.035}
MEASURED = ("metrics/timings.json", "metrics/lambda.json")  # never the same, and no stage's output


@dataclass(frozen=True)
class Results:
    """What a run leaves, at a commit or in the working folder."""

    outputs: dict[str, str]  # MD5 by path, as dvc.lock has them
    scores: dict[str, float]  # nll by model and split, in nats a frame, and overlap of the models' music by model
    winner: str


def main() -> int:
    """Run, print, and return the exit code."""
    root = Path()
    try:
        refuse_changes(root)
        before = committed(root)
        subprocess.run([sys.executable, "-m", "dvc", "repro", "--force"], check=True)
    except InputError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError:
        return 1
    text, agrees = compare(before, results(lambda name: (root / name).read_text("utf-8")))
    print(text)
    return int(not agrees)


def refuse_changes(root: Path) -> None:
    """Raises InputError where something differs from the commit that the run is to be compared with."""
    listed = git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    changed = [line[3:] for line in listed if line[3:] not in MEASURED]
    if changed:
        raise InputError(
            f"{changed[0]}: differs from the last commit; commit it, or `git checkout` it, before comparing"
        )


def committed(root: Path) -> Results:
    """The results of the last commit. Raises InputError where it has none."""
    return results(lambda name: git(root, "show", f"HEAD:{name}"))


def git(root: Path, *arguments: str) -> str:
    """What a command of git prints. Raises InputError with its first line when it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"git {' '.join(arguments)}: {done.stderr.splitlines()[0]}")
    return done.stdout


def results(read: Callable[[str], str]) -> Results:
    """Results by a function from a file's name to its text."""
    lock = YAML(typ="safe").load(read("dvc.lock"))
    outputs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
    metrics = {name: json.loads(read(f"metrics/{name}.json")) for name in MODELS}
    scores: dict[str, float] = {}
    for name, found in metrics.items():
        scores |= {f"{name} {split} nll": found[split]["nll"] for split in ("valid", "test")}
        scores[f"{name} overlap"] = found["music"]["overlap"]
    return Results(outputs, scores, json.loads(read("metrics/selection.json"))["winner"])


def compare(before: Results, after: Results) -> tuple[str, bool]:
    """What is equal and what differs, as text, and whether scores agree within TOLERANCE and on the winner."""
    names = sorted(before.outputs | after.outputs)
    differ = [name for name in names if before.outputs.get(name) != after.outputs.get(name)]
    lines = [f"{len(names) - len(differ)} of {len(names)} outputs equal those of the last commit"]
    if not differ:
        return lines[0], True
    lines += [f"  {name} differs" for name in differ]
    within = ", ".join(f"{what} {most}" for what, most in TOLERANCE.items())
    lines += [f"Scores, which agree within {within}", f"{'':22} committed    now"]
    agrees = before.winner == after.winner
    for name, was in before.scores.items():
        now = after.scores[name]
        close = abs(now - was) <= TOLERANCE[name.split()[-1]]
        agrees &= close
        lines.append(f"{name:22} {was:9.3f} {now:6.3f}  {'agrees' if close else 'DOES NOT AGREE'}")
    lines.append(f"Chosen: {before.winner}, now {after.winner}")
    lines.append("To have the committed results back: git checkout . && dvc checkout")
    return "\n".join(lines), agrees


if __name__ == "__main__":
    sys.exit(main())
