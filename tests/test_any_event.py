"""The function and events of every kind: whatever comes, a clean answer and one line in the log.

`tests/fuzz_handler.py` runs the same test under a fuzzer.
"""

import base64
import contextlib
import hashlib
import io
import json
import math
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pianoai.runtime import midi
from pianoai.runtime.roll import make_notes
from tests.function import Context, http, load_handler
from tests.remembering_model import remembering_model

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.ts"
    path.write_bytes(b"a model")
    HANDLER = load_handler(path, remembering_model())

KNOWN = ["prompt", "state", "frames", "beats", "temperature", "top_p", "min_p", "seed", "tempo", "variations"]
NAMES = st.sampled_from([*KNOWN, "format", "include_prompt", "route", "rawPath", "body", "tone", "ß", ""])
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
    header = struct.pack("<B8sQQd", 1, bytes.fromhex(HANDLER.CHECKSUM)[:8], seed, drawn, tempo)
    data = header + content
    return base64.urlsafe_b64encode(data + hashlib.sha256(data).digest()[:8]).decode()


states = st.one_of(
    st.just(STATE),
    edited(STATE.encode()).map(lambda data: data.decode("latin-1")),
    st.builds(
        forged,
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
        st.floats() | st.just(120.0),
        st.one_of(st.binary(max_size=30), st.integers(0, 900).map(lambda size: zlib.compress(b"\1" * size))),
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


@given(events, clocks)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_the_answer_is_clean(event: Any, clock: Any) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        found = HANDLER.lambda_handler(event, clock)
    json.dumps(found, allow_nan=False)
    (text,) = printed.getvalue().splitlines()
    line = json.loads(text)
    assert len(text) < 400
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
    for piece in answer.get("variations", [answer]):
        assert piece["complete"] or piece["frames"] < 2048
        assert (piece["nll"] is None) == (piece["frames"] == 0)
        assert len(piece["state"]) < 4000
        if "notes" in piece:
            assert all(21 <= note["pitch"] <= 108 and 1 <= note["velocity"] <= 127 for note in piece["notes"])
            assert all(note["start"] >= 0 and note["duration"] >= 0.25 for note in piece["notes"])
        if "roll" in piece:
            assert all(len(row) == 88 and min(row) >= 0 and max(row) <= 127 for row in piece["roll"])
            assert len(piece["roll"]) == piece["frames"] + piece.get("prompt_frames", 0)
