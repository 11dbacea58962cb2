// The page: what is on it, and what happens when somebody does something.

import { compose, newSeed, type Run } from "./compose";
import { connect, Keyboard } from "./keyboard";
import * as link from "./link";
import * as midi from "./midi";
import { EMPTY, grid, History, type Note, type Piece, withPrompt } from "./piece";
import { Player } from "./player";
import { Roll } from "./roll";
import { ask, type Health } from "./server";
import { Take } from "./take";

const BEFORE = 4; // beats that are heard again before a continuation
const MOST_FILE = 5_000_000; // bytes
const VARIATIONS = 3;
const MODEL = 12; // digits of the model's checksum in a link

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
const player = new Player();
const roll = new Roll(canvas);
const hands = { press, release };
const keyboard = new Keyboard(element("keys"), hands);
const pressed = new Set<number>();
const take = new Take(tempo, draw, (notes) => {
  history_.push(withPrompt(piece(), notes));
  changed();
});
let marker = 0; // beats: where playing begins
let composing: AbortController | null = null;
let waiting = false; // the music has come to an end that is still growing
let listening: Piece | null = null; // a variation that is heard in place of the piece
let checksum = "";

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
  if (error instanceof DOMException && error.name === "AbortError") say("Stopped.");
  else say(error instanceof Error ? error.message : String(error), true);
}

// Playing

async function play(from: number | null = null): Promise<void> {
  await player.wake();
  if (!shown().notes.length) return say("Nothing to play yet: press some keys, or let the network begin.");
  if (from !== null) player.seek(from);
  else if (player.beat >= shown().beats) player.seek(marker < shown().beats ? marker : 0);
  player.play();
  requestAnimationFrame(tick);
  draw();
}

function pause(): void {
  waiting = false;
  player.pause();
  draw();
}

function seek(beat: number): void {
  marker = Math.min(Math.max(0, beat), shown().beats);
  player.seek(marker);
  loop();
  draw();
}

function loop(): void {
  player.loop(marker < shown().beats ? marker : 0, shown().beats, loopBox.checked && composing === null);
}

function tick(): void {
  if (!player.playing) return;
  if (player.beat >= shown().beats && !player.looping) {
    if (composing !== null && listening === null) {
      waiting = true;
      player.pause();
    } else {
      player.pause();
      player.seek(marker < shown().beats ? marker : 0);
    }
  }
  draw();
  requestAnimationFrame(tick);
}

function press(pitch: number, velocity: number): void {
  void player.wake();
  pressed.add(pitch);
  player.press(pitch, velocity);
  if (player.playing || composing) draw();
  else take.press(pitch, velocity);
}

function release(pitch: number): void {
  pressed.delete(pitch);
  player.release(pitch);
  take.release(pitch);
  draw();
}

// Composing

async function grow(base: Piece, run: Run, found: (piece: Piece) => void): Promise<void> {
  stop();
  const abort = new AbortController();
  composing = abort;
  buttons();
  try {
    for await (const longer of compose(base, run, say, abort.signal)) {
      if (composing === abort) found(longer);
    }
    say(`${run.beats} beats with seed ${run.seed}.`);
  } catch (error) {
    fail(error);
  } finally {
    if (composing === abort) stop();
    buttons();
    loop();
    link_();
    draw();
  }
}

function settings(seed = ownSeed()): Run {
  const { length, temperature } = sliders;
  return { kind: "run", seed, beats: Number(length.value), temperature: Number(temperature.value) };
}

function ownSeed(): number {
  const text = seedField.value.trim();
  const seed = Number(text);
  if (text && !Number.isSafeInteger(seed)) say("A seed is a whole number; another one was drawn.", true);
  return text && Number.isSafeInteger(seed) && seed >= 0 ? seed : newSeed();
}

async function go(base: Piece, run: Run, hear: boolean): Promise<void> {
  dismiss();
  let first = true;
  await grow(base, run, (longer) => {
    if (first) history_.push(longer);
    else history_.grow(longer);
    changed();
    if (hear && ((first && !player.playing) || waiting)) {
      const from = waiting ? null : Math.max(0, Math.floor(base.beats) - BEFORE);
      if (!waiting) marker = from ?? 0;
      waiting = false;
      void play(from);
    }
    first = false;
  });
}

async function onward(): Promise<void> {
  if (composing) return stop();
  await player.wake();
  take.end();
  await go(piece(), settings(), true);
}

async function again(): Promise<void> {
  const last = piece().steps.at(-1);
  if (last?.kind !== "run") return;
  await player.wake();
  stop();
  pause();
  history_.undo();
  await go(piece(), settings(newSeed()), true);
}

async function vary(): Promise<void> {
  await player.wake();
  take.end();
  dismiss();
  const base = piece();
  choices.hidden = false;
  const close = button("None of these", dismiss);
  choices.append(close);
  for (let number = 1; number <= VARIATIONS && !choices.hidden; number++) {
    const card = document.createElement("article");
    const small = document.createElement("canvas");
    small.setAttribute("role", "img");
    small.setAttribute("aria-label", `Variation ${number}`);
    let candidate: Piece | null = null;
    const listen = button("Listen", () => {
      if (!candidate) return;
      listening = candidate;
      changed();
      void play(Math.max(0, base.beats - BEFORE / 2));
    });
    const keep = button("Keep", () => {
      if (!candidate) return;
      const kept = candidate;
      pause();
      dismiss();
      history_.push(kept);
      changed();
    });
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.append(listen, keep);
    card.append(small, bar);
    choices.insertBefore(card, close);
    listen.disabled = keep.disabled = true;
    const run = settings(newSeed());
    const own = new Roll(small, { from: base.beats, beats: run.beats });
    await grow(base, run, (longer) => {
      candidate = longer;
      listen.disabled = keep.disabled = false;
      own.draw({ ...longer, head: -1, follow: false, marker: null });
    });
    if (!candidate) card.remove();
  }
}

function dismiss(): void {
  if (listening) pause();
  if (!choices.hidden) stop();
  listening = null;
  choices.hidden = true;
  choices.replaceChildren();
  changed();
}

function button(text: string, action: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.textContent = text;
  made.addEventListener("click", action);
  return made;
}

function stop(): void {
  composing?.abort();
  composing = null;
  waiting = false;
}

function undo(): void {
  take.end();
  stop();
  dismiss();
  if (!history_.canUndo) return;
  pause();
  history_.undo();
  seek(Math.min(marker, piece().beats));
  changed();
}

function begin(): void {
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
    begin();
    if (read.tempo) setTempo(read.tempo);
    history_.push(withPrompt(EMPTY, read.notes));
    changed();
    const left = read.leftOut ? `; ${read.leftOut} of drums or beyond a piano's keys are left out` : "";
    say(`${file.name}: ${read.notes.length} notes${left}.`);
  } catch (error) {
    fail(error);
  }
}

function parse(name: string, data: ArrayBuffer): midi.Read {
  try {
    return midi.read(data);
  } catch {
    throw new Error(`${name} is not a MIDI file, or a damaged one.`);
  }
}

function setTempo(value: number): void {
  sliders.tempo.value = String(Math.round(value));
  labels();
}

function download(): void {
  const url = URL.createObjectURL(new Blob([midi.write(piece().notes, tempo()).slice()], { type: "audio/midi" }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = "pianoai.mid";
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
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

async function follow(): Promise<void> {
  const linked = link.read(location.hash);
  if (!linked) return;
  setTempo(linked.tempo);
  const other = linked.model && checksum && linked.model !== checksum;
  for (const step of linked.steps) {
    if (step.kind === "prompt") {
      history_.push(withPrompt(piece(), step.notes));
      changed();
      continue;
    }
    const before = piece().beats;
    await go(piece(), step, false);
    if (piece().beats < before + step.beats) return; // the failure is shown
  }
  seek(0);
  say(other ? "The link was made with another model, so this is other music." : "Ready: press Play.", Boolean(other));
}

// What is shown

function changed(): void {
  player.load(shown().notes);
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
    follow: true,
    marker,
  });
  element("play").textContent = player.playing || waiting ? "Pause" : "Play";
  element("position").textContent = `beat ${Math.floor(head)} of ${Math.ceil(end)}`;
  canvas.setAttribute("aria-valuemax", String(Math.ceil(end)));
  canvas.setAttribute("aria-valuenow", String(Math.floor(head)));
  const sounding = player.playing ? notes.filter((n) => n.start <= head && head < n.start + n.duration) : [];
  keyboard.light(new Set([...pressed, ...sounding.map((note) => note.pitch)]));
}

// Events

function on(id: string, action: () => unknown): void {
  element(id).addEventListener("click", () => void action());
}

function toggle(): void {
  if (player.playing || waiting) pause();
  else void play();
}

on("play", toggle);
on("rewind", () => seek(0));
on("undo", undo);
on("new", begin);
on("continue", onward);
on("again", again);
on("vary", vary);
on("dice", () => (seedField.value = String(newSeed())));
on("lower", () => keyboard.shift(-1));
on("higher", () => keyboard.shift(1));
on("download", download);
on("link", copy);
on("connect", async () => {
  try {
    await player.wake();
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
element<HTMLInputElement>("open").addEventListener("change", (event) => {
  const input = event.target as HTMLInputElement;
  const file = input.files?.[0];
  if (file) void open(file);
  input.value = "";
});
element("open-label").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") element("open").click();
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

canvas.addEventListener("click", (event) => seek(Math.floor(roll.beatAt(event.clientX))));
canvas.addEventListener("wheel", (event) => {
  const across = event.deltaX || (event.shiftKey ? event.deltaY : 0);
  if (!across) return;
  event.preventDefault();
  roll.scroll((across / canvas.clientWidth) * roll.wide);
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
  if ((event.ctrlKey || event.metaKey) && event.code === "KeyZ" && !event.shiftKey) undo();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (keyboard.keyDown(event)) void 0;
  else if (event.code === "KeyZ" && !event.repeat) keyboard.shift(-1);
  else if (event.code === "KeyX" && !event.repeat) keyboard.shift(1);
  else if (target.closest("button, label, summary, input")) return; // these have a use of their own for the others
  else if (event.key === " ") toggle();
  else if (event.key === "Enter") void onward();
  else return;
  event.preventDefault();
});
document.addEventListener("keyup", (event) => keyboard.keyUp(event));
window.addEventListener("hashchange", () => location.reload()); // another link in the same tab
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

async function main(): Promise<void> {
  labels();
  changedWithoutLink();
  try {
    say("");
    const { model } = await ask<Health>("health", null, say);
    checksum = model.sha256.slice(0, MODEL);
    grid.framesPerBeat = model.frames_per_beat;
    say("");
    await follow();
  } catch (error) {
    fail(error);
  }
}

/** At first the address still says what is to be shown. */
function changedWithoutLink(): void {
  buttons();
  draw();
}

void main();
