"""Sound and pictures of notes: what is heard is measured, what is seen is read from the pixels."""

import io
import os
import wave
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import soundfile

from pianoai import __main__ as cli
from pianoai import rendering
from pianoai.rendering import Samples
from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import make_notes

A4 = make_notes([(0, 48, 69, 100)])  # two beats
THEN = make_notes([(0, 24, 69, 100), (48, 24, 81, 100)])  # a beat, a rest, and an octave above


def loudest(samples: Samples, rate: int) -> float:
    """The frequency with the most energy, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / rate)[spectrum.argmax()])


def test_a_note_sounds_at_its_pitch_when_it_is_struck() -> None:
    samples = rendering.sound(A4, 60)
    assert np.abs(samples).max() == pytest.approx(rendering.PEAK)
    assert loudest(samples[: 2 * rendering.RATE], rendering.RATE) == pytest.approx(440, rel=0.01)
    samples = rendering.sound(THEN, 60)  # a beat is a second
    loud = np.sqrt(np.square(samples[: 3 * rendering.RATE].reshape(30, -1)).mean(axis=1))  # in tenths of a second
    assert loud[1] > 3 * loud[15]
    assert loud[21] > 3 * loud[19]
    assert loudest(samples[2 * rendering.RATE : 3 * rendering.RATE], rendering.RATE) == pytest.approx(880, rel=0.01)
    half = rendering.sound(THEN, 120)
    loud = np.sqrt(np.square(half[: 3 * rendering.RATE // 2].reshape(15, -1)).mean(axis=1))
    assert loud[11] > 3 * loud[9]


def test_it_rings_on_for_two_seconds_after_the_last_note() -> None:
    for tempo in (60, 97, 200):
        seconds = 2 * 60 / tempo + rendering.RING
        assert len(rendering.sound(A4, tempo)) / rendering.RATE == pytest.approx(seconds, abs=0.02)


def test_wav_and_mp3_hold_it() -> None:
    samples = rendering.sound(A4, 60)
    with wave.open(io.BytesIO(rendering.wav(samples))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (48_000, 1, 2)
        read = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    np.testing.assert_allclose(read, samples, atol=1 / 32768)
    data = rendering.mp3(samples)
    assert len(data) < len(samples) * 2 / 10
    decoded, rate = soundfile.read(io.BytesIO(data))
    assert rate == 24_000
    assert loudest(decoded[:48_000].astype(np.float32), rate) == pytest.approx(440, rel=0.01)
    assert rendering.mp3(rendering.sound(A4, 60)) == data


def test_a_picture_is_dark_where_notes_are() -> None:
    data = rendering.picture(THEN, "then")
    pixels = plt.imread(io.BytesIO(data))[:, :, :3].min(axis=2)
    assert rendering.picture(THEN, "then") == data
    blue = plt.imread(io.BytesIO(data))[:, :, 2] - plt.imread(io.BytesIO(data))[:, :, 0] > 0.3
    rows, columns = np.nonzero(blue)
    # The first note is below and left of the second; each is as wide as the other, and there is a beat between.
    low, high = rows > rows.mean(), rows < rows.mean()
    assert columns[low].max() < columns[high].min()
    first, second = np.ptp(columns[low]), np.ptp(columns[high])
    assert abs(first - second) <= 3
    assert abs((columns[high].min() - columns[low].max()) - first) <= 4
    assert pixels.shape[1] >= 700


def test_what_cannot_be_rendered_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = make_notes([])
    with pytest.raises(InputError, match="no notes to hear"):
        rendering.sound(nothing, 120)
    with pytest.raises(InputError, match="no notes to see"):
        rendering.picture(nothing, "")
    with pytest.raises(InputError, match="it would last 100 minutes; 20 are the most"):
        rendering.sound(make_notes([(24 * 5999, 24, 60, 64)]), 60)
    (tmp_path / "font.sf2").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"font\.sf2: could not be rendered with it"):
        rendering.sound(A4, 120, soundfont=tmp_path / "font.sf2")
    with pytest.raises(InputError, match=r"gone\.sf2: No such file"):
        rendering.sound(A4, 120, soundfont=tmp_path / "gone.sf2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="midirenderer is needed for this: pip install midirenderer pretty_midi"):
        rendering.sound(A4, 120)
    with pytest.raises(InputError, match="pretty_midi, whose soundfont is used, is missing"):
        rendering.default_soundfont()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.mid").write_bytes(midi.write(A4, 60))
    for ending, begins in ((".wav", b"RIFF"), (".mp3", b"\xff"), (".png", b"\x89PNG")):
        assert cli.main(["render", "a.mid", "-o", f"a{ending}"]) == 0
        data = Path(f"a{ending}").read_bytes()
        assert data.startswith(begins)
        assert capsys.readouterr().out == f"a{ending}: 1 note, {len(data):,} bytes\n"
    assert Path("a.wav").read_bytes() == rendering.wav(rendering.sound(A4, 60))
    assert cli.main(["render", "a.mid", "-o", "a.ogg"]) == 1
    assert (
        capsys.readouterr().err
        == "error: -o a.ogg: name a file with one of the endings .wav, .mp3, .png, such as new.wav\n"
    )
    assert cli.main(["render", "gone.mid", "-o", "a.wav"]) == 1
    assert "gone.mid" in capsys.readouterr().err
    assert cli.main(["render", "a.mid", "-o", "gone/a.wav"]) == 1
    assert capsys.readouterr().err == "error: gone: no such folder\n"
    assert cli.main(["render", "a.mid", "-o", "a.wav", "--soundfont", "gone.sf2"]) == 1
    assert capsys.readouterr().err == "error: gone.sf2: no such file; --soundfont must name one\n"
    assert cli.main(["generate", "-o", "b.mid", "--soundfont", "a.wav"]) == 1
    assert capsys.readouterr().err == "error: --soundfont is for .wav and .mp3, and has no use for b.mid\n"


def test_any_name_may_be_a_title(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for title in (r"$\frac{$", "音"):
        assert rendering.picture(A4, title).startswith(b"\x89PNG")
    assert capfd.readouterr().err == ""
    name = os.fsdecode(b"a\nb\xff.png")
    (tmp_path / "a.mid").write_bytes(midi.write(A4, 60))
    assert cli.main(["render", str(tmp_path / "a.mid"), "-o", str(tmp_path / name)]) == 0
    assert capfd.readouterr().out.endswith(
        "/a\\nb\\udcff.png: 1 note, " + f"{(tmp_path / name).stat().st_size:,} bytes\n"
    )


def test_a_library_of_the_system_or_the_soundfont_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise OSError("cannot load library 'libsndfile.so'")

    with monkeypatch.context() as patch:
        patch.setattr("importlib.import_module", missing)
        with pytest.raises(InputError, match=r"the system that it needs: .*libsndfile\.so"):
            rendering.check(True, None)
    monkeypatch.setattr(rendering, "default_soundfont", lambda: tmp_path / "gone.sf2")
    with pytest.raises(InputError, match=r"gone\.sf2: no such file; install pretty_midi again"):
        rendering.check(True, None)
    rendering.check(True, tmp_path / "own.sf2")


def test_a_tempo_that_nobody_plays_is_no_fault_of_the_soundfont(tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_bytes(midi.write(A4, 60_000_000))
    assert cli.main(["render", str(tmp_path / "a.mid"), "-o", str(tmp_path / "a.wav")]) == 0


def test_passages_sound_as_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two notes that ring into the next passage, a passage without a note, and a chord at the last beginning.
    notes = make_notes([(0, 24, 60, 90), (24 * 7, 72, 64, 100), (24 * 32, 24, 57, 70), (24 * 32, 48, 69, 80)])
    whole = rendering.sound(notes, 60)
    monkeypatch.setattr(rendering, "PASSAGE", 8.0)
    parts = rendering.sound(notes, 60)
    assert len(parts) == pytest.approx(len(whole), abs=rendering.RATE / 100)

    def loudness(samples: Samples) -> Samples:
        tenths = samples[: len(samples) // 4800 * 4800].reshape(-1, 4800)
        envelope: Samples = np.sqrt(np.square(tenths).mean(axis=1))
        return envelope

    assert loudness(parts) == pytest.approx(loudness(whole), rel=0.05, abs=0.002)
    assert loudness(parts)[80:100].min() > 0.01 > loudness(parts)[160:320].max()


def test_every_note_of_long_music_is_seen() -> None:
    beats = [*range(0, 2000, 100)]
    short = make_notes([(24 * beat + 13, 1, 69, 100) for beat in beats])
    picture = plt.imread(io.BytesIO(rendering.picture(short, "")))
    assert picture.shape[1] == rendering.WIDEST * rendering.DPI
    blue = (picture[:, :, 2] - picture[:, :, 0] > 0.3).any(axis=0)
    assert int((blue[1:] & ~blue[:-1]).sum()) == len(beats)


def test_a_terminal_sees_a_bar_when_it_takes_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mid").write_bytes(midi.write(make_notes([(0, 24, 69, 100), (24 * 100, 24, 81, 100)]), 60))
    order = ["render", str(tmp_path / "a.mid"), "-o", str(tmp_path / "a.mp3")]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for passage, seen in ((60.0, False), (1.0, True)):
        monkeypatch.setattr(rendering, "PASSAGE", passage)
        monkeypatch.setattr("sys.stderr", terminal := Terminal())
        assert cli.main(order) == 0
        bars = terminal.getvalue()
        assert ("rendering:" in bars and "/101 [" in bars) == seen, bars
        assert bars.rpartition("\r")[2].strip() == ""  # nothing stays
    monkeypatch.undo()
    assert cli.main(order) == 0
    assert capsys.readouterr().err == ""
