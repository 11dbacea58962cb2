"""What the ablations take away, checked on the models that they make."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import ablations
from benchmarks.ablations import Alone, Forgetful, Placed, unturned
from benchmarks.piano_midi import Settings
from pianoai.models.transformer import Recall, rotate
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


@pytest.mark.parametrize("name", ablations.VARIATIONS)
def test_a_variation_differs_from_the_others_in_what_it_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def run(splits: Any, settings: Settings, seed: int, changes: dict[str, Any]) -> dict[str, Any]:
        seen.extend([settings, changes])
        patched = [getattr(module, name) is other for module, name, other in ablations.VARIATIONS[name].patches]
        assert all(patched)
        return {"valid_nll": 6.0, "test_nll": 5.0, "parameters": 1, "seconds": 2.0, "best_epoch": 3, "seed": seed}

    monkeypatch.setattr(ablations, "run", run)
    settings = Settings(epochs=2, dropout=0.3, transpose=6)
    found = ablations.varied({}, settings, name)
    assert found == {"valid_nll": 6.0, "parameters": 1, "seconds": 2.0, "best_epoch": 3, "epochs": 2}
    variation = ablations.VARIATIONS[name]
    assert seen == [replace(settings, **variation.settings), variation.changes]
    assert (seen == [settings, {}] and not variation.patches) == (name == "none")


def test_the_table_has_differences() -> None:
    runs = {"none": {"valid_nll": 5.6, "parameters": 766_985}, "mse": {"valid_nll": 5.654, "parameters": 766_985}}
    assert ablations.table(runs).splitlines()[2:] == [
        "| nothing | 5.60 |  | 766,985 |",
        "| no mean squared error in the loss | 5.65 | +0.05 | 766,985 |",
    ]


def test_the_readme_quotes_the_results() -> None:
    results = json.loads((ablations.RESULTS / "ablations_piano_midi.json").read_text("utf-8"))
    assert "none" in results
    assert ablations.table(results) in Path("README.md").read_text("utf-8")
