"""The page in a real browser: typed, heard, continued, undone, dropped, linked; with the model that ships."""

import base64
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from pianoai import web
from pianoai.runtime import midi, sampling, smf
from pianoai.runtime.errors import InputError
from pianoai.runtime.model import load
from pianoai.runtime.roll import HELD, TICKS_PER_BEAT, make_notes, notes_to_roll, roll_to_notes
from pianoai.serving import Server
from tests.served import served

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "pianoai/model.ts"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PICTURES = ROOT / ".cache/pictures"  # screenshots, to be looked at
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run")
# Web Audio itself tells what sounds: when each oscillator starts, and whether its context runs then.
LISTEN = """
window.struck = [];
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (when) {
  if (when > 0) {
    this.struck = {when, now: this.context.currentTime, state: this.context.state, until: null};
    window.struck.push(this.struck);
  }
  return start.apply(this, arguments);
};
const stop = OscillatorNode.prototype.stop;
OscillatorNode.prototype.stop = function (when) {
  if (this.struck) this.struck.until = when;
  return stop.apply(this, arguments);
};
"""
PROMPT = [(0, 12, 60, 70), (12, 12, 64, 80), (24, 24, 67, 90), (24, 24, 48, 60)]  # start, ticks long, pitch, velocity

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None and "PIANOAI_CI" not in os.environ, reason="there is no Chromium: apt-get install chromium"
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("page") / "page.json"
    web.build(ROOT / "web", path, ROOT / ".cache/web")
    with served(MODEL, path) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A page that must not complain, nor ask anything of another origin."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, accept_downloads=True)
    shown = context.new_page()
    complaints: list[str] = []
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    shown.on("request", lambda asked: None if own(asked.url, server) else complaints.append(asked.url))
    shown.add_init_script(LISTEN)
    yield shown
    context.close()
    # What the network answers with an error the browser says as well.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def own(url: str, server: Server) -> bool:
    return url.startswith((server.url, "blob:", "data:"))


def visit(page: Page, server: Server, fragment: str = "") -> None:
    page.goto(server.url + fragment)
    if not fragment:
        page.wait_for_function("() => document.body.dataset.ready === 'yes'")


def reach(page: Page, beat: int, beats: int) -> None:
    """Waits until it plays at a beat, or later, of a piece so long."""
    page.wait_for_function(
        """([beat, beats]) => {
          const [, at, end] = document.getElementById('position').textContent.match(/beat (\\d+) of (\\d+)/);
          return Number(at) >= beat && Number(end) === beats;
        }""",
        arg=[beat, beats],
    )


def drop(page: Page, name: str, data: bytes) -> None:
    page.evaluate(
        """([name, text]) => {
          const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([data], name));
          document.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        [name, base64.b64encode(data).decode()],
    )


def download(page: Page) -> bytes:
    """The piece as the page writes it."""
    with page.expect_download() as waiting:
        page.click("#download")
    return Path(waiting.value.path()).read_bytes()


def downloaded(page: Page) -> tuple[list[tuple[int, int, int, int]], float]:
    """The piece as the page writes it, and its tempo, read by the project's own reader."""
    notes, tempo = midi.read(download(page), "download")
    return sorted(notes.tolist()), tempo


def picture(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def expected(beats: int, seed: int) -> list[tuple[int, int, int, int]]:
    """The prompt and what follows, drawn here and not by way of the page."""
    model = load(MODEL)
    heard = notes_to_roll(make_notes(PROMPT), 4)
    new = sampling.generate(model, heard, 4 * beats, sampling.Settings(1.0), seed)
    return sorted(roll_to_notes(np.concatenate([heard, new]), 4).tolist())


def prompt_file(tempo: float = 100.0) -> bytes:
    return midi.write(make_notes(PROMPT), tempo)


def one_track(events: str) -> bytes:
    """A file of 96 ticks a quarter note, from the bytes of its track."""
    track = bytes.fromhex(events)
    return b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk" + len(track).to_bytes(4, "big") + track


def slide(page: Page, name: str, value: float) -> None:
    page.locator(f"#{name}").fill(str(value))


def set_length(page: Page, beats: int) -> None:
    slide(page, "length", beats)


def test_typed_then_continued_and_heard_in_time(page: Page, server: Server) -> None:
    visit(page, server)
    expect(page.locator("#continue")).to_have_text("Begin")
    for key in "adg":
        page.keyboard.down(key)
        page.wait_for_timeout(200)
        page.keyboard.up(key)
    page.fill("#seed", "5")
    set_length(page, 16)
    page.locator("#roll").focus()
    before = page.evaluate("window.struck.length")
    assert before == 3
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("16 beats with seed 5.")
    expect(page.locator("#play")).to_have_text("Pause")
    page.wait_for_timeout(4000)
    picture(page, "playing")
    struck = page.evaluate("window.struck")[before:]
    assert all(one["state"] == "running" for one in struck)
    page.click("#play")
    notes, tempo = downloaded(page)
    assert tempo == 120
    assert [pitch for _, _, pitch, _ in notes[:3]] == [60, 64, 67]
    # Heard from the beginning, since the prompt is shorter than what is heard again: one oscillator a note.
    begins = sorted(start / TICKS_PER_BEAT * 60 / tempo for start, *_ in notes)
    assert len(struck) > 10
    heard = sorted(one["when"] for one in struck)
    np.testing.assert_allclose(np.subtract(heard, heard[0]), np.subtract(begins, begins[0])[: len(heard)], atol=0.012)


def test_what_is_drawn_is_what_the_model_draws_with_that_seed(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", prompt_file())
    expect(page.locator("#status")).to_have_text("prompt.mid: 4 notes.")
    expect(page.locator("#tempo-value")).to_have_text("100")
    page.fill("#seed", "11")
    set_length(page, 32)
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("32 beats with seed 11.", timeout=20_000)
    notes, tempo = downloaded(page)
    assert tempo == pytest.approx(100)
    assert notes == expected(32, 11)
    picture(page, "continued")

    # The link gives the same piece in another window, which has seen nothing of this.
    other = page.context.browser.new_context(accept_downloads=True).new_page()  # type: ignore[union-attr]
    other.goto(page.url)
    expect(other.locator("#status")).to_have_text("Ready: press Play.", timeout=20_000)
    assert downloaded(other)[0] == notes
    expect(other.locator("#tempo-value")).to_have_text("100")
    other.context.close()

    # Undo takes back the continuation, then the prompt.
    page.click("#undo")
    assert downloaded(page)[0] == sorted(make_notes(PROMPT).tolist())
    page.click("#undo")
    expect(page.locator("#download")).to_be_disabled()
    expect(page.locator("#undo")).to_be_disabled()
    assert "#" not in page.url


def test_it_plays_while_the_next_piece_is_drawn(page: Page, server: Server) -> None:
    model = load(MODEL)
    drawn = {seed: sampling.generate(model, None, 64, sampling.Settings(1.0), seed) for seed in range(24)}
    seed = next(seed for seed, roll in drawn.items() if (roll[32] > HELD).any())  # a note begins where a piece ends
    waiting: list[Route] = []
    asked: list[dict[str, Any]] = []

    def hold(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        if len(asked) == 1:
            route.continue_()
        else:
            waiting.append(route)

    page.route("**/generate", hold)
    visit(page, server)
    set_length(page, 16)
    page.fill("#seed", str(seed))
    page.click("#continue")
    reach(page, 2, 8)
    assert [request["frames"] for request in asked] == [32, 32]
    assert (asked[0]["seed"], asked[0]["prompt"]) == (seed, [])
    assert set(asked[1]) == {"state", "frames", "temperature"}
    # It waits at the end of what there is, and goes on by itself, with the notes that begin just there.
    reach(page, 8, 8)
    page.wait_for_timeout(500)
    expect(page.locator("#play")).to_have_text("Pause")
    before = page.evaluate("window.struck.length")
    waiting[0].continue_()
    reach(page, 14, 16)
    page.click("#play")
    notes = sorted(roll_to_notes(sampling.alone(None, drawn[seed]), 4).tolist())
    assert downloaded(page)[0] == notes
    later = [start / TICKS_PER_BEAT for start, *_ in notes if 8 * TICKS_PER_BEAT <= start < 13 * TICKS_PER_BEAT]
    heard = sorted(one["when"] for one in page.evaluate("window.struck")[before:])
    assert later[0] == 8
    np.testing.assert_allclose(np.subtract(heard[: len(later)], heard[0]), np.subtract(later, later[0]) / 2, atol=0.012)


def test_what_is_played_before_the_function_is_awake_is_kept_once(page: Page, server: Server) -> None:
    held: list[Route] = []
    page.route("**/health", lambda route: held.append(route))
    page.goto(server.url)
    page.keyboard.press("a")
    expect(page.locator("#download")).to_be_enabled(timeout=5000)
    held[0].continue_()
    page.wait_for_function("() => document.body.dataset.ready === 'yes'")
    assert len(downloaded(page)[0]) == 1
    # A link is not opened over what somebody has begun.
    page.goto("about:blank")
    held.clear()
    page.goto(server.url + "#t=90&m=abc&s=r1_4_1")
    page.keyboard.press("d")
    expect(page.locator("#download")).to_be_enabled(timeout=5000)
    held[0].continue_()
    expect(page.locator("#status")).to_have_text(
        "The link was not opened, since you have begun to play: the browser's Back leads to it."
    )
    assert [pitch for _, _, pitch, _ in downloaded(page)[0]] == [64]


def test_a_continuation_stays_until_another_is_there(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", prompt_file())
    set_length(page, 8)
    page.fill("#seed", "11")
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("8 beats with seed 11.")
    page.route("**/generate", lambda route: route.abort())
    page.click("#again")
    expect(page.locator("#status")).to_contain_text("No answer from the server")
    assert downloaded(page)[0] == expected(8, 11)
    # What is only on its way is all that undoing takes back.
    page.unroute("**/generate")
    page.route("**/generate", lambda route: None)
    page.click("#continue")
    expect(page.locator("#continue")).to_have_text("Stop")
    page.click("#undo")
    expect(page.locator("#continue")).to_have_text("Continue")
    assert downloaded(page)[0] == expected(8, 11)


def test_two_hands_on_one_key_are_one_note(page: Page, server: Server) -> None:
    visit(page, server)
    key = page.locator(".key[data-pitch='60']").bounding_box()
    assert key is not None
    page.keyboard.down("a")
    page.mouse.move(key["x"] + 5, key["y"] + key["height"] - 5)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_timeout(300)
    page.keyboard.up("a")
    expect(page.locator("#download")).to_be_enabled(timeout=5000)
    [(start, duration, pitch, _)] = downloaded(page)[0]
    assert (start, pitch) == (0, 60)
    assert duration >= 0.3 * 2 * TICKS_PER_BEAT - 1  # until the second hand lets go, at 120 beats a minute


def test_undo_in_the_middle_loses_nothing_else(page: Page, server: Server) -> None:
    """What is still on its way when a step is taken back changes nothing."""
    visit(page, server)
    drop(page, "prompt.mid", prompt_file())
    seen: list[Route] = []

    def hold(route: Route) -> None:
        seen.append(route)
        if len(seen) == 1:
            route.continue_()

    page.route("**/generate", hold)
    page.click("#continue")
    expect(page.locator("#position")).to_contain_text("of 10")
    expect(page.locator("#status")).to_have_text("Composing … 8 of 32 beats")
    page.click("#undo")
    expect(page.locator("#continue")).to_have_text("Continue")
    assert downloaded(page)[0] == sorted(make_notes(PROMPT).tolist())
    assert "~" not in page.url
    # Stop keeps what there is, and the link says how much that is.
    seen.clear()
    page.click("#continue")
    expect(page.locator("#position")).to_contain_text("of 10")
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("Stopped.")
    assert re.search(r"~r\d+_8_1&", page.url)
    seed = int(page.url.rpartition("~r")[2].split("_")[0])
    assert downloaded(page)[0] == expected(8, seed)


def test_try_again_and_variations(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", prompt_file())
    page.fill("#seed", "11")
    set_length(page, 8)
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("8 beats with seed 11.")
    page.click("#again")
    expect(page.locator("#status")).not_to_have_text("8 beats with seed 11.")
    expect(page.locator("#status")).to_contain_text("8 beats with seed")
    other = downloaded(page)[0]
    assert other != expected(8, 11)
    # The first is there again, and so is the other.
    page.click("#undo")
    assert downloaded(page)[0] == expected(8, 11)
    page.keyboard.press("Control+Shift+Z")
    assert downloaded(page)[0] == other
    expect(page.locator("#redo")).to_be_disabled()
    page.click("#undo")
    page.click("#undo")
    page.fill("#seed", "")
    page.click("#vary")
    cards = page.locator("#choices article")
    expect(cards).to_have_count(3, timeout=20_000)
    expect(page.locator("#continue")).to_have_text("Continue", timeout=20_000)
    expect(page.locator("#status")).to_have_text("Listen to the variations, and keep one.")
    picture(page, "variations")
    cards.nth(1).get_by_text("Listen").click()
    reach(page, 1, 10)
    # A pause leaves what is listened to where it is.
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_text("Play")
    assert page.locator("article.heard").count() == 1
    page.keyboard.press(" ")
    reach(page, 2, 10)
    assert page.locator("article.heard").count() == 1
    told = int(cards.nth(1).inner_text().rpartition("seed ")[2])
    cards.nth(1).get_by_text("Keep").click()
    expect(page.locator("#choices")).to_be_hidden()
    seed = int(page.url.rpartition("~r")[2].split("_")[0])
    assert seed == told
    assert downloaded(page)[0] == expected(8, seed)
    # Try again takes the number in the field, unless that is what the last continuation had.
    page.fill("#seed", "11")
    page.click("#again")
    expect(page.locator("#status")).to_have_text("8 beats with seed 11.")
    page.click("#again")
    expect(page.locator("#status")).not_to_have_text("8 beats with seed 11.")
    expect(page.locator("#status")).to_contain_text("8 beats with seed")
    slide(page, "temperature", 0)
    page.click("#again")  # at 0 it is other music than at 1, and then never again
    expect(page.locator("#status")).to_contain_text("8 beats with seed 11")
    page.click("#again")
    expect(page.locator("#status")).to_contain_text("At temperature 0 there is one continuation alone")


def test_undo_takes_back_an_offer_before_a_step(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", prompt_file())
    set_length(page, 8)
    page.click("#vary")
    expect(page.locator("#choices article")).to_have_count(3, timeout=20_000)
    expect(page.locator("#continue")).to_have_text("Continue", timeout=20_000)
    page.click("#undo")
    expect(page.locator("#choices")).to_be_hidden()
    assert downloaded(page)[0] == sorted(make_notes(PROMPT).tolist())
    page.click("#undo")
    expect(page.locator("#download")).to_be_disabled()


def test_a_roll_that_was_moved_stays_there_until_it_plays(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "long.mid", midi.write(make_notes([(TICKS_PER_BEAT * at, 12, 60, 70) for at in range(100)])))
    box = page.locator("#roll").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    for _ in range(2):
        page.mouse.move(box["x"] + 1000, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 100, middle, steps=5)
        page.mouse.up()
    page.emulate_media(color_scheme="dark")  # draws anew
    expect(page.locator("#position")).to_have_text("beat 0 of 100")
    page.mouse.click(box["x"] + 50, middle)  # beat 0 is where the left edge was
    text = page.locator("#position").inner_text()
    assert 40 <= int(text.split()[1]) <= 64, text
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    reach(page, 1, 100)
    page.keyboard.press(" ")
    page.mouse.click(box["x"] + 50, middle)
    expect(page.locator("#position")).to_have_text("beat 0 of 100")


def test_play_pause_loop_from_any_beat(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", prompt_file(200.0))
    roll = page.locator("#roll")
    roll.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#position")).to_have_text("beat 1 of 2")
    assert roll.get_attribute("aria-valuenow") == "1"
    page.check("#loop")
    roll.focus()
    page.keyboard.press(" ")
    page.wait_for_timeout(2000)  # a beat of 0.3 s, six times
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_text("Play")
    struck = page.evaluate("window.struck")
    # Two notes begin at beat 1, and again each time.
    times = sorted({round(one["when"], 2) for one in struck})
    assert len(times) >= 5
    np.testing.assert_allclose(np.diff(times), 0.3, atol=0.03)
    page.keyboard.press("Home")
    expect(page.locator("#position")).to_have_text("beat 0 of 2")


def test_refusals_and_a_function_that_is_busy_or_away(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "song.mid", b"RIFF, not MIDI")
    expect(page.locator("#status")).to_have_text("song.mid is not a MIDI file that counts in beats, or a damaged one.")
    # What the function says of a request is shown in its own words.
    refusal = {"error": "prompt is strange", "field": "prompt", "hint": "send another"}
    page.route("**/generate", lambda route: route.fulfill(status=400, json=refusal))
    drop(page, "prompt.mid", prompt_file())
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("The server refused (400): prompt is strange; send another.")
    assert "bad" in (page.locator("#status").get_attribute("class") or "")
    picture(page, "refused")

    page.unroute("**/generate")
    answers = [503, 429]
    page.route("**/generate", lambda route: route.fulfill(status=answers.pop(0)) if answers else route.continue_())
    page.click("#new")
    set_length(page, 8)
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("The server is busy (503); trying again in 1 s …")
    expect(page.locator("#status")).to_have_text("The server is busy (429); trying again in 2 s …", timeout=10_000)
    expect(page.locator("#status")).to_contain_text("8 beats with seed", timeout=10_000)
    page.unroute("**/generate")
    page.route("**/generate", lambda route: route.abort())
    page.click("#continue")
    expect(page.locator("#status")).to_contain_text("No answer from the server")
    assert len(downloaded(page)[0]) > 0  # nothing was lost


def test_a_damaged_link_and_one_of_another_model(page: Page, server: Server) -> None:
    page.goto(server.url + "#t=100&m=abc&s=pA~rx")
    expect(page.locator("#status")).to_have_text("The link is damaged.")
    page.goto("about:blank")
    page.goto(server.url + "#t=90&m=abc&s=r1_4_1")
    expect(page.locator("#status")).to_have_text("The link was made with another model, so this is other music.")
    expect(page.locator("#tempo-value")).to_have_text("90")


def test_notes_of_drums_and_beyond_the_keyboard_are_counted(page: Page, server: Server) -> None:
    data = one_track("00903c40 00990a40 00900c40 60803c00 00890a00 00800c00 00ff2f00")
    assert len(smf.parse(data).rows) == 2
    visit(page, server)
    drop(page, "band.mid", data)
    expect(page.locator("#status")).to_have_text("band.mid: 1 note; left out: 2 of drums or beyond a piano's keys.")
    assert downloaded(page)[0] == [(0, 24, 60, 64)]


def test_a_note_without_an_end_lasts_as_long_as_its_track(page: Page, server: Server) -> None:
    """Channels have keys of their own; the first note-off ends the first note of its pitch. As `midi.read` has it."""
    data = one_track("00903c40 30914050 30813c00 00904341 00904342 60804300 60ff2f00")
    assert sorted(midi.read(data)[0].tolist()) == [
        (0, 72, 60, 64),
        (12, 60, 64, 80),
        (24, 24, 67, 65),
        (24, 48, 67, 66),
    ]
    visit(page, server)
    drop(page, "open.mid", data)
    expect(page.locator("#status")).to_have_text("open.mid: 3 notes.")
    assert downloaded(page)[0] == [(0, 72, 60, 64), (12, 60, 64, 80), (24, 48, 67, 66)]


def test_several_pieces_and_cut_off_files_are_refused(page: Page, server: Server) -> None:
    visit(page, server)
    two = bytearray(one_track("00903c40 60803c00 00ff2f00"))
    two += two[14:]
    two[9], two[11] = 2, 2
    drop(page, "suite.mid", bytes(two))
    expect(page.locator("#status")).to_have_text(
        "suite.mid holds several pieces (MIDI format 2); save each as format 0 or 1."
    )
    two[9] = 1
    for name, data in {"cut": two[:-3], "missing": two[: len(two) // 2], "empty": b""}.items():
        drop(page, f"{name}.mid", bytes(data))
        text = f"{name}.mid is not a MIDI file that counts in beats, or a damaged one."
        expect(page.locator("#status")).to_have_text(text)
    long = one_track("00903c40 8493e000 803c00 00ff2f00")
    drop(page, "long.mid", long)
    expect(page.locator("#status")).to_have_text("long.mid lasts over 20000 beats: its times are broken.")
    with pytest.raises(InputError, match="its times are broken"):
        midi.read(long)


def test_a_tempo_beyond_the_slider_and_files_of_another_kind_are_said(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "fast.mid", prompt_file(500.0))
    expect(page.locator("#status")).to_have_text("fast.mid: 4 notes; its tempo of 500 is beyond the slider.")
    timed = bytearray(prompt_file())
    timed[12:14] = b"\xe7\x28"  # 25 frames a second of 40 ticks
    drop(page, "film.mid", bytes(timed))
    expect(page.locator("#status")).to_have_text("film.mid is not a MIDI file that counts in beats, or a damaged one.")
    page.fill("#seed", "-5")
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("A seed is a whole number; leave it empty to have one drawn.")


def test_notes_in_unison_are_one_key(page: Page, server: Server) -> None:
    visit(page, server)
    notes = make_notes([(0, 48, 60, 70), (24, 12, 60, 80), (24, 48, 60, 60), (96, 24, 60, 50)])
    drop(page, "unison.mid", midi.write(notes))
    expect(page.locator("#status")).to_have_text("unison.mid: 3 notes.")
    assert downloaded(page)[0] == [(0, 24, 60, 70), (24, 48, 60, 80), (96, 24, 60, 50)]


def test_a_midi_keyboard_is_played(page: Page, server: Server) -> None:
    page.add_init_script(
        """
        window.device = {name: 'Test keys', onmidimessage: null};
        navigator.requestMIDIAccess = async () => ({inputs: new Map([['1', window.device]]), onstatechange: null});
        """
    )
    visit(page, server)
    page.click("#connect")
    expect(page.locator("#status")).to_have_text("Listening to Test keys.")
    for message in ([0x90, 62, 101], [0x80, 62, 0]):
        page.evaluate("(data) => window.device.onmidimessage({data: new Uint8Array(data)})", message)
        page.wait_for_timeout(100)
    expect(page.locator("#download")).to_be_enabled(timeout=5000)
    [(start, _, pitch, velocity)] = downloaded(page)[0]
    assert (start, pitch, velocity) == (0, 62, 101)


def test_keys_on_a_phone_and_in_the_dark(browser: Browser, server: Server) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 780},
        color_scheme="dark",
        has_touch=True,
        is_mobile=True,
        device_scale_factor=2,
    )
    shown = context.new_page()
    shown.add_init_script(LISTEN)
    visit(shown, server)
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 24, 26)"
    small = shown.evaluate(
        """[...document.querySelectorAll('button')].filter((one) => one.offsetHeight && one.offsetHeight < 36).length"""
    )
    assert small == 0
    keys = shown.locator("#keys").bounding_box()
    assert keys is not None
    assert keys["y"] + keys["height"] < 780  # in sight at first
    shown.locator(".key[data-pitch='60']").tap()
    expect(shown.locator("#download")).to_be_enabled(timeout=5000)
    shown.locator(".key[data-pitch='62']").tap()
    shown.wait_for_function("() => window.struck.some((one) => one.state === 'running')")
    picture(shown, "phone")
    context.close()


def test_everything_can_be_reached_with_the_keyboard_and_has_a_name(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", prompt_file())
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        found = page.evaluate("document.activeElement.id")
        if found in reached:
            break
        reached.append(found)
    wanted = ["roll", "rewind", "play", "loop", "undo", "new", "lower", "higher", "continue", "vary", "length"]
    wanted += ["temperature", "tempo", "seed", "dice", "open", "download", "link", "connect"]
    assert [name for name in reached if name] == wanted
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input, canvas, [role]')]
          .filter((one) => !one.innerText && !one.labels?.length && !one.getAttribute('aria-label'))
          .filter((one) => one.role !== 'status' && !one.hidden).map((one) => one.id)"""
    )
    assert nameless == []


def answer_at_once(page: Page) -> list[dict[str, Any]]:
    """Continuations of one note a beat, without a model; what was asked for is in the list."""
    asked: list[dict[str, Any]] = []

    def answer(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        frames = asked[-1]["frames"]
        notes = [{"pitch": 60, "start": beat, "duration": 0.5, "velocity": 70} for beat in range(frames // 4)]
        route.fulfill(json={"notes": notes, "frames": frames, "state": "more"})

    page.route("**/generate", answer)
    return asked


def steady(beats: int, tempo: float = 240.0) -> bytes:
    """A file with a note on every beat."""
    return midi.write(make_notes([(TICKS_PER_BEAT * beat, 12, 60, 70) for beat in range(beats)]), tempo)


def test_it_stops_where_the_music_ends(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "short.mid", steady(8))
    page.locator("#roll").focus()
    page.keyboard.press(" ")
    reach(page, 7, 8)
    expect(page.locator("#play")).to_have_text("Play")
    page.wait_for_timeout(700)
    expect(page.locator("#play")).to_have_text("Play")
    expect(page.locator("#position")).to_have_text("beat 0 of 8")
    assert page.evaluate("window.struck.length") == 8


def test_what_was_just_typed_is_played(page: Page, server: Server) -> None:
    visit(page, server)
    for key in "adg":
        page.keyboard.press(key, delay=60)
    expect(page.locator("#undo")).to_be_enabled()
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_text("Pause")
    assert [pitch for _, _, pitch, _ in downloaded(page)[0]] == [60, 64, 67]
    # What is played meanwhile is no part of the piece, and that is said.
    page.keyboard.press("Home")
    drop(page, "long.mid", steady(20, 100.0))
    page.click("#play")
    page.keyboard.press("a", delay=50)
    expect(page.locator("#status")).to_have_text("Not recorded: pause first.")
    page.click("#play")
    assert len(downloaded(page)[0]) == 20


def test_a_take_keeps_its_tempo_and_its_rests(page: Page, server: Server) -> None:
    visit(page, server)
    slide(page, "tempo", 60)
    page.keyboard.press("a", delay=100)
    page.wait_for_timeout(1900)
    slide(page, "tempo", 240)
    page.keyboard.press("d", delay=100)
    slide(page, "tempo", 60)
    first, second = downloaded(page)[0]
    assert (first[0], first[2], second[2]) == (0, 60, 64)
    assert 1.9 * TICKS_PER_BEAT < second[0] < 2.6 * TICKS_PER_BEAT
    page.click("#undo")
    expect(page.locator("#download")).to_be_disabled()  # it was one step


def test_dropping_a_file_is_one_step(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "first.mid", steady(3, 90.0))
    drop(page, "second.mid", steady(5, 200.0))
    expect(page.locator("#tempo-value")).to_have_text("200")
    page.click("#undo")
    assert len(downloaded(page)[0]) == 3
    expect(page.locator("#tempo-value")).to_have_text("90")
    page.click("#redo")
    assert len(downloaded(page)[0]) == 5
    expect(page.locator("#tempo-value")).to_have_text("200")
    drop(page, "crowd.mid", steady(10_001))
    expect(page.locator("#status")).to_have_text("crowd.mid has over 10000 notes; take a part of it.")
    assert len(downloaded(page)[0]) == 5


def test_a_link_that_cannot_be_opened_is_not_lost(page: Page, server: Server) -> None:
    fragment = "#t=90&m=abc&s=r7_4_1"
    page.route("**/generate", lambda route: route.fulfill(status=500, body=""))
    page.goto(server.url + fragment)
    text = "The server answered with an error (500). Reload the page to open the link again."
    expect(page.locator("#status")).to_have_text(text)
    assert page.url == server.url + fragment
    page.keyboard.press("a", delay=50)
    expect(page.locator("#undo")).to_be_enabled()
    page.locator("#download").click()
    assert page.url != server.url + fragment
    page.unroute("**/generate")
    page.go_back()
    expect(page.locator("#status")).to_have_text("The link was made with another model, so this is other music.")
    assert downloaded(page)[1] == pytest.approx(90)


def test_no_link_is_made_that_would_be_refused(page: Page, server: Server) -> None:
    visit(page, server)
    answer_at_once(page)
    set_length(page, 128)
    for number in range(1, 10):
        page.click("#continue")
        expect(page.locator("#position")).to_contain_text(f"of {128 * number}")
        expect(page.locator("#continue")).to_have_text("Continue")
        assert ("#" in page.url) == (number <= 8)
    page.click("#link")
    expect(page.locator("#status")).to_have_text("The piece is too long for a link; download it as MIDI.")
    page.click("#undo")
    assert page.url.count("_128_1") == 8
    page.goto("about:blank")
    page.goto(server.url + "#t=120&m=abc&s=" + "~".join(["r1_512_1"] * 3))
    expect(page.locator("#status")).to_have_text("The link asks for over 1024 beats, which is too much.")


def test_a_dense_file_is_heard_as_far_as_a_request_goes(page: Page, server: Server) -> None:
    visit(page, server)
    asked = answer_at_once(page)
    crowd = make_notes([(tick, 1, 21 + at, 64) for tick in range(200) for at in range(50)])
    drop(page, "crowd.mid", midi.write(crowd))
    page.click("#continue")
    expect(page.locator("#status")).to_contain_text("32 beats with seed", timeout=20_000)
    prompt = asked[0]["prompt"]
    assert len(prompt) == 3500
    assert len(json.dumps(asked[0])) < 262_144
    # The last ones, from a whole beat on.
    ticks = [tick for tick in range(200) for at in range(50)][-3500:]
    assert [round(note["start"] * TICKS_PER_BEAT) for note in prompt] == [tick - ticks[0] // 24 * 24 for tick in ticks]


def test_try_again_is_heard_though_the_old_one_plays(page: Page, server: Server) -> None:
    visit(page, server)
    answer_at_once(page)
    drop(page, "prompt.mid", steady(2))
    set_length(page, 32)
    page.click("#continue")
    expect(page.locator("#position")).to_contain_text("of 34")
    page.unroute("**/generate")
    held: list[Route] = []
    page.route("**/generate", lambda route: held.append(route))
    set_length(page, 4)
    page.click("#again")
    page.locator("#roll").focus()
    page.keyboard.press("End")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    notes = [{"pitch": 62, "start": 0, "duration": 1, "velocity": 70}]
    held[0].fulfill(json={"notes": notes, "frames": 16, "state": "more"})
    expect(page.locator("#position")).to_contain_text("of 6")
    expect(page.locator("#play")).to_have_text("Play", timeout=5000)
    # A second one, and somebody wants silence.
    page.click("#again")
    page.click("#play")
    page.click("#play")
    held[1].fulfill(json={"notes": notes, "frames": 16, "state": "more"})
    expect(page.locator("#status")).to_contain_text("4 beats with seed")
    expect(page.locator("#play")).to_have_text("Play")


def test_a_variation_is_heard_while_it_grows(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", steady(2))
    held: list[Route] = []
    page.route("**/generate", lambda route: held.append(route))
    set_length(page, 12)
    page.fill("#seed", "40")
    page.click("#vary")

    def answer(number: int, pitch: int) -> None:
        expect(page.locator("#status")).to_contain_text("Composing")
        page.wait_for_timeout(100)
        frames = json.loads(held[number].request.post_data or "")["frames"]
        notes = [{"pitch": pitch, "start": beat, "duration": 0.5, "velocity": 70} for beat in range(frames // 4)]
        held[number].fulfill(json={"notes": notes, "frames": frames, "state": "more"})

    answer(0, 64)
    page.get_by_label("Listen to variation 1").click()
    reach(page, 9, 10)
    expect(page.locator("#position")).to_have_text("beat 9 of 10")  # 9.5 of 9.5
    expect(page.locator("#play")).to_have_text("Pause")
    answer(1, 64)
    reach(page, 12, 14)
    assert page.locator("article.heard").count() == 1
    expect(page.locator("#position")).to_have_text(re.compile("of 2$"), timeout=5000)
    expect(page.locator("#play")).to_have_text("Play")
    expect(page.locator("#status")).to_contain_text("Variation 2 of 3: Composing")
    assert [json.loads(route.request.post_data or "").get("seed") for route in held] == [40, None, 41]
    # Nothing may come in between; what is played next lets the variations go.
    page.click("#vary")
    expect(page.locator("#status")).to_have_text("Stop first: a continuation is on its way.")
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("Stopped.")
    page.keyboard.press("a", delay=50)
    expect(page.locator("#status")).to_have_text("Not recorded: keep a variation, or none, first.")
    page.click("text=None of these")
    expect(page.locator("#choices")).to_be_hidden()
    expect(page.locator("#status")).to_have_text("")
    page.keyboard.press("a", delay=50)
    assert len(downloaded(page)[0]) == 3


def test_at_temperature_0_there_is_nothing_to_choose_from(page: Page, server: Server) -> None:
    visit(page, server)
    slide(page, "temperature", 0)
    set_length(page, 4)
    page.click("#continue")
    expect(page.locator("#status")).to_have_text(re.compile(r"^4 beats with seed \d+, of silence\.$"))
    page.click("#play")
    expect(page.locator("#status")).to_have_text("Nothing but silence yet.")
    for name in ("again", "vary"):
        page.click(f"#{name}")
        expect(page.locator("#status")).to_contain_text("At temperature 0 there is one continuation alone")


def test_sliders_and_boxes_leave_the_space_bar_alone(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "long.mid", steady(40))
    page.click("#tempo")
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_text("Pause")
    page.click("#loop")
    page.keyboard.press(" ")
    expect(page.locator("#play")).to_have_text("Play")
    assert page.is_checked("#loop")
    answer_at_once(page)
    page.fill("#seed", "3")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("32 beats with seed 3.")
    page.click("#play")
    page.focus("#seed")
    page.locator(".key[data-pitch='60']").click()
    page.keyboard.press("d", delay=50)
    assert page.input_value("#seed") == "3"


def test_the_keys_end_where_a_piano_does(page: Page, server: Server) -> None:
    visit(page, server)

    def lettered() -> list[int]:
        keys = "(keys) => keys.filter((key) => key.firstChild.textContent).map((key) => Number(key.dataset.pitch))"
        pitches: list[int] = page.eval_on_selector_all(".key", keys)
        return [min(pitches), max(pitches)]

    assert lettered() == [60, 76]
    page.click("#higher")  # the letters move, and the keys need not
    assert lettered() == [72, 88]
    assert page.locator(".key").first.get_attribute("data-pitch") == "48"
    for name, first, last, letters in (("higher", 48, 108, [96, 108]), ("lower", 12, 72, [12, 28])):
        for _ in range(9):
            page.click(f"#{name}")
        assert lettered() == letters
        pitches = page.eval_on_selector_all(".key", "(keys) => keys.map((key) => Number(key.dataset.pitch))")
        assert (min(pitches), max(pitches)) == (first, last)
    page.set_viewport_size({"width": 420, "height": 800})
    for _ in range(9):
        page.click("#higher")
    assert page.locator(".key").count() == 13
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(page.locator(".key")).to_have_count(61)  # five octaves and the last C


def test_a_pedal_holds_and_a_keyboard_that_is_gone_lets_go(page: Page, server: Server) -> None:
    page.add_init_script(
        """
        window.device = {name: 'Test keys', state: 'connected', onmidimessage: null};
        window.access = {inputs: new Map([['1', window.device]]), onstatechange: null};
        navigator.requestMIDIAccess = async () => window.access;
        """
    )
    visit(page, server)
    page.click("#connect")

    def send(*message: int) -> None:
        page.evaluate("(data) => window.device.onmidimessage({data: new Uint8Array(data)})", list(message))
        page.wait_for_timeout(100)

    for message in ((0xB0, 64, 127), (0x90, 60, 80), (0x80, 60, 0), (0x90, 64, 80), (0xB0, 64, 0)):
        send(*message)
    page.evaluate("window.device.state = 'disconnected'; window.access.onstatechange()")
    expect(page.locator("#status")).to_have_text("No MIDI keyboard is connected; plug one in.")
    assert page.locator(".key.sounds").count() == 0
    low, high = downloaded(page)[0]
    assert low[1] > 0.3 * 2 * TICKS_PER_BEAT - 1  # until the pedal was up
    assert high[0] + high[1] > low[1]  # until it was gone


def held_back(page: Page) -> list[Route]:
    """What the page asks for, which waits until a test answers it."""
    held: list[Route] = []
    page.route("**/generate", lambda route: held.append(route))
    return held


def answer(page: Page, held: list[Route], number: int) -> None:
    """Answers a request, once it has come, with a note a beat, of a pitch that says which it is."""
    for _ in range(100):
        if len(held) > number:
            break
        page.wait_for_timeout(50)
    frames = json.loads(held[number].request.post_data or "")["frames"]
    notes = [{"pitch": 60 + number, "start": at, "duration": 0.5, "velocity": 70} for at in range(frames // 4)]
    held[number].fulfill(json={"notes": notes, "frames": frames, "state": "more"})


def test_who_waits_at_the_end_may_go_elsewhere(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", steady(2))
    held = held_back(page)
    set_length(page, 12)
    page.click("#continue")
    answer(page, held, 0)
    reach(page, 9, 10)
    page.wait_for_timeout(800)
    expect(page.locator("#play")).to_have_text("Pause")
    page.click("#rewind")
    reach(page, 1, 10)
    answer(page, held, 1)
    expect(page.locator("#position")).to_contain_text("of 14")
    assert int(page.locator("#position").inner_text().split()[1]) < 8
    reach(page, 12, 14)
    expect(page.locator("#play")).to_have_text("Play", timeout=5000)


def test_a_link_is_heard_while_it_is_opened(page: Page, server: Server) -> None:
    held = held_back(page)
    page.goto(server.url + "#t=400&m=&s=r1_12_1~r2_4_1")
    answer(page, held, 0)
    expect(page.locator("#position")).to_contain_text("of 8")
    page.click("#play")
    reach(page, 8, 8)
    answer(page, held, 1)
    reach(page, 12, 12)
    answer(page, held, 2)
    reach(page, 14, 16)
    expect(page.locator("#play")).to_have_text("Play", timeout=5000)
    # A file that is dropped meanwhile is what the address says then, and Back leads to the link.
    page.goto("about:blank")
    held.clear()
    page.goto(server.url + "#t=400&m=&s=r1_12_1")
    answer(page, held, 0)
    expect(page.locator("#position")).to_contain_text("of 8")
    drop(page, "mine.mid", steady(3))
    expect(page.locator("#status")).to_have_text("mine.mid: 3 notes.")
    page.wait_for_timeout(300)
    expect(page.locator("#status")).to_have_text("mine.mid: 3 notes.")
    assert "s=p" in page.url
    page.unroute("**/generate")
    page.go_back()
    expect(page.locator("#status")).to_have_text("Ready: press Play.", timeout=20_000)
    assert page.url.endswith("s=r1_12_1")
    # Who begins before the server is awake has begun.
    waiting: list[Route] = []
    asleep = True
    page.goto("about:blank")
    page.route("**/health", lambda route: waiting.append(route) if asleep else route.continue_())
    page.goto(server.url + "#t=90&m=&s=pAAAA")
    page.click("#continue")
    asleep = False
    for route in waiting:
        route.continue_()
    expect(page.locator("#status")).to_contain_text("32 beats with seed", timeout=20_000)
    assert re.search(r"s=r\d+_32_1&", page.url)


def test_every_note_is_let_go(page: Page, server: Server) -> None:
    """At the seam of a loop one key ends and is struck again; and what is heard twice is struck once."""
    visit(page, server)
    notes = [(0, 3, 60, 70), (24, 24, 60, 70), (12, 36, 67, 70)]
    drop(page, "loop.mid", midi.write(make_notes(notes), 240))
    page.check("#loop")
    page.locator("#roll").focus()
    page.keyboard.press(" ")
    page.wait_for_timeout(2500)
    page.keyboard.press(" ")
    page.wait_for_function("() => window.struck.every((one) => one.until !== null)", timeout=5000)
    struck = page.evaluate("window.struck")
    assert len(struck) > 9
    assert all(one["until"] - one["when"] < 1.2 for one in struck)
    # From the middle of two notes, and again while it plays.
    before = len(struck)
    page.uncheck("#loop")
    page.locator("#roll").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    page.wait_for_function("(least) => window.struck.length >= least", arg=before + 2)
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(800)
    assert page.evaluate("window.struck.length") == before + 2  # one begins there, and one sounds
    page.wait_for_function("() => window.struck.every((one) => one.until !== null)", timeout=5000)


def test_a_key_is_let_go_before_it_is_struck_again_in_a_file(page: Page, server: Server) -> None:
    """A prompt may end some ticks after the frame at which what follows begins."""
    visit(page, server)
    drop(page, "a.mid", midi.write(make_notes([(0, 14, 60, 70)]), 120))
    note = {"pitch": 60, "start": 0, "duration": 0.5, "velocity": 90}
    page.route("**/generate", lambda route: route.fulfill(json={"notes": [note], "frames": 16, "state": "more"}))
    set_length(page, 4)
    page.click("#continue")
    expect(page.locator("#status")).to_contain_text("4 beats with seed")
    assert downloaded(page)[0] == [(0, 12, 60, 70), (12, 12, 60, 90)]
    file = mido.MidiFile(file=io.BytesIO(download(page)))
    played = [(m.type, m.time) for m in file.tracks[0] if not m.is_meta and m.type != "program_change"]
    assert played == [("note_on", 0), ("note_off", 240), ("note_on", 0), ("note_off", 240)]


def test_another_model_goes_on_from_the_notes(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "prompt.mid", prompt_file())
    set_length(page, 4)
    page.fill("#seed", "3")
    page.click("#continue")
    expect(page.locator("#status")).to_have_text("4 beats with seed 3.")
    first = downloaded(page)[0]
    asked: list[dict[str, Any]] = []

    def redeployed(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or ""))
        if "state" in asked[-1]:
            route.fulfill(status=409, json={"error": "state comes from another model"})
        else:
            route.continue_()

    page.route("**/generate", redeployed)
    page.click("#continue")
    expect(page.locator("#position")).to_contain_text("of 10")
    expect(page.locator("#status")).to_have_text("4 beats with seed 3.")
    assert [("state" in fields, fields["seed"]) for fields in asked] == [(True, 3), (False, 3)]
    assert downloaded(page)[0][: len(PROMPT)] == first[: len(PROMPT)]


def test_what_of_files_is_left_out_is_said(page: Page, server: Server) -> None:
    visit(page, server)
    slide(page, "tempo", 200)
    # Two tempos and a pedal, and then a file that says no tempo, which is 120.
    drop(page, "rich.mid", one_track("00ff5103061a80 00b0407f 00903c40 60803c00 00ff510307a120 00ff2f00"))
    expect(page.locator("#status")).to_have_text("rich.mid: 1 note; left out: other tempos, the pedal.")
    expect(page.locator("#tempo-value")).to_have_text("150")
    drop(page, "plain.mid", one_track("00903c40 60803c00 00ff2f00"))
    expect(page.locator("#tempo-value")).to_have_text("120")
    page.evaluate(
        """() => {
      const transfer = new DataTransfer();
      for (const name of ['a.mid', 'b.mid', 'c.mid']) transfer.items.add(new File([new Uint8Array(FILE)], name));
      document.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }""".replace("FILE", str(list(one_track("00903c40 60803c00 00ff2f00"))))
    )
    expect(page.locator("#status")).to_have_text("a.mid: 1 note; left out: 2 of the 3 files.")


def test_octaves_move_the_keys_in_sight(browser: Browser, server: Server) -> None:
    with browser.new_context(viewport={"width": 1024, "height": 768}, has_touch=True) as context:
        page = context.new_page()
        visit(page, server)

        def lowest() -> int:
            return int(page.locator("#keys .key").first.get_attribute("data-pitch") or "")

        assert lowest() == 48
        for expected_lowest in (36, 24, 12, 12):
            page.tap("#lower")
            assert lowest() == expected_lowest
        page.tap("#higher")
        assert lowest() == 24


def test_a_recorded_key_clears_what_was_wrong(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "song.mid", b"RIFF, not MIDI")
    expect(page.locator("#status")).to_contain_text("is not a MIDI file")
    page.keyboard.press("a", delay=50)
    expect(page.locator("#status")).to_have_text("")
    drop(page, "short.mid", prompt_file(400.0))
    page.click("#play")
    page.keyboard.press("a", delay=20)
    expect(page.locator("#status")).to_have_text("Not recorded: pause first.")
    expect(page.locator("#play")).to_have_text("Play")
    expect(page.locator("#status")).to_have_text("")


def test_what_is_composed_stays_so_called_when_more_is_played(page: Page, server: Server) -> None:
    visit(page, server)
    note = {"pitch": 64, "start": 0, "duration": 3, "velocity": 127}
    page.route("**/generate", lambda route: route.fulfill(json={"notes": [note], "frames": 16, "state": "more"}))
    set_length(page, 4)
    page.click("#continue")
    expect(page.locator("#status")).to_contain_text("4 beats with seed")

    def drawn() -> int:
        """Pixels of the colour of what is composed."""
        return int(
            page.evaluate("""() => {
              const canvas = document.getElementById('roll');
              const ink = getComputedStyle(canvas).getPropertyValue('--drawn').trim();
              const [r, g, b] = [1, 3, 5].map((at) => parseInt(ink.slice(at, at + 2), 16));
              const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              let count = 0;
              for (let at = 0; at < data.length; at += 4)
                count += Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b) < 30;
              return count;
            }""")
        )

    page.click("#play")
    expect(page.locator("#play")).to_have_text("Play", timeout=8000)
    before = drawn()
    assert before > 100
    page.keyboard.press("a", delay=50)
    page.wait_for_timeout(200)
    assert drawn() > before / 2
    page.click("#undo")
    expect(page.locator("#position")).to_contain_text("of 4")
    # What was taken back cannot come again over what is on its way, which would be lost.
    page.unroute("**/generate")
    page.route("**/generate", lambda route: None)
    expect(page.locator("#redo")).to_be_enabled()
    page.click("#vary")
    expect(page.locator("#redo")).to_be_disabled()
    page.keyboard.press("Control+Shift+Z")
    expect(page.locator("#choices")).to_be_visible()


def test_a_link_ends_with_what_no_message_cuts_off(page: Page, server: Server) -> None:
    visit(page, server)
    drop(page, "loud.mid", midi.write(make_notes([(0, 24, pitch, 127) for pitch in (60, 64, 67)]), 120))
    page.wait_for_function("() => location.hash")
    assert re.search(r"&t=120$", page.url)
    assert re.search(r"\.&", page.url)  # which would have been at the end
