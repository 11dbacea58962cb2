"""What becomes of a prompt: what is cut off, what is left out, and what it costs to write it down again."""

import base64
from pathlib import Path
from typing import Any

import pytest

from pianoai.runtime import composing, midi, requests
from pianoai.runtime.roll import make_notes
from tests.function import ask, load_handler
from tests.tiny_model import tiny_model


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path: Path = tmp_path_factory.mktemp("function") / "model.ts"
    path.write_bytes(b"a model")
    return load_handler(path, tiny_model())


def frames_of(answer: dict[str, Any], pitch: int) -> list[int]:
    """The cells of a pitch in an answer of format roll."""
    return [row[pitch - 21] for row in answer["roll"]]


def test_a_note_held_across_the_cut_keeps_its_velocity(handler: Any) -> None:
    heard = ask(handler, {"route": "health"})["limits"]["heard_frames"]
    note = {"pitch": 60, "start": 0, "duration": heard, "velocity": 100}  # four frames a beat: most is cut off
    answer = ask(handler, {"prompt": [note], "include_prompt": True, "format": "roll", "frames": 1})
    assert answer["prompt_frames"] == heard
    assert [row[60 - 21] for row in answer["roll"]][:heard] == [100] + [1] * (heard - 1)


def test_null_counts_as_left_out_everywhere(handler: Any) -> None:
    note = {"pitch": 60, "start": 0, "duration": 2}
    plain = ask(handler, {"prompt": [note], "frames": 4, "seed": 1})
    spelled = {"prompt": [note | {"velocity": None, "tied": None}], "frames": 4, "seed": 1, "route": None}
    assert ask(handler, spelled) == plain


@pytest.mark.parametrize(("given", "answered"), [(60_000_000.0, 1000), (3.6, 4), (90.0, 90)])
def test_the_tempo_of_an_answer_can_be_sent_again(handler: Any, given: float, answered: float) -> None:
    data = bytearray(midi.write(make_notes([(0, 24, 60, 64)]), 120.0))
    at = data.index(b"\xff\x51\x03") + 3
    data[at : at + 3] = round(60_000_000 / given).to_bytes(3, "big")
    answer = ask(handler, {"prompt": base64.b64encode(bytes(data)).decode(), "frames": 1, "seed": 1})
    assert answer["tempo"] == pytest.approx(answered, rel=1e-5)
    assert ask(handler, {"tempo": answer["tempo"], "frames": 1, "seed": 1})["tempo"] == answer["tempo"]


def dense(frames: int) -> list[list[int]]:
    """A prompt with 40 notes in each frame, all struck anew."""
    return [list(range(21 + at % 2, 101, 2)) for at in range(frames)]


def test_the_notes_of_a_prompt_count_among_those_of_an_answer(handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MOST_NOTES", 600)
    monkeypatch.setattr(composing, "MOST_NOTES", 600)
    event = {"prompt": dense(7), "include_prompt": True, "frames": 4, "seed": 1}
    assert ask(handler, event | {"variations": 2})["complete"] is False  # there is no room for another frame
    assert [one["frames"] for one in ask(handler, event | {"variations": 2})["variations"]] == [0, 0]
    assert ask(handler, event)["complete"]
    refused = ask(handler, event | {"variations": 3})
    assert (refused["status"], refused["field"]) == (400, "include_prompt")
    assert refused["error"] == "an answer has at most 600 notes, and those of the prompt alone would be 840"
    assert ask(handler, event | {"variations": 3, "include_prompt": False})["complete"]


def test_time_is_kept_for_writing_the_prompt(handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each note takes a second to write, on a processor as fast as it may be.
    monkeypatch.setitem(composing.WRITING, "notes", (0.0, 1.0, 0.0))
    monkeypatch.setattr(composing, "WALL", 0.0)

    class Context:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def get_remaining_time_in_millis(self) -> float:
            return 1000 * self.seconds

    event = {"prompt": dense(8), "frames": 2, "seed": 1, "temperature": 0}
    for include, seconds, complete in ((False, 200, True), (True, 310, False), (True, 3000, True)):
        assert ask(handler, event | {"include_prompt": include}, Context(seconds))["complete"] is complete
