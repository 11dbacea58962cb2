// The piano roll on a canvas: time goes right, pitch goes up.

import { HIGHEST, LOWEST, type Note } from "./piece";

const LEFT = 44; // pixels for the names of the octaves
const TOP = 18; // and for the numbers of the beats
const ROOM = 3; // semitones shown beyond the notes
const FEWEST = 30; // semitones shown at least
const BAR = 4; // beats from one number to the next
const FLAG = 6; // pixels: half of the width of what shows where playing begins
const OUTLINED = 6; // pixels of a row, from which on what sounds has an outline
const FAINTEST = 0.75; // how solid the softest note is
const WAIT = 0.3; // of the width: where the head stays while the music moves

export interface View {
  readonly notes: readonly Note[];
  readonly beats: number; // how long the piece is
  readonly head: number | null; // beats
  readonly sounds: boolean; // whether what is at the head sounds
  readonly follow: boolean; // whether to keep the head in sight
  readonly marker: number | null; // beats, where playing begins again
  readonly loop: boolean; // whether it goes round from there to the end
}

/** Draws a view, and says what beat a point of it is. */
export class Roll {
  private left: number; // the beat at the left edge
  private shown: View | null = null;
  private range: { readonly of: readonly Note[]; readonly pitches: readonly [number, number] } | null = null;

  /** With a span of beats, nothing else is ever in sight. */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly span: { readonly from: number; readonly beats: number } | null = null,
  ) {
    this.left = span?.from ?? 0;
    new ResizeObserver(() => this.shown && this.draw(this.shown)).observe(canvas);
  }

  /** How many beats are in sight. */
  get wide(): number {
    return this.span?.beats ?? Math.max(8, Math.min(32, (this.canvas.clientWidth - LEFT) / 28));
  }

  /** The beat below a horizontal place in the page; of the names at the left, the first in sight. */
  beatAt(x: number): number {
    const box = this.canvas.getBoundingClientRect();
    return this.left + (Math.max(0, x - box.left - LEFT) / (box.width - LEFT)) * this.wide;
  }

  scroll(beats: number): void {
    const end = Math.max(0, (this.shown?.beats ?? 0) - this.wide * WAIT);
    this.left = Math.min(Math.max(0, this.left + beats), end);
    if (this.shown) this.draw({ ...this.shown, follow: false });
  }

  draw(view: View): void {
    this.shown = view;
    const context = this.canvas.getContext("2d");
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!context || !width || !height) return;
    const scale = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    if (view.follow && view.head !== null && !this.span) this.left = Math.max(0, view.head - this.wide * WAIT);

    const colours = getComputedStyle(this.canvas);
    const colour = (name: string): string => colours.getPropertyValue(`--${name}`).trim();
    if (this.range?.of !== view.notes) this.range = { of: view.notes, pitches: range(view.notes) };
    const [low, high] = this.range.pitches;
    const row = (height - TOP) / (high - low + 1);
    const x = (beat: number): number => LEFT + ((beat - this.left) / this.wide) * (width - LEFT);
    const y = (pitch: number): number => TOP + (high - pitch) * row;

    context.fillStyle = colour("roll");
    context.fillRect(0, 0, width, height);
    context.fillStyle = colour("black-row");
    for (let pitch = low; pitch <= high; pitch++) {
      if (isBlack(pitch)) context.fillRect(LEFT, y(pitch), width - LEFT, row);
    }
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let beat = Math.ceil(this.left); x(beat) <= width; beat++) {
      context.fillStyle = colour(beat % BAR ? "beat" : "bar");
      context.fillRect(x(beat), TOP, 1, height - TOP);
      context.fillStyle = colour("faint");
      if (beat % BAR === 0) context.fillText(String(beat), x(beat) + 3, TOP / 2);
    }
    context.fillStyle = colour("outside");
    const end = Math.max(x(view.beats), LEFT);
    if (end < width) context.fillRect(end, TOP, width - end, height - TOP);

    for (const note of view.notes) {
      const from = Math.max(x(note.start), LEFT);
      const to = x(note.start + note.duration);
      if (to <= LEFT + 0.5 || from > width) continue;
      const head = view.sounds ? view.head : null;
      const sounds = head !== null && head >= note.start && head < note.start + note.duration;
      context.globalAlpha = sounds ? 1 : FAINTEST + ((1 - FAINTEST) * note.velocity) / 127;
      context.fillStyle = colour(sounds ? "sounds" : note.drawn ? "drawn" : "given");
      context.beginPath();
      context.roundRect(from, y(note.pitch) + 0.5, Math.max(to - from - 1, 2), Math.max(row - 1, 2), Math.min(3, row / 3));
      context.fill();
      if (!sounds || row < OUTLINED) continue;
      context.strokeStyle = colour("ink"); // not by the colour alone
      context.lineWidth = 1.5;
      context.stroke();
    }
    context.globalAlpha = 1;

    context.fillStyle = colour("roll");
    context.fillRect(0, 0, LEFT, height);
    context.fillStyle = colour("faint");
    for (let pitch = Math.ceil(low / 12) * 12; pitch <= high; pitch += 12) {
      context.fillText(`C${pitch / 12 - 1}`, 10, y(pitch) + row / 2);
    }
    if (view.head !== null && x(view.head) >= LEFT) {
      context.fillStyle = colour("head");
      context.fillRect(x(view.head) - 1, TOP, 2, height - TOP);
    }
    if (view.marker === null) return;
    context.fillStyle = colour("accent");
    const at = Math.max(x(view.marker), LEFT);
    context.globalAlpha = 0.3;
    if (view.loop) context.fillRect(at, 0, Math.max(0, x(view.beats) - at), TOP);
    context.globalAlpha = 1;
    if (x(view.marker) < LEFT) return;
    context.beginPath(); // a flag, upside down
    context.moveTo(at - FLAG, 0);
    context.lineTo(at + FLAG, 0);
    context.lineTo(at, TOP);
    context.fill();
  }
}

/** The lowest and the highest pitch to show. */
function range(notes: readonly Note[]): [number, number] {
  let [low, high] = [60, 72];
  for (const { pitch } of notes) [low, high] = [Math.min(low, pitch), Math.max(high, pitch)];
  const more = Math.max(ROOM, Math.ceil((FEWEST - (high - low)) / 2));
  return [Math.max(LOWEST, low - more), Math.min(HIGHEST, high + more)];
}

export function isBlack(pitch: number): boolean {
  return [1, 3, 6, 8, 10].includes(pitch % 12);
}
