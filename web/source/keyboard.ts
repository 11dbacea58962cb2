// Ways to press keys: with a pointer on the screen, on the computer's keyboard, on a MIDI keyboard.

import { HIGHEST, LOWEST } from "./piece";
import { isBlack } from "./roll";

export interface Hands {
  press(pitch: number, velocity: number): void;
  release(pitch: number): void;
}

const VELOCITY = 80; // of keys that do not feel how hard they are struck
// By place, so that every layout of letters is the same: one row for the white keys, and that above it for the black ones.
const PLACES = [
  ..."KeyA KeyW KeyS KeyE KeyD KeyF KeyT KeyG KeyY KeyH KeyU KeyJ KeyK KeyO KeyL KeyP Semicolon".split(" "),
];
const FIRST = 48; // C3, the first key on the screen at first, where there is room for C4 as well
const NARROWEST = 26; // pixels of a white key

/** The keys on the screen, some octaves of them, and those of the computer's keyboard, which begin at the second. */
export class Keyboard {
  private first = FIRST;
  private octaves = 0;
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
    for (const name of ["pointerup", "pointercancel"] as const) {
      window.addEventListener(name, (event) => this.let(event.pointerId));
    }
    window.addEventListener("blur", () => this.letAll());
  }

  /** Moves the keys by octaves. */
  shift(octaves: number): void {
    const most = HIGHEST - (HIGHEST % 12) - 12 * (this.octaves - 1);
    this.first = Math.min(Math.max(LOWEST - (LOWEST % 12), this.first + 12 * octaves), most);
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

  private get letters(): number {
    return this.first + (this.octaves > 1 ? 12 : 0);
  }

  private build(): void {
    const octaves = Math.max(1, Math.min(7, Math.floor(this.place.clientWidth / (7 * NARROWEST))));
    if (!this.octaves && octaves === 1) this.first += 12;
    this.octaves = octaves;
    const last = Math.min(this.first + 12 * this.octaves, HIGHEST + 1);
    const pitches = Array.from({ length: last - this.first }, (_, at) => this.first + at);
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
      if (pitch % 12 === 0) key.textContent = `C${pitch / 12 - 1}`;
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
    this.hold(event.pointerId, pitch);
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
  const key = document.elementFromPoint(event.clientX, event.clientY)?.closest<HTMLElement>(".key");
  return key?.dataset["pitch"] === undefined ? null : Number(key.dataset["pitch"]);
}

let access: MIDIAccess | null = null;

/** Listens to every MIDI keyboard there is, and tells their names. Throws where the browser refuses. */
export async function connect(hands: Hands, changed: (names: string[]) => void): Promise<void> {
  access ??= await navigator.requestMIDIAccess();
  const { inputs: all } = access;
  const listen = (): void => {
    const inputs = [...all.values()];
    for (const input of inputs) input.onmidimessage = (event) => message(event, hands);
    changed(inputs.map((input) => input.name ?? "MIDI keyboard"));
  };
  access.onstatechange = listen;
  listen();
}

function message(event: MIDIMessageEvent, hands: Hands): void {
  const [status = 0, pitch = 0, velocity = 0] = event.data ?? [];
  if (pitch < LOWEST || pitch > HIGHEST) return;
  if (status >> 4 === 9 && velocity > 0) hands.press(pitch, velocity);
  else if (status >> 4 === 8 || status >> 4 === 9) hands.release(pitch);
}
