"""The command line: continue a MIDI file with a trained model, or score a model on music."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from pianoai.runtime import midi, sampling
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model, load
from pianoai.runtime.roll import Roll, notes_to_roll, roll_to_notes
from pianoai.runtime.scoring import Tally, tally

EXAMPLES = """examples:
  python -m pianoai generate -o new.mid --frames 256
  python -m pianoai generate prompt.mid -o continued.mid --temperature 0.9 --seed 7
  python -m pianoai generate prompt.mid -o continuation.mid --no-include-prompt
  python -m pianoai score music/ another.mid
  python -m pianoai score Piano_midi.mat --json
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as for any other input."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        self.exit(1, f"{self.prog}: {message} (--help shows how)\n")


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(
        prog="python -m pianoai",
        description="Continue piano music with a trained model, or score the model on music.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="generate | score")

    make = commands.add_parser("generate", help="write a MIDI file that continues a prompt, or begins anew")
    make.add_argument("prompt", nargs="?", type=Path, metavar="PROMPT.mid", help="MIDI file to continue")
    make.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mid")
    make.add_argument("--frames", type=int, default=256, help="how many frames to add (default: %(default)s)")
    make.add_argument(
        "--temperature",
        type=float,
        default=sampling.TEMPERATURE,
        help="0 to 5: 0 leaves nothing to chance, more is wilder (default: %(default)s)",
    )
    make.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="leave out of every choice what the likelier outcome alone makes up for, and the tails of velocities "
        "(default: %(default)s, nothing)",
    )
    make.add_argument(
        "--min-p",
        type=float,
        default=0.0,
        help="leave out of every choice what is less likely than this share of the likelier (default: %(default)s)",
    )
    make.add_argument("--seed", type=int, help="same seed, same music; without it a new one is drawn and printed")
    make.add_argument(
        "--include-prompt",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the prompt before its continuation (default: yes)",
    )
    make.add_argument("--tempo", type=float, help="quarter notes a minute (default: the prompt's, or 120)")

    mark = commands.add_parser("score", help="how well the model predicts given music")
    mark.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="MIDI files, folders of them, or a .mat file of the 2012 benchmark (its test split)",
    )
    mark.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for command in (make, mark):
        command.add_argument("--model", type=Path, default=Path("models/model.ts"), metavar="MODEL.ts")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, or 1 after a line on standard error."""
    options = parser().parse_args(arguments)
    try:
        print(generate(options) if options.command == "generate" else score(options))
    except InputError as error:
        print(f"pianoai: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def generate(options: argparse.Namespace) -> str:
    """Writes the MIDI file; returns the line that says what was made."""
    seed = sampling.new_seed() if options.seed is None else options.seed
    sampling.check(options.frames, seed)
    settings = sampling.Settings(options.temperature, options.top_p, options.min_p)
    if options.tempo is not None:
        midi.check_tempo(options.tempo)
    prompt, tempo = None, midi.DEFAULT_TEMPO
    model = load(options.model)
    beat = model.metadata.frames_per_beat
    if options.prompt is not None:
        notes, tempo = midi.read(options.prompt)
        prompt = notes_to_roll(notes, beat)
    shown = sys.stderr.isatty()

    def progress(done: int) -> None:
        if shown and (done % 16 == 0 or done == options.frames):
            print(f"\rframe {done} of {options.frames}", end="", file=sys.stderr, flush=True)

    new = sampling.generate(model, prompt, options.frames, settings, seed, progress)
    if shown:
        print(file=sys.stderr)
    roll = sampling.alone(prompt, new)
    if prompt is not None and options.include_prompt:
        roll = np.vstack([prompt, new])
    music = roll_to_notes(roll, beat)
    content = midi.write(music, tempo if options.tempo is None else options.tempo)
    try:
        options.output.write_bytes(content)
    except OSError as error:
        raise InputError(f"{options.output}: {error.strerror}") from None
    beats = options.frames / beat
    return f"{options.output}: {len(music)} notes, {options.frames} new frames ({beats:g} beats), seed {seed}"


def score(options: argparse.Namespace) -> str:
    """The table, or JSON with "files" and "total"."""
    files = list(_files(options.paths))
    benchmark = {path.suffix.lower() == ".mat" for path in files}
    if len(benchmark) == 2:
        raise InputError("score .mat files and MIDI files apart: only MIDI tells repeated notes from held ones")
    model = load(options.model)
    tallies = [(str(path), _tally(model, path)) for path in files]
    total = sum((counts for _, counts in tallies), Tally()).summary()
    scored = {name: counts.summary() for name, counts in tallies if counts.frames}
    short = [name for name, counts in tallies if not counts.frames]
    if options.json:
        return json.dumps({"files": scored, "too_short": short, "total": total}, indent=2, sort_keys=True)
    return _table(scored, short, total)


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".mid", ".midi"))
        if not found:
            raise InputError(f"{path}: no .mid or .midi file in this folder")
        yield from found


def _tally(model: Model, path: Path) -> Tally:
    if path.suffix.lower() == ".mat":
        from pianoai import matfile

        return sum((tally(model, roll, restrikes=False) for roll in matfile.read(path, "test")), Tally())
    roll: Roll = notes_to_roll(midi.read(path)[0], model.metadata.frames_per_beat)
    return tally(model, roll)


def _table(scored: dict[str, dict[str, float]], short: list[str], total: dict[str, float]) -> str:
    rows = [*scored.items(), ("total", total)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}  {'frames':>7}  {'nll':>8}  {'skill':>8}  {'F1':>6}  {'onset F1':>8}"]
    for name, row in rows:
        lines.append(
            f"{name:{width}}  {row['frames']:7d}  {row['nll']:8.3f}  {row['skill']:8.3f}"
            f"  {row['f1']:6.3f}  {row['onset_f1']:8.3f}"
        )
    lines += [f"{name}: too short to score" for name in short]
    return "\n".join([*lines, "nll, skill: nats a frame; skill is over copying the frame before"])


if __name__ == "__main__":
    sys.exit(main())
