"""What the function refuses, and how it says so."""

import base64
import json
from typing import Any

import pytest

from pianoai.runtime import midi
from pianoai.runtime.roll import make_notes
from tests.function import ask, http, load_handler
from tests.tiny_model import tiny_model

Json = dict[str, Any]


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("model") / "model.ts"
    path.write_bytes(b"a model")
    return load_handler(path, tiny_model())


def each(name: str, *values: Any) -> list[tuple[Json, int, str]]:
    """A request for every bad value of a field."""
    return [({name: value}, 400, name) for value in values]


SONG = base64.b64encode(midi.write(make_notes([(0, 6, 60, 64)]))).decode()
NOTE = {"pitch": 60, "start": 0, "duration": 1}
HUGE = 10**5000


BAD: list[tuple[Any, int, str]] = [
    (None, 400, "event"),
    ([], 400, "event"),
    ("text", 400, "event"),
    ({"tone": 1}, 400, "tone"),
    ({"x" * 1000: 1}, 400, "body"),
    ({"two\nlines": 1}, 400, "body"),
    ({"route": "sing"}, 404, "route"),
    ({"route": ["health"]}, 404, "route"),
    ({"route": "health", "frames": 1}, 400, "route"),
    *each("frames", 0, 2049, "8", 8.0, True, [], HUGE, -HUGE),
    *each("beats", 0, -1, 512.25, 0.3, "1", True, float("nan"), 1e308, HUGE),
    ({"beats": 1, "frames": 4}, 400, "beats"),
    *each("temperature", -1, 5.1, "1", True, [1], float("nan"), float("inf"), -HUGE, HUGE),
    *each("top_p", 0, -0.1, 1.01, "1", float("nan"), HUGE),
    *each("min_p", -0.1, 1.01, {}, float("nan"), HUGE),
    *each("seed", -1, 2**63, 1.0, "x", False, HUGE),
    *each("tempo", 3.9, 1001, "90", True, float("nan"), HUGE),
    *each("variations", 0, 9, 1.5, "2", HUGE),
    ({"variations": 3, "frames": 700}, 400, "variations"),
    ({"variations": 2, "temperature": 0}, 400, "variations"),
    *each("format", "wav", 1, ["midi"], {}),
    *each("include_prompt", 1, "yes", []),
    ({"prompt": [[60]] * 8 + [[60, 61]] * 2, "include_prompt": "no"}, 400, "include_prompt"),
    *each("prompt", 7, {}, True, 1.5, "", "no base64!", "\u266b", "\ud800"),
    ({"prompt": [60]}, 400, "prompt[0]"),
    ({"prompt": [[], [20]]}, 400, "prompt[1]"),
    ({"prompt": [[60.0]]}, 400, "prompt[0]"),
    ({"prompt": [[], [HUGE]]}, 400, "prompt[1]"),
    ({"prompt": [[]] * 16_385}, 400, "prompt"),
    ({"prompt": [[60] * 100_001]}, 400, "prompt"),
    ({"prompt": [NOTE] * 8193}, 400, "prompt"),
    ({"prompt": [NOTE, [60]]}, 400, "prompt[1]"),
    ({"prompt": [[60], NOTE]}, 400, "prompt[1]"),
    ({"prompt": [NOTE | {"colour": "red"}]}, 400, "prompt[0]"),
    ({"prompt": [NOTE, {"pitch": 60, "start": 0}]}, 400, "prompt[1].duration"),
    *(({"prompt": [NOTE, NOTE | {"pitch": p}]}, 400, "prompt[1].pitch") for p in (20, 109, 60.0, "C4", None, HUGE)),
    *(({"prompt": [NOTE | {"velocity": v}]}, 400, "prompt[0].velocity") for v in (0, 128, 64.0, -HUGE)),
    *(({"prompt": [NOTE | {"start": s}]}, 400, "prompt[0].start") for s in (-1, 20_001, "0", float("nan"), HUGE)),
    *(({"prompt": [NOTE | {"duration": d}]}, 400, "prompt[0].duration") for d in (0, -1, float("inf"), True)),
    ({"prompt": [NOTE | {"tied": 1}]}, 400, "prompt[0].tied"),
    ({"prompt": base64.b64encode(b"MThd but no more").decode()}, 400, "prompt"),
    ({"prompt": SONG[:-8]}, 400, "prompt"),
    ({"prompt": "A" * 90_000}, 413, "prompt"),
    *each("state", "", "AAAA", 7, [], {}, "\ud800", "A" * 70_000),
    ({"state": "AAAA", "prompt": [[60]]}, 400, "state"),
    ({"state": "AAAA", "include_prompt": True}, 400, "include_prompt"),
    ({"rawPath": 7}, 400, "event.rawPath"),
    ({"requestContext": []}, 400, "event.rawPath"),
    ({"rawPath": "/generate", "requestContext": {"http": {"method": 1}}}, 405, "method"),
    (http("POST", "/generate") | {"body": {"frames": 1}}, 400, "body"),
    (http("POST", "/generate", "{}") | {"isBase64Encoded": "yes"}, 400, "body"),
    (http("POST", "/generate", "{}", encoded=True), 400, "body"),
    (http("POST", "/generate", "/w==", encoded=True), 400, "body"),
    (http("POST", "/generate", "\ud800"), 400, "body"),
    (http("POST", "/generate", "["), 400, "body"),
    (http("POST", "/generate", "[]"), 400, "body"),
    (http("POST", "/generate", "[" * 200_000), 400, "body"),
    (http("POST", "/generate", '{"prompt":' + "[" * 50_000 + "]" * 50_000 + "}"), 400, "body"),
    (http("POST", "/generate", '{"temperature": NaN}'), 400, "body"),
    (http("POST", "/generate", '{"temperature": -Infinity}'), 400, "body"),
    (http("POST", "/generate", '{"temperature": 1e999}'), 400, "temperature"),
    (http("POST", "/generate", '{"frames": 1' + "0" * 5000 + "}"), 400, "body"),
    (http("POST", "/generate", '{"frames": 1' + "0" * 4000 + "}"), 400, "frames"),
    (http("POST", "/generate", '{"seed": 1, "seed": 1}'), 400, "seed"),
    (http("POST", "/generate", '{"prompt": [{"pitch": 60, "pitch": 61}]}'), 400, "pitch"),
    (http("POST", "/generate", '{"route": "health"}'), 400, "route"),
    (http("POST", "/generate", " " * 262_143 + "{}"), 413, "body"),
    (http("POST", "/generate", "\u00e9" * 131_073), 413, "body"),
    (http("POST", "/generate", "A" * 349_530, encoded=True), 413, "body"),
]


@pytest.mark.parametrize(("event", "status", "field"), BAD)
def test_bad_input_names_the_field(
    handler: Any, capsys: pytest.CaptureFixture[str], event: object, status: int, field: str
) -> None:
    answer = ask(handler, event)
    if "statusCode" in answer:
        assert answer["statusCode"] == status
        answer = json.loads(answer["body"]) | {"status": answer["statusCode"]}
    assert set(answer) == {"error", "field", "hint", "status"}
    assert (answer["status"], answer["field"]) == (status, field)
    for text in (answer["error"], answer["hint"]):
        assert 0 < len(text) < 200
        assert "\n" not in text
    line = json.loads(capsys.readouterr().out)
    assert (line["status"], line["field"]) == (status, field)


def test_a_body_of_just_the_limit_is_read(handler: Any) -> None:
    body = " " * (262_144 - 24) + '{"frames": 2, "seed": 1}'
    assert ask(handler, http("POST", "/generate", body))["statusCode"] == 200
    encoded = base64.b64encode(body.encode()).decode()
    assert ask(handler, http("POST", "/generate", encoded, encoded=True))["statusCode"] == 200
