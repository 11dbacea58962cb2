"""A model's step as plans: NumPy calls on memory that is allocated once."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from pianoai.runtime.errors import InputError
from pianoai.runtime.model import Metadata, Model, State
from pianoai.runtime.operators.promotion import Array
from pianoai.runtime.plan import Plan
from pianoai.runtime.roll import (
    DEFAULT_VELOCITY,
    HELD,
    LOUDEST,
    NO_NOTE,
    NOISE,
    PITCHES,
    SILENT,
    Floats,
    Roll,
    levels,
    velocities,
)
from pianoai.runtime.torchscript import Script

OUTPUTS = 3  # rows of logits


def model(script: Script, metadata: Metadata) -> Model:
    """The model of an archive, planned where its code can be. Raises InputError for a step of another form."""
    planned = Planned(script, metadata)
    if planned.plan is not None:
        return Model(metadata, planned.step, planned.read if planned.reads else None, planned.given, planned.sampler)
    if not script.has("given"):
        return Model(metadata, script)
    hear, speak = script.method("hear"), script.method("given")

    def given(frame: Floats, state: State, noise: Floats, following: Floats) -> tuple[Floats, State]:
        context, left = hear(frame, state, noise)
        return speak(context, note_planes(following)), left

    return Model(metadata, script, given=given)


class Planned:
    """The step and `read` of an archive as plans that share the memory of the state.

    An archive whose notes are drawn one after the other has its step in parts: `hear` leads to a context, from which
    `begin` makes what the turns take; `turn` draws the next note until there is none, and `end` writes the frame down.
    `given` tells the probabilities of a frame that is known.
    """

    def __init__(self, script: Script, metadata: Metadata):
        self._state = self._own = tuple(np.zeros(shape, dtype) for shape, dtype in metadata.state)
        self._frame, self._noise = np.zeros(PITCHES, np.float32), np.zeros(metadata.noise, np.float32)
        self._temperature = np.array(1, np.float32)
        self._planes = np.zeros((metadata.read, 3 * PITCHES), np.float32)
        self._script = script
        heard = (self._frame, self._own, self._noise)
        in_parts = script.has("turn")
        self.plan = script.plan("hear", *heard) if in_parts else script.plan("forward", *heard, self._temperature)
        self._reading: Plan | None = None  # planned when there is something to read
        # read(planes, memory, position) -> memory, of a state (memory, position, loudness)
        self.reads = bool(metadata.read) and len(self._own) == 3 and script.has("read")
        self._notes: Notes | None = None
        self.given = self.sampler = None
        if self.plan is None:
            return
        self._said = 1 if in_parts else 2  # outputs before the new state
        new = self.plan.outputs[self._said :]
        # Whether a part of the new state lies where another part of the old one was.
        self._crossed = any(np.may_share_memory(a, b) for a in new for b in self._own if a is not b)
        if in_parts:
            self._notes = Notes(script, self.plan.outputs[0], self._frame, self._noise, self._temperature)
            self.given = self._given
            # Hidden noise, which comes after that of the choices, goes into what is heard.
            self.sampler = self._sample if metadata.noise == NOISE else None
        found = [x.shape for x in (self.plan.outputs[:2] if self._notes is None else self._notes.drawn)]
        if found != [(PITCHES,), (3, PITCHES)] or [x.shape for x in new] != [x.shape for x in self._own]:
            raise InputError(f"{script.name}: its step returns something else than a frame, probabilities and state")

    def _enter(self, state: State) -> None:
        """Make `state` the one in memory."""
        if state is not self._state:
            if any(part is place for place, part in zip(self._own, state, strict=True)):
                raise ValueError("a state can be used once; Model.keep makes a copy that lasts")
            for place, part in zip(self._own, state, strict=True):
                _fill(place, part)

    def _leave(self, parts: Iterable[Array]) -> State:
        """Make the parts of the new state the one in memory."""
        fresh = [(place, part) for place, part in zip(self._own, parts, strict=True) if part is not place]
        if self._crossed:
            fresh = [(place, part.copy()) for place, part in fresh]
        for place, part in fresh:
            place[...] = part
        self._state = (*self._own,)
        return self._state

    def _hear(self, frame: Floats, state: State, noise: Floats) -> Plan:
        assert self.plan is not None
        self._enter(state)
        _fill(self._frame, frame)
        _fill(self._noise, noise)
        self.plan.run()
        return self.plan

    def step(self, frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        """See Step."""
        self._temperature[...] = temperature
        outputs = self._hear(frame, state, noise).outputs
        drawn, probabilities = outputs[:2] if self._notes is None else self._notes.draw()
        return drawn.copy(), probabilities.copy(), self._leave(outputs[self._said :])

    def _given(self, frame: Floats, state: State, noise: Floats, following: Floats) -> tuple[Floats, State]:
        """See Given."""
        assert self._notes is not None
        outputs = self._hear(frame, state, noise).outputs
        return self._notes.given(following).copy(), self._leave(outputs[self._said :])

    def _sample(self, frame: Floats, state: State, noise: Floats) -> tuple[Floats, State]:
        """See Sampler."""
        assert self._notes is not None
        self._temperature[...] = 1
        outputs = self._hear(frame, state, noise[0]).outputs
        found = np.empty((len(noise), OUTPUTS, PITCHES), np.float32)
        for place, self._noise[...] in zip(found, noise, strict=True):
            place[...] = self._notes.draw()[1]
        return found, self._leave(outputs[self._said :])

    def read(self, frames: Roll, state: State) -> State:
        """See Reader."""
        self._enter(state)
        reading = self._reading or self._plan_reading()
        _, position, loudness = self._own
        before = np.rint(loudness[:PITCHES] * LOUDEST).astype(np.uint8)
        intensities = velocities(np.vstack([before, frames]))[1:] / np.float32(LOUDEST)
        self._planes[...] = np.hstack([frames > SILENT, frames > HELD, intensities])
        reading.run()
        level = levels(frames, float(loudness[PITCHES]) or DEFAULT_VELOCITY / LOUDEST)[-1]
        now = np.concatenate([intensities[-1], [level]])
        return self._leave((reading.outputs[0], position + len(frames), now))

    def _plan_reading(self) -> Plan:
        before = [part.copy() for part in self._own]  # planning works on the memory of the state
        self._reading = _certainly(self._script, "read", self._planes, *self._own[:2])
        for place, part in zip(self._own, before, strict=True):
            place[...] = part
        return self._reading


class Notes:
    """Draws the notes of a frame one after the other."""

    def __init__(self, script: Script, context: Array, frame: Floats, noise: Floats, temperature: Floats):
        self._script, self._context = script, context
        self._begin = _certainly(script, "begin", context, frame, noise, temperature)
        begun = self._begin.outputs
        if [x.shape for x in begun[1:]] != [(PITCHES, OUTPUTS), (OUTPUTS + 1, PITCHES), ()]:
            raise InputError(f"{script.name}: its part begin returns something else than what a turn takes")
        self._hidden, logits, quantiles, self._none = begun
        self._last = self._none.copy()
        self._turn = _certainly(script, "turn", self._hidden, self._last, logits, quantiles)
        if [x.shape for x in self._turn.outputs] != [self._hidden.shape, (), (OUTPUTS, PITCHES)]:
            raise InputError(f"{script.name}: a turn returns something else than it takes, and logits")
        self._end = _certainly(script, "end", self._turn.outputs[2], quantiles)
        self.drawn = self._end.outputs
        self._following = np.zeros(3 * PITCHES, np.float32)
        self._given: Plan | None = None  # planned when a frame is known

    def draw(self) -> list[Array]:
        """The frame (88,) and its probabilities (3, 88) after what was heard last.

        Raises InputError where the turns do not end.
        """
        self._begin.run()
        self._last[...] = self._none
        hidden, last, _ = self._turn.outputs
        for _ in range(PITCHES + 1):
            self._turn.run()
            if last >= NO_NOTE:
                break
            self._hidden[...] = hidden
            self._last[...] = last
        else:
            raise InputError(f"{self._script.name}: it finds more notes in a frame than there are pitches")
        self._end.run()
        return self.drawn

    def given(self, following: Floats) -> Floats:
        """The probabilities (3, 88) of each note of a frame (88,) given the lower ones."""
        self._following[...] = note_planes(following)
        if self._given is None:
            self._given = _certainly(self._script, "given", self._context, self._following)
        self._given.run()
        return self._given.outputs[0]


def note_planes(frame: Floats) -> Floats:
    """The planes (264,) of a frame (88,) without intensities."""
    return np.concatenate([frame > SILENT, frame > HELD, np.zeros(PITCHES, bool)]).astype(np.float32)


def _certainly(script: Script, name: str, *inputs: Any) -> Plan:
    plan = script.plan(name, *inputs)
    if plan is None:
        raise InputError(f"{script.name}: {name} branches on values, which no model of PianoAI does")
    return plan


def _fill(place: Array, value: Array) -> None:
    """Copy; raises ValueError for another shape, which NumPy would stretch."""
    if value.shape != place.shape:
        raise ValueError(f"an array of shape {value.shape} where {place.shape} is wanted")
    place[...] = value
