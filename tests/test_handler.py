"""The Lambda function, invoked directly and over HTTP with models in NumPy."""

import base64
import hashlib
import json
import platform
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pianoai
from pianoai.runtime import composing, midi, prompts, requests, sampling, token
from pianoai.runtime import model as runtime
from pianoai.runtime.model import State
from pianoai.runtime.roll import Floats, make_notes, notes_to_roll, read_frames, roll_to_notes
from pianoai.windows import Windows
from tests.function import HANDLER, Context, ask, http, load_handler
from tests.remembering_model import remembering_model
from tests.test_export import archive_of, checkpoint_of
from tests.tiny_model import tiny_model

Json = dict[str, Any]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.ts"
    path.write_bytes(b"a model")
    return path


@pytest.fixture(scope="module")
def handler(file: Path) -> Any:
    return load_handler(file, tiny_model())


@pytest.fixture(scope="module")
def remembering(file: Path) -> Any:
    """The function with a model that has a memory."""
    return load_handler(file, remembering_model())


@pytest.fixture(scope="module")
def planned(file: Path, music: Windows) -> Any:
    """The function with a Transformer, whose steps all work in one memory."""
    return load_handler(file, runtime.load(archive_of(checkpoint_of("transformer", music), music)))


def rows(notes: list[Json]) -> list[tuple[float, float, int, int]]:
    return [(note["start"] * 24, note["duration"] * 24, note["pitch"], note["velocity"]) for note in notes]


def join(pieces: list[Json]) -> list[tuple[float, float, int, int]]:
    """The notes of pieces as a client joins them: a tied note lengthens the last one of its pitch."""
    joined: list[Json] = []
    begin = 0.0
    for piece in pieces:
        for note in piece["notes"]:
            if note.get("tied") and begin:
                before = max((old for old in joined if old["pitch"] == note["pitch"]), key=lambda old: old["start"])
                assert before["start"] + before["duration"] == begin
                assert before["velocity"] == note["velocity"]
                before["duration"] += note["duration"]
            else:
                joined.append(note | {"start": note["start"] + begin})
        begin += piece["frames"] / 4
    return sorted(rows(joined), key=lambda row: (row[0], row[2]))


# What is answered


def test_notes_midi_and_roll_are_the_same_music(handler: Any) -> None:
    prompt = [[60, 64], [60], [67]]
    event = {"prompt": prompt, "frames": 20, "temperature": 0.9, "seed": 11, "top_p": 0.9, "min_p": 0.01}
    heard = read_frames(prompt)
    new = sampling.generate(tiny_model(), heard, 20, sampling.Settings(0.9, 0.9, 0.01), 11)
    expected = roll_to_notes(sampling.alone(heard, new), 4).tolist()
    answer = ask(handler, event)
    assert rows(answer["notes"]) == expected
    assert {note["pitch"] for note in answer["notes"] if note.get("tied")} <= {67}
    assert (answer["frames"], answer["seed"], answer["tempo"], answer["complete"]) == (20, 11, 120, True)
    assert ask(handler, event | {"format": "roll"})["roll"] == new.tolist()
    song = ask(handler, event | {"format": "midi", "tempo": 75})
    notes, tempo = midi.read(base64.b64decode(song["midi"]))
    assert notes.tolist() == expected
    assert (song["tempo"], tempo) == (75, 75)
    forms = [set(ask(handler, event | {"format": form})) & {"notes", "midi", "roll"} for form in ("midi", "roll")]
    assert forms == [{"midi"}, {"roll"}]


def test_the_defaults(handler: Any) -> None:
    answer = ask(handler, {})
    assert answer["frames"] == 128
    spelled = {"frames": 128, "temperature": 1.0, "top_p": 1, "min_p": 0, "seed": answer["seed"], "prompt": None}
    assert ask(handler, spelled | {"format": "notes", "include_prompt": False}) == answer
    assert ask(handler, {})["seed"] != answer["seed"]
    assert ask(handler, {"beats": 2.25, "seed": 1}) == ask(handler, {"frames": 9, "seed": 1})


def test_temperature_zero_needs_no_seed(remembering: Any) -> None:
    event = {"temperature": 0, "frames": 30}
    answer = ask(remembering, event)
    assert answer["notes"]
    assert ask(remembering, event) == answer
    assert ask(remembering, event | {"seed": 5})["notes"] == answer["notes"]


def test_nll_is_that_of_the_music_at_temperature_one(handler: Any) -> None:
    answer = ask(handler, {"frames": 12, "temperature": 2, "seed": 4, "prompt": [[60], []], "format": "roll"})
    cells = np.vstack([np.zeros((1, 88), np.uint8), np.array(answer["roll"], np.uint8)])
    before, now = cells[:-1] > 0, cells[1:] > 0
    chance = np.where(before, 0.75, 0.25)
    nats = -np.log(np.where(now, chance, 1 - chance)).sum()
    nats -= np.log(np.where(cells[1:] > 1, 0.4, 0.6))[before & now].sum()
    assert answer["nll"] == pytest.approx(nats / 12, rel=1e-6)


@pytest.mark.parametrize("kind", ["remembering", "planned"])
def test_variations_are_ranked_and_each_can_be_had_alone(kind: str, request: pytest.FixtureRequest) -> None:
    function = request.getfixturevalue(kind)
    event = {"prompt": [[60], [60, 64]], "frames": 16, "seed": 3, "format": "roll"}
    answer = ask(function, event | {"variations": 4})
    assert set(answer) == {"variations", "complete", "seed", "tempo"}
    found = answer["variations"]
    assert len({one["seed"] for one in found}) == 4
    assert 3 in {one["seed"] for one in found}
    assert [one["nll"] for one in found] == sorted(one["nll"] for one in found)
    # This model writes over the states that it is given, so each variation must have had one of its own.
    for one in found:
        assert ask(function, event | {"seed": one["seed"]}) == one | {"tempo": 120}
    assert len(ask(function, event | {"variations": 1})["variations"]) == 1


def test_the_prompt_can_be_included(handler: Any) -> None:
    # E4 sounds at the prompt's end; with the prompt it is one note, alone it is tied to what came before.
    prompt = [{"pitch": 60, "start": 0, "duration": 1, "velocity": 50}, {"pitch": 64, "start": 0.5, "duration": 1}]
    event = {"prompt": prompt, "frames": 3, "temperature": 0}
    alone = ask(handler, event)
    assert alone["notes"] == [{"pitch": 64, "start": 0, "duration": 0.75, "velocity": 64, "tied": True}]
    both = ask(handler, event | {"include_prompt": True})
    assert rows(both["notes"]) == [(0, 24, 60, 50), (12, 12 + 12 + 18, 64, 64)]
    assert not any("tied" in note for note in both["notes"])
    assert both["prompt_frames"] == 6
    assert len(ask(handler, event | {"include_prompt": True, "format": "roll"})["roll"]) == 9
    assert ask(handler, {"include_prompt": True, "seed": 1, "frames": 4})["prompt_frames"] == 0


def test_an_answer_can_be_sent_back_as_prompt(remembering: Any) -> None:
    answer = ask(remembering, {"prompt": [[60, 64, 67]], "frames": 10, "seed": 1, "format": "notes"})
    assert ask(remembering, {"prompt": answer["notes"], "frames": 4, "seed": 2})["frames"] == 4


# Prompts


def test_a_midi_prompt_keeps_its_tempo_and_only_its_end_is_heard(handler: Any) -> None:
    # 61 frames, so over the 24 that the tiny model hears, with a note from the first to the last.
    music = make_notes([(0, 366, 30, 40)] + [(12 * at, 9, 60 + at, 50 + at) for at in range(30)])
    data = base64.b64encode(midi.write(music, 75)).decode()
    answer = ask(handler, {"prompt": data, "frames": 8, "seed": 3, "format": "roll"})
    roll = notes_to_roll(music, 4)
    assert answer["roll"] == sampling.generate(tiny_model(), roll, 8, sampling.Settings(), 3).tolist()
    assert answer["tempo"] == 75
    heard, tempo = prompts.read(data, tiny_model().metadata)
    assert (heard[1:] == roll[-23:]).all()
    assert (len(heard), tempo) == (24, 75)


@pytest.mark.parametrize("ticks", [1, 5, 6, 23, 24, 25, 143, 144, 145, 168, 200, 399])
def test_the_end_of_a_prompt_is_the_same_wherever_it_falls(ticks: int) -> None:
    music = make_notes([(0, ticks, 60, 90), (ticks // 2, 7, 62, 70)])
    whole = notes_to_roll(music, 4)
    end = notes_to_roll(prompts.last(music, 24, 4), 4)
    assert (end[-24:] == whole[-24:]).all()
    assert len(end) <= 24 + 8  # memory does not grow with the length of the prompt


def test_frames_notes_and_midi_of_the_same_prompt_are_heard_alike() -> None:
    frames = [[60], [60, 64], [64], [], [67]]
    notes = [
        {"pitch": 60, "start": 0, "duration": 0.5},
        {"pitch": 64, "start": 0.25, "duration": 0.5, "velocity": 64},
        {"pitch": 67, "start": 1.0, "duration": 0.25, "tied": False},
    ]
    song = base64.b64encode(midi.write(make_notes([(0, 12, 60, 64), (6, 12, 64, 64), (24, 6, 67, 64)]))).decode()
    heard = [prompts.read(prompt, tiny_model().metadata)[0].tolist() for prompt in (frames, notes, song)]
    assert heard[0] == heard[1] == heard[2] == read_frames(frames).tolist()


def test_a_long_prompt_of_frames_is_heard_from_its_end(handler: Any) -> None:
    long = [[60 + at % 7] for at in range(100)]
    event = {"frames": 5, "seed": 1}
    assert ask(handler, event | {"prompt": long}) == ask(handler, event | {"prompt": long[-24:]})
    assert ask(handler, event | {"prompt": []}) == ask(handler, event)


# Going on


@pytest.mark.parametrize("temperature", [0, 0.9])
@pytest.mark.parametrize("prompt", [None, [[60, 64], [60], [60, 67]], [[40 + at] for at in range(20)]])
def test_pieces_join_to_the_unbroken_music(remembering: Any, temperature: float, prompt: Any) -> None:
    event = {"temperature": temperature, "seed": 8, "top_p": 0.95}
    whole = {
        form: ask(remembering, event | {"prompt": prompt, "frames": 40, "format": form}) for form in ("notes", "roll")
    }
    pieces, cells = [], []
    more: Json = {"prompt": prompt, "seed": 8}
    for frames in (1, 2, 11, 26):
        asked = event | {"seed": None, "frames": frames} | more
        pieces.append(ask(remembering, asked))
        cells += ask(remembering, asked | {"format": "roll"})["roll"]
        more = {"state": pieces[-1]["state"]}
    assert cells == whole["roll"]["roll"]
    assert join(pieces) == sorted(rows(whole["notes"]["notes"]), key=lambda row: (row[0], row[2]))
    assert pieces[-1]["state"] == whole["notes"]["state"]
    assert {piece["seed"] for piece in pieces} == {8}
    assert any(note.get("tied") for piece in pieces[1:] for note in piece["notes"])


def test_another_seed_or_more_variations_go_another_way(remembering: Any) -> None:
    first = ask(remembering, {"frames": 6, "seed": 8, "tempo": 90})
    on = {"state": first["state"], "frames": 6}
    same, other = ask(remembering, on), ask(remembering, on | {"seed": 9})
    assert (same["seed"], other["seed"]) == (8, 9)
    assert same["notes"] != other["notes"]
    assert same["tempo"] == other["tempo"] == 90
    several = ask(remembering, on | {"variations": 3, "seed": 9})
    assert other["notes"] in [one["notes"] for one in several["variations"]]
    last = several["variations"][-1]
    assert ask(remembering, {"state": last["state"], "frames": 1})["seed"] == last["seed"]


def test_a_note_of_a_real_piece_is_not_struck_again_at_the_seam(handler: Any) -> None:
    # At temperature 0 the tiny model holds what sounds, so one note fills all pieces.
    pieces = [ask(handler, {"prompt": [[60]], "frames": 5, "temperature": 0})]
    for _ in range(4):
        pieces.append(ask(handler, {"state": pieces[-1]["state"], "frames": 5, "temperature": 0}))
    assert [piece["notes"] for piece in pieces] == [
        [{"pitch": 60, "start": 0, "duration": 1.25, "velocity": 64, "tied": True}]
    ] * 5
    assert join(pieces) == [(0, 150, 60, 64)]


def test_a_state_of_another_model_is_refused(handler: Any, tmp_path: Path) -> None:
    (tmp_path / "other.ts").write_bytes(b"another model")
    other = load_handler(tmp_path / "other.ts", tiny_model())
    answer = ask(other, {"state": ask(handler, {"frames": 2})["state"]})
    assert (answer["status"], answer["field"]) == (409, "state")


# Time and room


def test_it_stops_in_time_and_the_state_goes_on(remembering: Any) -> None:
    whole = ask(remembering, {"frames": 60, "seed": 2, "format": "roll"})
    # 1000 ms, and every look at the clock takes 25: some 27 frames before the margin of 200 and 70 or more for writing.
    first = ask(remembering, {"frames": 60, "seed": 2, "format": "roll"}, Context(1000, 25))
    assert first["complete"] is False
    assert 20 < first["frames"] < 36
    assert first["roll"] == whole["roll"][: first["frames"]]
    rest = ask(remembering, {"frames": 60 - first["frames"], "state": first["state"], "format": "roll"})
    assert first["roll"] + rest["roll"] == whole["roll"]
    assert rest["complete"] is True


class Clock:
    """A processor that works at `share` of its speed; time passes only while the model of `timed` takes a step."""

    STEP = 0.01  # seconds

    def __init__(self, share: float) -> None:
        self.share, self.steps = share, 0

    def perf_counter(self) -> float:
        return self.steps * self.STEP

    def process_time(self) -> float:
        return self.perf_counter() * self.share


class Deadline:
    """Lambda's context: `seconds` on a clock."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def get_remaining_time_in_millis(self) -> float:
        return 1000 * (self.seconds - self.clock.perf_counter())


@pytest.fixture
def timed(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], tuple[Any, Clock]]:
    """The function on a clock with some share of a processor; five notes begin in every frame of its model.

    Writing takes 10 ms of a whole processor, and 1 ms a frame in every format; Lambda gets 200 ms to take the answer.
    """
    writing = {"notes": (0.01, 0.0002, 0.0), "midi": (0.01, 0.0002, 0.0), "roll": (0.01, 0.0, 0.001)}
    monkeypatch.setattr(composing, "WRITING", writing)

    def make(share: float) -> tuple[Any, Clock]:
        clock = Clock(share)

        def step(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
            clock.steps += 1
            cells = np.zeros(88, np.float32)
            cells[:5] = 64
            return cells, np.full((3, 88), 0.5, np.float32), state

        monkeypatch.setattr(composing, "time", clock)
        return load_handler(file, tiny_model(step, window=20)), clock

    return make


@pytest.mark.parametrize("form", ["notes", "midi", "roll"])
@pytest.mark.parametrize(
    ("share", "fitting"),
    [
        # A fourteenth of a processor writes 14 times as slowly: 2 s - 0.2 - 0.14 = 1.66 s are for frames of 10 ms and
        # 14 ms of writing each, so the 70th begins after 69 * 0.024 = 1.656 s, and a 71st would after 1.68 s.
        (1 / 14, 70),
        # Whoever has more than a processor writes no faster than one: 1.79 s for 11 ms each, 162 * 0.011 = 1.782 s.
        (20.0, 163),
    ],
)
def test_so_many_frames_as_can_be_written_in_time(timed: Any, form: str, share: float, fitting: int) -> None:
    function, clock = timed(share)
    answer = ask(function, {"frames": 300, "format": form, "seed": 1}, Deadline(clock, 2))
    assert (answer["frames"], answer["complete"], clock.steps) == (fitting, False, fitting)


@pytest.mark.parametrize(
    ("seconds", "heard", "drawn"),
    [
        # 136 frames are to be heard, 16 and then 20 at a time. Writing nothing takes 0.14 s of a fourteenth of a
        # processor and 0.2 s are Lambda's: without more than 0.34 s nothing is heard at all.
        (0.33, 0, 0),
        (0.35, 16, 0),
        # The first 16 took 10 ms each, so 20 more may take half as long again as 0.2 s: 0.16 + 0.34 + 0.3 = 0.8 s.
        (0.79, 16, 0),
        (0.81, 36, 0),
        # After 116 frames the last 20 want 1.16 + 0.34 + 0.3 = 1.8 s.
        (1.79, 116, 0),
        # They take 0.2 s of it: 0.11 s are left, for four frames of 24 ms and one that begins after 96 ms.
        (1.81, 136, 5),
        (9.0, 136, 8),
    ],
)
def test_a_prompt_is_heard_while_there_is_time(timed: Any, seconds: float, heard: int, drawn: int) -> None:
    function, clock = timed(1 / 14)
    event = {"prompt": [[60]] * 137, "frames": 8, "format": "roll", "seed": 1}
    answer = ask(function, event, Deadline(clock, seconds))
    assert (clock.steps, answer["frames"]) == (heard + drawn, drawn)
    assert answer["complete"] is (drawn == 8)


def test_every_16_frames_it_is_seen_how_slowly_things_go(timed: Any) -> None:
    # After 32 frames the processor is taken away. After 112, (1.4 + 0.28) / (0.32 + 0.02) says that writing takes 4.12
    # times as long: 2 s - 0.2 last for the 125th frame, before which 1.24 and 4.12 * 0.134 are gone, and for no other.
    function, clock = timed(1.0)
    clock.process_time = lambda: min(clock.steps, 32) * clock.STEP
    answer = ask(function, {"frames": 300, "format": "roll", "seed": 1}, Deadline(clock, 2))
    assert (answer["frames"], answer["complete"]) == (125, False)


def test_every_variation_has_its_share_of_the_time(timed: Any) -> None:
    # 20 s - 0.2 - 0.14 = 19.66 s are divided by what each takes: 10 ms of drawing and 14 of writing a frame. A third is
    # 6.553 s, 274 frames (273 * 0.024 = 6.552); half of the 13.084 s left 273 (272 * 0.024 = 6.528); 6.532 s are 273.
    function, clock = timed(1 / 14)
    answer = ask(function, {"frames": 400, "variations": 3, "seed": 1, "format": "roll"}, Deadline(clock, 20))
    assert sorted(piece["frames"] for piece in answer["variations"]) == [273, 273, 274]


def test_only_random_numbers_that_were_taken_count(remembering: Any) -> None:
    def drawn(answer: Json) -> int:
        return token.read(
            answer["state"], remembering.lambda_handler.checksum, remembering.lambda_handler.model.metadata.reach
        ).drawn

    first = ask(remembering, {"frames": 7, "seed": 3})
    certain = ask(remembering, {"frames": 5, "state": first["state"], "temperature": 0})
    last = ask(remembering, {"frames": 4, "state": certain["state"]})
    assert (drawn(first), drawn(certain), drawn(last)) == (7, 7, 11)
    assert drawn(ask(remembering, {"frames": 5, "temperature": 0, "seed": 3})) == 0


def test_without_any_time_nothing_is_lost(remembering: Any) -> None:
    prompt = [[60], [60, 64], [64]] * 4
    event = {"frames": 8, "seed": 2}
    for late in (Context(0, 0), Context(-50, 1), Context(350, 100)):
        answer = ask(remembering, event | {"prompt": prompt}, late)
        assert (answer["frames"], answer["complete"], answer["nll"], answer["notes"]) == (0, False, None, [])
        on = ask(remembering, {"frames": 8, "state": answer["state"]})
        assert on["notes"] == ask(remembering, event | {"prompt": prompt})["notes"]


def test_variations_share_the_time(remembering: Any) -> None:
    answer = ask(remembering, {"frames": 400, "variations": 4, "seed": 1}, Context(2000, 10))
    frames = [one["frames"] for one in answer["variations"]]
    assert answer["complete"] is False
    assert sum(frames) > 120
    assert min(frames) > 0.7 * max(frames)


def test_an_answer_holds_no_more_notes_than_lambda_sends(handler: Any) -> None:
    # The tiny model begins 22 notes a frame or more, so 2048 frames are too many.
    answer = ask(handler, {"frames": 2048, "seed": 0})
    assert 7000 < len(answer["notes"]) <= 8000
    assert answer["complete"] is False
    assert len(json.dumps(answer)) < 2**20
    assert ask(handler, {"state": answer["state"], "frames": 3})["complete"] is True
    several = ask(handler, {"frames": 500, "variations": 4, "seed": 0})["variations"]
    assert all(1800 < len(one["notes"]) <= 2100 for one in several)
    assert sum(len(one["notes"]) for one in several) <= 8000


def test_numpy_numbers_stay_inside(handler: Any) -> None:
    answer = handler.lambda_handler({"frames": 5, "seed": 0}, None)
    assert not any(isinstance(value, np.generic) for note in answer["notes"] for value in note.values())
    assert not any(isinstance(value, np.generic) for value in answer.values())


# HTTP


def test_http_and_direct_answers_are_the_same(handler: Any) -> None:
    fields = {"prompt": [[60]], "frames": 6, "seed": 3}
    body = json.dumps(fields)
    events = [
        http("POST", "/generate", body),
        http("POST", "/generate/", base64.b64encode(body.encode()).decode(), encoded=True),
        {"rawPath": "/generate", "body": body},
        {"path": "/generate", "httpMethod": "POST", "body": body, "isBase64Encoded": False},
        http("POST", "/prod/generate", body) | {"requestContext": {"http": {"method": "POST"}, "stage": "prod"}},
    ]
    for event in events:
        answer = ask(handler, event)
        assert answer["statusCode"] == 200
        assert answer["headers"] == {"content-type": "application/json", "cache-control": "no-store"}
        assert answer["isBase64Encoded"] is False
        assert json.loads(answer["body"]) == ask(handler, fields)
    assert json.loads(ask(handler, http("POST", "/generate", ""))["body"])["frames"] == 128
    assert json.loads(ask(handler, http("POST", "/generate"))["body"])["frames"] == 128


def test_health(handler: Any) -> None:
    answer = ask(handler, {"route": "health"})
    assert answer["versions"] == {
        "pianoai": pianoai.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    assert answer["model"]["sha256"] == hashlib.sha256(b"a model").hexdigest()
    assert (answer["model"]["family"], answer["model"]["frames_per_beat"]) == ("tiny", 4)
    assert (answer["limits"]["frames"], answer["limits"]["heard_frames"]) == (2048, 24)
    reply = ask(handler, http("GET", "/health"))
    assert reply["statusCode"] == 200
    assert json.loads(reply["body"]) == answer
    assert ask(handler, {"route": "generate", "frames": 3, "seed": 1}) == ask(handler, {"frames": 3, "seed": 1})


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/index.html", 404, None),
        ("POST", "/", 405, "GET"),
        ("POST", "/generate/more", 404, None),
        ("GET", "/generate", 405, "POST"),
        ("OPTIONS", "/generate", 405, "POST"),
        ("POST", "/health", 405, "GET"),
    ],
)
def test_routes_and_methods(handler: Any, method: str, path: str, status: int, allow: str | None) -> None:
    answer = ask(handler, http(method, path, "{}"))
    assert answer["statusCode"] == status
    assert answer["headers"].get("allow") == allow
    assert set(json.loads(answer["body"])) == {"error", "field", "hint"}


# The documentation


def test_the_documentation_names_every_field_and_shows_what_is_answered(handler: Any) -> None:
    text = (Path(__file__).parents[1] / "docs/function.md").read_text("utf-8")
    asked, answered = text.split("## The function")[1].split("\n## ")[0].split("The answer:")
    named = {name for row in re.findall(r"^\| (`.*?) \|", asked, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == set(requests.FIELDS)
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", answered, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    fields = {"frames": 2, "include_prompt": True}
    found = [
        ask(handler, fields | {"format": form, "variations": some}) for form in requests.FORMATS for some in (1, None)
    ]
    assert named | {"prompt_frames"} == {name for answer in found for name in answer}
    body, refusal = re.findall(r"generate -d '(.*pitch\": 200.*)'\n(.*)\n", answered)[0]
    assert ask(handler, http("POST", "/generate", body))["body"] == refusal


# The log


def test_the_log_has_one_line_a_request_and_never_the_music(handler: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ask(handler, {"frames": 6, "seed": 77, "prompt": [[61], [61]]})
    ask(handler, http("GET", "/health"))
    ask(handler, {"prompt": [[61], ["secret"]]})
    ask(handler, {"frames": 5, "variations": 3, "seed": 78})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line.pop("ms") >= 0 for line in lines)
    assert lines == [
        {"route": "generate", "status": 200, "frames": 6, "seed": 77},
        {"route": "health", "status": 200, "frames": 0, "seed": None},
        {"route": "generate", "status": 400, "frames": 0, "seed": None, "field": "prompt[1]"},
        {"route": "generate", "status": 200, "frames": 15, "seed": 78},
    ]


def test_a_fault_of_its_own_is_json_too(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*given: Any) -> Any:
        raise MemoryError("a long\nstory")

    failing = load_handler(file, tiny_model(broken))
    answer = ask(failing, {"frames": 2})
    assert (answer["status"], set(answer)) == (500, {"error", "field", "hint", "status"})
    answer = ask(failing, http("POST", "/generate", "{}"))
    assert answer["statusCode"] == 500
    assert "story" not in json.dumps(answer)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["exception"] for line in lines] == ["MemoryError"] * 2
    assert lines[0]["at"].startswith("test_handler.py:")
    # The next request finds the function as it was.
    assert ask(failing, {"route": "health"})["limits"]["frames"] == 2048


def test_the_model_beside_the_handler_is_loaded_once(tmp_path: Path) -> None:
    script = Path(shutil.copy(HANDLER, tmp_path))
    (tmp_path / "model.ts").write_bytes(b"a third model")
    model = tiny_model()
    handler = load_handler(tmp_path / "model.ts", model, script)
    # Outside of load_handler there is no way to load this file, so a second attempt would fail.
    for _ in range(2):
        assert ask(handler, {"frames": 2})["frames"] == 2
    assert handler.lambda_handler.model is model
