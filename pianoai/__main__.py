"""The command line: continue a MIDI file, score a model on music, render MIDI as sound or picture, serve the page."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pianoai
from pianoai.runtime.errors import InputError

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
LISTEN = "to listen: any player opens .wav and .mp3: `xdg-open new.wav` on Linux, `open new.wav` on macOS\n"
CODES = "exit codes: 0 done, 1 something is wrong with a file or value (a line says what), 2 with how the command is\n"
CODES += "written, 130 interrupted, 141 nobody reads the output any more; Ctrl-C ends serve with 0"
SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")
CLOSED = 141  # the exit code of a program whose output nobody reads any more, 128 + SIGPIPE


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, as for any other input."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        from pianoai.commands import say

        say(f"error: {message} ({self.prog} --help shows how)")
        self.exit(2)


class Completion(argparse.Action):
    """Prints what makes a shell complete commands and names of files, and ends the program."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Writes the script for the shell that was named."""
        try:
            import shtab  # nothing else needs it
        except ImportError:
            raise InputError("shtab is needed for this: pip install shtab") from None
        mark(parser, shtab.FILE)
        print(shtab.complete(parser, values))
        parser.exit()


def mark(parser: argparse.ArgumentParser, files: Any) -> None:
    """Has shells complete names of `files` wherever a path is asked for."""
    for action in parser._actions:
        if action.type is Path:
            action.complete = files  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                mark(command, files)


def parser() -> Parser:
    """All commands and their options."""
    from pianoai.commands import MODEL, PAGE
    from pianoai.runtime.sampling import TEMPERATURE

    top = Parser(
        prog="pianoai",
        description="Continue piano music with a trained model, score it on music, render MIDI, or serve a page.",
        epilog=ending(*EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"pianoai {pianoai.__version__}")
    top.add_argument(
        "--completion", action=Completion, choices=SHELLS, help="print what makes a shell complete commands, and exit"
    )
    commands = top.add_subparsers(dest="command", required=True, metavar=" | ".join(EXAMPLES))

    def command(name: str, purpose: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.{more}",
            epilog=ending(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    make = command("generate", "write a MIDI file that continues a prompt, or begins anew; or its sound or picture")
    make.add_argument(
        "prompt",
        nargs="?",
        type=Path,
        metavar="PROMPT.mid",
        help="MIDI file to continue; drums, pitches outside 21-108 and all tempos but the first are left out, and "
        "notes go to the nearest frame of the model; pedals and instruments are not heard, nor is more than its end",
    )
    output(make, ".mid or .midi, .wav or .mp3 (sound), or .png (piano roll)")
    make.add_argument(
        "--frames",
        type=int,
        default=256,
        help="how many frames to add, 1 to 100000; 4 are a beat for the model that ships (default: %(default)s)",
    )
    make.add_argument(
        "--temperature",
        type=float,
        default=TEMPERATURE,
        help="0 to 5: 0 leaves nothing to chance, more is wilder (default: %(default)s)",
    )
    make.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="never draw the less likely of two outcomes where the other has at least this probability; velocities "
        "lose their tails alike (default: %(default)s, any may be drawn)",
    )
    make.add_argument(
        "--min-p",
        type=float,
        default=0.0,
        help="never draw the less likely of two outcomes where its probability is below this share of the other's; "
        "0.1 leaves out what is ten times less likely (default: %(default)s, any may be drawn)",
    )
    make.add_argument(
        "--seed", type=int, help="0 to 2^63-1: same seed, same music; without it a new one is drawn and printed"
    )
    make.add_argument(
        "--include-prompt",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the prompt before its continuation (default: yes)",
    )
    make.add_argument(
        "--tempo", type=float, help="4 to 1000 quarter notes a minute (default: those of the prompt, or 120)"
    )

    score = command(
        "score",
        "tell how well the model predicts given music",
        "\nnll: surprise in nats a frame, lower is better; skill: how much less it is than that of copying the frame\n"
        "before; F1: from 0 to 1, how well the pitches that sound, or begin (onset F1), are told.",
    )
    score.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="MIDI files, folders of them (.mid, .midi, .smf), or a .mat file of the 2012 benchmark (its test split)",
    )
    score.add_argument("--json", action="store_true", help="print JSON instead of a table")

    render = command("render", "turn a MIDI file into sound (.wav, .mp3) or a picture of its piano roll (.png)")
    render.add_argument(
        "music",
        type=Path,
        metavar="MUSIC.mid",
        help="MIDI file; drums, pedals, pitches outside 21-108 and all tempos but the first are left out; sound lasts "
        "20 minutes at most",
    )
    output(render, ".wav or .mp3 (sound), or .png (piano roll)")

    serve = command("serve", "serve a page on this machine that plays: the function that Lambda runs, by HTTP")
    serve.add_argument("--port", type=int, default=8000, help="of 127.0.0.1; 0 takes a free one (default: %(default)s)")
    serve.add_argument(
        "--page",
        type=Path,
        default=PAGE,
        metavar="PAGE.json",
        help="page to serve, a file that `make demo` makes (default: that of this installation, if it has one)",
    )

    for each in (make, score, serve):
        each.add_argument(
            "--model",
            type=Path,
            default=MODEL,
            metavar="MODEL.ts",
            help="trained model (default: that of this installation)",
        )
    return top


def ending(*names: str) -> str:
    """The end of a help text."""
    lines = "".join(f"  pianoai {example}\n" for name in names for example in EXAMPLES[name])
    listen = LISTEN if {"generate", "render"} & set(names) else ""
    return f"examples:\n{lines}\n{listen}{CODES}"


def output(command: argparse.ArgumentParser, endings: str) -> None:
    """The options of a command that writes music."""
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help=f"file to write, whose name ends in {endings}"
    )
    command.add_argument(
        "--soundfont",
        type=Path,
        metavar="FONT.sf2",
        help="soundfont to make the sound with (default: the small free one of pretty_midi)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code, see CODES."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where it is closed
            stream.reconfigure(errors="backslashreplace")
    try:
        from pianoai import commands  # takes a moment, in which one may interrupt

        try:
            options = parser().parse_args(arguments)
            getattr(commands, options.command)(options)
        finally:
            print(end="", flush=True)
    except InputError as error:
        for line in error.args:
            commands.say(f"error: {line}")
        return 1
    except OSError as error:
        if error.filename is None:  # of standard output: at the end of the program it would be flushed again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return CLOSED
        commands.say(f"error: {error.filename or 'standard output'}: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
