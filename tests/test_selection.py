from typing import Any

import pytest

from pianoai.runtime.errors import InputError
from pianoai.selection import SelectConfig, select

RULE = SelectConfig(
    metric="nll",
    tolerance=0.05,
    min_skill=0.0,
    max_bytes=1000,
    max_parameters=500,
    max_standstill=0.4,
    max_density_change=2.0,
    min_overlap=0.6,
    max_memorised=0.1,
)


def metrics(nll: float, multiply_adds: int, **changes: Any) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        "valid": {"nll": nll, "nll_changed": nll, "skill": 9 - nll, "onset_f1": 0.5, "mse": 0.1, "cosine": 0.2},
        "test": {"nll": 100 - nll},  # the opposite order: the test set must not matter
        "stability": {
            "valid_nll_spread": 0.1,
            "density_ratio": 1.0,
            "standstill": 0.1,
            "real_standstill": 0.125,
            "same_output": 1,
        },
        "music": {"overlap": 0.8, "memorised": 0.01, "real": {"overlap": 0.9, "memorised": 0.0625}},
        "complexity": {"parameters": 400, "multiply_adds": multiply_adds},
        "deployability": {"exports": 1, "reason": "", "missing_operators": 0, "bytes": 900, "same_bytes": 1},
    }
    for key, value in changes.items():
        block, name = key.split("__")
        found[block][name] = value
    return found


BASELINE = metrics(9.0, 0)


def test_the_lowest_wins_whatever_its_name() -> None:
    for first, second in (("a", "b"), ("b", "a")):
        found = select({first: metrics(5.0, 9), second: metrics(6.0, 1)}, BASELINE, RULE)
        assert found.winner == first
        assert found.reason == "valid nll 5.000, the lowest"
        assert list(found.table.index) == ["copy", first, second]


def test_within_the_tolerance_the_cheaper_step_wins() -> None:
    found = select({"a": metrics(5.0, 9), "b": metrics(5.04, 3), "c": metrics(5.06, 1)}, BASELINE, RULE)
    assert found.winner == "b"
    assert found.reason == "valid nll 5.040, within 0.05 of a, and cheapest"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"valid__skill": -0.1}, "skill below 0.0"),
        ({"deployability__exports": 0, "deployability__reason": "TypeError: x"}, "does not export (TypeError: x)"),
        (
            {"deployability__missing_operators": 1, "deployability__reason": "aten::erf"},
            "needs operators the runtime lacks (aten::erf)",
        ),
        ({"deployability__bytes": 1001}, "over 1000 bytes"),
        ({"complexity__parameters": 501}, "over 500 parameters"),
        ({"deployability__same_bytes": 0}, "equal input gives different output"),
        ({"stability__same_output": 0}, "equal input gives different output"),
        ({"stability__standstill": 0.53}, "stands still over 0.4 of the time more than real music"),
        ({"stability__density_ratio": 2.1}, "density off by more than a factor of 2.0"),
        ({"stability__density_ratio": 0.4}, "density off by more than a factor of 2.0"),
        ({"music__overlap": 0.59}, "overlaps with real music by less than 0.6"),
        (
            {"music__memorised": 0.17},
            "over 0.1 of its passages more than of real music are the training music's",
        ),
    ],
)
def test_constraints_come_first(change: dict[str, Any], reason: str) -> None:
    found = select({"best": metrics(1.0, 1, **change), "other": metrics(8.0, 1)}, BASELINE, RULE)
    assert found.winner == "other"
    assert found.failed == {"best": [reason], "other": []}


def test_bounds_are_above_those_of_real_music() -> None:
    copied = metrics(1.0, 1, stability__standstill=0.52, music__memorised=0.16)
    assert select({"a": copied}, BASELINE, RULE).winner == "a"


def test_no_candidate_left() -> None:
    with pytest.raises(InputError, match=r"no model meets the constraints .*a: over 500 parameters"):
        select({"a": metrics(5.0, 1, complexity__parameters=501)}, BASELINE, RULE)
