"""Music to hear and to see: notes as sound through a soundfont, as WAV or MP3, and as a picture of a piano roll."""

import importlib.util
import io
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pianoai.runtime import midi
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import HELD, LOWEST_PITCH, PITCHES, TICKS_PER_BEAT, Notes, Roll, notes_to_roll, velocities

RATE = 48_000  # samples a second, as the renderer makes them
PEAK = 0.9  # of full scale: how loud the loudest sample is
LONGEST = 1200.0  # seconds: twenty minutes take 0.8 GB
PASSAGE = 60.0  # seconds of music that are rendered, or encoded, at a time
RING = 2.0  # seconds that strings may sound on after the last note
END = b"\0\xff\x2f\0"  # of the track that `midi.write` writes
SOUNDFONT = "TimGM6mb.sf2"  # comes with pretty_midi
FRAMES_PER_BEAT = (24, 12, 8, 6, 4, 3, 2, 1)  # of a picture: the first that gives each frame a dot
WIDEST, DPI = 60, 90  # of a picture, in inches; dots an inch
INSTALL = "pip install midirenderer pretty_midi soundfile matplotlib"

Samples = NDArray[np.float32]


def sound(notes: Notes, tempo: float, soundfont: Path | None = None) -> Samples:
    """Notes as samples ``(n,)`` of one channel at RATE, -1 to 1, by a soundfont's first piano.

    Notes that begin in the same PASSAGE are rendered together; the passages, which ring on, are added up.
    Raises InputError where nothing sounds, it would last for over twenty minutes, the soundfont is none, or the
    libraries are missing.
    """
    if not len(notes):
        raise InputError("there are no notes to hear")
    tick = 60 / tempo / TICKS_PER_BEAT  # seconds
    seconds = int((notes["start"] + notes["duration"]).max()) * tick
    if seconds > LONGEST:
        raise InputError(f"it would last {seconds / 60:.0f} minutes; {LONGEST / 60:.0f} are the most")
    renderer = needed("midirenderer")
    path = soundfont or default_soundfont()
    try:
        font = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    length = max(round(PASSAGE / tick), 1)
    parts: list[tuple[int, Samples]] = []
    for start in bar(range(0, int(notes["start"].max()) + 1, length), "rendering"):
        passage = notes[(notes["start"] >= start) & (notes["start"] < start + length)]
        passage["start"] -= start
        try:
            data = renderer.render_wave_from(font, ringing(midi.write(passage, tempo), tempo))
        except Exception as error:  # what Rust finds wrong has no class of its own
            raise InputError(f"{path}: could not be rendered with it: {' '.join(str(error).split())}") from None
        samples, rate = needed("soundfile").read(io.BytesIO(data), dtype="float32", always_2d=True)
        if rate != RATE:
            raise InputError(f"midirenderer: {rate} samples a second, not {RATE}; install the version that is pinned")
        parts.append((round(start * tick * RATE), samples.mean(axis=1)))
    mono: Samples = np.zeros(max(at + len(samples) for at, samples in parts), np.float32)
    for at, samples in parts:
        mono[at : at + len(samples)] += samples
    mono *= np.float32(PEAK / max(float(np.abs(mono).max()), 1e-9))
    return mono


def ringing(data: bytes, tempo: float) -> bytes:
    """A MIDI file of `midi.write` whose track ends RING seconds later, since rendering ends with it."""
    (division,) = struct.unpack(">H", data[12:14])
    rest = round(RING * tempo / 60 * division)
    groups = [rest & 127]
    while rest := rest >> 7:
        groups.insert(0, rest & 127 | 128)
    track = data[22:].removesuffix(END) + bytes(groups) + END[1:]
    return data[:18] + struct.pack(">I", len(track)) + track


def bar(steps: range, doing: str) -> Iterable[int]:
    """The steps, one a PASSAGE, with a progress bar on a terminal where they take a while."""
    shown: Iterable[int] = tqdm(steps, doing, unit="min", delay=0.5, disable=None, leave=False)
    return shown


def check(heard: bool, soundfont: Path | None) -> None:
    """Raises InputError where the libraries for sound, or for pictures, are not there, or their soundfont is not."""
    for name in ("midirenderer", "soundfile") if heard else ("matplotlib",):
        needed(name)
    if heard and soundfont is None and not default_soundfont().is_file():
        raise InputError(f"{default_soundfont()}: no such file; install pretty_midi again, or name a soundfont")


def needed(name: str) -> Any:
    """A library that only some installations have. Raises InputError that says how to get it."""
    if importlib.util.find_spec(name) is None:
        raise InputError(f"{name} is needed for this: {INSTALL}")
    try:
        return importlib.import_module(name)
    except OSError as error:
        raise InputError(f"{name} cannot be loaded; install the library of the system that it needs: {error}") from None


def default_soundfont() -> Path:
    """The soundfont that pretty_midi brings. Raises InputError where it is not installed."""
    found = importlib.util.find_spec("pretty_midi")
    if found is None or found.origin is None:
        raise InputError(f"pretty_midi, whose soundfont is used, is missing: {INSTALL}, or name another")
    return Path(found.origin).with_name(SOUNDFONT)


def wav(samples: Samples) -> bytes:
    """Samples as a WAV file of 16 bits."""
    return encoded(samples, RATE, "WAV", "PCM_16")


def mp3(samples: Samples) -> bytes:
    """Samples as a small MP3, at half their rate."""
    pairs = samples[: len(samples) // 2 * 2].reshape(-1, 2)
    return encoded(pairs.mean(axis=1), RATE // 2, "MP3", "MPEG_LAYER_III")


def encoded(samples: Samples, rate: int, form: str, kind: str) -> bytes:
    """Samples in a format of libsndfile."""
    out = io.BytesIO()
    length = round(PASSAGE * rate)
    with needed("soundfile").SoundFile(out, "w", rate, 1, kind, format=form) as file:
        for start in bar(range(0, len(samples), length), "encoding"):
            file.write(samples[start : start + length])
    return out.getvalue()


def picture(notes: Notes, title: str) -> bytes:
    """A PNG of the piano roll of some notes. Raises InputError where there are none, or Matplotlib is missing."""
    if not len(notes):
        raise InputError("there are no notes to see")
    matplotlib = needed("matplotlib")
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    dots = WIDEST * DPI * TICKS_PER_BEAT / int((notes["start"] + notes["duration"]).max())  # at most, a beat
    frames = next((number for number in FRAMES_PER_BEAT if number <= dots), FRAMES_PER_BEAT[-1])
    roll = notes_to_roll(notes, frames)
    used = np.flatnonzero(roll.any(axis=0)) + LOWEST_PITCH
    beats = len(roll) / frames
    figure, panel = pyplot.subplots(figsize=(min(max(beats / 5, 8), WIDEST), 4.5), layout="constrained")
    panel.imshow(
        darkened(roll).T,
        cmap="Blues",
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        extent=(0, beats, LOWEST_PITCH - 0.5, LOWEST_PITCH + PITCHES - 0.5),
        vmin=0,
        vmax=127,
    )
    panel.set_ylim(max(used[0] - 4, LOWEST_PITCH) - 0.5, min(used[-1] + 4, LOWEST_PITCH + PITCHES - 1) + 0.5)
    octaves = [pitch for pitch in range(24, 109, 12) if used[0] - 4 <= pitch <= used[-1] + 4]
    panel.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    panel.grid(alpha=0.3)
    panel.set_xlabel("beats")
    panel.set_title(title, parse_math=False)
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of letters that the font does not have
        figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    pyplot.close(figure)
    return out.getvalue()


def darkened(roll: Roll) -> Roll:
    """Velocities of sounding cells, with the beginning of each note darker than the rest of it."""
    loudness = velocities(roll).astype(np.int64)
    dark: Roll = np.where(roll == HELD, loudness * 6 // 10, loudness).astype(np.uint8)
    return dark
