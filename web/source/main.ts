// The page: what is on it, and what happens when somebody does something.

import { compose, newSeed, type Run } from "./compose";
import { connect, Keyboard } from "./keyboard";
import * as link from "./link";
import * as midi from "./midi";
import { EMPTY, grid, History, type Note, type Piece, withPrompt } from "./piece";
import { Player } from "./player";
import { Roll } from "./roll";
import { ask, Failure, type Health } from "./server";
import { Take } from "./take";

const BEFORE = 4; // beats that are heard again before a continuation
const MOST_FILE = 1_000_000; // bytes: reading takes the longer the more notes there are
const VARIATIONS = 3;
const MODEL = 12; // digits of the model's checksum in a link
const FAR = 8; // pixels after which a press on the roll is no click
const SEAM = 0.01; // beats by which the transport may stop before the end

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

const canvas = element<HTMLCanvasElement>("roll");
const status = element("status");
const seedField = element<HTMLInputElement>("seed");
const loopBox = element<HTMLInputElement>("loop");
const choices = element("choices");
const sliders = {
  length: element<HTMLInputElement>("length"),
  temperature: element<HTMLInputElement>("temperature"),
  tempo: element<HTMLInputElement>("tempo"),
};

const history_ = new History();
const player = new Player(ended);
const roll = new Roll(canvas);
const hands = { press, release };
const keyboard = new Keyboard(element("keys"), hands);
const pressed = new Set<number>();
const take = new Take(tempo, draw, (notes) => {
  history_.push(withPrompt(piece(), notes));
  changed();
});
let marker = 0; // beats: where playing begins
let composing: Job | null = null; // the only one that may change or say anything
let waiting = false; // the music has come to an end that is still growing
let drawing = false; // whether frames are drawn for as long as it plays
let following = true; // whether the roll keeps the head in sight, and nobody has moved it away
let listening: Piece | null = null; // a variation that is heard in place of the piece
let checksum = "";

/** Music on its way. */
interface Job {
  readonly abort: AbortController;
  begun: boolean; // whether some of it is there
}

function piece(): Piece {
  return history_.piece;
}

function shown(): Piece {
  return listening ?? piece();
}

function tempo(): number {
  return Number(sliders.tempo.value);
}

function say(text: string, bad = false): void {
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

function fail(error: unknown): void {
  say(error instanceof Error ? error.message : String(error), true);
}

// Playing

function play(from: number | null = null): void {
  player.wake();
  if (!shown().notes.length) return say("Nothing to play yet: press some keys, or let the network begin.");
  following = true;
  if (from !== null) player.seek(from);
  else if (player.beat >= shown().beats) player.seek(marker < shown().beats ? marker : 0);
  player.play();
  if (!drawing) requestAnimationFrame(tick);
  drawing = true;
  draw();
  setTimeout(() => player.awake || say("This browser keeps the page silent: touch it once more.", true), 1000);
}

function pause(): void {
  waiting = false;
  player.pause();
  back();
}

/** The music has come to its end: more is on its way, or has come meanwhile, or that was all. */
function ended(): void {
  if (player.playing) return; // somebody has begun anew meanwhile
  const { beats } = shown();
  if (player.beat < beats - SEAM) return play(player.beat);
  if (composing !== null && listening === null) {
    waiting = true;
    return draw();
  }
  player.seek(marker < beats ? marker : 0);
  back();
}

/** From a variation to the piece. */
function back(): void {
  if (listening !== null) {
    listening = null;
    changed();
  }
  draw();
}

function seek(beat: number): void {
  following = true;
  marker = Math.min(Math.max(0, beat), shown().beats);
  player.seek(marker);
  loop();
  draw();
}

function loop(): void {
  player.loop(marker < shown().beats ? marker : 0, shown().beats, loopBox.checked && composing === null);
}

function tick(): void {
  drawing = player.playing;
  if (drawing) requestAnimationFrame(tick);
  draw();
}

function press(pitch: number, velocity: number): void {
  player.wake();
  pressed.add(pitch);
  if (!player.press(pitch, velocity)) return;
  if (player.playing || composing) return draw();
  following = true;
  take.press(pitch, velocity);
}

function release(pitch: number): void {
  if (!player.release(pitch)) return;
  pressed.delete(pitch);
  take.release(pitch);
  draw();
}

// Composing

/** Begins a job, in place of any other. */
function begin(): Job {
  composing?.abort.abort();
  waiting = false;
  composing = { abort: new AbortController(), begun: false };
  buttons();
  return composing;
}

function end(job: Job): void {
  if (composing === job) stop();
  loop();
  link_();
  draw();
}

function stop(): void {
  composing?.abort.abort();
  composing = null;
  waiting = false;
  buttons();
}

/** Lets a run grow, for as long as nothing else has taken its place; whether all of it is there in the end. */
async function grow(base: Piece, run: Run, job: Job, found: (piece: Piece) => void): Promise<boolean> {
  const report = (text: string): void => {
    if (composing === job) say(text);
  };
  try {
    for await (const longer of compose(base, run, report, job.abort.signal)) {
      if (composing !== job) return false;
      found(longer);
      job.begun = true;
    }
  } catch (error) {
    if (composing === job) fail(error);
    return false;
  }
  report(`${run.beats} beats with seed ${run.seed}.`);
  return composing === job;
}

/** A run after a piece, in place of what is there of it already; whether all of it is there in the end. */
async function go(base: Piece, run: Run, hear: boolean): Promise<boolean> {
  dismiss();
  const job = begin();
  const whole = await grow(base, run, job, (longer) => {
    const first = !job.begun;
    const seam = shown().beats;
    if (first && piece() === base) history_.push(longer);
    else history_.grow(longer);
    changed();
    if (!hear) return;
    if (waiting) {
      waiting = false;
      play(seam);
    } else if (first && !player.playing) {
      marker = Math.max(0, Math.floor(base.beats) - BEFORE);
      play(marker);
    }
  });
  end(job);
  return whole;
}

function settings(seed: number): Run {
  const { length, temperature } = sliders;
  return { kind: "run", seed, beats: Number(length.value), temperature: Number(temperature.value) };
}

function onward(): void {
  if (composing) {
    stop();
    if (!choices.querySelector("article button:enabled")) dismiss();
    return say("Stopped.");
  }
  const text = seedField.value.trim();
  if (text && !/^\d{1,15}$/.test(text)) return say("A seed is a whole number; leave it empty to have one drawn.", true);
  player.wake();
  take.end();
  void go(piece(), settings(text ? Number(text) : newSeed()), true);
}

function again(): void {
  take.end();
  if (piece().steps.at(-1)?.kind !== "run") return;
  player.wake();
  pause();
  void go(history_.before, settings(newSeed()), true);
}

async function vary(): Promise<void> {
  player.wake();
  take.end();
  dismiss();
  const base = piece();
  const job = begin();
  choices.hidden = false;
  const close = button("None of these", dismiss);
  choices.append(close);
  for (let number = 1, whole = true; number <= VARIATIONS && whole && composing === job; number++) {
    const card = document.createElement("article");
    const small = document.createElement("canvas");
    small.setAttribute("role", "img");
    small.setAttribute("aria-label", `Variation ${number}`);
    let candidate: Piece | null = null;
    const listen = button("Listen", () => {
      listening = candidate;
      changed();
      play(Math.max(0, base.beats - BEFORE / 2));
    });
    const keep = button("Keep", () => {
      const kept = candidate;
      pause();
      dismiss();
      if (kept) history_.push(kept);
      changed();
      element("play").focus();
    });
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(listen, keep);
    card.append(small, bar);
    choices.insertBefore(card, close);
    listen.disabled = keep.disabled = true;
    const run = settings(newSeed());
    const own = new Roll(small, { from: base.beats, beats: run.beats });
    whole = await grow(base, run, job, (longer) => {
      candidate = longer;
      listen.disabled = keep.disabled = false;
      own.draw({ ...longer, head: -1, follow: false, marker: null });
    });
    if (!candidate) card.remove();
  }
  if (composing === job && !choices.querySelector("article")) hide();
  end(job);
}

function dismiss(): void {
  if (choices.hidden) return;
  stop();
  if (listening) pause();
  hide();
  changed();
}

function hide(): void {
  choices.hidden = true;
  choices.replaceChildren();
}

function button(text: string, action: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
}

function undo(): void {
  take.end();
  const pending = (composing !== null && !composing.begun) || !choices.hidden;
  stop();
  dismiss();
  say("");
  if (pending || !history_.canUndo) return; // what was only on its way, or to choose from, is taken back
  pause();
  history_.undo();
  seek(Math.min(marker, piece().beats));
  changed();
}

function anew(): void {
  take.end();
  stop();
  dismiss();
  pause();
  if (piece() !== EMPTY) history_.push(EMPTY);
  seek(0);
  changed();
  say("");
}

// Files and links

async function open(file: File): Promise<void> {
  try {
    if (file.size > MOST_FILE) throw new Error(`${file.name} has over ${MOST_FILE / 1e6} MB; a MIDI file has less.`);
    const read = parse(file.name, await file.arrayBuffer());
    if (!read.notes.length) throw new Error(`${file.name} has no notes that a piano could play.`);
    anew();
    const kept = read.tempo === null || setTempo(read.tempo);
    history_.push(withPrompt(EMPTY, read.notes));
    changed();
    const left = read.leftOut ? `; ${read.leftOut} of drums or beyond a piano's keys are left out` : "";
    const other = kept ? "" : `; its tempo of ${Math.round(read.tempo ?? 0)} is beyond the slider`;
    say(`${file.name}: ${read.notes.length} notes${left}${other}.`);
  } catch (error) {
    fail(error);
  }
}

function parse(name: string, data: ArrayBuffer): midi.Read {
  try {
    return midi.read(data);
  } catch (error) {
    if (error instanceof Failure) throw new Error(`${name} ${error.message}.`);
    throw new Error(`${name} is not a MIDI file that counts in beats, or a damaged one.`);
  }
}

/** Whether the slider goes so far. */
function setTempo(value: number): boolean {
  sliders.tempo.value = String(Math.round(value));
  labels();
  return Math.abs(tempo() - value) < 1;
}

function download(): void {
  const url = URL.createObjectURL(new Blob([midi.write(piece().notes, tempo())], { type: "audio/midi" }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = "pianoai.mid";
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // a phone asks first
}

/** The address of the page says what the piece is. */
function link_(): boolean {
  const { steps } = piece();
  const fragment = steps.length ? link.write({ steps, tempo: tempo(), model: checksum }) : "";
  history.replaceState(null, "", location.pathname + location.search + (fragment ?? ""));
  return fragment !== null;
}

async function copy(): Promise<void> {
  if (!link_()) return say("The piece is too long for a link; download it as MIDI.", true);
  try {
    await navigator.clipboard.writeText(location.href);
    say("Link copied: it gives the same piece again.");
  } catch {
    say("The link is the address of this page.");
  }
}

/** Makes the piece of a link again. */
async function follow(linked: link.Linked): Promise<void> {
  if (history_.canUndo || take.running) return say("The link was not opened, since you have begun to play.", true);
  setTempo(linked.tempo);
  for (const step of linked.steps) {
    if (step.kind === "prompt") {
      history_.push(withPrompt(piece(), step.notes));
      changed();
    } else if (!(await go(piece(), step, false))) return; // why, is said already
  }
  seek(0);
  const other = linked.model !== "" && linked.model !== checksum;
  say(other ? "The link was made with another model, so this is other music." : "Ready: press Play.", other);
}

// What is shown

function changed(): void {
  player.load(shown().notes, shown().beats);
  loop();
  buttons();
  if (!composing) link_();
  draw();
}

function buttons(): void {
  element<HTMLButtonElement>("undo").disabled = !history_.canUndo && !take.running;
  element<HTMLButtonElement>("again").disabled = piece().steps.at(-1)?.kind !== "run";
  element<HTMLButtonElement>("download").disabled = element<HTMLButtonElement>("link").disabled = !piece().notes.length;
  element("continue").textContent = composing ? "Stop" : piece().notes.length || take.running ? "Continue" : "Begin";
}

function labels(): void {
  element("length-value").textContent = `${sliders.length.value} beats`;
  element("temperature-value").textContent = Number(sliders.temperature.value).toFixed(2);
  element("tempo-value").textContent = sliders.tempo.value;
  player.tempo = tempo();
}

function draw(): void {
  const { notes, beats, given } = shown();
  const played: Note[] = take.now.map((note) => ({ ...note, start: note.start + beats }));
  const end = played.reduce((most, note) => Math.max(most, note.start + note.duration), beats);
  const head = take.running ? end : Math.min(player.beat, beats);
  roll.draw({
    notes: [...notes, ...played],
    given: take.running ? end : given,
    beats: end,
    head,
    follow: following,
    marker,
  });
  write("play", player.playing || waiting ? "Pause" : "Play");
  write("position", `beat ${Math.floor(head)} of ${Math.ceil(end)}`);
  canvas.setAttribute("aria-valuemax", String(Math.ceil(end)));
  canvas.setAttribute("aria-valuenow", String(Math.floor(head)));
  const sounding = player.playing ? notes.filter((n) => n.start <= head && head < n.start + n.duration) : [];
  keyboard.light(new Set([...pressed, ...sounding.map((note) => note.pitch)]));
}

function write(id: string, text: string): void {
  if (element(id).textContent !== text) element(id).textContent = text;
}

// Events

function on(id: string, action: () => unknown): void {
  element(id).addEventListener("click", () => void action());
}

function toggle(): void {
  if (player.playing || waiting) pause();
  else play();
}

on("play", toggle);
on("rewind", () => seek(0));
on("undo", undo);
on("new", anew);
on("continue", onward);
on("again", again);
on("vary", vary);
on("dice", () => (seedField.value = String(newSeed())));
on("lower", () => keyboard.shift(-1));
on("higher", () => keyboard.shift(1));
on("download", download);
on("link", copy);
on("open", () => element("file").click());
on("connect", async () => {
  try {
    player.wake();
    const heard = (names: string[]): void =>
      say(names.length ? `Listening to ${names.join(", ")}.` : "No MIDI keyboard is connected; plug one in.");
    await connect(hands, heard);
  } catch {
    say("This browser does not let the page listen to MIDI keyboards.", true);
  }
});
loopBox.addEventListener("change", loop);
for (const slider of Object.values(sliders)) slider.addEventListener("input", labels);
sliders.tempo.addEventListener("change", () => link_());
element<HTMLInputElement>("file").addEventListener("change", (event) => {
  const input = event.target as HTMLInputElement;
  const file = input.files?.[0];
  if (file) void open(file);
  input.value = "";
});
for (const name of ["dragenter", "dragover"] as const) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
}
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const file = event.dataTransfer?.files[0];
  if (file) void open(file);
});

function scroll(pixels: number): void {
  following = false;
  roll.scroll((pixels / canvas.clientWidth) * roll.wide);
}

let dragged: { from: number; far: boolean } | null = null; // a finger or a pointer that moves the roll
canvas.addEventListener("pointerdown", (event) => (dragged = { from: event.clientX, far: false }));
canvas.addEventListener("pointermove", (event) => {
  if (!dragged || !event.buttons) return;
  const across = dragged.from - event.clientX;
  if (!dragged.far && Math.abs(across) < FAR) return;
  dragged = { from: event.clientX, far: true };
  scroll(across);
});
canvas.addEventListener("click", (event) => {
  if (!dragged?.far) seek(Math.floor(roll.beatAt(event.clientX)));
  dragged = null;
});
canvas.addEventListener("wheel", (event) => {
  const across = event.deltaX || (event.shiftKey ? event.deltaY : 0);
  if (!across) return;
  event.preventDefault();
  scroll(across);
});
canvas.addEventListener("keydown", (event) => {
  const moves: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, PageUp: -4, PageDown: 4 };
  const move = moves[event.key];
  if (move !== undefined) seek(Math.round(player.beat) + move);
  else if (event.key === "Home") seek(0);
  else if (event.key === "End") seek(shown().beats);
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  const target = event.target as HTMLElement;
  if (target === seedField) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !event.shiftKey) undo();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (keyboard.keyDown(event) || (event.repeat && /^[ zx]$|^Enter$/i.test(event.key))) void 0;
  else if (event.code === "KeyZ") keyboard.shift(-1);
  else if (event.code === "KeyX") keyboard.shift(1);
  else if (target.closest("button, summary, input")) return; // these have a use of their own for the others
  else if (event.key === " ") toggle();
  else if (event.key === "Enter") onward();
  else return;
  event.preventDefault();
});
document.addEventListener("keyup", (event) => keyboard.keyUp(event));
document.addEventListener("click", (event) => {
  // A button that was clicked must not take the space bar; one that was reached with Tab keeps it.
  if (event.detail > 0) (event.target as HTMLElement).closest("button")?.blur();
});
for (const name of ["pointerup", "touchend"] as const) document.addEventListener(name, () => player.wake());
window.addEventListener("hashchange", () => location.reload()); // another link in the same tab
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

async function main(): Promise<void> {
  const fragment = location.hash; // before anything writes another
  labels();
  buttons();
  draw();
  try {
    const { model } = await ask<Health>("health", null, say);
    checksum = model.sha256.slice(0, MODEL);
    grid.framesPerBeat = model.frames_per_beat;
    say("");
    const linked = link.read(fragment);
    if (linked) await follow(linked);
  } catch (error) {
    fail(error);
  }
  document.body.dataset["ready"] = "yes";
}

void main();
