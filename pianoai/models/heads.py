"""How the notes of a frame come about: each on its own, or one after the other from the lowest pitch to the highest.

A model says what it expects of the next frame as a *context*, and its head makes the frame of that.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pianoai.models.frame import (
    KINDS,
    OUTPUTS,
    expected_intensity,
    noise_quantiles,
    output_layer,
    relative,
    split_logits,
    split_planes,
)
from pianoai.runtime.roll import HELD, LOUDEST, NO_NOTE, PITCHES, SOFTEST

SCALE = 0.3  # of the logit of an intensity, and friction, at first: the level then stays with a chance of 1 - 1 / e
TOLD = 4  # numbers that every pitch is told of what the model remembers
MIXED = 16  # numbers of a pitch between the two layers that look at its surroundings


class Head(nn.Module):
    """Makes a frame of a *context*: of what a model expects after the frames that it has heard.

    The velocity of a struck note is as loud as the level unless something moves it (friction: Rosett 1959). What would
    is drawn from a Laplace distribution on the logit of the intensity, and the level moves by as much as that is above
    the friction; its middle is drawn back by a share of the level (`relative`), so that loudness does not walk away.
    Scale, friction and share are learnt, and a velocity lies between the lowest and the highest of the training music.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.log_friction = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.pull = nn.Parameter(torch.tensor(0.0))
        self.register_buffer("velocities", torch.tensor([SOFTEST, LOUDEST], dtype=torch.float32))
        self.velocities: Tensor

    def forward(self, context: Tensor, following: Tensor) -> Tensor:
        """Logits (…, 3, 88): the pitch sounds; is struck again if it sounds and sounded before; intensity if struck.

        A head whose pitches hang on each other takes the others from the frame that came, as planes (…, 264).
        """
        raise NotImplementedError

    def draw(self, context: Tensor, frame: Tensor, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """The next roll row (88,) and the probabilities (3, 88) it was drawn with, at temperature 1.

        From the row before, and `noise` (177,), uniform in [0, 1): a pitch sounds where its number is below its
        probability. `temperature` divides the logits for drawing, and multiplies the scale of velocities.
        """
        raise NotImplementedError

    def velocity(self, logits: Tensor, level: Tensor) -> Tensor:
        """Velocities from logits of intensities and of the level, of shapes that broadcast."""
        friction = torch.exp(self.log_friction)
        settled = logits - torch.minimum(torch.maximum(logits - level, -friction), friction)
        lowest, highest = self.velocities.unbind(0)
        return torch.minimum(torch.maximum(LOUDEST * torch.sigmoid(settled), lowest), highest)

    def cells(self, logits: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor]:
        """The row (88,) that quantiles (4, 88) draw from logits (3, 88), and the probabilities (3, 88).

        The quantiles are those of `noise_quantiles`, and the level.
        """
        velocity = torch.round(self.velocity(logits[2] + torch.exp(self.log_scale) * quantiles[2], quantiles[3]))
        sounding = torch.where(logits[1] > quantiles[1], velocity, torch.full_like(velocity, HELD))
        row = torch.where(logits[0] > quantiles[0], sounding, torch.zeros_like(sounding))
        return row, torch.sigmoid(logits)


class Independent(Head):
    """Pitches do not know of each other: the context is the logits and the level, (…, 4, 88)."""

    def forward(self, context: Tensor, following: Tensor) -> Tensor:
        """See Head.forward; `following` is not used."""
        return context[..., :OUTPUTS, :]

    def draw(self, context: Tensor, frame: Tensor, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """See Head.draw."""
        quantiles = torch.cat([noise_quantiles(frame, noise, temperature), context[OUTPUTS:]])
        return self.cells(context[:OUTPUTS], quantiles)


class PitchByPitch(Independent):
    """Logits of every pitch straight from what the model remembers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = output_layer(width)

    def context(self, x: Tensor, features: Tensor, found: Tensor | None) -> Tensor:
        """(…, 4, 88) from x (…, width) and the features of the last frame (…, 265); `found` is not used."""
        return relative(split_logits(self.out(x)), features, self.pull)


class Surroundings(nn.Module):
    """A linear layer of what lies around each pitch, the same for all pitches: a convolution along pitch."""

    def __init__(self, channels: int, outputs: int, taps: int, spacing: int) -> None:
        super().__init__()
        self.taps = taps
        self.spacing = spacing  # semitones from one tap to the next
        self.weight = nn.Parameter(torch.empty(outputs, taps * channels))
        nn.init.uniform_(self.weight, -((taps * channels) ** -0.5), (taps * channels) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(…, 88, channels) -> (…, 88, outputs)."""
        margin = self.taps // 2 * self.spacing
        if x.ndim == 2:  # a convolution is slow for one frame
            span = 2 * margin + 1
            around = F.pad(x, (0, 0, margin, margin)).unfold(0, span, 1)[..., :: self.spacing]
            return F.linear(around.transpose(1, 2).flatten(1), self.weight, self.bias)
        kernel = self.weight.view(len(self.weight), 1, self.taps, -1).permute(0, 3, 1, 2)
        rows = x.flatten(0, -3).transpose(1, 2).unsqueeze(2)  # in memory the channels stay last
        found = F.conv2d(rows, kernel, self.bias, padding=(0, margin), dilation=(1, self.spacing))
        return found.squeeze(2).transpose(1, 2).view(*x.shape[:-1], -1)


class NoteByNote(Head):
    """A neural autoregressive distribution over the pitches of a frame (NADE: Larochelle and Murray 2011).

    Every pitch has `units` hidden numbers. They are a sum: of what the model remembers, of the pitch itself, of what
    was found of it and its surroundings in earlier frames, and of each lower note that sounds in this frame. What a
    note or a neighbour adds depends on its interval to the pitch, so what is learnt of a chord holds wherever it lies
    (Johnson 2017 ties weights so too).
    """

    def __init__(self, width: int, units: int, found: int) -> None:
        super().__init__()
        self.units = units
        self.logits = output_layer(width)
        self.memory = nn.Linear(width, units)
        self.pitch = nn.Parameter(0.1 * torch.randn(PITCHES, units))
        self.told = nn.Linear(width, PITCHES * TOLD)
        self.near = Surroundings(found + KINDS + TOLD, MIXED, taps=7, spacing=1)
        self.far = Surroundings(MIXED, units, taps=5, spacing=7)
        # What a note adds to pitches 1, 2, … semitones above it: because it sounds, and besides if it is struck.
        self.below = nn.Parameter(0.1 * torch.randn(KINDS, PITCHES - 1, units))
        self.out = nn.Linear(units, OUTPUTS, bias=False)
        with torch.no_grad():
            self.out.weight[KINDS:] = 0  # as in output_layer
        self.register_buffer("keys", 2 * torch.arange(PITCHES), persistent=False)
        self.keys: Tensor

    def context(self, x: Tensor, features: Tensor, found: Tensor | None) -> Tensor:
        """(…, 88, units + 4): hidden numbers before any note of the frame is known, logits that they add to, the level.

        From x (…, width), the features (…, 265) of the last frame, and what was found of each pitch (…, 88, channels).
        """
        assert found is not None
        last = split_planes(features)[..., :KINDS, :].transpose(-2, -1)
        told = self.told(x).view(*x.shape[:-1], PITCHES, TOLD)
        around = self.far(F.relu(self.near(torch.cat([found, last, told], -1))))
        hidden = around + (self.memory(x).unsqueeze(-2) + self.pitch)
        logits = relative(split_logits(self.logits(x)), features, self.pull)
        return torch.cat([hidden, logits.transpose(-2, -1)], -1)

    def forward(self, context: Tensor, following: Tensor) -> Tensor:
        """Logits (…, 3, 88) of each pitch given the lower ones of the frame that came, as planes (…, 264)."""
        added = following[..., : KINDS * PITCHES] @ self.chords()
        return self.given_notes(context, added.view(*added.shape[:-1], PITCHES, self.units))

    def chords(self) -> Tensor:
        """What each note adds to each pitch, (2 * 88, 88 * units): zeros up to its own, then `below`."""
        table = F.pad(self.below, (0, 0, PITCHES, 0))  # (2, 175, units): row 87 + d is for d semitones above
        return torch.cat([table[:, None, PITCHES - 1 - at : 2 * PITCHES - 1 - at] for at in range(PITCHES)], 1).view(
            KINDS * PITCHES, -1
        )

    def given(self, context: Tensor, following: Tensor) -> Tensor:
        """The same for one frame: context (88, units + 4), planes (264,). It needs no table of all chords."""
        notes = following[: KINDS * PITCHES].view(KINDS, PITCHES)
        lower = F.pad(notes, (PITCHES - 1, 0)).unfold(-1, PITCHES - 1, 1)[:, :PITCHES]  # (2, 88, 87), nearest last
        return self.given_notes(context, torch.matmul(lower, self.below.flip(1)).sum(0))

    def given_notes(self, context: Tensor, added: Tensor) -> Tensor:
        """Logits (…, 3, 88) from a context and what notes add to its hidden numbers, (…, 88, units)."""
        return self.speak(context[..., : self.units] + added, context[..., self.units : -1])

    def speak(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """Logits (…, 3, 88) from hidden numbers (…, 88, units) and the logits (…, 88, 3) that they add to."""
        said: Tensor = logits + self.out(F.gelu(hidden, approximate="tanh"))
        return said.transpose(-2, -1)

    def draw(self, context: Tensor, frame: Tensor, noise: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """See Head.draw; a probability is that of a pitch given the lower ones that were drawn."""
        hidden, logits, quantiles, last = self.begin(context, frame, noise, temperature)
        said = logits.transpose(0, 1)
        while bool(last < NO_NOTE):
            hidden, last, said = self.turn(hidden, last, logits, quantiles)
        return self.cells(said, quantiles)

    @torch.no_grad()
    def marginals(self, context: Tensor, features: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """Of frames of which only the ones before are known, (3, frames, 88): means over drawn lower notes.

        They are of sounding, of sounding and being struck again, and of sounding times intensity, from a context
        (frames, 88, units + 4) and the features of the frames before (frames, 265).
        """
        frames, planes = len(context), split_planes(features)
        notes = torch.zeros(KINDS, samples, frames, PITCHES)
        found = torch.zeros(OUTPUTS, frames, PITCHES)
        for pitch in range(PITCHES):
            # What notes 1, 2, … semitones below add, the nearest last.
            added = sum(notes[kind, ..., :pitch] @ self.below[kind, :pitch].flip(0) for kind in range(KINDS))
            said = self.given_notes(context[:, pitch : pitch + 1], torch.as_tensor(added).unsqueeze(-2))
            loud = self.velocity(said[..., KINDS, :], context[:, pitch, -1:]) / LOUDEST
            intensity = expected_intensity(said, planes[..., pitch : pitch + 1], loud)[..., 0]  # (samples, frames)
            sounds, again = torch.sigmoid(said[..., :KINDS, 0]).unbind(-1)
            found[:, :, pitch] = torch.stack([sounds, sounds * again, sounds * intensity]).mean(1)
            chance = torch.rand(2, samples, frames, generator=generator)
            notes[0, ..., pitch] = (chance[0] < sounds).float()
            notes[1, ..., pitch] = notes[0, ..., pitch] * (1 - planes[:, 0, pitch] * (chance[1] >= again))
        return found

    def begin(
        self, context: Tensor, frame: Tensor, noise: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the first turn takes: hidden numbers (88, units), logits (88, 3), quantiles (4, 88), no last note."""
        hidden, logits, level = torch.split(context, [self.units, OUTPUTS, 1], -1)
        quantiles = torch.cat([noise_quantiles(frame, noise, temperature), level.transpose(0, 1)])
        return hidden.clone(), logits.clone(), quantiles, torch.full_like(self.keys[0], -1)

    def turn(self, hidden: Tensor, last: Tensor, logits: Tensor, quantiles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the next note: the lowest pitch above the last note whose logit is above its quantile.

        Pitches below it are silent, so nothing is added for them, and one turn a note is enough. A note is told by its
        key: twice its pitch, and one more if it is held. Returns the new `hidden`, the note, NO_NOTE where there is
        none, and the logits (3, 88) of all pitches if nothing but the notes so far sounds. Up to the last note they
        stay what they are, so those of the last turn are the frame's.
        """
        said = self.speak(hidden, logits)
        keys = torch.where(said[1] > quantiles[1], self.keys, self.keys + 1)
        sounds = torch.logical_and(said[0] > quantiles[0], self.keys > last)
        note = torch.where(sounds, keys, torch.full_like(keys, NO_NOTE)).amin()
        chord = torch.index_select(self.chord_rows(), 0, self.keys + (NO_NOTE + 1) - note)
        return hidden + chord.squeeze(1), note, said

    def chord_rows(self) -> Tensor:
        """What a note adds to the pitch d semitones above it, (352, 1, units): row 2 (88 + d) held, the next struck.

        Nothing is added to pitches that are not above it, nor by NO_NOTE.
        """
        held, struck = self.below[0], self.below[0] + self.below[1]
        return F.pad(torch.stack([held, struck], 1), (0, 0, 0, 0, PITCHES + 1, 0)).view(-1, 1, self.units)
