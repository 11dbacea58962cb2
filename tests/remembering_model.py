"""A model in NumPy whose next frame depends on the last nine, and whose step writes over the state it is given."""

import numpy as np

from pianoai.runtime.model import Model, State
from pianoai.runtime.roll import Floats
from tests.tiny_model import tiny_model

MEMORY = 9  # frames


def remembering_step(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
    """A pitch is the likelier to sound the fewer of the last nine frames it sounded in; its loudness lasts."""
    memory, loudness = state
    memory[:-1] = memory[1:]
    memory[-1] = frame > 0
    loudness[:] = np.where(frame > 1, frame, np.where(frame > 0, np.where(loudness > 0, loudness, 64), 0))
    age = np.arange(1, MEMORY + 1, dtype=np.float32)[:, None]
    chance = np.float32(0.2) + np.float32(0.6) * (1 - (memory * age).sum(0) / age.sum())
    chance[::2] *= np.float32(0.3)
    sharp = 1 / (1 + (1 / chance - 1) ** (1 / temperature))
    sounds = noise[:88] < sharp
    struck = (frame <= 0) | (noise[88:176] < 0.3)
    cells = np.where(sounds, np.where(struck, np.clip(40 + loudness / 2, 2, 127).round(), 1), 0).astype(np.float32)
    rows = np.stack([chance, np.full(88, 0.3), np.full(88, 0.5)]).astype(np.float32)
    return cells, rows, state


def remembering_model() -> Model:
    shapes = [{"shape": [MEMORY, 88], "dtype": "float32"}, {"shape": [88], "dtype": "float32"}]
    return tiny_model(remembering_step, state=shapes, family="remembering", reach=MEMORY)
