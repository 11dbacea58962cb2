"""Piano-roll pictures and MIDI of what a model made, beside what the composer wrote."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pypianoroll

from pianoai.rendering import darkened
from pianoai.runtime import midi
from pianoai.runtime.roll import LOWEST_PITCH, PITCHES, Roll, roll_to_notes

MIDI_PITCHES = 128


def draw(prompt: Roll, generated: Roll, real: Roll, frames_per_beat: int, title: str, path: Path) -> None:
    """A PNG with two piano rolls: prompt and continuation, and the prompt with what really followed.

    Rolls are (frames, 88); the line is where the prompt ends. Equal rolls give equal bytes.
    """
    mpl.use("Agg")
    figure, panels = plt.subplots(2, 1, figsize=(12, 6), sharex=True, layout="constrained")
    shown = min(len(generated), max(len(real), 2 * len(prompt)))
    rows = (
        (panels[0], f"{title}: prompt, then the model", generated[:shown]),
        (panels[1], "the same prompt, then the composer", real[:shown]),
    )
    for panel, name, continuation in rows:
        roll = np.zeros((len(prompt) + shown, MIDI_PITCHES), np.uint8)
        both = np.concatenate([prompt, continuation])
        roll[: len(both), LOWEST_PITCH : LOWEST_PITCH + PITCHES] = darkened(both)
        pypianoroll.plot_pianoroll(panel, roll, resolution=frames_per_beat, cmap="Blues", grid_axis="y", ytick="off")
        panel.set_yticks(range(24, 109, 12), [f"C{octave}" for octave in range(1, 9)])  # C4 is middle C, 60
        panel.set_ylim(LOWEST_PITCH, LOWEST_PITCH + PITCHES)
        panel.axvline(len(prompt) - 0.5, color="crimson", linewidth=1)
        bars = np.arange(0, len(roll) + 1, 16 * frames_per_beat)
        panel.set_xticks([], minor=True)
        panel.set_xticks(bars - 0.5, [str(bar // frames_per_beat) for bar in bars])
        panel.set_xlabel("")
        panel.set_title(name, fontsize=10, loc="left")
    panels[1].set_xlabel("beats")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


def write_midi(prompt: Roll, generated: Roll, frames_per_beat: int, path: Path) -> None:
    """Prompt and continuation as one MIDI file."""
    notes = roll_to_notes(np.concatenate([prompt, generated]), frames_per_beat)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(midi.write(notes))
