"""Answers a checked request: hears the prompt, draws frames while time and room last, writes them down."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pianoai.runtime import chance, midi, sampling, token
from pianoai.runtime.model import Model, State
from pianoai.runtime.requests import MOST_NOTES, Request
from pianoai.runtime.roll import HELD, LOWEST_PITCH, PITCHES, SILENT, TICKS_PER_BEAT, Floats, Roll, roll_to_notes
from pianoai.runtime.scoring import cross_entropy

# Seconds of a whole processor that scoring and writing take, about twice what was measured: fixed, a note, a frame.
WRITING = {"notes": (0.005, 6e-6, 7e-6), "midi": (0.005, 1.2e-5, 7e-6), "roll": (0.005, 0.0, 2.3e-5)}
MARGIN = 0.2  # seconds that Lambda may need to take the answer
BUSY, WALL = 0.02, 0.28  # a function of 128 MB has a fourteenth of a processor: assumed until more is measured
FIRST_LOOK = 16  # frames after which it is known how long hearing takes
LOOK = 16  # frames after which the processor's clock is asked again: at every call the system may put the process aside

Remaining = Callable[[], float]


class Budget:
    """The time and the notes that an answer has, when it must still be written.

    A function of 128 MB gets a share of a processor, so what writing costs on a whole one is scaled by how much
    slower this request has run so far than it would have on a whole one.
    """

    def __init__(self, remaining: Remaining, request: Request) -> None:
        self.remaining = remaining
        self.form = request.format
        self.frames = request.repeats * len(request.heard)  # to write, so far
        self.notes = request.repeated_notes
        self.began = time.perf_counter(), time.process_time()
        self.slowness = WALL / BUSY
        self.divide(1)

    def seconds(self) -> float:
        """How long it is until writing must begin."""
        wall, busy = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        self.slowness = max((wall + WALL) / (busy + BUSY), 1.0)
        return self.estimate()

    def estimate(self) -> float:
        """The same, with the slowness as it was when `seconds` was last asked for."""
        fixed, per_note, per_frame = WRITING[self.form]
        writing = fixed + per_note * self.notes + per_frame * self.frames
        return self.remaining() - MARGIN - self.slowness * writing

    def divide(self, variations: int) -> None:
        """Give the next variation its share of what is left, of so many that are still to come."""
        self.kept = max(self.seconds(), 0.0) * (1 - 1 / variations)
        self.most = self.notes + (MOST_NOTES - self.notes) // variations

    def lasts(self) -> bool:
        """Whether another frame may be drawn."""
        left = self.estimate if self.frames % LOOK else self.seconds
        return self.notes <= self.most - PITCHES and left() > self.kept


@dataclass(frozen=True)
class Piece:
    """What was drawn in one variation."""

    frames: Roll  # (n, 88), n >= 0
    seed: int
    drawn: int  # frames that the seed's random numbers have been used for, with those of the pieces before
    nll: float | None  # nats a frame; none without a frame


def compose(model: Model, checksum: str, request: Request, remaining: Remaining) -> dict[str, Any]:
    """The answer to a request; `remaining` tells the seconds left, `checksum` the SHA-256 of the model's file.

    Where they do not suffice, or MOST_NOTES is reached, the music is shorter than asked for and "complete" is false.
    """
    heard = request.heard if len(request.heard) else np.zeros((1, PITCHES), np.uint8)
    budget = Budget(remaining, request)
    state = hear(model, heard[:-1], budget)
    pieces = []
    seeds = choose_seeds(request)
    kept = model.keep(state) if state is not None and len(seeds) > 1 else None  # the first step is the end of `state`
    for at, (seed, drawn) in enumerate(seeds):
        budget.divide(len(seeds) - at)
        if at and kept is not None:
            state = model.keep(kept)
        pieces.append(draw(model, state, heard, request, seed, drawn, budget))
    answers = [write(model, checksum, request, heard, piece) for piece in pieces]
    if request.variations is None:
        return answers[0] | {"tempo": request.tempo}
    answers.sort(key=lambda answer: np.inf if answer["nll"] is None else answer["nll"])
    complete = all(answer["complete"] for answer in answers)
    return {"variations": answers, "complete": complete, "seed": seeds[0][0], "tempo": request.tempo}


def choose_seeds(request: Request) -> list[tuple[int, int]]:
    """The seed of every variation and how many frames have been drawn with it; the first is the request's own.

    Without a seed, a piece that goes on does so with the random numbers that come next in its own, and any other
    gets a new one, or 0 where nothing is left to chance.
    """
    seed, drawn = request.seed, 0
    if seed is None and request.resumed is not None and request.variations is None:
        seed, drawn = request.resumed.seed, request.resumed.drawn
    if seed is None:
        seed = 0 if request.settings.certain else sampling.new_seed()
    others = range(1, request.variations or 1)
    return [(seed, drawn), *((chance.another_seed(seed, at), 0) for at in others)]


def hear(model: Model, frames: Roll, budget: Budget) -> State | None:
    """The state after some frames ``(n, 88)``; None if there was no time to hear them."""
    state = model.start()
    at, size, pace = 0, FIRST_LOOK, 0.0
    while at < len(frames):
        # Half as long again as the last frames took, and there is no way to stop in between.
        if budget.seconds() <= 1.5 * pace * size:
            return None
        began = time.perf_counter()
        state = model.read(frames[at : at + size], state)
        pace = (time.perf_counter() - began) / size
        at, size = at + size, model.metadata.window
    return state


def draw(
    model: Model, state: State | None, heard: Roll, request: Request, seed: int, drawn: int, budget: Budget
) -> Piece:
    """The frames after `heard` ``(n, 88)``: as many as asked for, or as the budget has room for; no state, no frame."""
    frames = np.empty((request.frames, PITCHES), np.uint8)
    probabilities = np.empty((request.frames, 2, PITCHES), np.float32)
    done = 0
    if state is not None:
        following = sampling.play(model, state, heard, request.settings, seed, drawn)
        while done < request.frames and budget.lasts():
            frames[done], said = next(following)
            probabilities[done] = said[:2]
            budget.notes += int(np.count_nonzero(frames[done] > HELD))
            budget.frames += 1
            done += 1
    used = 0 if request.settings.certain else done
    nll = mean_nll(probabilities[:done], heard[-1], frames[:done]) if done else None
    return Piece(frames[:done], seed, drawn + used, nll)


def mean_nll(probabilities: Floats, before: Roll, frames: Roll) -> float:
    """Nats a frame of frames ``(n, 88)`` after `before` ``(88,)``, from probabilities ``(n, 2, 88)``: `scoring.score`.

    n is at least 1.
    """
    sounds = frames != SILENT
    sounded = np.concatenate([before[None] != SILENT, sounds[:-1]])
    both = sounds & sounded
    chances = probabilities.astype(np.float64)
    again = cross_entropy(chances[:, 1][both], frames[both] > HELD)
    return float(cross_entropy(chances[:, 0], sounds).sum() + again.sum()) / len(frames)


def write(model: Model, checksum: str, request: Request, heard: Roll, piece: Piece) -> dict[str, Any]:
    """A piece as an answer says it."""
    metadata = model.metadata
    whole = np.concatenate([heard, piece.frames])
    place = token.Token(token.ending(whole, metadata.reach + 1), piece.seed, piece.drawn, request.tempo)
    answer = {
        "seed": piece.seed,
        "frames": len(piece.frames),
        "complete": len(piece.frames) == request.frames,
        "nll": piece.nll,
        "state": token.write(place, checksum),
    }
    roll = piece.frames
    if request.include_prompt:
        answer["prompt_frames"] = len(request.heard)
        roll = np.concatenate([request.heard, piece.frames])
    if request.format == "roll":
        return answer | {"roll": roll.tolist()}
    tied = (roll[:1] == HELD).any(axis=0) if not request.include_prompt else np.zeros(PITCHES, bool)
    music = roll_to_notes(roll if request.include_prompt else sampling.alone(heard, roll), metadata.frames_per_beat)
    if request.format == "midi":
        return answer | {"midi": base64.b64encode(midi.write(music, request.tempo)).decode("ascii")}
    notes = []
    for start, duration, pitch, velocity in music.tolist():
        note = {
            "pitch": pitch,
            "start": start / TICKS_PER_BEAT,
            "duration": duration / TICKS_PER_BEAT,
            "velocity": velocity,
        }
        if start == 0 and tied[pitch - LOWEST_PITCH]:
            note["tied"] = True  # it began in the prompt or in the piece before
        notes.append(note)
    return answer | {"notes": notes}
