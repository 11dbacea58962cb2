// What somebody plays: keys and times become notes in beats.

import { type Note, TICKS } from "./piece";

const REST = 1.5; // seconds without a key after which a take is over, and at least
const BAR = 4; // beats

/** A take runs from its first key to a rest, and then goes to `done`. Its tempo is that of its first key. */
export class Take {
  private began: { readonly at: number; readonly tempo: number } | null = null; // milliseconds, beats a minute
  private notes: Note[] = [];
  private readonly open = new Map<number, { start: number; velocity: number }>();
  private timer = 0;

  constructor(
    private readonly tempo: () => number, // quarter notes a minute
    private readonly changed: () => void,
    private readonly done: (notes: Note[]) => void,
  ) {}

  get running(): boolean {
    return this.began !== null;
  }

  /** All notes so far; those still held last until now. */
  get now(): Note[] {
    const held = [...this.open].map(([pitch, { start, velocity }]) => this.note(pitch, start, velocity));
    return [...this.notes, ...held];
  }

  press(pitch: number, velocity: number): void {
    clearTimeout(this.timer);
    this.began ??= { at: performance.now(), tempo: this.tempo() };
    this.open.set(pitch, { start: this.beats, velocity });
    this.changed();
  }

  release(pitch: number): void {
    const found = this.open.get(pitch);
    if (!found || !this.began) return;
    this.open.delete(pitch);
    this.notes.push(this.note(pitch, found.start, found.velocity));
    clearTimeout(this.timer);
    const rest = Math.max(REST, (BAR / this.began.tempo) * 60);
    if (!this.open.size) this.timer = window.setTimeout(() => this.end(), rest * 1000);
    this.changed();
  }

  /** Ends a take now; does nothing where there is none. */
  end(): void {
    clearTimeout(this.timer);
    const notes = this.now;
    this.open.clear();
    this.notes = [];
    this.began = null;
    if (notes.length) this.done(notes);
  }

  private get beats(): number {
    return this.began === null ? 0 : ((performance.now() - this.began.at) / 60000) * this.began.tempo;
  }

  private note(pitch: number, start: number, velocity: number): Note {
    const [first, last] = [Math.round(start * TICKS), Math.round(this.beats * TICKS)];
    return { pitch, start: first / TICKS, duration: Math.max(last - first, 1) / TICKS, velocity };
  }
}
