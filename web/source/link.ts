// A piece as a link: its steps and tempo in the fragment, which no server ever sees.

import { HIGHEST, LOWEST, type Note, type Step, TICKS } from "./piece";
import { Failure } from "./server";

const LONGEST = 8000; // characters; longer addresses do not survive everywhere
const MOST_BEATS = 1024; // that a link may have composed: whoever runs the function pays for it

export interface Linked {
  readonly steps: readonly Step[];
  readonly tempo: number;
  readonly model: string; // the beginning of its checksum
}

/** The fragment for some steps, or null where it would be too long, or would have too much composed. */
export function write({ steps, tempo, model }: Linked): string | null {
  if (composed(steps) > MOST_BEATS) return null;
  const parts = steps.map((step) =>
    step.kind === "prompt" ? `p${pack(step.notes)}` : `r${step.seed}_${step.beats}_${step.temperature}`,
  );
  const text = `#s=${parts.join("~")}&m=${model}&t=${tempo}`; // a full stop at its end would be lost in a message
  return text.length > LONGEST ? null : text;
}

/** What a fragment says; null where it says nothing. Throws a Failure for one that is damaged. */
export function read(fragment: string): Linked | null {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const steps = fields.get("s");
  if (!steps) return null;
  try {
    const tempo = Number(fields.get("t"));
    if (!(tempo >= 20 && tempo <= 400)) throw new RangeError("tempo");
    const found = steps.split("~").map(step);
    if (composed(found) > MOST_BEATS) throw new Failure(`The link asks for over ${MOST_BEATS} beats, which is too much.`);
    return { steps: found, tempo, model: fields.get("m") ?? "" };
  } catch (error) {
    throw error instanceof Failure ? error : new Failure("The link is damaged.");
  }
}

/** Beats that the server would have to compose. */
function composed(steps: readonly Step[]): number {
  return steps.reduce((sum, step) => sum + (step.kind === "run" ? step.beats : 0), 0);
}

function step(text: string): Step {
  if (text.startsWith("p")) return { kind: "prompt", notes: unpack(text.slice(1)) };
  const found = /^r(\d+)_([\d.]+)_([\d.]+)$/.exec(text);
  if (!found) throw new RangeError("step");
  const [seed, beats, temperature] = found.slice(1).map(Number) as [number, number, number];
  if (!Number.isSafeInteger(seed) || !(beats > 0 && beats <= 512) || !(temperature <= 5)) throw new RangeError("step");
  return { kind: "run", seed, beats, temperature };
}

/** Four numbers a note in seven-bit groups: ticks since the note before, ticks long, pitch, velocity. */
function pack(notes: readonly Note[]): string {
  const bytes: number[] = [];
  const put = (value: number): void => {
    for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
    bytes.push(value);
  };
  let before = 0;
  for (const note of [...notes].sort((a, b) => a.start - b.start || a.pitch - b.pitch)) {
    const start = Math.round(note.start * TICKS);
    put(start - before);
    put(Math.max(1, Math.round(note.duration * TICKS)));
    put(note.pitch);
    put(note.velocity);
    before = start;
  }
  const text = bytes.map((byte) => String.fromCharCode(byte)).join("");
  return btoa(text).replaceAll("+", "-").replaceAll("/", ".").replaceAll("=", "");
}

function unpack(text: string): Note[] {
  const bytes = [...atob(text.replaceAll("-", "+").replaceAll(".", "/"))].map((letter) => letter.charCodeAt(0));
  let at = 0;
  const get = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || factor > 2 ** 42) throw new RangeError("notes");
      value += (byte % 128) * factor;
      if (byte < 128) return value;
    }
  };
  const notes: Note[] = [];
  let now = 0;
  while (at < bytes.length) {
    now += get();
    const [duration, pitch, velocity] = [get(), get(), get()];
    if (!duration || pitch < LOWEST || pitch > HIGHEST || !velocity || velocity > 127) throw new RangeError("note");
    notes.push({ start: now / TICKS, duration: duration / TICKS, pitch, velocity });
  }
  return notes;
}
