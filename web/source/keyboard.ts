// Ways to press keys: with a pointer on the screen, on the computer's keyboard, on a MIDI keyboard.

import { HIGHEST, LOWEST } from "./piece";
import { isBlack } from "./roll";

export interface Hands {
  press(pitch: number, velocity: number): void;
  release(pitch: number): void;
}

const VELOCITY = 80; // of keys that do not feel how hard they are struck
const TAP = 300; // milliseconds for which a key is down that a screen reader presses
const PEDAL = 64; // number of the controller that sustains
// By place, so that every layout of letters is the same: one row for the white keys, and that above it for the black ones.
const PLACES = [
  ..."KeyA KeyW KeyS KeyE KeyD KeyF KeyT KeyG KeyY KeyH KeyU KeyJ KeyK KeyO KeyL KeyP Semicolon".split(" "),
];
const LOWEST_C = LOWEST - (LOWEST % 12);
const BELOW = 12; // semitones shown below the letters at first, where there is room
const NARROWEST = 26; // pixels of a white key

/** The keys on the screen, some octaves of them, and among them those that the computer's letters play. */
export class Keyboard {
  private letters = 60; // the pitch of the first letter, a C
  private first = 60 - BELOW; // and of the first key
  private readonly down = new Map<string | number, number>(); // by place or pointer: the pitch that it holds
  private readonly keys = new Map<number, HTMLElement>();

  constructor(
    private readonly place: HTMLElement,
    private readonly hands: Hands,
  ) {
    this.build(); // at once: a letter that is typed first must find its octave
    new ResizeObserver(() => this.build()).observe(place);
    place.addEventListener("pointerdown", (event) => this.touch(event));
    place.addEventListener("pointermove", (event) => this.slide(event));
    place.addEventListener("click", (event) => this.tap(event));
    for (const name of ["pointerup", "pointercancel"] as const) {
      window.addEventListener(name, (event) => this.let(event.pointerId));
    }
    window.addEventListener("blur", () => this.letAll());
  }

  /** Moves the letters by octaves, and the keys as far as there are any. */
  shift(octaves: number): void {
    this.letters = Math.min(Math.max(LOWEST_C, this.letters + 12 * octaves), HIGHEST - 12);
    this.first += 12 * octaves;
    this.build();
  }

  /** Whether a key of the computer's keyboard was one of the piano's. */
  keyDown(event: KeyboardEvent): boolean {
    const at = PLACES.indexOf(event.code);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return false;
    if (!event.repeat) this.hold(event.code, this.letters + at);
    return true;
  }

  keyUp(event: KeyboardEvent): void {
    if (event.key === "Meta") this.letAll(); // a Mac tells of no other key that is let go meanwhile
    else this.let(event.code);
  }

  /** Shows which pitches sound. */
  light(pitches: ReadonlySet<number>): void {
    for (const [pitch, key] of this.keys) key.classList.toggle("sounds", pitches.has(pitch));
  }

  private build(): void {
    const octaves = Math.max(1, Math.min(7, Math.floor(this.place.clientWidth / (7 * NARROWEST))));
    const lowest = Math.max(this.first, this.letters + 12 - 12 * octaves, LOWEST_C);
    this.first = Math.min(lowest, this.letters, HIGHEST - 12 * octaves);
    const pitches = Array.from({ length: 12 * octaves + 1 }, (_, at) => this.first + at);
    const whites = pitches.filter((pitch) => !isBlack(pitch)).length;
    this.keys.clear();
    let white = 0;
    for (const pitch of pitches) {
      const key = document.createElement("div");
      const black = isBlack(pitch);
      key.className = black ? "key black" : "key";
      key.dataset["pitch"] = String(pitch);
      key.style.left = `${((white - (black ? 0.3 : 0)) / whites) * 100}%`;
      key.style.width = `${((black ? 0.6 : 1) / whites) * 100}%`;
      key.setAttribute("role", "button");
      key.setAttribute("aria-label", name(pitch));
      const letter = document.createElement("kbd");
      letter.textContent = PLACES[pitch - this.letters]?.replace("Key", "").replace("Semicolon", ";") ?? "";
      key.append(letter, pitch % 12 ? "" : name(pitch));
      key.classList.toggle("missing", pitch < LOWEST);
      if (!black) white += 1;
      this.keys.set(pitch, key);
    }
    this.place.replaceChildren(...this.keys.values());
  }

  private touch(event: PointerEvent): void {
    const pitch = pitchAt(event);
    if (pitch === null || event.button !== 0) return;
    event.preventDefault();
    if (document.activeElement instanceof HTMLInputElement) document.activeElement.blur(); // letters are keys again
    this.hold(event.pointerId, pitch);
  }

  /** What presses a key without touching it, such as a screen reader. */
  private tap(event: MouseEvent): void {
    const pitch = pitchOf(event.target);
    if (event.detail > 0 || pitch === null) return;
    this.hold(`tap ${pitch}`, pitch);
    setTimeout(() => this.let(`tap ${pitch}`), TAP);
  }

  private slide(event: PointerEvent): void {
    const pitch = pitchAt(event);
    if (!this.down.has(event.pointerId) || this.down.get(event.pointerId) === pitch) return;
    this.let(event.pointerId);
    if (pitch !== null) this.hold(event.pointerId, pitch);
  }

  private hold(key: string | number, pitch: number): void {
    if (this.down.has(key) || pitch < LOWEST || pitch > HIGHEST) return;
    this.down.set(key, pitch);
    this.hands.press(pitch, VELOCITY);
  }

  private letAll(): void {
    for (const key of [...this.down.keys()]) this.let(key);
  }

  private let(key: string | number): void {
    const pitch = this.down.get(key);
    if (pitch === undefined) return;
    this.down.delete(key);
    this.hands.release(pitch);
  }
}

function pitchAt(event: PointerEvent): number | null {
  return pitchOf(document.elementFromPoint(event.clientX, event.clientY));
}

function pitchOf(target: EventTarget | null): number | null {
  const key = target instanceof Element ? target.closest<HTMLElement>(".key") : null;
  return key?.dataset["pitch"] === undefined ? null : Number(key.dataset["pitch"]);
}

function name(pitch: number): string {
  return `${"C C# D D# E F F# G G# A A# B".split(" ")[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
}

let access: MIDIAccess | null = null;
const devices = new Map<MIDIInput, Device>();

/** Listens to every MIDI keyboard there is, and tells their names. Throws where the browser refuses. */
export async function connect(hands: Hands, changed: (names: string[]) => void): Promise<void> {
  access ??= await navigator.requestMIDIAccess();
  const { inputs: all } = access;
  const listen = (): void => {
    const inputs = [...all.values()].filter((input) => input.state !== "disconnected");
    for (const [input, device] of devices) {
      if (inputs.includes(input)) continue;
      device.letAll(); // nobody tells any more that its keys are up
      devices.delete(input);
    }
    for (const input of inputs) {
      const device = devices.get(input) ?? new Device(hands);
      devices.set(input, device);
      input.onmidimessage = (event) => device.hear(event.data ?? new Uint8Array());
    }
    changed(inputs.map((input) => input.name ?? "MIDI keyboard"));
  };
  access.onstatechange = listen;
  listen();
}

/** A MIDI keyboard: its keys that are down, and those that its pedal holds. */
class Device {
  private readonly down = new Set<number>();
  private readonly sustained = new Set<number>();
  private pedal = false;

  constructor(private readonly hands: Hands) {}

  hear([status = 0, pitch = 0, value = 0]: Uint8Array): void {
    const kind = status >> 4;
    if (kind === 11 && pitch === PEDAL) return this.tread(value >= 64);
    if (pitch < LOWEST || pitch > HIGHEST) return;
    if (kind === 9 && value > 0) {
      if (this.sustained.delete(pitch) || this.down.has(pitch)) this.hands.release(pitch); // struck again
      this.down.add(pitch);
      this.hands.press(pitch, value);
    } else if ((kind === 8 || kind === 9) && this.down.delete(pitch)) {
      if (this.pedal) this.sustained.add(pitch);
      else this.hands.release(pitch);
    }
  }

  letAll(): void {
    for (const pitch of this.down) this.hands.release(pitch);
    this.down.clear();
    this.tread(false);
  }

  private tread(down: boolean): void {
    this.pedal = down;
    if (down) return;
    for (const pitch of this.sustained) this.hands.release(pitch);
    this.sustained.clear();
  }
}
