"""The command line: continue a MIDI file, score a model on music, render MIDI as sound or picture, serve the page."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import shtab
from tqdm import tqdm

from pianoai.runtime import midi, sampling
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model, load
from pianoai.runtime.roll import Notes, Roll, notes_to_roll, roll_to_notes
from pianoai.runtime.scoring import Tally, tally

MIDI = (".mid", ".midi")
RENDERED = (".wav", ".mp3", ".png")
MODEL, PAGE = (Path(__file__).with_name(name) for name in ("model.ts", "page.json"))
EXAMPLES = {
    "generate": (
        "generate -o new.mid --frames 256",
        "generate prompt.mid -o continued.mid --temperature 0.9 --seed 7",
        "generate prompt.mid -o continuation.wav --no-include-prompt",
    ),
    "score": ("score music/ another.mid", "score Piano_midi.mat --json"),
    "render": ("render new.mid -o new.wav", "render new.mid -o new.png"),
    "serve": ("serve --port 8000",),
}
CODES = "exit codes: 0 done, 1 something is wrong with what was given (one line says what), 130 interrupted"


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as for any other input."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        self.exit(1, f"{self.prog}: {message} (--help shows how)\n")


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(
        prog="pianoai",
        description="Continue piano music with a trained model, score it on music, render MIDI, or serve a page.",
        epilog=examples(*EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shtab.add_argument_to(top, "--completion", help="print what makes a shell complete commands, and exit")
    commands = top.add_subparsers(dest="command", required=True, metavar=" | ".join(EXAMPLES))

    def command(name: str, purpose: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=examples(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    make = command("generate", "write a MIDI file that continues a prompt, or begins anew; or its sound or picture")
    make.add_argument("prompt", nargs="?", type=Path, metavar="PROMPT.mid", help="MIDI file to continue")
    output(make)
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

    mark = command("score", "how well the model predicts given music")
    mark.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="MIDI files, folders of them, or a .mat file of the 2012 benchmark (its test split)",
    )
    mark.add_argument("--json", action="store_true", help="print JSON instead of a table")

    draw = command("render", "turn a MIDI file into sound (.wav, .mp3) or a picture of its piano roll (.png)")
    draw.add_argument("music", type=Path, metavar="MUSIC.mid")
    output(draw)

    show = command("serve", "a page on this machine that plays: the function that Lambda runs, by HTTP")
    show.add_argument("--port", type=int, default=8000, help="of 127.0.0.1; 0 takes a free one (default: %(default)s)")
    show.add_argument("--page", type=Path, default=PAGE, metavar="PAGE.json", help="another one than `make demo` makes")

    for each in (make, mark, show):
        each.add_argument(
            "--model", type=Path, default=MODEL, metavar="MODEL.ts", help="another one than that of this installation"
        )
    return top


def examples(*names: str) -> str:
    """The end of a help text."""
    lines = "".join(f"  pianoai {example}\n" for name in names for example in EXAMPLES[name])
    return f"examples:\n{lines}\n{CODES}"


def output(command: argparse.ArgumentParser) -> None:
    """The options of a command that writes music."""
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="its ending says what to write"
    )
    command.add_argument("--soundfont", type=Path, metavar="FONT.sf2", help="of the sound, instead of a small free one")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, or 1 after a line on standard error."""
    options = parser().parse_args(arguments)
    try:
        said = {"generate": generate, "score": score, "render": render, "serve": serve}[options.command](options)
        if said:
            print(said)
    except InputError as error:
        print(f"pianoai: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def generate(options: argparse.Namespace) -> str:
    """Writes the music; returns the line that says what was made."""
    check_output(options, MIDI + RENDERED)
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
    with tqdm(total=options.frames, desc="composing", unit="frame", disable=None, leave=False) as bar:
        new = sampling.generate(model, prompt, options.frames, settings, seed, lambda done: bar.update(done - bar.n))
    roll = sampling.alone(prompt, new)
    if prompt is not None and options.include_prompt:
        roll = np.vstack([prompt, new])
    music = roll_to_notes(roll, beat)
    write(options.output, music, tempo if options.tempo is None else options.tempo, options.soundfont)
    beats = options.frames / beat
    return f"{options.output}: {len(music)} notes, {options.frames} new frames ({beats:g} beats), seed {seed}"


def score(options: argparse.Namespace) -> str:
    """The table, or JSON with "files" and "total"."""
    files = list(_files(options.paths))
    benchmark = {path.suffix.lower() == ".mat" for path in files}
    if len(benchmark) == 2:
        raise InputError("score .mat files and MIDI files apart: only MIDI tells repeated notes from held ones")
    model = load(options.model)
    shown = tqdm(files, desc="scoring", unit="file", disable=None, leave=False)
    tallies = [(str(path), _tally(model, path)) for path in shown]
    total = sum((counts for _, counts in tallies), Tally()).summary()
    scored = {name: counts.summary() for name, counts in tallies if counts.frames}
    short = [name for name, counts in tallies if not counts.frames]
    if options.json:
        return json.dumps({"files": scored, "too_short": short, "total": total}, indent=2, sort_keys=True)
    return _table(scored, short, total)


def render(options: argparse.Namespace) -> str:
    """Writes the sound or the picture; returns the line that says what was made."""
    check_output(options, RENDERED)
    notes, tempo = midi.read(options.music)
    write(options.output, notes, tempo, options.soundfont)
    return f"{options.output}: {len(notes)} notes, {options.output.stat().st_size:,} bytes"


def check_output(options: argparse.Namespace, known: Sequence[str]) -> None:
    """Raises InputError for what cannot be written, before anything takes time."""
    path, kind = options.output, options.output.suffix.lower()
    if kind not in known:
        raise InputError(f"{path}: end its name in one of {', '.join(known)}")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    heard = kind in (".wav", ".mp3")
    if options.soundfont is not None and not heard:
        raise InputError(f"--soundfont is for .wav and .mp3, and has no use for {path.name}")
    if kind in RENDERED:
        from pianoai import rendering

        rendering.check(heard, options.soundfont)


def write(path: Path, notes: Notes, tempo: float, soundfont: Path | None) -> None:
    """Writes notes as the ending of a file says."""
    kind = path.suffix.lower()
    if kind in MIDI:
        content = midi.write(notes, tempo)
    else:
        from pianoai import rendering

        if kind == ".png":
            content = rendering.picture(notes, path.stem)
        else:
            samples = rendering.sound(notes, tempo, soundfont)
            content = rendering.wav(samples) if kind == ".wav" else rendering.mp3(samples)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def serve(options: argparse.Namespace) -> None:
    """Answers until somebody interrupts; prints where."""
    from pianoai.serving import Server

    if not 0 <= options.port < 65_536:
        raise InputError(f"port {options.port}: choose one from 0 to 65535")
    if not options.page.is_file():
        print(f"{options.page}: no page there, which `make demo` makes; POST /generate and GET /health are answered")
    with Server(options.model, options.page, options.port) as server:
        print(f"{server.url} (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in MIDI)
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
