"""The command line, in this process with a model in NumPy and in its own with a real archive."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import log
from pathlib import Path

import numpy as np
import pytest

import pianoai
from pianoai import __main__ as cli
from pianoai import commands, rendering
from pianoai.runtime import midi, sampling
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import load
from pianoai.runtime.roll import make_notes, notes_to_roll, roll_to_notes
from pianoai.runtime.scoring import tally
from tests.tiny_model import save_archive, tiny_model

ROOT = Path(__file__).parents[1]
# Two quarter notes, the second still sounding when the last sixteenth of the prompt ends.
PROMPT = make_notes([(0, 24, 60, 80), (24, 24, 64, 90)])


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "load", lambda path: tiny_model())
    Path("prompt.mid").write_bytes(midi.write(PROMPT, 90))


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """The one line on standard error of a command that ends with a code."""
    try:
        ended = cli.main(arguments)
    except SystemExit as stop:
        ended = stop.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert ended == code
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_generate_continues_the_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "prompt.mid", "-o", "new.mid", "--frames", "12", "--seed", "5"]) == 0
    prompt = notes_to_roll(PROMPT, 4)
    new = sampling.generate(tiny_model(), prompt, 12, sampling.Settings(), 5)
    expected = roll_to_notes(np.vstack([prompt, new]), 4)
    notes, tempo = midi.read(Path("new.mid"))
    assert notes.tolist() == expected.tolist()
    assert tempo == pytest.approx(90, abs=1e-4)
    assert capsys.readouterr().out == f"new.mid: {len(expected)} notes, 12 new frames (3 beats), seed 5\n"


def test_generate_without_the_prompt_begins_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--frames", "3", "--temperature", "0", "--no-include-prompt", "--tempo", "60"]
    assert cli.main(["generate", "prompt.mid", "-o", "new.mid", *options]) == 0
    notes, tempo = midi.read(Path("new.mid"))
    assert notes.tolist() == [(0, 18, 64, 90)]  # the tiny model at temperature 0 holds what sounds
    assert tempo == 60


def test_generate_without_a_seed_prints_one_that_repeats_the_music(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["generate", "-o", "a.mid", "--frames", "9"]) == 0
    first = capsys.readouterr().out
    assert cli.main(["generate", "-o", "b.mid", "--frames", "9", "--seed", first.split()[-1]]) == 0
    assert capsys.readouterr().out == first.replace("a.mid", "b.mid")
    assert Path("a.mid").read_bytes() == Path("b.mid").read_bytes()
    assert cli.main(["generate", "-o", "c.mid", "--frames", "9"]) == 0
    assert Path("c.mid").read_bytes() != Path("a.mid").read_bytes()


def test_generate_takes_top_p_and_min_p() -> None:
    options = ["--frames", "9", "--seed", "5", "--top-p", "0.7", "--min-p", "0.1"]
    assert cli.main(["generate", "prompt.mid", "-o", "new.mid", "--no-include-prompt", *options]) == 0
    prompt = notes_to_roll(PROMPT, 4)
    new = sampling.generate(tiny_model(), prompt, 9, sampling.Settings(0.9, 0.7, 0.1), 5)
    expected = roll_to_notes(sampling.alone(prompt, new), 4)
    assert midi.read(Path("new.mid"))[0].tolist() == expected.tolist()


def test_score_tables_and_json_agree(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("music/deep")
    folder.mkdir(parents=True)
    Path("music/b.MID").write_bytes(midi.write(make_notes([(0, 12, 60, 64)])))
    (folder / "a.midi").write_bytes(midi.write(PROMPT))
    Path("short.mid").write_bytes(midi.write(make_notes([(0, 6, 60, 64)])))
    assert cli.main(["score", "music", "short.mid", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["files"]) == ["music/b.MID", "music/deep/a.midi"]
    assert found["too_short"] == ["short.mid"]
    # b: one frame, 88 cells with 3/4, one of them held. a: 7 frames, one change of two cells.
    b = -(88 * log(0.75) + log(0.6))
    a = -((7 * 88 - 2) * log(0.75) + 2 * log(0.25) + 6 * log(0.6))
    assert found["files"]["music/b.MID"]["nll"] == pytest.approx(b, rel=1e-6)
    assert found["files"]["music/deep/a.midi"]["nll"] == pytest.approx(a / 7, rel=1e-6)
    assert found["total"]["nll"] == pytest.approx((a + b) / 8, rel=1e-6)
    assert found["total"]["frames"] == 8

    assert cli.main(["score", "music", "short.mid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["music/b.MID", "1", f"{b:.3f}"]
    assert lines[2].split()[:3] == ["music/deep/a.midi", "7", f"{a / 7:.3f}"]
    assert lines[3].split()[:3] == ["total", "8", f"{(a + b) / 8:.3f}"]
    assert lines[4] == "short.mid: too short to score"


def test_score_of_a_benchmark_file_has_no_restrikes(capsys: pytest.CaptureFixture[str]) -> None:
    scipy_io = pytest.importorskip("scipy.io")
    pieces = np.empty((1, 1), object)
    pieces[0, 0] = np.zeros((2, 88), np.uint8)
    pieces[0, 0][:, 4] = 1
    scipy_io.savemat("music.mat", {"testdata": pieces})
    assert cli.main(["score", "music.mat", "--json"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["nll"] == pytest.approx(-88 * log(0.75), rel=1e-6)
    assert "apart" in fails(capsys, "score", "music.mat", "prompt.mid")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "-o", "x.mid", "--frames", "0"), "frames must be"),
        (("generate", "-o", "x.mid", "--temperature", "nan"), "temperature must be"),
        (("generate", "-o", "x.mid", "--top-p", "0"), "top_p must be"),
        (("generate", "-o", "x.mid", "--min-p", "1.5"), "min_p must be"),
        (("generate", "-o", "x.mid", "--seed", "-1"), "seed must be"),
        (("generate", "-o", "x.mid", "--tempo", "0"), "tempo must be from 4 to 1000"),
        (("generate", "-o", "x.wav", "--tempo", "60000000"), "tempo must be from 4 to 1000"),
        (("generate", "gone.mid", "-o", "x.mid"), "gone.mid: No such file"),
        (("generate", "-o", "gone/x.mid", "--frames", "1"), "gone: no such folder"),
        (("generate", "-o", ""), "-o .: name a file with one of the endings .mid, "),
        (("generate", "-o", ".mid"), "-o .mid: name a file with one of the endings .mid, "),
        (("generate", "-", "-o", "-"), "-o -: name a file with one of the endings .mid, "),
        (("generate", "-", "-o", "x.mid"), "-: No such file or directory; name a MIDI file"),
        (("generate", "-o", "folder.mid"), "folder.mid: is a folder; name a file"),
        (("generate", "prompt.mid", "-o", "empty/../prompt.mid"), "prompt.mid: would be written over"),
        (("generate", "-o", "x.mid", "--model", "gone.ts"), "gone.ts: no such file; --model must name one"),
        (("score", "prompt.mid", "--model", "empty"), "empty: is a folder; --model must name a file"),
        (("score", "gone.mid"), "gone.mid: No such file"),
        (("score", "gone\nmid"), "gone\\nmid: No such file"),
        (("score", "empty"), "empty: no .mid, .midi, .smf file"),
    ],
)
def test_mistakes_take_one_line_and_leave_nothing(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Path("empty").mkdir()
    Path("folder.mid").mkdir()
    assert message in fails(capsys, *arguments)
    assert not Path("x.mid").exists()
    assert midi.read(Path("prompt.mid"))[0].tolist() == PROMPT.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate",), "-o/--output"),
        (("generate", "-o", "x.mid", "--frames", "many"), "--frames"),
        (("score",), "PATH"),
        (("dance",), "dance"),
        (("score", "prompt.mid", "--da\nce"), "--da\\nce (pianoai --help shows how)"),
        ((), "generate"),
    ],
)
def test_mistakes_in_the_command_itself_have_a_code_of_their_own(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in fails(capsys, *arguments, code=2)


def test_a_model_that_is_none_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise InputError(f"{path} is not a PianoAI model: no extra/pianoai.json")

    monkeypatch.setattr(commands, "load", refuse)
    Path("other.ts").touch()
    line = fails(capsys, "score", "prompt.mid", "--model", "other.ts")
    assert line == "error: other.ts is not a PianoAI model: no extra/pianoai.json\n"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which says at the end whether torch was imported."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from pianoai.__main__ import main\n"
        "code = main(sys.argv[1:]); print(sorted({'torch', 'ruamel', 'scipy'} & set(sys.modules)))\n"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", code, str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_real_archive_gives_the_same_music_without_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    save_archive(tmp_path / "model.ts")
    done = run("generate", "prompt.mid", "-o", "real.mid", "--frames", "20", "--seed", "5", "--model", "model.ts")
    assert done.stderr == ""
    assert done.stdout.endswith("seed 5\n[]\n")
    assert cli.main(["generate", "prompt.mid", "-o", "tiny.mid", "--frames", "20", "--seed", "5"]) == 0
    assert Path("real.mid").read_bytes() == Path("tiny.mid").read_bytes()
    done = run("score", "prompt.mid", "--model", "model.ts")
    assert done.stderr == ""
    assert done.stdout.endswith("\n[]\n")
    assert "total" in done.stdout


def test_an_archive_of_another_program_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), "other.ts")
    done = run("score", "prompt.mid", "--model", "other.ts")
    assert done.returncode == 1
    assert done.stderr == "error: other.ts is not a PianoAI model: no extra/pianoai.json\n"
    done = run("score", "prompt.mid", "--model", "gone.ts")
    assert "gone.ts: no such file" in done.stderr


def test_help_shows_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pianoai", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "pianoai generate prompt.mid -o" in done.stdout


# The way in


def test_help_has_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    for name, lines in cli.EXAMPLES.items():
        with pytest.raises(SystemExit) as stop:
            cli.main([name, "--help"])
        assert stop.value.code == 0
        printed = capsys.readouterr().out
        for line in lines:
            assert f"  pianoai {line}\n" in printed
            assert cli.parser().parse_args(line.split()).command == name
        assert "exit codes: 0 done, 1 something is wrong" in printed
        assert ("`xdg-open new.wav`" in printed) == (name in ("generate", "render"))
        assert ("drums" in printed) == (name in ("generate", "render"))
        assert ("nll: surprise in nats" in printed) == (name == "score")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"pianoai {pianoai.__version__}\n"


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion_for_shells(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--completion", shell])
    assert stop.value.code == 0
    script = capsys.readouterr().out
    assert all(name in script for name in cli.EXAMPLES)
    assert "temperature" in script


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("re", "render"),
        ("generate pro", "prompt.mid"),
        ("generate -o fo", "folder"),
        ("generate --soundfont pro", "prompt.mid"),
        ("score prompt.mid fo", "folder"),
        ("score --model pro", "prompt.mid"),
        ("render pro", "prompt.mid"),
        ("serve --page pro", "prompt.mid"),
    ],
)
def test_bash_completes_commands_and_files(
    words: str, completed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit):
        cli.main(["--completion", "bash"])
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    asked = f"source completion; COMP_WORDS=(pianoai {words}); COMP_CWORD={len(words.split())}; COMP_TYPE=9"
    asked += '; _shtab_pianoai; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert completed in done.stdout.split()


def test_without_shtab_only_completion_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert fails(capsys, "--completion", "bash") == "error: shtab is needed for this: pip install shtab\n"
    assert cli.main(["score", "prompt.mid"]) == 0


def test_output_is_checked_before_anything_takes_time(capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "generate", "prompt.mid", "-o", "new.txt")
    endings = ".mid, .midi, .wav, .mp3, .png"
    assert line == f"error: -o new.txt: name a file with one of the endings {endings}, such as new.mid\n"


def test_the_model_of_the_installation_is_that_of_the_lock() -> None:
    lock = (ROOT / "dvc.lock").read_text("utf-8")
    stored = re.findall(r"path: models/model\.ts\n +hash: md5\n +md5: (\w{32})", lock)
    assert set(stored) == {hashlib.md5(commands.MODEL.read_bytes()).hexdigest()}
    shipped = re.findall(r"path: pianoai/model\.ts\n +hash: md5\n +md5: (\w{32})", lock)
    assert set(shipped) == set(stored)


@pytest.mark.slow
def test_installed_with_pip_and_numpy_alone_it_makes_music(tmp_path: Path) -> None:
    """In an environment of its own, from a copy of this repository, without torch."""
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    copy = tmp_path / "repository"
    shutil.copytree(ROOT / "pianoai", copy / "pianoai", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint"]
    subprocess.run([*pip, str(ROOT / "requirements.lock"), str(copy)], check=True)
    program = tmp_path / "venv/bin/pianoai"
    done = subprocess.run(
        [program, "generate", "prompt.mid", "-o", "new.mid", "--frames", "32", "--seed", "7"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("32 new frames (8 beats), seed 7\n")
    assert done.stderr == ""
    notes, _ = midi.read(tmp_path / "new.mid")
    model = load(commands.MODEL)
    heard = notes_to_roll(PROMPT, 4)
    new = sampling.generate(model, heard, 32, sampling.Settings(), 7)
    assert notes.tolist() == roll_to_notes(np.vstack([heard, new]), 4).tolist()
    missing = subprocess.run(
        [program, "render", "new.mid", "-o", "new.wav"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1
    assert missing.stderr == f"error: midirenderer is needed for this: {rendering.INSTALL}\n"
    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in installed


# What is left out, and what is wrong with files


def test_what_of_a_prompt_is_left_out_or_moved_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    notes = make_notes([(0, 24, 60, 80), (24, 24, 10, 80), (24, 24, 120, 80), (47, 25, 64, 90)])
    notes = make_notes([*notes.tolist(), (48, 25, 64, 90)])
    data = midi.write(notes, 90)
    tempos = b"\x00\xff\x51\x03\x07\xa1\x20\x00\xff\x51\x03\x07\xa1\x21"
    others = b"\x00\xb0\x40\x3f\x00\xb0\x40\x40\x00\x99\x24\x40\x01\x99\x24\x00\x00\x99\x26\x40\x01\x89\x26\x40"
    track = data[22:-4] + tempos + others + data[-4:]
    Path("rich.mid").write_bytes(data[:18] + len(track).to_bytes(4, "big") + track)
    assert cli.main(["generate", "rich.mid", "-o", "new.mid", "--frames", "4"]) == 0
    lost = "2 notes of drums left out, 2 notes beyond a piano's keys left out, 1 sustaining pedal left out"
    rounded = "2 notes rounded to 4 frames a beat, 1 note merged with another of the same frame and pitch"
    assert capsys.readouterr().err == f"note: rich.mid: {lost}, {rounded}, 2 other tempos left out\n"
    assert cli.main(["score", "rich.mid", "rich.mid"]) == 0
    assert capsys.readouterr().err == f"note: {lost}, {rounded}\n"  # a file counts once
    assert cli.main(["render", "rich.mid", "-o", "new.png"]) == 0
    assert capsys.readouterr().err == f"note: rich.mid: {lost}, 2 other tempos left out\n"
    assert cli.main(["generate", "prompt.mid", "-o", "new.mid", "--frames", "4"]) == 0
    assert capsys.readouterr().err == ""
    Path("fast.mid").write_bytes(midi.write(make_notes([(0, 24, 60, 80)]), 2000))
    assert cli.main(["generate", "fast.mid", "-o", "new.mid", "--frames", "4"]) == 0
    assert capsys.readouterr().err == "note: fast.mid: 1 tempo of 2000 taken as 1000\n"
    assert midi.read(Path("new.mid"))[1] == 1000


def test_what_would_be_too_long_is_not_composed_first(capsys: pytest.CaptureFixture[str]) -> None:
    for name, more, said in (
        ("new.mid", [], "over 20000 quarter notes, the most that a file is read with; 80000 are left"),
        ("new.wav", [], "over 2400 quarter notes, which last 20 minutes, the most for sound; 9600 are left"),
        ("new.mp3", ["--tempo", "4"], "over 80 quarter notes, which last 20 minutes, the most for sound; 320 are left"),
    ):
        assert cli.main(["generate", "-o", name, "--frames", "90000", *more]) == 1
        assert capsys.readouterr().err == f"error: --frames 90000: {said}\n"
        assert not Path(name).exists()
    Path("long.mid").write_bytes(midi.write(make_notes([(0, 24, 60, 80), (24 * 19_998, 24, 60, 80)]), 120))
    assert cli.main(["generate", "long.mid", "-o", "new.mid", "--frames", "5"]) == 1
    assert capsys.readouterr().err.endswith("; 4 are left\n")
    assert cli.main(["generate", "long.mid", "-o", "new.mid", "--frames", "4"]) == 0
    assert len(midi.read(Path("new.mid"))[0]) >= 2


def test_leaving_out_a_prompt_takes_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "-o", "new.mid", "--no-include-prompt"]) == 1
    assert capsys.readouterr().err == "error: --no-include-prompt is for a prompt, and there is none\n"


def test_music_without_a_note_is_called_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "-o", "x.mid", "--frames", "1", "--temperature", "0", "--seed", "5"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "x.mid: 0 notes, 1 new frame (0.25 beats), seed 5\n"
    assert printed.err.startswith("note: x.mid: is silent with seed 5; ")
    assert cli.main(["generate", "-o", "x.png", "--frames", "1", "--temperature", "0", "--seed", "5"]) == 1
    assert capsys.readouterr().err.startswith("error: x.png: would be silent with seed 5; another seed")
    assert cli.main(["generate", "prompt.mid", "-o", "x.mid", "--frames", "4", "--temperature", "0"]) == 0
    assert " notes, 4 new frames (1 beat), seed " in capsys.readouterr().out


def test_score_takes_each_file_of_a_folder_once_and_says_what_it_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (
        "music/a.smf",
        "music/b.mid",
        "music/c.KAR",
        "music/d.krn",
        "music/e",
        "music/.f/f.mid",
        "music/.g.mid",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(midi.write(PROMPT))
    Path("music/h.mid").symlink_to("b.mid")
    assert cli.main(["score", "music", "./music/a.smf", "--json"]) == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["files"]) == 2
    assert json.loads(printed.out)["total"]["frames"] == 14
    assert printed.err == "note: music: left out: 3 files (.kar, .krn, no ending)\n"


def test_score_prints_what_is_good_and_names_the_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("music").mkdir()
    Path("music/bad.mid").write_bytes(midi.write(PROMPT)[:-9])

    def walk(folder: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
        onerror(PermissionError(13, "Permission denied", "music/closed"))
        yield "music", [], ["bad.mid"]

    monkeypatch.setattr("os.walk", walk)
    assert cli.main(["score", "music", "prompt.mid", "gone.mid"]) == 1
    printed = capsys.readouterr()
    assert [line.split()[:2] for line in printed.out.splitlines()[1:3]] == [["prompt.mid", "7"], ["total", "7"]]
    assert printed.err.splitlines() == [
        "error: music/closed: this folder cannot be read (Permission denied); allow it, or name others",
        "error: music/bad.mid: the MIDI file ends too early; it was cut off",
        "error: gone.mid: No such file or directory",
    ]
    assert cli.main(["score", "music"]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 2)


def test_score_tells_how_far_it_is_within_a_file() -> None:
    roll = notes_to_roll(PROMPT, 4)
    for sampler in (None, lambda frame, state, noise: (np.full((len(noise), 3, 88), 0.5, np.float32), state)):
        done: list[int] = []
        model = replace(tiny_model(), sampler=sampler)
        watched = commands.watched(model, partial(done.append, 1))
        assert tally(watched, roll) == tally(model, roll)
        assert len(done) == 7


def test_outputs_are_whole_or_as_they_were(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("real.mid").write_bytes(b"before")
    Path("link.mid").symlink_to("real.mid")

    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert fails(capsys, "generate", "-o", "link.mid") == "error: link.mid: No space left on device\n"
    assert Path("real.mid").read_bytes() == b"before"
    assert sorted(path.name for path in Path().iterdir()) == ["link.mid", "prompt.mid", "real.mid"]
    assert cli.main(["generate", "-o", "link.mid", "--frames", "4"]) == 0
    assert Path("link.mid").is_symlink()
    assert Path("real.mid").read_bytes().startswith(b"MThd")


def test_what_may_not_be_written_is_refused_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there.mid").touch()
    monkeypatch.setattr(commands, "load", lambda path: pytest.fail("it began"))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "there.mid")
    line = fails(capsys, "generate", "-o", "there.mid")
    assert line == "error: there.mid: is there and may not be written; name another file\n"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    line = fails(capsys, "generate", "-o", "there.mid")
    assert line == "error: .: nothing may be written into this folder; name another one\n"

    def hidden(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", hidden)
    assert fails(capsys, "score", "root/x") == "error: root/x: Permission denied\n"


# The terminal and the shell


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which $pianoai is the command; a pipe has the exit code of the last of it that fails."""
    program = f"{sys.executable} -m pianoai"
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "pianoai": program, **environment}
    bash = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(bash, env=variables, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("command", ["score prompt.mid", "--completion powershell"])
def test_a_reader_that_has_enough_ends_it_quietly(command: str) -> None:
    done = shell(f"$pianoai {command} | (exec <&-; sleep 1)")
    assert (done.returncode, done.stderr) == (cli.CLOSED, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_said_in_a_line() -> None:
    done = shell("$pianoai score prompt.mid > /dev/full")
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


def test_letters_that_the_terminal_lacks_are_escaped() -> None:
    done = shell("$pianoai generate -o 音.mid --frames 9 --seed 7", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.startswith("\\u97f3.mid: ")
    done = shell("$pianoai score 音", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, "error: \\u97f3: No such file or directory\n")


def test_interrupted_while_it_begins_it_ends_quietly() -> None:
    code = "import builtins, os, signal, sys\nreal = builtins.__import__\n"
    code += "def interrupted(name, *rest, **more):\n    if name == 'numpy': os.kill(os.getpid(), signal.SIGINT)\n"
    code += "    return real(name, *rest, **more)\nbuiltins.__import__ = interrupted\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it may be ignored where the tests run
    code += "from pianoai.__main__ import main; sys.exit(main(['score', 'prompt.mid']))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
