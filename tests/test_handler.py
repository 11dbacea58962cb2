"""The Lambda function, invoked directly with a model in NumPy."""

import base64
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pianoai.runtime import midi, model, sampling
from pianoai.runtime.roll import make_notes, notes_to_roll, read_frames, roll_to_notes
from tests.tiny_model import tiny_model

HANDLER = Path(__file__).parents[1] / "lambda_pkg/handler.py"


def load_handler(monkeypatch: pytest.MonkeyPatch, loaded: list[Path]) -> Any:
    """The handler as Lambda imports it; `loaded` gets the paths of the models that it loads."""

    def load(path: Path) -> model.Model:
        loaded.append(path)
        return tiny_model()

    monkeypatch.setattr(model, "load", load)
    spec = importlib.util.spec_from_file_location("handler", HANDLER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_handler(monkeypatch, [])


def ask(handler: Any, event: object) -> dict[str, Any]:
    """The answer, after JSON has carried it as Lambda does."""
    answer: dict[str, Any] = json.loads(json.dumps(handler.lambda_handler(event, None), allow_nan=False))
    return answer


def test_the_model_is_loaded_once_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Path] = []
    monkeypatch.delenv("PIANOAI_MODEL", raising=False)
    handler = load_handler(monkeypatch, loaded)
    ask(handler, {"frames": 2})
    ask(handler, {"frames": 2})
    assert loaded == [HANDLER.with_name("model.ts")]
    monkeypatch.setitem(os.environ, "PIANOAI_MODEL", "/elsewhere/m.ts")
    load_handler(monkeypatch, loaded)
    assert loaded[1:] == [Path("/elsewhere/m.ts")]


def test_notes_and_midi_are_the_same_music(handler: Any) -> None:
    prompt = [[60, 64], [60], [67]]
    answer = ask(handler, {"prompt": prompt, "frames": 20, "temperature": 0.9, "seed": 11})
    heard = read_frames(prompt)
    roll = sampling.alone(heard, sampling.generate(tiny_model(), heard, 20, 0.9, 11))
    expected = roll_to_notes(roll, 4).tolist()
    assert [
        (note["start"] * 24, note["duration"] * 24, note["pitch"], note["velocity"]) for note in answer["notes"]
    ] == expected
    notes, tempo = midi.read(base64.b64decode(answer["midi"]))
    assert notes.tolist() == expected
    assert (answer["frames"], answer["seed"], answer["tempo"], tempo) == (20, 11, 120, 120)


def test_the_defaults(handler: Any) -> None:
    answer = ask(handler, {})
    assert answer["frames"] == 128
    again = ask(handler, {"frames": 128, "temperature": 0.9, "seed": answer["seed"], "prompt": None})
    assert again == answer
    assert ask(handler, {})["seed"] != answer["seed"]


def test_a_midi_prompt_keeps_its_tempo_and_only_its_end_is_heard(handler: Any) -> None:
    # 61 frames, so over the 24 that the tiny model hears, with a note from the first to the last.
    rows = [(0, 366, 30, 40)] + [(12 * at, 9, 60 + at, 50 + at) for at in range(30)]
    notes = make_notes(rows)
    data = midi.write(notes, 75)
    answer = ask(handler, {"prompt": base64.b64encode(data).decode(), "frames": 8, "seed": 3})
    roll = notes_to_roll(notes, 4)
    expected = sampling.generate(tiny_model(), roll, 8, 0.9, 3)
    found = [(note["start"] * 24, note["pitch"]) for note in answer["notes"]]
    assert found == [(s, p) for s, _, p, _ in roll_to_notes(expected, 4).tolist()]
    assert answer["tempo"] == 75
    heard = handler.read_prompt(base64.b64encode(data).decode())[0]
    assert 24 < len(heard) < 33  # memory does not grow with the length of the prompt
    assert (heard[-24:] == roll[-24:]).all()


@pytest.mark.parametrize("ticks", [1, 5, 6, 23, 24, 25, 143, 144, 145, 168, 200, 399])
def test_the_end_of_a_prompt_is_the_same_wherever_it_falls(handler: Any, ticks: int) -> None:
    notes = make_notes([(0, ticks, 60, 90), (ticks // 2, 7, 62, 70)])
    whole = notes_to_roll(notes, 4)
    end = notes_to_roll(handler.last(notes, 24), 4)
    assert (end[-24:] == whole[-24:]).all()


def test_an_empty_prompt_is_allowed(handler: Any) -> None:
    assert ask(handler, {"prompt": [], "seed": 1}) == ask(handler, {"seed": 1})


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (None, "event"),
        ([], "event"),
        ("text", "event"),
        ({"tone": 1}, "event"),
        ({"frames": 0}, "frames"),
        ({"frames": 2049}, "frames"),
        ({"frames": "8"}, "frames"),
        ({"frames": None}, "frames"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": [1]}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": [60]}, "prompt"),
        ({"prompt": [[20]]}, "prompt"),
        ({"prompt": [[]] * 25}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "no base64!"}, "prompt"),
        ({"prompt": "\u266b"}, "prompt"),
        ({"prompt": base64.b64encode(b"MThd but no more").decode()}, "prompt"),
        ({"prompt": "A" * 200_000}, "prompt"),
    ],
)
def test_bad_input_names_the_field(handler: Any, event: object, field: str) -> None:
    answer = ask(handler, event)
    assert set(answer) == {"error", "field"}
    assert answer["field"] == field
    assert "\n" not in answer["error"]


def test_an_answer_too_large_for_lambda_is_refused(handler: Any) -> None:
    # The tiny model begins 22 notes a frame or more: 200 frames still fit, 2048 do not.
    answer = ask(handler, {"frames": 200, "seed": 0})
    size_of_a_note = len(json.dumps(answer)) / len(answer["notes"])
    assert size_of_a_note * handler.MOST_NOTES < 2 * 2**20
    answer = ask(handler, {"frames": 2048, "seed": 0})
    assert answer["field"] == "frames"
    assert "fewer frames" in answer["error"]


def test_numpy_numbers_stay_inside(handler: Any) -> None:
    answer = handler.lambda_handler({"frames": 5, "seed": 0}, None)
    assert not any(isinstance(value, np.generic) for note in answer["notes"] for value in note.values())
