"""What the commands of the command line do; whatever is wrong with their options raises InputError."""

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pianoai.runtime import midi, page, sampling, smf
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Model, load
from pianoai.runtime.prompts import FASTEST, SLOWEST
from pianoai.runtime.roll import (
    LOWEST_PITCH,
    PITCHES,
    TICKS_PER_BEAT,
    Notes,
    Roll,
    notes_to_roll,
    roll_to_notes,
    to_frames,
)
from pianoai.runtime.scoring import Tally, tally

MIDI = (".mid", ".midi")  # is written
READ = (*MIDI, ".smf")
SOUND = (".wav", ".mp3")
RENDERED = (*SOUND, ".png")
Losses = Counter[tuple[str, str]]  # what there is so many of, and what became of them
MODEL, PAGE = (Path(__file__).with_name(name) for name in ("model.ts", "page.json"))


def generate(options: argparse.Namespace) -> None:
    """Writes the music, and prints what was made."""
    check_output(options, MIDI + RENDERED, options.prompt)
    seed = sampling.new_seed() if options.seed is None else options.seed
    sampling.check(options.frames, seed)
    settings = sampling.Settings(options.temperature, options.top_p, options.min_p)
    if options.tempo is not None and not SLOWEST <= options.tempo <= FASTEST:
        raise InputError(f"tempo must be from {SLOWEST} to {FASTEST} quarter notes a minute, not {options.tempo:g}")
    if options.prompt is None and not options.include_prompt:
        raise InputError("--no-include-prompt is for a prompt, and there is none")
    prompt, tempo = None, midi.DEFAULT_TEMPO
    model = load_file(options.model)
    beat = model.metadata.frames_per_beat
    if options.prompt is not None:
        notes, tempo = read(options.prompt, beat)
        prompt = notes_to_roll(notes, beat)
    tempo = tempo if options.tempo is None else options.tempo
    check_length(options, len(prompt) if prompt is not None and options.include_prompt else 0, beat, tempo)
    with tqdm(total=options.frames, desc="composing", unit="frame", disable=None, leave=False) as bar:
        new = sampling.generate(model, prompt, options.frames, settings, seed, lambda done: bar.update(done - bar.n))
    roll = sampling.alone(prompt, new)
    if prompt is not None and options.include_prompt:
        roll = np.vstack([prompt, new])
    music = roll_to_notes(roll, beat)
    if not len(music):
        silent = f"silent with seed {seed}; another seed, more frames or a higher temperature may bring notes"
        if options.output.suffix.lower() in RENDERED:
            raise InputError(f"{options.output}: would be {silent}")
        say(f"note: {options.output}: is {silent}")
    write(options.output, music, tempo, options.soundfont)
    beats = options.frames / beat
    added = f"{counted(options.frames, 'new frame')} ({beats:g} {'beat' if beats == 1 else 'beats'})"
    print(one_line(f"{options.output}: {counted(len(music), 'note')}, {added}, seed {seed}"))


def score(options: argparse.Namespace) -> None:
    """Prints the table, or JSON; raises InputError for the files that are damaged after it."""
    lost: Losses = Counter()
    faults: list[str] = []
    files = find(options.paths, faults)
    benchmark = {path.suffix.lower() == ".mat" for path in files}
    if len(benchmark) == 2:
        raise InputError("score .mat files and MIDI files apart: only MIDI tells repeated notes from held ones")
    tallies: dict[str, Tally] = {}
    with tqdm(unit=" frames", disable=None, leave=False) as bar:
        model = watched(load_file(options.model), bar.update)
        for number, path in enumerate(files, 1):
            bar.set_description(f"scoring {number}/{len(files)}")
            try:
                tallies[str(path)] = tally_file(model, path, lost)
            except InputError as error:
                faults.append(str(error))
    counts = sum(tallies.values(), Tally())
    if any(lost.values()):
        say(f"note: {told(lost)}")
    short = [name for name, one in tallies.items() if not one.frames]
    if not counts.frames:
        raise InputError(*faults, *(f"{name}: too short to score; a piece needs at least two frames" for name in short))
    total = counts.summary()
    scored = {name: counts.summary() for name, counts in tallies.items() if counts.frames}
    if options.json:
        found = {"damaged": faults, "files": scored, "too_short": short, "total": total}
        print(json.dumps(found, indent=2, sort_keys=True))
    else:
        print(table(scored, short, total))
    if faults:
        raise InputError(*faults)


def render(options: argparse.Namespace) -> None:
    """Writes the sound or the picture, and prints what was made."""
    check_output(options, RENDERED, options.music)
    notes, tempo = read(options.music)
    write(options.output, notes, tempo, options.soundfont)
    size = options.output.stat().st_size
    print(one_line(f"{options.output}: {counted(len(notes), 'note')}, {size:,} bytes"))


def serve(options: argparse.Namespace) -> None:
    """Answers until somebody interrupts; prints where."""
    from pianoai.serving import Server

    if not 0 <= options.port < 65_536:
        raise InputError(f"port {options.port}: choose one from 0 to 65535")
    if options.page == PAGE and not PAGE.exists():
        print(f"{PAGE}: no page there, which `make demo` makes; POST /generate and GET /health are answered")
    else:
        check_page(options.page)
    check_file(options.model, "--model")
    with Server(options.model, options.page, options.port) as server:
        print(f"{server.url} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def one_line(text: str) -> str:
    """A text with escapes for whatever would begin a new line, or change the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def say(text: str) -> None:
    """Prints a line on standard error."""
    print(one_line(text), file=sys.stderr)


def counted(number: int, thing: str) -> str:
    """A number of things, e.g. "2 notes"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def load_file(path: Path) -> Model:
    """The model in a file. Raises InputError where there is none."""
    check_file(path, "--model")
    return load(path)


def check_file(path: Path, option: str) -> None:
    """Raises InputError where what an option names is not there, or is a folder."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; {option} must name a file")
    if not path.exists():
        raise InputError(f"{path}: no such file; {option} must name one")


def check_page(path: Path) -> None:
    """Raises InputError for a file that is no page."""
    check_file(path, "--page")
    try:
        page.reply(path, {})
    except Exception:  # nearly anything can go wrong with another file
        raise InputError(f"{path}: is no page; name a file that `make demo` made") from None


def check_output(options: argparse.Namespace, known: Sequence[str], given: Path | None) -> None:
    """Raises InputError for what cannot be written, before anything takes time; `given` may not be written over."""
    path, kind = options.output, options.output.suffix.lower()
    if kind not in known:
        endings = ", ".join(known)
        raise InputError(f"-o {path}: name a file with one of the endings {endings}, such as new{known[0]}")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file")
    if given is not None and os.path.realpath(given) == os.path.realpath(path):
        raise InputError(f"{path}: would be written over while it is read; name another file to write")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path.parent}: nothing may be written into this folder; name another one")
    if path.exists() and not os.access(path, os.W_OK):
        raise InputError(f"{path}: is there and may not be written; name another file")
    heard = kind in SOUND
    if options.soundfont is not None and not heard:
        raise InputError(f"--soundfont is for .wav and .mp3, and has no use for {path.name}")
    if options.soundfont is not None:
        check_file(options.soundfont, "--soundfont")
    if kind in RENDERED:
        from pianoai import rendering

        rendering.check(heard, options.soundfont)


def check_length(options: argparse.Namespace, before: int, frames_per_beat: int, tempo: float) -> None:
    """Raises InputError for more frames than could be read again after those before them, or heard."""
    most, why = midi.LONGEST, "the most that a file is read with"
    if options.output.suffix.lower() in SOUND:
        from pianoai.rendering import LONGEST

        if LONGEST / 60 * tempo < most:
            most, why = int(LONGEST / 60 * tempo), f"which last {LONGEST / 60:.0f} minutes, the most for sound"
    left = most * frames_per_beat - before
    if options.frames > left:
        raise InputError(f"--frames {options.frames}: over {most} quarter notes, {why}; {max(left, 0)} are left")


def read(path: Path, frames_per_beat: int = TICKS_PER_BEAT) -> tuple[Notes, float]:
    """Notes and tempo of a MIDI file; says in one line what of it is left out, or rounded to frames."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a MIDI file") from None
    notes, tempo = midi.read(data, str(path))
    content = smf.parse(data)
    lost = losses(content, notes, frames_per_beat)
    lost["other tempo", "left out"] = max(len({speed for _, speed in content.tempos}) - 1, 0)
    within = min(max(tempo, SLOWEST), FASTEST)
    lost["tempo", f"of {tempo:.0f} taken as {within:.0f}"] = int(within != tempo)
    if any(lost.values()):
        say(f"note: {path}: {told(lost)}")
    return notes, within


def losses(content: smf.Content, notes: Notes, frames_per_beat: int) -> Losses:
    """What of a MIDI file, whose notes are known, is left out, or rounded to frames."""
    beyond = sum(not LOWEST_PITCH <= pitch < LOWEST_PITCH + PITCHES for _, _, pitch, _ in content.rows)
    ticks = TICKS_PER_BEAT // frames_per_beat
    between = int(((notes["start"] % ticks != 0) | (notes["duration"] % ticks != 0)).sum())
    places = to_frames(notes["start"].astype(np.int64), frames_per_beat) * 128 + notes["pitch"]
    return Counter(
        {
            ("note", "of drums left out"): content.drums,
            ("note", "beyond a piano's keys left out"): beyond,
            ("sustaining pedal", "left out"): int(content.pedal),
            ("note", f"rounded to {frames_per_beat} frames a beat"): between,
            ("note", "merged with another of the same frame and pitch"): len(places) - len(np.unique(places)),
        }
    )


def told(lost: Losses) -> str:
    """What is lost, in words."""
    return ", ".join(f"{counted(number, thing)} {fate}" for (thing, fate), number in lost.items() if number)


def write(path: Path, notes: Notes, tempo: float, soundfont: Path | None) -> None:
    """Writes notes as the ending of a file says, all of it or nothing."""
    kind = path.suffix.lower()
    if kind in MIDI:
        content = midi.write(notes, tempo)
    else:
        from pianoai import rendering

        if kind == ".png":
            content = rendering.picture(notes, one_line(path.stem))
        else:
            samples = rendering.sound(notes, tempo, soundfont)
            content = rendering.wav(samples) if kind == ".wav" else rendering.mp3(samples)
    whole = Path(os.path.realpath(path))  # a link stays one
    part = whole.with_name(f".{whole.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(whole)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def find(paths: Sequence[Path], faults: list[str]) -> list[Path]:
    """Files as they are named, and those of MIDI in folders, each once; adds folders that cannot be read to `faults`.

    Of a folder's other files a line says how many there are.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        known = len(faults)
        files = walk(path, faults)
        music = [file for file in files if file.suffix.lower() in READ]
        if not music and len(faults) == known:
            faults.append(f"{path}: no {', '.join(READ)} file in this folder")
        others = {file.suffix.lower() or "no ending" for file in files} - set(READ)
        if others:
            left = counted(len(files) - len(music), "file")
            say(f"note: {path}: left out: {left} ({', '.join(sorted(others))})")
        found += music
    return list({os.path.realpath(file): file for file in found}.values())


def walk(folder: Path, faults: list[str]) -> list[Path]:
    """All files below a folder but hidden ones, and those in hidden folders."""

    def refuse(error: OSError) -> None:
        faults.append(f"{error.filename}: this folder cannot be read ({error.strerror}); allow it, or name others")

    files: list[Path] = []
    for place, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files)


def watched(model: Model, advance: Callable[[], object]) -> Model:
    """The model, but `advance` is called whenever it scores a frame."""

    def watch(call: Any) -> Any:
        def watching(*arguments: Any) -> Any:
            advance()
            return call(*arguments)

        return watching

    if model.sampler is not None:
        return replace(model, sampler=watch(model.sampler))
    return replace(model, step=watch(model.step))


def tally_file(model: Model, path: Path, lost: Losses) -> Tally:
    """The sums behind the scores of one file; adds what of it is lost."""
    if path.suffix.lower() == ".mat":
        from pianoai import matfile

        return sum((tally(model, roll, restrikes=False) for roll in matfile.read(path, "test")), Tally())
    notes = midi.read(path)[0]
    lost.update(losses(smf.parse(path.read_bytes()), notes, model.metadata.frames_per_beat))
    roll: Roll = notes_to_roll(notes, model.metadata.frames_per_beat)
    return tally(model, roll)


def table(scored: dict[str, dict[str, float]], short: list[str], total: dict[str, float]) -> str:
    """The scores of files, and of all together, as lines."""
    rows = [*((one_line(name), row) for name, row in scored.items()), ("total", total)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':{width}}  {'frames':>7}  {'nll':>8}  {'skill':>8}  {'F1':>6}  {'onset F1':>8}"]
    for name, row in rows:
        lines.append(
            f"{name:{width}}  {row['frames']:7d}  {row['nll']:8.3f}  {row['skill']:8.3f}"
            f"  {row['f1']:6.3f}  {row['onset_f1']:8.3f}"
        )
    lines += [f"{one_line(name)}: too short to score" for name in short]
    return "\n".join([*lines, "nll, skill: nats a frame; skill is over copying the frame before"])
