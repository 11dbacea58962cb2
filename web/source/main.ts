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
const MOST_FILE = 1_000_000; // bytes
const MOST_NOTES = 10_000; // of a file: each is scheduled, and drawn in every frame
const VARIATIONS = 3;
const MODEL = 12; // digits of the model's checksum in a link
const FAR = 8; // pixels after which a press on the roll is no click
const SEAM = 0.01; // beats by which the transport may stop before the end
const MOVES: Record<string, number> = { ArrowLeft: -1, ArrowDown: -1, PageDown: -4, ArrowRight: 1, ArrowUp: 1, PageUp: 4 };
const OFFER = "Listen to the variations, and keep one.";
const UNRECORDED = "Not recorded: ";
const SILENT = "This browser keeps the page silent: touch it once more.";

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
const take = new Take(tempo, played, (notes) => {
  const from = piece().beats;
  history_.push(withPrompt(piece(), notes));
  changed();
  seek(from);
});
const cards: Card[] = []; // the variations, where some are offered
let marker = 0; // beats: where playing begins
let composing: Job | null = null; // the only one that may change or say anything
let growing: Piece | null = null; // what it makes longer, as it is now
let waiting = false; // the music has come to an end that is still growing
let drawing = false; // whether frames are drawn for as long as something moves
let following = true; // whether the roll keeps the head in sight, and nobody has moved it away
let listening: Piece | null = null; // a variation that is heard in place of the piece
let opening = false; // whether a link is being opened, which stays the address meanwhile
let foreign = false; // whether the address is a link that somebody came with, and Back must lead to it
let checksum = "";

/** Music on its way. */
interface Job {
  readonly abort: AbortController;
  begun: boolean; // whether some of it is there
  quiet: boolean; // whether it must not begin to play by itself, or has
}

/** A variation, as it is shown. */
interface Card {
  readonly article: HTMLElement;
  readonly roll: Roll;
  readonly buttons: readonly HTMLButtonElement[]; // which work as soon as there is some of it
  piece: Piece | null;
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

function unsay(text: string): void {
  if (status.textContent === text) say("");
}

function fail(error: unknown): void {
  say(error instanceof Error ? error.message : String(error), true);
}

// Playing

/** Whether there is anything to play; where not, that is said. */
function play(from: number | null = null): boolean {
  wake();
  take.end();
  waiting = false;
  if (composing) composing.quiet = false;
  const { notes, beats } = shown();
  if (!notes.length) {
    if (!composing) say(beats ? "Nothing but silence yet." : "Nothing to play yet: press some keys, or let the network begin.");
    return false;
  }
  following = true;
  if (from !== null) player.seek(from);
  else if (player.beat >= beats) player.seek(marker < beats ? marker : 0);
  player.play();
  move();
  setTimeout(() => player.awake || say(SILENT, true), 1000);
  return true;
}

function wake(): void {
  void player.wake().then(() => unsay(SILENT));
}

function pause(): void {
  waiting = false;
  if (composing) composing.quiet = true;
  player.pause();
  recordable();
  draw();
}

/** The music has come to its end: more is on its way, or has come meanwhile, or that was all. */
function ended(): void {
  if (player.playing) return; // somebody has begun anew meanwhile
  const { beats } = shown();
  if (player.beat < beats - SEAM) return void play(player.beat);
  if (shown() === growing) {
    waiting = true;
    return draw();
  }
  back();
  player.seek(marker < shown().beats ? marker : 0);
  draw();
}

/** From a variation to the piece. */
function back(): void {
  if (listening !== null) {
    listening = null;
    changed();
  }
  recordable();
  draw();
}

function seek(beat: number): void {
  const waited = waiting;
  waiting = false;
  following = true;
  marker = Math.min(Math.max(0, beat), shown().beats);
  player.seek(marker);
  loop();
  if (waited) play(marker);
  draw();
}

function loop(): void {
  player.loop(marker < shown().beats ? marker : 0, shown().beats, loopBox.checked && shown() !== growing);
}

/** Draws frames for as long as something moves. */
function move(): void {
  if (!drawing) requestAnimationFrame(tick);
  drawing = true;
  draw();
}

function tick(): void {
  drawing = player.playing || take.running;
  if (drawing) requestAnimationFrame(tick);
  draw();
}

function press(pitch: number, velocity: number): void {
  wake();
  pressed.add(pitch);
  if (!player.press(pitch, velocity)) return;
  const busy = player.playing ? "pause" : composing ? "stop" : cards.length ? "keep a variation, or none," : "";
  if (busy) {
    say(`${UNRECORDED}${busy} first.`);
    return draw();
  }
  following = true;
  if (!take.running) say("");
  take.press(pitch, velocity);
}

function release(pitch: number): void {
  if (!player.release(pitch)) return;
  pressed.delete(pitch);
  take.release(pitch);
  draw();
}

/** What kept keys from being recorded is over. */
function recordable(): void {
  if (status.textContent?.startsWith(UNRECORDED)) say("");
}

/** Something has changed about a take. */
function played(): void {
  buttons();
  move();
}

// Composing

/** Begins a job, in place of any other, which may make a piece longer. */
function begin(longer: Piece | null): Job {
  composing?.abort.abort();
  composing = { abort: new AbortController(), begun: false, quiet: false };
  growing = longer;
  waiting = false;
  loop();
  buttons();
  return composing;
}

function end(job: Job): void {
  if (composing === job) halt();
  loop();
  link_();
  draw();
}

/** Stops; who waits for more of a variation is back at the piece. */
function halt(): void {
  const waited = waiting;
  stop();
  if (waited) back();
}

function stop(): void {
  composing?.abort.abort();
  composing = growing = null;
  waiting = false;
  buttons();
}

/** Lets a run grow, for as long as nothing else has taken its place; whether all of it is there in the end. */
async function grow(base: Piece, run: Run, job: Job, which: string, found: (piece: Piece) => void): Promise<boolean> {
  const report = (text: string): void => {
    if (composing === job) say(which + text);
  };
  let newest = base;
  try {
    await meet(report, job.abort.signal);
    for await (const longer of compose(base, run, report, job.abort.signal)) {
      if (composing !== job) return false;
      newest = longer;
      found(longer);
      job.begun = true;
    }
  } catch (error) {
    if (composing === job) fail(error);
    return false;
  }
  const silent = newest.notes.some((note) => note.start + note.duration > base.beats + SEAM) ? "" : ", of silence";
  report(`${run.beats} beats with seed ${run.seed}${silent}.`);
  return composing === job;
}

/** Asks once which model it is that plays. */
async function meet(report: (text: string) => void, signal?: AbortSignal): Promise<void> {
  if (checksum) return;
  const { model } = await ask<Health>("health", null, report, signal);
  checksum = model.sha256.slice(0, MODEL);
  grid.framesPerBeat = model.frames_per_beat;
}

/** A run after a piece, which becomes the newest; whether all of it is there in the end. */
async function go(base: Piece, run: Run, hear: boolean): Promise<boolean> {
  dismiss();
  const other = piece() !== base; // than what is there now, which was another continuation
  const job = begin(other ? null : base);
  const whole = await grow(base, run, job, "", (longer) => {
    const seam = shown().beats;
    if (job.begun) history_.grow(longer);
    else history_.push(longer);
    growing = longer;
    changed();
    if (waiting) play(seam);
    else if (hear && !job.quiet && (!player.playing || (other && !job.begun))) {
      marker = Math.max(0, Math.floor(base.beats) - BEFORE);
      job.quiet = play(marker);
    }
  });
  end(job);
  return whole;
}

function settings(seed: number): Run {
  const { length, temperature } = sliders;
  return { kind: "run", seed, beats: Number(length.value), temperature: Number(temperature.value) };
}

/** The seed of the field; null for none, undefined for what is no seed, which is said. */
function typed(): number | null | undefined {
  const text = seedField.value.trim();
  if (/^\d{0,15}$/.test(text)) return text ? Number(text) : null;
  say("A seed is a whole number; leave it empty to have one drawn.", true);
  return undefined;
}

/** Whether nothing is on its way, and there is more than one way to go on; where not, that is said. */
function free(last: Run | null): boolean {
  const only = settings(0).temperature === 0 && (last?.temperature ?? 0) === 0;
  if (composing) say("Stop first: a continuation is on its way.", true);
  else if (only) say("At temperature 0 there is one continuation alone; raise the temperature for others.", true);
  return !composing && !only;
}

function onward(): void {
  if (composing) {
    halt();
    if (!cards.some((card) => card.piece)) dismiss();
    return say("Stopped.");
  }
  const seed = typed();
  if (seed === undefined) return;
  wake();
  take.end();
  void go(piece(), settings(seed ?? newSeed()), true);
}

function again(): void {
  take.end();
  const { before, steps } = piece();
  const last = steps.at(-1);
  const seed = typed();
  if (last?.kind !== "run" || !before || seed === undefined || !free(last)) return;
  wake();
  pause();
  void go(before, settings(seed === null || seed === last.seed ? newSeed() : seed), true);
}

async function vary(): Promise<void> {
  const seed = typed();
  if (seed === undefined || !free(null)) return;
  wake();
  take.end();
  dismiss();
  const base = piece();
  const job = begin(null);
  choices.hidden = false;
  const close = button("None of these", "None of these variations", dismiss);
  choices.append(close);
  for (let number = 1, whole = true; number <= VARIATIONS && whole && composing === job; number++) {
    const run = settings(seed === null ? newSeed() : seed + number - 1);
    const card = offer(number, base.beats, run);
    choices.insertBefore(card.article, close);
    cards.push(card);
    whole = await grow(base, run, job, `Variation ${number} of ${VARIATIONS}: `, (longer) => {
      const heard = listening !== null && listening === card.piece;
      const seam = card.piece?.beats ?? 0;
      card.piece = growing = longer;
      for (const one of card.buttons) one.disabled = false;
      if (!heard) return draw();
      listening = longer;
      changed();
      if (waiting) play(seam);
    });
    if (!card.piece && cards.includes(card)) {
      card.article.remove();
      cards.splice(cards.indexOf(card), 1);
    }
    if (composing === job) growing = null;
    loop();
  }
  if (composing === job && !cards.length) hide();
  if (composing === job && cards.length === VARIATIONS) say(OFFER);
  end(job);
}

/** A place for a variation that begins at a beat. */
function offer(number: number, from: number, { beats, seed }: Run): Card {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Variation ${number}`);
  const listen = button("Listen", `Listen to variation ${number}`, () => {
    listening = card.piece;
    marker = Math.max(0, from - BEFORE / 2);
    changed();
    play(marker);
  });
  const keep = button("Keep", `Keep variation ${number}`, () => {
    pause();
    dismiss();
    if (card.piece) history_.push(card.piece);
    changed();
    element("play").focus();
  });
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.append(listen, keep, `seed ${seed}`);
  const article = document.createElement("article");
  article.append(canvas, bar);
  const card: Card = { article, roll: new Roll(canvas, { from, beats }), buttons: [listen, keep], piece: null };
  for (const one of card.buttons) one.disabled = true;
  return card;
}

function dismiss(): void {
  if (choices.hidden) return;
  stop();
  if (listening) pause();
  back();
  if (choices.contains(document.activeElement)) element("vary").focus();
  unsay(OFFER);
  hide();
  changed();
}

function hide(): void {
  choices.hidden = true;
  choices.replaceChildren();
  cards.length = 0;
}

function button(text: string, name: string, action: () => void): HTMLButtonElement {
  const made = document.createElement("button");
  made.textContent = text;
  made.setAttribute("aria-label", name);
  made.addEventListener("click", action);
  return made;
}

/** Lets go of all that is under way; whether there was anything that was only on its way, or offered. */
function clear(): boolean {
  opening = false;
  take.end();
  const pending = (composing !== null && !composing.begun) || !choices.hidden;
  stop();
  dismiss();
  say("");
  return pending;
}

function undo(): void {
  if (clear() || !history_.canUndo) return;
  pause();
  moved(history_.undo(tempo()));
}

/** Not over what is on its way, or offered, which would be lost. */
function canRedo(): boolean {
  return history_.canRedo && !composing && choices.hidden === true;
}

function redo(): void {
  if (!canRedo()) return;
  clear();
  pause();
  moved(history_.redo());
}

/** The piece is another one of those that were there, perhaps with a tempo of its own. */
function moved(tempo: number | null): void {
  if (tempo !== null) setTempo(tempo);
  seek(Math.min(marker, piece().beats));
  changed();
}

function anew(): void {
  clear();
  pause();
  if (piece().steps.length) history_.push(EMPTY);
  seek(0);
  changed();
}

// Files and links

async function open(files: FileList | null | undefined): Promise<void> {
  const file = files?.[0];
  if (!files || !file) return;
  try {
    if (file.size > MOST_FILE) throw new Error(`${file.name} has over ${MOST_FILE / 1e6} MB; a MIDI file has less.`);
    const read = parse(file.name, await file.arrayBuffer());
    if (!read.notes.length) throw new Error(`${file.name} has no notes that a piano could play.`);
    if (read.notes.length > MOST_NOTES) throw new Error(`${file.name} has over ${MOST_NOTES} notes; take a part of it.`);
    clear();
    pause();
    const before = tempo();
    const kept = setTempo(read.tempo);
    history_.push(withPrompt(EMPTY, read.notes), [before, tempo()]);
    seek(0);
    changed();
    const others = files.length > 1 ? [`${files.length - 1} of the ${files.length} files`] : [];
    const without = [...read.leftOut, ...others].join(", ");
    const left = without && `; left out: ${without}`;
    const other = kept ? "" : `; its tempo of ${Math.round(read.tempo)} is beyond the slider`;
    const many = read.notes.length === 1 ? "1 note" : `${read.notes.length} notes`;
    say(`${file.name}: ${many}${left}${other}.`);
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
  take.end();
  const url = URL.createObjectURL(new Blob([midi.write(piece().notes, tempo())], { type: "audio/midi" }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = "pianoai.mid";
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000); // a phone asks first
}

/** What the address of the page says after `#`; null where the piece is too long for that. */
function linked(): string | null {
  const { steps } = piece();
  return steps.length ? link.write({ steps, tempo: tempo(), model: checksum }) : "";
}

/** The address of the page says what the piece is; false where it cannot. */
function link_(): boolean {
  const fragment = linked();
  const address = location.pathname + location.search + (fragment ?? "");
  if (opening || address === location.pathname + location.search + location.hash) return fragment !== null;
  if (foreign) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  foreign = false;
  return fragment !== null;
}

async function copy(): Promise<void> {
  take.end();
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
  if (history_.canUndo || take.running || composing || !choices.hidden) {
    return say("The link was not opened, since you have begun to play: the browser's Back leads to it.", true);
  }
  setTempo(linked.tempo);
  for (const step of linked.steps) {
    if (step.kind === "prompt") {
      history_.push(withPrompt(piece(), step.notes));
      changed();
    } else if (!(await go(piece(), step, false))) {
      if (opening) say(`${status.textContent ?? ""} Reload the page to open the link again.`, true);
      return;
    }
  }
  const ready = player.playing ? "" : "Ready: press Play.";
  if (ready) seek(0);
  const other = linked.model !== "" && checksum !== "" && linked.model !== checksum;
  say(other ? "The link was made with another model, so this is other music." : ready, other);
}

// What is shown

function changed(): void {
  const { notes, beats } = shown();
  player.load(notes, beats);
  if (player.beat > beats + SEAM) {
    player.pause(); // there is less than before
    player.seek(beats);
  }
  marker = Math.min(marker, beats);
  loop();
  buttons();
  link_();
  draw();
}

function buttons(): void {
  const empty = !piece().notes.length && !take.running;
  const disabled: Record<string, boolean> = {
    undo: !history_.canUndo && !take.running && !composing && choices.hidden === true,
    redo: !canRedo(),
    again: piece().steps.at(-1)?.kind !== "run" || take.running,
    download: empty,
    link: empty,
  };
  for (const [id, off] of Object.entries(disabled)) {
    const one = element<HTMLButtonElement>(id);
    if (off && document.activeElement === one) canvas.focus(); // a button that is off keeps no focus
    one.disabled = off;
  }
  write("continue", composing ? "Stop" : piece().steps.length || take.running ? "Continue" : "Begin");
}

function labels(): void {
  const texts: Record<keyof typeof sliders, string> = {
    length: `${sliders.length.value} beats`,
    temperature: Number(sliders.temperature.value).toFixed(2),
    tempo: sliders.tempo.value,
  };
  for (const [name, text] of Object.entries(texts)) {
    write(`${name}-value`, text);
    element(name).setAttribute("aria-valuetext", text);
  }
  player.tempo = tempo();
}

function draw(): void {
  const { notes, beats } = shown();
  const fresh: Note[] = take.now.map((note) => ({ ...note, start: note.start + beats }));
  const end = fresh.reduce((most, note) => Math.max(most, note.start + note.duration), beats);
  const at = Math.min(player.heard, beats);
  const head = take.running ? end : at > beats - SEAM ? beats : at;
  const sounds = player.playing;
  roll.draw({
    notes: fresh.length ? [...notes, ...fresh] : notes,
    beats: end,
    head,
    sounds,
    follow: following,
    marker,
    loop: loopBox.checked,
  });
  for (const card of cards) {
    const heard = listening !== null && listening === card.piece;
    card.article.classList.toggle("heard", heard);
    if (!card.piece) continue;
    card.roll.draw({ ...card.piece, head: heard ? head : null, sounds, follow: false, marker: null, loop: false });
  }
  write("play", player.playing || waiting ? "Pause" : "Play");
  const place = `beat ${Math.floor(head)} of ${Math.ceil(end)}`;
  write("position", place);
  canvas.setAttribute("aria-valuemax", String(Math.ceil(end)));
  canvas.setAttribute("aria-valuenow", String(Math.floor(head)));
  canvas.setAttribute("aria-valuetext", place);
  const sounding = sounds ? notes.filter((n) => n.start <= head && head < n.start + n.duration) : [];
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
on("redo", redo);
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
    wake();
    const heard = (names: string[]): void =>
      say(names.length ? `Listening to ${names.join(", ")}.` : "No MIDI keyboard is connected; plug one in.");
    await connect(hands, heard);
  } catch {
    say("This browser does not let the page listen to MIDI keyboards.", true);
  }
});
loopBox.addEventListener("change", () => {
  loop();
  draw();
});
for (const slider of Object.values(sliders)) slider.addEventListener("input", labels);
sliders.tempo.addEventListener("change", () => link_());
element<HTMLInputElement>("file").addEventListener("change", (event) => {
  const input = event.target as HTMLInputElement;
  void open(input.files);
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
  void open(event.dataTransfer?.files);
});

function scroll(pixels: number): void {
  following = false;
  roll.scroll((pixels / canvas.clientWidth) * roll.wide);
}

let dragged: { x: number; y: number; far: boolean } | null = null; // a finger or a pointer that moves the roll
canvas.addEventListener("pointerdown", (event) => {
  if (event.button === 0) dragged = { x: event.clientX, y: event.clientY, far: false };
});
canvas.addEventListener("pointermove", (event) => {
  if (!dragged || !(event.buttons & 1)) return;
  const across = dragged.x - event.clientX;
  if (!dragged.far && Math.hypot(across, dragged.y - event.clientY) < FAR) return;
  canvas.setPointerCapture(event.pointerId);
  dragged = { x: event.clientX, y: event.clientY, far: true };
  scroll(across);
});
canvas.addEventListener("click", (event) => {
  if (!dragged?.far) seek(Math.floor(roll.beatAt(event.clientX)));
  dragged = null;
});
canvas.addEventListener("wheel", (event) => {
  const across = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
  if (!across || (!event.shiftKey && Math.abs(across) <= Math.abs(event.deltaY))) return;
  event.preventDefault();
  scroll(across);
});
canvas.addEventListener("keydown", (event) => {
  const across = MOVES[event.key];
  if (across !== undefined) seek(Math.round(player.beat) + across);
  else if (event.key === "Home") seek(0);
  else if (event.key === "End") seek(shown().beats);
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  const target = event.target as HTMLElement;
  const letter = event.key.toLowerCase();
  if (target === seedField) {
    if (event.key === "Enter" && !event.repeat) onward();
    return;
  }
  if ((event.ctrlKey || event.metaKey) && (letter === "z" || letter === "y")) {
    if (event.repeat) void 0;
    else if (letter === "y" || event.shiftKey) redo();
    else undo();
  }
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (keyboard.keyDown(event) || (event.repeat && /^(Key[ZX]|Space|(Numpad)?Enter)$/.test(event.code))) void 0;
  else if (event.code === "KeyZ") keyboard.shift(-1);
  else if (event.code === "KeyX") keyboard.shift(1);
  else if (target.closest("button, summary, [type=checkbox]")) return; // these have a use of their own for the others
  else if (event.key === " ") toggle();
  else if (event.key === "Enter") onward();
  else return;
  event.preventDefault();
});
document.addEventListener("keyup", (event) => keyboard.keyUp(event));
document.addEventListener("click", (event) => {
  // What was clicked must not take the space bar; what was reached with Tab keeps it.
  const used = (event.target as HTMLElement).closest("button, label")?.querySelector("input") ?? document.activeElement;
  if (event.detail > 0 && used instanceof HTMLElement && used.matches("button, [type=checkbox]")) used.blur();
});
for (const name of ["pointerup", "touchend"] as const) document.addEventListener(name, wake);
window.addEventListener("beforeunload", (event) => {
  if (take.running || cards.length || linked() === null) event.preventDefault(); // no address would bring it back
});
window.addEventListener("hashchange", () => location.reload()); // another link in the same tab
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

async function main(): Promise<void> {
  const fragment = location.hash; // before anything writes another
  foreign = fragment.length > 1;
  labels();
  buttons();
  draw();
  let last = "";
  try {
    await meet((text) => {
      if (status.textContent === last) say((last = text)); // over nothing else
    });
    if (last && status.textContent === last) say("");
  } catch (error) {
    fail(error);
  }
  try {
    const shared = link.read(fragment);
    opening = shared !== null;
    if (shared) await follow(shared);
  } catch (error) {
    fail(error);
  }
  opening = false;
  document.body.dataset["ready"] = "yes";
}

void main();
