// A piece of music: notes in beats, how it was made, and every earlier state of it.

export const LOWEST = 21;
export const HIGHEST = 108;
export const TICKS = 24; // to a beat: no note of a piece has finer times
/** How finely the model divides a beat; the function says so when it is asked what runs there. */
export const grid = { framesPerBeat: 4 };
const HEARD = 128; // beats at the end of a piece that the model hears
const NEAR = 1e-6;

export interface Note {
  readonly pitch: number; // MIDI, 21 to 108
  readonly start: number; // beats
  readonly duration: number; // beats
  readonly velocity: number; // 1 to 127
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
  readonly given: number; // beats up to which notes were given and not drawn, for colours only
  readonly state: string | null; // what the function goes on from; null after a prompt
  readonly steps: readonly Step[];
}

export const EMPTY: Piece = { notes: [], beats: 0, given: 0, state: null, steps: [] };

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
  return { notes: all, beats, given: beats, state: null, steps: [...piece.steps, { kind: "prompt", notes }] };
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
      notes.push({ pitch, start: piece.beats + start, duration, velocity });
    }
  }
  return { ...piece, notes, beats: piece.beats + beats, state };
}

/** The piece with one more step noted. */
export function withStep(piece: Piece, step: Step): Piece {
  return { ...piece, steps: [...piece.steps, step] };
}

/** What of a piece the model hears, as notes that begin at a whole beat of it. */
export function heard(piece: Piece): Note[] {
  const cut = Math.max(0, Math.floor(piece.beats) - HEARD - 1);
  return piece.notes
    .filter((note) => note.start + note.duration > cut)
    .map((note) => {
      const start = Math.max(note.start, cut);
      return { ...note, start: start - cut, duration: note.duration - (start - note.start) };
    });
}

/** A piece and all that it was before; nothing is ever lost by undoing once. */
export class History {
  private readonly pieces: Piece[] = [EMPTY];

  get piece(): Piece {
    return this.pieces[this.pieces.length - 1] ?? EMPTY;
  }

  /** What it was before its last step. */
  get before(): Piece {
    return this.pieces[this.pieces.length - 2] ?? EMPTY;
  }

  get canUndo(): boolean {
    return this.pieces.length > 1;
  }

  push(piece: Piece): void {
    this.pieces.push(piece);
  }

  /** Puts a longer form of the newest piece in its place. */
  grow(piece: Piece): void {
    this.pieces[this.pieces.length - 1] = piece;
  }

  undo(): void {
    if (this.canUndo) this.pieces.pop();
  }
}
