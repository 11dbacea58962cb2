"""Sampling and scores, on a model whose probabilities are known."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pianoai.runtime.chance import uniform
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import State, read_metadata
from pianoai.runtime.roll import Floats, Roll, roll_to_notes
from pianoai.runtime.sampling import Settings, alone, generate, new_seed, play, restless
from tests.remembering_model import remembering_model
from tests.tiny_model import metadata, tiny_model, tiny_step


def roll(*columns: tuple[int, list[int]]) -> Roll:
    cells = np.zeros((len(columns[0][1]), 88), np.uint8)
    for column, values in columns:
        cells[:, column] = values
    return cells


class Recorder:
    """The tiny step, keeping what it was given."""

    def __init__(self) -> None:
        self.frames: list[Floats] = []
        self.noise: list[Floats] = []
        self.heat: list[Floats] = []
        self.sums: list[Floats] = []

    def __call__(self, frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        self.frames.append(frame.copy())
        self.noise.append(noise.copy())
        self.heat.append(temperature)
        self.sums.append(state[0].copy())
        return tiny_step(frame, state, noise, temperature)


def test_same_seed_same_music_and_another_seed_other_music() -> None:
    model = tiny_model()
    first = generate(model, None, 40, Settings(), 7)
    assert first.shape == (40, 88)
    assert first.dtype == np.uint8
    assert (generate(model, None, 40, Settings(), 7) == first).all()
    assert (generate(model, None, 40, Settings(), 8) != first).any()
    assert (generate(model, None, 25, Settings(), 7) == first[:25]).all()


def test_frames_follow_the_probabilities() -> None:
    # Of a chain that stays with 3/4 and begins with 1/4, half the cells sound in the long run.
    music = generate(tiny_model(), None, 2000, Settings(), 3)
    before, now = music[:-1] > 0, music[1:] > 0
    struck = music[1:] > 1
    assert (now[before].mean(), now[~before].mean()) == pytest.approx((0.75, 0.25), abs=0.01)
    assert struck[before & now].mean() == pytest.approx(0.4, abs=0.01)
    assert struck[~before & now].all()


def test_temperature_scales_the_logits() -> None:
    # Of odds of 3, temperature 2 leaves sqrt(3), temperature 1/2 makes 9.
    for temperature, odds in ((2.0, 3**0.5), (0.5, 9.0)):
        sounds = generate(tiny_model(), None, 2000, Settings(temperature), 3) > 0
        stays = sounds[1:][sounds[:-1]].mean()
        assert stays == pytest.approx(odds / (1 + odds), abs=0.01)


def test_temperature_zero_needs_no_seed_and_takes_the_likelier() -> None:
    prompt = roll((5, [0, 90]), (7, [80, 0]))
    step = Recorder()
    music = generate(tiny_model(step), prompt, 4, Settings(0.0), 1)
    assert (music == roll((5, [1, 1, 1, 1]))).all()  # stays with 3/4, is struck again with 0.4 only
    assert (generate(tiny_model(), prompt, 4, Settings(0), 2) == music).all()
    assert all((noise == 0.5).all() for noise in step.noise)
    assert [float(heat) for heat in step.heat] == [1.0] * 5
    assert (generate(tiny_model(), prompt, 4, Settings(1e-9), 5) == music).all()


def test_the_whole_prompt_is_fed_in_order_before_the_first_frame() -> None:
    step = Recorder()
    prompt = roll((0, [60, 1, 0, 0]), (87, [0, 0, 2, 127]))
    music = generate(tiny_model(step), prompt, 3, Settings(), 5)
    assert (np.array(step.frames) == np.vstack([prompt, music[:2]])).all()
    assert step.frames[0].dtype == np.float32
    assert [noise.dtype for noise in step.noise] == [np.float32] * 6
    assert step.heat[0].shape == ()
    # The state is the sum of all frames before.
    assert [float(total[87]) for total in step.sums[:4]] == [0, 0, 0, 2]
    # The numbers of the seed and the generated frame.
    expected = np.array([uniform(177, 5, at) for at in range(3)])
    assert (np.array(step.noise[3:]) == expected).all()


def nucleus(outcomes: dict[bool, float], top_p: float) -> dict[bool, float]:
    """The smallest set of the likeliest outcomes whose probabilities reach top_p, scaled to 1."""
    kept: dict[bool, float] = {}
    for outcome, probability in sorted(outcomes.items(), key=lambda pair: -pair[1]):
        kept[outcome] = probability
        if sum(kept.values()) >= top_p:
            break
    return {outcome: probability / sum(kept.values()) for outcome, probability in kept.items()}


def likely_enough(outcomes: dict[bool, float], min_p: float) -> dict[bool, float]:
    """The outcomes at least min_p times as likely as the likeliest, scaled to 1."""
    kept = {key: value for key, value in outcomes.items() if value >= min_p * max(outcomes.values())}
    return {outcome: probability / sum(kept.values()) for outcome, probability in kept.items()}


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.7, 0.75, 0.93, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.04, 0.3, 0.5, 1.0])
def test_clipped_noise_is_nucleus_and_min_p_sampling(top_p: float, min_p: float) -> None:
    edge = Settings(1.0, top_p, min_p).edge
    uniform = (np.arange(100_000) + 0.5) / 100_000
    for p in (0.001, 0.03, 0.2, 0.26, 0.41, 0.501, 0.62, 0.74, 0.8, 0.96, 0.999):
        outcomes = {True: p, False: 1 - p}
        both = [nucleus(outcomes, top_p), likely_enough(outcomes, min_p)]
        kept = {outcome: probability for outcome, probability in outcomes.items() if all(outcome in k for k in both)}
        expected = kept.get(True, 0.0) / sum(kept.values())
        assert (np.clip(uniform, edge, 1 - edge) < p).mean() == pytest.approx(expected, abs=2e-5), p


@pytest.mark.parametrize(("top_p", "min_p", "edge"), [(1, 0, 0), (0.9, 0, 0.1), (1, 0.25, 0.2), (0.9, 0.25, 0.2)])
def test_only_choices_are_clipped_and_not_hidden_noise(top_p: float, min_p: float, edge: float) -> None:
    step = Recorder()

    def hidden(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        step.noise.append(noise.copy())
        return tiny_step(frame, state, noise[:176], temperature)

    generate(tiny_model(hidden, noise=270), None, 50, Settings(1.0, top_p, min_p), 5)
    free = np.array([uniform(270, 5, at) for at in range(50)])
    noise = np.array(step.noise)
    np.testing.assert_array_equal(noise[:, 177:], free[:, 177:])
    tail = Settings(1.0, top_p, min_p).tail
    assert (tail == 0) == (top_p == 1 and min_p == 0)
    np.testing.assert_allclose(noise[:, 176:177], tail + (1 - 2 * tail) * free[:, 176:177], atol=1e-7)
    np.testing.assert_allclose(noise[:, :176], free[:, :176].clip(edge, 1 - edge), atol=1e-7)


@pytest.mark.parametrize(("top_p", "min_p"), [(0.8, 0.0), (1.0, 0.3), (0.9, 0.5), (0.2, 0.1), (1.0, 1.0)])
def test_velocities_come_from_the_nucleus_of_what_is_likely_enough(top_p: float, min_p: float) -> None:
    value = np.linspace(-30, 30, 600_001)
    density = np.exp(-np.abs(value)) / 2  # Laplace
    by_density = np.argsort(-density, kind="stable")
    nucleus = value[by_density[: 1 + int(np.searchsorted(np.cumsum(density[by_density]) * 1e-4, top_p))]]
    likely = value[density >= min_p * density.max()]
    furthest = min(nucleus.max(), likely.max())
    tail = Settings(1.0, top_p, min_p).tail
    assert -np.log(2 * tail) == pytest.approx(furthest, abs=1e-3)


def test_an_edge_of_a_half_takes_the_likelier() -> None:
    prompt = roll((5, [0, 90]), (7, [80, 0]))
    certain = generate(tiny_model(), prompt, 6, Settings(0.0))
    for top_p, min_p in ((0.4, 0.0), (0.5, 0.0), (1.0, 1.0)):
        assert (generate(tiny_model(), prompt, 6, Settings(1.0, top_p, min_p), 3) == certain).all()


def test_random_numbers_go_on_where_they_stopped() -> None:
    step = Recorder()
    following = play(tiny_model(step), tiny_model(step).start(), np.zeros((1, 88), np.uint8), Settings(), 3, 7)
    next(following), next(following)
    assert (np.array(step.noise) == [uniform(177, 3, 7), uniform(177, 3, 8)]).all()


def test_changes_have_their_odds_multiplied() -> None:
    uniform = np.linspace(0, 1, 10_000, endpoint=False, dtype=np.float32)
    silent, sounding = (restless(uniform, np.full_like(uniform, value), 3.0) for value in (0.0, 70.0))
    # Odds of 1/9 to begin, three times: 1/3. Odds of 1/9 to end, the same.
    assert ((silent < 0.1).mean(), (sounding >= 0.9).mean()) == pytest.approx((1 / 4, 1 / 4), abs=1e-3)


def test_what_stands_still_becomes_restless() -> None:
    def hold(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        given.append(noise.copy())
        return (frame > 0).astype(np.float32), np.full((3, 88), 0.5, np.float32), state

    given: list[Floats] = []
    model = tiny_model(hold)
    model = replace(model, metadata=replace(model.metadata, window=20))
    assert model.metadata.frames_per_beat == 4
    heard = roll((5, [0, 70, 1, 1, 1, 1, 1, 1]))  # for 7 frames
    following = play(model, model.start(), heard, Settings(), 3)
    for _ in range(20):
        next(following)
    for at, noise in enumerate(given):
        plain = uniform(177, 3, at)
        beats = min(7 + at, 20) / 4
        odds = noise[:88] / (1 - noise[:88]) / (plain[:88] / (1 - plain[:88]))
        wanted = np.full(88, 1 / max(1, beats - 1))  # of 1 to 3 beats and more: 1, then a quarter more each frame
        wanted[5] = max(1, beats - 1)
        assert odds == pytest.approx(wanted, rel=1e-3)
        assert (noise[88:] == plain[88:]).all()
    given.clear()
    next(play(model, model.start(), heard, Settings(temperature=0), 3))
    assert (given[0] == 0.5).all()


def test_reading_is_stepping_without_drawing_and_a_kept_state_lasts() -> None:
    model = remembering_model()
    frames = (np.random.default_rng(1).random((14, 88)) < 0.2).astype(np.uint8) * np.uint8(70)
    state = model.start()
    for frame in frames.astype(np.float32):
        _, _, state = model.step(frame, state, np.full(177, 0.5, np.float32), np.array(1.0, np.float32))
    read = model.read(frames, model.start())
    kept = model.keep(read)
    for one, other in zip(state, read, strict=True):
        assert (one == other).all()
    assert (read[0] == (frames[-9:] > 0)).all()
    model.read(frames[:5], read)  # writes over it
    for one, other in zip(state, kept, strict=True):
        assert (one == other).all()


def test_an_empty_prompt_is_one_silent_frame() -> None:
    silence = np.zeros((1, 88), np.uint8)
    alike = [generate(tiny_model(), prompt, 9, Settings(), 4) for prompt in (None, silence[:0], silence)]
    assert (alike[0] == alike[1]).all()
    assert (alike[0] == alike[2]).all()


def test_of_a_long_prompt_only_eight_windows_are_heard() -> None:
    step = Recorder()
    prompt = np.zeros((30, 88), np.uint8)
    prompt[:, 2] = np.arange(60, 90)
    generate(tiny_model(step), prompt, 1, Settings(), 0)
    assert [frame[2] for frame in step.frames] == list(range(66, 90))  # 8 windows of 3 frames


def test_nothing_is_held_after_silence() -> None:
    def sloppy(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        cells = np.full(88, 1.2, np.float32)
        cells[:2] = 300, -4
        return cells, np.zeros((3, 88), np.float32), state

    music = generate(tiny_model(sloppy), roll((9, [50])), 3)
    assert music[:, 0].tolist() == [127] * 3
    assert music[:, 1].tolist() == [0] * 3
    assert music[:, 9].tolist() == [1, 1, 1]
    assert music[:, 10].tolist() == [64, 1, 1]


def test_a_frame_that_is_no_number_is_an_error() -> None:
    def broken(frame: Floats, state: State, noise: Floats, temperature: Floats) -> tuple[Floats, Floats, State]:
        return np.full(88, np.nan, np.float32), np.zeros((3, 88), np.float32), state

    with pytest.raises(InputError, match="finite"):
        generate(tiny_model(broken), None, 1)


def test_progress_is_told_every_frame() -> None:
    told: list[int] = []
    generate(tiny_model(), None, 3, progress=told.append)
    assert told == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (-0.1, 5.01, float("nan"), float("inf"), "1", True, None)),
        *(("top_p", value) for value in (0, -0.1, 1.1, float("nan"), "1", True, None)),
        *(("min_p", value) for value in (-0.1, 1.1, float("nan"), "1", True, None)),
        *(("calm", value) for value in (-0.1, float("nan"), "1", True, None)),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{name} must be"):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("frames", value) for value in (0, -1, 100_001, 1.0, "4", True, None)),
        *(("seed", value) for value in (-1, 2**63, 0.5, "1", False)),
    ],
)
def test_arguments_out_of_range_are_named(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"frames": 1, "seed": 0} | {name: value}
    with pytest.raises(InputError, match=rf"^{name} must be"):
        generate(tiny_model(), None, **arguments)


def test_the_ends_of_the_ranges_are_allowed() -> None:
    assert len(generate(tiny_model(), None, 1, Settings(5), 2**63 - 1)) == 1
    assert 0 <= new_seed() < 2**32


def test_a_continuation_alone_begins_the_notes_that_the_prompt_left_sounding() -> None:
    prompt = roll((3, [90, 1]), (4, [1, 1]), (5, [70, 0]))
    music = roll((3, [1, 1]), (4, [1, 0]), (5, [80, 0]))
    cut = alone(prompt, music)
    assert cut[:, 3:6].tolist() == [[90, 64, 80], [1, 0, 0]]
    assert music[0, 3] == 1  # the argument is left as it was
    assert (alone(None, music) == music).all()
    assert roll_to_notes(cut, 4)["velocity"].tolist() == [90, 64, 80]


def test_metadata_of_a_good_model() -> None:
    found = read_metadata(json.dumps(metadata(window=64, samples=16)).encode(), "m.ts")
    assert (found.window, found.samples, found.noise) == (64, 16, 177)
    assert found.state == (((88,), "float32"),)
    assert found.calibration["struck"] == (1.0, 0.0)
    assert found.flip_rates["stay"][87] == np.float32(0.8)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"format": 3}, "format 6"),
        ({"window": 0}, "window"),
        ({"window": "3"}, "window"),
        ({"noise": -1}, "noise"),
        ({"frames_per_beat": 5}, "frames_per_beat"),
        ({"samples": True}, "samples"),
        ({"family": None}, "family"),
        ({"state": {}}, "state"),
        ({"state": [{"shape": [88]}]}, "state"),
        ({"state": [{"shape": [-1], "dtype": "float32"}]}, "state"),
        ({"state": [{"shape": [2**13, 2**13], "dtype": "float32"}]}, "state"),
        ({"state": [{"shape": [1], "dtype": "float32"}] * 17}, "state"),
        ({"noise": 2**40}, "noise"),
        ({"read": 2**40}, "read"),
        ({"state": [{"shape": [1], "dtype": "object"}]}, "state"),
        ({"calibration": {"sounding": [1, 0]}}, r"calibration\.struck"),
        ({"calibration": {"sounding": [1], "struck": [1, 0]}}, r"calibration\.sounding"),
        ({"thresholds": {"sounding": 0.5}}, r"thresholds\.onset"),
        ({"thresholds": {"sounding": 1.5, "onset": 0.5}}, r"thresholds\.sounding"),
        ({"flip_rates": {"on": [0.1] * 88, "stay": [0.8] * 87, "struck": [0.1] * 88}}, r"flip_rates\.stay"),
        ({"flip_rates": {"on": [1.1] * 88, "stay": [0.8] * 88, "struck": [0.1] * 88}}, r"flip_rates\.on"),
    ],
)
def test_bad_metadata_is_refused_by_key(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=rf"^m\.ts: .*{key}"):
        read_metadata(json.dumps(metadata(**changes)).encode(), "m.ts")


@pytest.mark.parametrize("text", [b"", b"\xff", b"[1]", b"{"])
def test_metadata_that_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match=r"^m\.ts: extra/pianoai\.json"):
        read_metadata(text, "m.ts")
