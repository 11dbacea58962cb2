"""What the ablations take away, checked on the models that they make."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import ablations, piano_midi
from benchmarks.ablations import Alone, Forgetful, Placed, PlacedLinear, unturned
from benchmarks.piano_midi import Settings
from pianoai.models import transformer
from pianoai.models.heads import PitchByPitch
from pianoai.models.transformer import Config, Recall, rotate
from pianoai.windows import SPLITS
from tests.test_piano_midi import TINY

FEATURES = (torch.rand(1, 40, 264, generator=torch.Generator().manual_seed(1)) < 0.1).float()


@torch.no_grad()
def test_what_is_left_out_makes_no_difference_any_more() -> None:
    torch.manual_seed(0)
    forgetful = Forgetful(8, 3, 16)
    assert forgetful(torch.randn(1, 40, 8), FEATURES).shape == Recall(8, 3, 16)(torch.randn(1, 40, 8), FEATURES).shape
    assert not forgetful(torch.randn(1, 40, 8), FEATURES).any()
    x = torch.randn(2, 3, 88, 5)
    alone, other = Alone(5, 4, 7, 1), x.clone()
    other[:, :, 31] += 1
    changed = (alone(x) != alone(other)).any(-1)
    assert changed[..., 31].all()
    assert changed.sum() == 2 * 3
    turn = unturned(4, 6)
    torch.testing.assert_close(rotate(torch.arange(96.0).view(16, 6), turn), torch.arange(96.0).view(16, 6))


@torch.no_grad()
def test_places_come_again_after_a_bar() -> None:
    torch.manual_seed(0)
    model = Placed(TINY, 16).eval()
    model.embed.place.normal_()  # type: ignore[operator]
    same = FEATURES[:, :1].expand(1, 40, 264)
    found = model.embed(same)[0]
    torch.testing.assert_close(found[:16], found[16:32])
    assert not torch.allclose(found[0], found[1])


class Built(Exception):
    """Ends a run when all is known that it would train with."""


# By variation, what is then so of the model and of what it is trained with, and of no other variation.
MARKS: dict[str, Callable[[SimpleNamespace], bool]] = {
    "head": lambda made: isinstance(made.model.head, PitchByPitch) and made.model.recall is None,
    "recall": lambda made: isinstance(made.model.recall, Forgetful),
    "pitch": lambda made: getattr(getattr(made.model.head, "near", None), "taps", 7) == 1,
    "transposition": lambda made: made.budget.transpose == 0,
    "rotary": lambda made: all(bool((each.turns[:, 0] == 1).all()) for each in (made.model, made.model.recall) if each),
    "places": lambda made: isinstance(made.model.embed, PlacedLinear),
    "window-32": lambda made: made.model.window == 32,
    "window-16": lambda made: made.model.window == 16,
    "dropout": lambda made: made.config.dropout == 0,
    "decay": lambda made: made.budget.weight_decay == 0.01,
    "averaging": lambda made: made.budget.averaging == 0,
    "mse": lambda made: made.loss.mse == 0 < made.loss.cosine,
    "cosine": lambda made: made.loss.cosine == 0 < made.loss.mse,
    "variance": lambda made: made.loss.variance == 0 < made.loss.mse,
    "regression": lambda made: made.loss.mse == made.loss.cosine == made.loss.variance == 0 < made.loss.sounding,
}


@pytest.mark.parametrize("name", ablations.VARIATIONS)
def test_a_variation_trains_another_model_or_in_another_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace()

    def train(family: str, config: Config, windows: Any, budget: Any, loss: Any) -> None:
        made.model = transformer.Model(config, windows.length)
        made.config, made.budget, made.loss = config, budget, loss
        raise Built

    monkeypatch.setattr(piano_midi, "train", train)
    rolls = {split: [np.ones((80, 88), np.uint8)] for split in SPLITS}
    with pytest.raises(Built):
        ablations.varied(rolls, Settings(epochs=2, dropout=0.3, transpose=6), name)
    assert [mark for mark, holds in MARKS.items() if holds(made)] == ([] if name == "none" else [name])


def test_what_is_kept_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(splits: Any, settings: Settings, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
        return {"valid_nll": 6.0, "test_nll": 5.0, "parameters": 1, "seconds": 2.0, "best_epoch": 3, "seed": seed}

    monkeypatch.setattr(ablations, "run", run)
    found = ablations.varied({}, Settings(epochs=2, dropout=0.3, transpose=6), "mse")
    assert found == {"valid_nll": 6.0, "parameters": 1, "seconds": 2.0, "best_epoch": 3, "epochs": 2}


def test_the_table_has_differences() -> None:
    runs = {"none": {"valid_nll": 5.6, "parameters": 766_985}, "mse": {"valid_nll": 5.654, "parameters": 766_985}}
    assert ablations.table(runs).splitlines()[2:] == [
        "| nothing | 5.60 |  | 766,985 |",
        "| no mean squared error in the loss | 5.65 | +0.05 | 766,985 |",
    ]


def test_the_readme_quotes_the_results() -> None:
    results = json.loads((ablations.RESULTS / "ablations_piano_midi.json").read_text("utf-8"))
    assert "none" in results
    assert ablations.table(results) in Path("docs/results.md").read_text("utf-8")
