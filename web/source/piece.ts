// A piece of music: notes in beats, how it was made, and every earlier state of it.

export const LOWEST = 21;
export const HIGHEST = 108;
export const TICKS = 24; // to a beat: no note of a piece has finer times
/** How finely the model divides a beat; the function says so when it is asked what runs there. */
export const grid = { framesPerBeat: 4 };
const HEARD = 128; // beats at the end of a piece that the model hears
const MOST_HEARD = 3500; // notes of them: what a request can hold
const DIGITS = 1e4; // of a time in a request, which is much finer than a tick
const NEAR = 1e-6;

export interface Note {
  readonly pitch: number; // MIDI, 21 to 108
  readonly start: number; // beats
  readonly duration: number; // beats
  readonly velocity: number; // 1 to 127
  readonly drawn?: boolean; // by the network, for colours only
}

export interface Drawn extends Note {
  readonly tied?: boolean; // goes on from what came before
}

/** How a part of a piece came to be: notes that were given, or a request that gives the same music again. */
export type Step =
  | { readonly kind: "prompt"; readonly notes: readonly Note[] }
  | { readonly kind: "run"; readonly seed: number; readonly beats: number; readonly temperature: number };

export interface Piece {
  readonly notes: readonly Note[];
  readonly beats: number; // how long it is
  readonly state: string | null; // what the function goes on from; null after a prompt
  readonly steps: readonly Step[];
  readonly before: Piece | null; // what its last step went on from
}

export const EMPTY: Piece = { notes: [], beats: 0, state: null, steps: [], before: null };

/** The first frame boundary at which every note has ended; a note lasts at least a frame, as the model hears it. */
export function length(notes: readonly Note[]): number {
  const frame = (ticks: number): number => Math.floor((2 * ticks * grid.framesPerBeat + TICKS) / (2 * TICKS));
  let frames = 0;
  for (const note of notes) {
    const start = Math.round(note.start * TICKS);
    frames = Math.max(frames, frame(start + Math.round(note.duration * TICKS)), frame(start) + 1);
  }
  return frames / grid.framesPerBeat;
}

/** The piece with notes after its end; their times count from there. */
export function withPrompt(piece: Piece, notes: readonly Note[]): Piece {
  const moved = notes.map((note) => ({ ...note, start: note.start + piece.beats }));
  const all = [...piece.notes, ...moved];
  const beats = Math.max(piece.beats, length(all));
  const steps: Step[] = [...piece.steps, { kind: "prompt", notes }];
  return { notes: all, beats, state: null, steps, before: piece };
}

/** The piece with drawn notes after its end, `beats` long; a tied one lengthens the last note of its pitch. */
export function withDrawn(piece: Piece, drawn: readonly Drawn[], beats: number, state: string): Piece {
  const notes = [...piece.notes];
  for (const { pitch, start, duration, velocity, tied } of drawn) {
    const before = tied ? notes.findLastIndex((note) => note.pitch === pitch) : -1;
    const last = notes[before];
    if (last !== undefined && last.start + last.duration > piece.beats - 1 / grid.framesPerBeat + NEAR) {
      notes[before] = { ...last, duration: piece.beats + duration - last.start };
    } else {
      notes.push({ pitch, start: piece.beats + start, duration, velocity, drawn: true });
    }
  }
  return { ...piece, notes, beats: piece.beats + beats, state };
}

/** The piece with one more step noted, which went on from another. */
export function withStep(piece: Piece, step: Step, before: Piece): Piece {
  return { ...piece, steps: [...piece.steps, step], before };
}

/** What of a piece the model hears, as notes that begin at a whole beat of it. */
export function heard(piece: Piece): Note[] {
  const first = Math.max(0, Math.floor(piece.beats) - HEARD - 1);
  const all = piece.notes.filter((note) => note.start + note.duration > first);
  const kept = all.sort((a, b) => a.start - b.start).slice(-MOST_HEARD);
  const cut = kept.length < all.length ? Math.max(first, Math.floor(kept[0]?.start ?? 0)) : first;
  const round = (beats: number): number => Math.round(beats * DIGITS) / DIGITS;
  return kept.map(({ pitch, start, duration, velocity }) => {
    const from = Math.max(start, cut);
    return { pitch, start: round(from - cut), duration: round(duration - (from - start)), velocity };
  });
}

interface Change {
  readonly piece: Piece;
  readonly tempo: readonly [number, number] | null; // before and after, where it changed as well
}

/** A piece, all that it was before, and what was taken back. Undoing and redoing tell what tempo belongs to it. */
export class History {
  private readonly changes: Change[] = [];
  private undone: Change[] = [];

  get piece(): Piece {
    return this.changes.at(-1)?.piece ?? EMPTY;
  }

  get canUndo(): boolean {
    return this.changes.length > 0;
  }

  get canRedo(): boolean {
    return this.undone.length > 0;
  }

  push(piece: Piece, tempo: readonly [number, number] | null = null): void {
    this.changes.push({ piece, tempo });
    this.undone = [];
  }

  /** Puts a longer form of the newest piece in its place. */
  grow(piece: Piece): void {
    this.changes.push({ piece, tempo: this.changes.pop()?.tempo ?? null });
  }

  /** `tempo` is what it is now: redoing brings it back. */
  undo(tempo: number): number | null {
    const change = this.changes.pop();
    if (change) this.undone.push({ ...change, tempo: change.tempo && [change.tempo[0], tempo] });
    return change?.tempo?.[0] ?? null;
  }

  redo(): number | null {
    const change = this.undone.pop();
    if (change) this.changes.push(change);
    return change?.tempo?.[1] ?? null;
  }
}
