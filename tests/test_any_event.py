"""The function and events of every kind: whatever comes, a clean answer and one line in the log.

`tests/fuzz_handler.py` runs the same tests under a fuzzer.
"""

import base64
import contextlib
import hashlib
import io
import json
import math
import mmap
import pickle
import random
import struct
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pianoai.runtime import midi, token
from pianoai.runtime.roll import make_notes
from tests import fuzz_handler
from tests.function import Context, http, load_handler
from tests.remembering_model import remembering_model

MODEL = remembering_model()
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.ts"
    path.write_bytes(b"a model")
    # A window of 64 frames, so that 512 of a prompt are heard.
    HANDLER = load_handler(path, replace(MODEL, metadata=replace(MODEL.metadata, window=64)))

MOST_ANSWER = 6 * 2**20  # bytes that Lambda sends

KNOWN = ["prompt", "state", "frames", "beats", "temperature", "top_p", "min_p", "seed", "tempo", "variations"]
NAMES = st.sampled_from([*KNOWN, "format", "include_prompt", "route", "rawPath", "body", "tone", "ß", "\udc80", ""])
STATE = HANDLER.lambda_handler({"frames": 5, "seed": 1}, None)["state"]
SONG = midi.write(make_notes([(0, 6, 60, 64), (6, 12, 64, 90), (6, 3, 30, 1)]), 90)

numbers = st.one_of(
    st.integers(-2, 130),
    st.integers(),
    st.floats(),
    st.sampled_from([0, 1, 0.5, 21, 108, 2048, 2049, 2**63, 10**400, -(10**4000), 1e308, 0.25, math.nan, math.inf]),
)
WORDS = ["notes", "midi", "roll", "health", "generate", "\ud800", "AAAA"]
texts = st.one_of(st.text(max_size=20), st.sampled_from(WORDS))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | texts, inner, max_size=4),
    max_leaves=12,
)


def edited(data: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes with a stretch of them replaced by others."""
    return st.tuples(st.integers(0, len(data)), st.integers(0, 8), st.binary(max_size=8)).map(
        lambda change: data[: change[0]] + change[2] + data[change[0] + change[1] :]
    )


def forged(seed: int, drawn: int, tempo: float, content: bytes) -> str:
    """A state whose checksum is right, whatever it says."""
    header = struct.pack(
        "<B8sQQd", token.VERSION, bytes.fromhex(HANDLER.lambda_handler.checksum)[:8], seed, drawn, tempo
    )
    data = header + content
    return base64.urlsafe_b64encode(data + hashlib.sha256(data).digest()[:8]).decode()


SIZES = st.integers(0, 900) | st.integers(0, 11).map(lambda frames: 88 * frames)
states = st.one_of(
    st.just(STATE),
    edited(STATE.encode()).map(lambda data: data.decode("latin-1")),
    st.builds(
        forged,
        st.integers(0, 2**64 - 1) | st.integers(0, 99),
        st.integers(0, 2**64 - 1) | st.integers(0, 99),
        st.floats() | st.just(120.0),
        st.one_of(st.binary(max_size=30), SIZES.map(lambda size: zlib.compress(b"\1" * size))),
    ),
)
pitches = st.integers(19, 110) | st.just(60)
notes = st.fixed_dictionaries(
    {"pitch": pitches | values, "start": st.floats(0, 40) | numbers, "duration": st.floats(0, 9) | numbers},
    optional={"velocity": st.integers(0, 128) | values, "tied": st.booleans() | values, "tone": values},
)
songs = st.one_of(st.just(SONG), edited(SONG), st.binary(max_size=40).map(lambda noise: SONG[:22] + noise))
prompts = st.one_of(
    st.lists(st.lists(pitches, max_size=4), max_size=30),
    st.lists(notes, max_size=6),
    songs.map(lambda data: base64.b64encode(data).decode()),
    values,
)
requests = st.fixed_dictionaries(
    {"frames": st.integers(1, 6)},
    optional={
        "prompt": prompts,
        "state": states,
        "temperature": st.sampled_from([0, 0.5, 0.9, 5]) | numbers,
        "top_p": st.floats(0.01, 1) | numbers,
        "min_p": st.floats(0, 1) | numbers,
        "seed": st.integers(0, 9) | numbers,
        "tempo": st.integers(4, 200) | numbers,
        "variations": st.integers(1, 4),
        "format": st.sampled_from(["notes", "midi", "roll"]),
        "include_prompt": st.booleans(),
    },
)
# A valid request with some of its fields set to anything, or with fields that are not known.
spoilt = st.builds(lambda good, bad: {**good, **bad}, requests, st.dictionaries(NAMES, values, max_size=2))


def as_text(value: Any) -> str:
    """JSON, with the NaN and Infinity that Python writes, or what str makes of numbers too long for it."""
    try:
        return json.dumps(value)
    except ValueError:
        return "1" + "0" * 6000


bodies = st.one_of(
    spoilt.map(as_text), values.map(as_text), texts, st.integers(1, 3000).map(lambda deep: '{"prompt":' + "[" * deep)
)
methods = st.sampled_from(["POST", "POST", "POST", "GET", "DELETE", "post"])
paths = st.sampled_from(["/generate", "/generate", "/generate/", "/health", "/", "generate", "/prod/generate"])
encoded = bodies.map(lambda body: base64.b64encode(body.encode("utf-8", "replace")).decode())
calls = st.builds(http, methods, paths, bodies | encoded, st.booleans())
HTTP_KEYS = st.sampled_from(["requestContext", "rawPath", "path", "body", "isBase64Encoded"])
bent = st.builds(lambda call, bad: {**call, **bad}, calls, st.dictionaries(HTTP_KEYS, values, max_size=2))
events = st.one_of(spoilt, calls, bent, values)
clocks = st.none() | st.builds(Context, st.integers(-10, 1000), st.integers(0, 60)) | st.just(object())


def long_prompt(form: str, frames: int, pitches: int, seed: int) -> Any:
    """A prompt with so many pitches in each of so many frames, made from the few numbers that a fuzzer can change."""
    dice = random.Random(seed)
    roll = [dice.sample(range(21, 109), pitches) for _ in range(frames)]
    if form == "frames":
        return roll
    rows = [(6 * at, dice.randint(1, 40), pitch, 64) for at, frame in enumerate(roll) for pitch in frame]
    if form == "midi":
        return base64.b64encode(midi.write(make_notes(rows[:7000]), 90)).decode()  # of 48 KB at most
    return [{"pitch": pitch, "start": start / 24, "duration": length / 24} for start, length, pitch, _ in rows[:8192]]


def late_fault(fields: dict[str, Any]) -> dict[str, Any]:
    """The same request with a prompt that is wrong at its end, so that all of it is read before it is refused."""
    prompt = fields["prompt"]
    wrong = prompt[: len(prompt) // 8 * 4] if isinstance(prompt, str) else [*prompt, "wrong"]
    return fields | {"prompt": wrong}


long_requests = st.fixed_dictionaries(
    {
        "prompt": st.builds(
            long_prompt,
            st.sampled_from(["frames", "notes", "midi"]),
            st.sampled_from([511, 512, 513]) | st.integers(1, 900),
            st.integers(0, 3) | st.integers(0, 12) | st.just(44),
            st.integers(0, 99),
        ),
        "frames": st.integers(1, 12) | st.just(100),
        "format": st.sampled_from(["notes", "midi", "roll"]),
        "include_prompt": st.sampled_from([True, True, True, False]),
    },
    optional={"variations": st.sampled_from([8, 8, 2]), "temperature": st.sampled_from([0.9, 5])},
)
long_fields = st.builds(
    lambda fields, change: change(fields), long_requests, st.sampled_from([dict, dict, dict, late_fault])
)
long_events = st.builds(
    lambda fields, over_http: http("POST", "/generate", as_text(fields)) if over_http else fields,
    long_fields,
    st.booleans(),
)


@given(events, clocks)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_the_answer_is_clean(event: Any, clock: Any) -> None:
    check(event, clock)


@given(long_events, clocks)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_however_long_the_prompt_the_answer_is_clean(event: Any, clock: Any) -> None:
    check(event, clock)


def check(event: Any, clock: Any) -> None:
    """Asserts that the function answers an event as docs/function.md says, whatever the event is."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        found = HANDLER.lambda_handler(event, clock)
    # Lambda's runtime client for Python 3.12 and later writes answers so: a lone surrogate fails there.
    assert len(json.dumps(found, allow_nan=False, ensure_ascii=False).encode()) < MOST_ANSWER
    (text,) = printed.getvalue().splitlines()
    line = json.loads(text)
    assert len(text) < 400
    if line["route"] == "page" and line["status"] in (200, 304):
        assert found["statusCode"] == line["status"]
        assert found["headers"]["content-type"] == "text/html; charset=utf-8"
        return
    status, answer = found.get("status", 200), found
    if "statusCode" in found:
        status, answer = found["statusCode"], json.loads(found["body"])
        assert found["headers"]["cache-control"] == "no-store"
        assert ("allow" in found["headers"]) == (status == 405)
    assert line["status"] == status
    assert status in (200, 400, 404, 405, 409, 413), line
    if status != 200:
        assert set(answer) - {"status"} == {"error", "field", "hint"}
        assert all(isinstance(answer[key], str) and "\n" not in answer[key] for key in ("error", "field", "hint"))
        assert answer["error"]
        assert answer["hint"]
        assert len(answer["error"]) + len(answer["hint"]) < 500
        return
    if line["route"] == "health":
        assert answer["limits"]["frames"] == 2048
        return
    pieces = answer.get("variations", [answer])
    assert sum(not note.get("tied") for piece in pieces for note in piece.get("notes", [])) <= 8000
    for piece in pieces:
        assert piece["complete"] or piece["frames"] < 2048
        assert (piece["nll"] is None) == (piece["frames"] == 0)
        assert len(piece["state"]) < 24_000
        if "notes" in piece:
            assert all(21 <= note["pitch"] <= 108 and 1 <= note["velocity"] <= 127 for note in piece["notes"])
            assert all(note["start"] >= 0 and note["duration"] >= 0.25 for note in piece["notes"])
        if "roll" in piece:
            assert all(len(row) == 88 and min(row) >= 0 and max(row) <= 127 for row in piece["roll"])
            assert len(piece["roll"]) == piece["frames"] + piece.get("prompt_frames", 0)


def test_the_fuzzer_notices_memory_that_grows_and_refusals_that_take_long() -> None:
    held = []

    def leak(event: Any, context: Any) -> dict[str, Any]:
        pages = mmap.mmap(-1, event["bytes"])  # which no freed memory of this process can serve
        pages.write(b"1" * event["bytes"])
        held.append(pages)
        return {"frames": 1}

    def work(event: Any, context: Any) -> dict[str, Any]:
        end = time.process_time() + event["seconds"]
        while time.process_time() < end:
            pass
        return {"statusCode": event["status"]}

    # 16 rounds of 2 events after the first four, of 1 MiB each: 32 MB, and nothing was refused.
    growth, seconds = fuzz_handler.replay(SimpleNamespace(lambda_handler=leak), [({"bytes": 2**20}, None)] * 2, 20)
    assert 20 < growth < 44
    assert seconds == 0
    (line,) = fuzz_handler.failures(growth, seconds)
    assert line.startswith("memory grew by ")
    calls = [({"status": status, "seconds": spent}, None) for status, spent in ((200, 0.09), (400, 0.06), (413, 0.01))]
    growth, seconds = fuzz_handler.replay(SimpleNamespace(lambda_handler=work), calls, 5)
    assert 0.06 <= seconds < 0.09
    (line,) = fuzz_handler.failures(0, seconds)
    assert line.startswith("a refusal took ")
    assert fuzz_handler.failures(4, 0.05) == []


def test_the_fuzzer_ends_with_an_error_where_a_measurement_is_over_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [({"frames": 2, "seed": 1}, Context(500, 10)), ({"frames": "two"}, None)]
    (tmp_path / "calls").write_bytes(pickle.dumps(calls))
    monkeypatch.setattr(fuzz_handler, "ROUNDS", 5)
    monkeypatch.setattr(fuzz_handler, "MOST_GROWTH", 1000.0)
    assert fuzz_handler.repeat(str(tmp_path / "calls")) == 0
    assert "10 events again" in capsys.readouterr().out
    monkeypatch.setattr(fuzz_handler, "MOST_SECONDS", 0.0)
    assert fuzz_handler.repeat(str(tmp_path / "calls")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: a refusal took ")
    assert line.endswith(" ms of processor time, more than 0")
