"""The head that draws a frame note by note, against sums over notes and over whole frames by hand."""

import math
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pianoai.models.frame import KINDS
from pianoai.models.heads import MIXED, TOLD, NoteByNote, PitchByPitch, Surroundings
from pianoai.runtime.errors import InputError
from pianoai.runtime.roll import Floats
from pianoai.runtime.stepping import Notes

WIDTH, UNITS, FOUND = 6, 4, 5


def head(seed: int = 0) -> NoteByNote:
    torch.manual_seed(seed)
    made = NoteByNote(WIDTH, UNITS, FOUND)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.5)
    return made


def planes(cells: Tensor) -> Tensor:
    """Planes (…, 264) of roll rows (…, 88)."""
    return torch.cat([cells > 0, cells > 1, cells / 127], -1).float()


def heard(cells: Tensor, level: float = 0.4) -> Tensor:
    """The same with a level at the end: features (…, 265)."""
    return torch.cat([planes(cells), torch.full((*cells.shape[:-1], 1), level)], -1)


def rows(count: int, seed: int = 1) -> Tensor:
    generator = np.random.default_rng(seed)
    kinds = generator.random((count, 88))
    return torch.tensor(np.select([kinds < 0.05, kinds < 0.1], [1, 70], 0), dtype=torch.float32)


def told(made: NoteByNote, frames: Tensor) -> Tensor:
    """A context for as many frames (…, 88), of random numbers."""
    shape = frames.shape[:-1]
    return made.context(torch.randn(*shape, WIDTH), heard(frames), torch.randn(*shape, 88, FOUND))


@torch.no_grad()
def test_what_lies_around_a_pitch_is_weighed_by_interval() -> None:
    torch.manual_seed(0)
    layer, x = Surroundings(3, 2, taps=5, spacing=7), torch.randn(4, 2, 88, 3)
    weight = layer.weight.view(2, 5, 3)
    found = layer(x)
    for pitch in (0, 13, 14, 50, 87):
        expected = layer.bias.expand(4, 2, 2)
        for tap in range(5):
            other = pitch + 7 * (tap - 2)
            if 0 <= other < 88:
                expected = expected + torch.einsum("oc,btc->bto", weight[:, tap], x[:, :, other])
        torch.testing.assert_close(found[:, :, pitch], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(x[1, 1]), found[1, 1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_logits_are_sums_over_lower_notes_and_over_what_is_around() -> None:
    made, frames, following = head(), rows(2), rows(2, 2)
    x, recalled = torch.randn(2, WIDTH), torch.randn(2, 88, FOUND)
    found = made(made.context(x, heard(frames), recalled), planes(following))
    seen = torch.cat([recalled, torch.stack([frames > 0, frames > 1], -1), made.told(x).view(2, 88, TOLD)], -1)
    assert (seen.shape[-1], made.near.weight.shape) == (FOUND + KINDS + TOLD, (MIXED, 7 * (FOUND + KINDS + TOLD)))
    around = made.far(F.relu(made.near(seen)))
    for at, pitch in product(range(2), (0, 5, 40, 87)):
        hidden = made.memory(x[at]) + made.pitch[pitch] + around[at, pitch]
        for other in range(pitch):
            hidden = hidden + float(following[at, other] > 0) * made.below[0, pitch - other - 1]
            hidden = hidden + float(following[at, other] > 1) * made.below[1, pitch - other - 1]
        expected = made.logits(x[at]).view(3, 88)[:, pitch] + made.out(F.gelu(hidden, approximate="tanh"))
        expected[2] += (1 - made.pull) * math.log(0.4 / 0.6)
        torch.testing.assert_close(found[at, :, pitch], expected, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_loudness_is_told_relative_to_what_was_struck_last() -> None:
    torch.manual_seed(1)
    made, x = PitchByPitch(WIDTH), torch.randn(3, WIDTH)
    features = heard(rows(3))
    features[:, -1] = torch.tensor([64, 55, 127]) / 127
    plain, found = made.out(x).view(3, 3, 88), made.context(x, features, None)
    torch.testing.assert_close(found[:, :2], plain[:, :2])
    assert not plain[:, 2].any()
    expected = torch.logit(torch.tensor([64, 55, 126.75]) / 127)  # 127 is taken for 126.75
    for row in (2, 3):
        torch.testing.assert_close(found[:, row], expected[:, None].expand(3, 88), atol=1e-5, rtol=1e-5)
    made.pull.fill_(0.25)
    drawn_back = made.context(x, features, None)
    torch.testing.assert_close(drawn_back[:, 2], 0.75 * found[:, 2])
    torch.testing.assert_close(drawn_back[:, 3], found[:, 3])


@torch.no_grad()
def test_one_frame_alone_has_the_same_logits() -> None:
    made, following = head(), rows(3)
    context = told(made, rows(3, 2))
    whole = made(context, planes(following))
    for at in range(3):
        torch.testing.assert_close(made.given(context[at], planes(following)[at]), whole[at], atol=2e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_frame_is_drawn_from_the_lowest_pitch_to_the_highest(temperature: float) -> None:
    made, before = head(3), rows(1)[0]
    context = told(made, before)
    noise = torch.rand(177)
    louder = torch.distributions.Laplace(0.0, made.log_scale.exp() * temperature).icdf(noise[176])  # type: ignore[no-untyped-call]
    level, friction = math.log(0.4 / 0.6), float(made.log_friction.exp())
    drawn, probabilities = made.draw(context, before, noise, torch.tensor(temperature))
    assert 5 < int((drawn > 0).sum()) < 80
    # The probabilities are those that the frame drawn has as a known one.
    torch.testing.assert_close(probabilities, torch.sigmoid(made.given(context, planes(drawn))), atol=1e-5, rtol=1e-4)
    cells = torch.zeros(88)
    for pitch in range(88):
        logits = made.given(context, planes(cells))[:, pitch]
        if noise[pitch] < torch.sigmoid(logits[0] / temperature):
            again = noise[88 + pitch] < torch.sigmoid(logits[1] / temperature)
            beyond = F.softshrink(logits[2] + louder - level, friction)
            velocity = (torch.sigmoid(level + beyond) * 127).round().clamp(2, 127)
            cells[pitch] = velocity if again or before[pitch] == 0 else 1
    assert drawn.tolist() == cells.tolist()


@torch.no_grad()
def test_nothing_is_drawn_from_what_is_certain_to_be_silent() -> None:
    made = head()
    drawn, probabilities = made.draw(told(made, rows(1)[0]), rows(1)[0], torch.ones(177), torch.tensor(1.0))
    assert not drawn.any()
    assert probabilities.shape == (3, 88)


def again_or_new(said: Tensor, before: Tensor, pitch: int) -> Tensor:
    """The probability that a pitch is struck if it sounds."""
    return said[1, pitch] if before[pitch] else torch.tensor(1.0)


@torch.no_grad()
def test_marginals_are_those_of_all_frames_together() -> None:
    # Three pitches alone can sound, so all frames can be added up.
    made, pitches = head(5), (30, 37, 41)
    before = rows(1)[0]
    before[37] = 1
    context = told(made, before)
    level, friction = math.log(0.4 / 0.6), float(made.log_friction.detach().exp())
    silent = torch.tensor([pitch not in pitches for pitch in range(88)])
    context[silent, UNITS] = -1e4
    expected = torch.zeros(3, 88, dtype=torch.float64)
    for kinds in product((0, 1, 70), repeat=3):
        cells = torch.zeros(88)
        cells[list(pitches)] = torch.tensor(kinds, dtype=torch.float32)
        said = torch.sigmoid(made.given(context, planes(cells))).double()
        chance = torch.tensor(1.0, dtype=torch.float64)
        for pitch, kind in zip(pitches, kinds, strict=True):
            chance = chance * (said[0, pitch] if kind else 1 - said[0, pitch])
            again = again_or_new(said, before, pitch)
            chance = chance * (1 if not kind else again if kind > 1 else 1 - again)
        for pitch, kind in zip(pitches, kinds, strict=True):
            if kind:
                beyond = F.softshrink(torch.logit(said[2, pitch]) - level, friction)
                loud = torch.sigmoid(level + beyond).clamp(2 / 127, 1) * again_or_new(said, before, pitch)
                loud = loud + (1 - again_or_new(said, before, pitch)) * before[pitch] / 127
                expected[:, pitch] += chance * torch.stack([torch.tensor(1.0), said[1, pitch], loud])
    found = made.marginals(context[None], heard(before)[None], 40_000, torch.Generator().manual_seed(1))[:, 0]
    torch.testing.assert_close(found.double(), expected, atol=0.005, rtol=0)


class Planned:
    """Stands in for an archive whose parts give what is said here; a turn finds a note 3 semitones above the last."""

    name = "a model"

    def __init__(self, top: int, **outputs: tuple[int, ...]) -> None:
        self.top, self.runs = top, dict.fromkeys(("begin", "turn", "end"), 0)
        self.shapes = {"begin": [(88, UNITS), (88, 3), (4, 88), ()], "turn": [(88, UNITS), (), (3, 88)]}
        self.shapes |= {"end": [(88,), (3, 88)]} | {name: [shape] for name, shape in outputs.items()}

    def plan(self, name: str, *inputs: Floats) -> SimpleNamespace:
        outputs = [np.zeros(shape, np.float32) for shape in self.shapes[name]]

        def run() -> None:
            self.runs[name] += 1
            if name == "turn":
                np.minimum(inputs[1] + 6, self.top, out=outputs[1])

        return SimpleNamespace(outputs=outputs, run=run)


def test_turns_go_on_until_one_finds_no_note() -> None:
    script = Planned(176)
    notes = Notes(script, *np.zeros((4, 1), np.float32))  # type: ignore[arg-type]
    for frame in (1, 2):
        assert [x.shape for x in notes.draw()] == [(88,), (3, 88)]
        assert script.runs == {"begin": frame, "turn": frame * 30, "end": frame}  # keys 6, 12, … 174, and none
    with pytest.raises(InputError, match="more notes in a frame than there are pitches"):
        Notes(Planned(175), *np.zeros((4, 1), np.float32)).draw()  # type: ignore[arg-type]


@pytest.mark.parametrize(("part", "shape"), [("begin", (88, 3)), ("turn", (88, UNITS))])
def test_parts_that_do_not_fit_are_refused(part: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^a model: .* returns something else"):
        Notes(Planned(176, **{part: shape}), *np.zeros((4, 1), np.float32))  # type: ignore[arg-type]
