// A continuation, asked for in pieces, so that the first can be heard while the next is drawn.

import { grid, heard, type Piece, type Step, withDrawn, withStep } from "./piece";
import { type Answer, ask, Failure, type Report, Stale } from "./server";

const FIRST = 8; // beats of the first request, for whose answer somebody waits
const NEXT = 16; // and of each after it

export type Run = Extract<Step, { kind: "run" }>;

/** The piece as it grows by a run, each time with a step that says how long the run is so far. */
export async function* compose(base: Piece, run: Run, report: Report, signal: AbortSignal): AsyncGenerator<Piece> {
  let piece = base;
  let left = Math.round(run.beats * grid.framesPerBeat);
  while (left > 0) {
    const done = piece.beats - base.beats;
    const frames = Math.min(left, (done ? NEXT : FIRST) * grid.framesPerBeat);
    const before = piece.state ? { state: piece.state } : { prompt: heard(piece) };
    const seed = done && piece.state ? {} : { seed: run.seed };
    const fields = { ...before, ...seed, frames, temperature: run.temperature };
    report(`Composing … ${done} of ${run.beats} beats`);
    let answer: Answer;
    try {
      answer = await ask<Answer>("generate", fields, report, signal);
    } catch (error) {
      if (!(error instanceof Stale && piece.state)) throw error;
      piece = { ...piece, state: null }; // another model goes on from the notes
      continue;
    }
    if (!answer.frames) throw new Failure("The server had no time to compose; try again with less before it.");
    left -= answer.frames;
    piece = withDrawn(piece, answer.notes, answer.frames / grid.framesPerBeat, answer.state);
    yield withStep(piece, { ...run, beats: piece.beats - base.beats }, base);
  }
}

/** A seed that no number of JavaScript rounds. */
export function newSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}
