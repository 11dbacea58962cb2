// MIDI files: read when one is dropped on the page, written when a piece is kept.

import { Midi } from "@tonejs/midi";
import { HIGHEST, LOWEST, type Note, TICKS } from "./piece";

const DRUMS = 9; // the tenth channel

export interface Read {
  readonly notes: readonly Note[];
  readonly tempo: number | null; // quarter notes a minute, at the beginning
  readonly leftOut: number; // notes of drums, and those that a piano does not have
}

/** The notes of a file, all tracks together. Throws where it is no MIDI file, or one that does not count beats. */
export function read(data: ArrayBuffer): Read {
  const midi = new Midi(data);
  if (!(midi.header.ppq > 0)) throw new RangeError("division");
  const notes: Note[] = [];
  let leftOut = 0;
  for (const track of midi.tracks) {
    for (const note of track.notes) {
      if (track.channel === DRUMS || note.midi < LOWEST || note.midi > HIGHEST) {
        leftOut += 1;
        continue;
      }
      const start = Math.round((note.ticks / midi.header.ppq) * TICKS) / TICKS;
      const end = Math.round(((note.ticks + note.durationTicks) / midi.header.ppq) * TICKS) / TICKS;
      const duration = Math.max(end - start, 1 / TICKS);
      notes.push({ pitch: note.midi, start, duration, velocity: Math.max(1, Math.round(note.velocity * 127)) });
    }
  }
  return { notes: onOneKeyboard(notes), tempo: midi.header.tempos[0]?.bpm ?? null, leftOut };
}

/** A key is struck once at a time: a note ends where the next of its pitch begins, which sounds as long as both. */
function onOneKeyboard(notes: Note[]): Note[] {
  notes.sort((a, b) => a.start - b.start || a.pitch - b.pitch || b.velocity - a.velocity);
  const last = new Map<number, number>(); // by pitch: where its last note stands
  const kept: Note[] = [];
  for (const note of notes) {
    const at = last.get(note.pitch);
    const before = at === undefined ? undefined : kept[at];
    if (at === undefined || before === undefined || before.start + before.duration <= note.start) {
      last.set(note.pitch, kept.push(note) - 1);
      continue;
    }
    const end = Math.max(before.start + before.duration, note.start + note.duration);
    if (before.start === note.start) kept[at] = { ...before, duration: end - before.start };
    else {
      kept[at] = { ...before, duration: note.start - before.start };
      last.set(note.pitch, kept.push({ ...note, duration: end - note.start }) - 1);
    }
  }
  return kept;
}

/** A file of one track. */
export function write(notes: readonly Note[], tempo: number): Uint8Array {
  const midi = new Midi();
  midi.header.setTempo(tempo);
  const track = midi.addTrack();
  track.instrument.number = 0;
  for (const note of notes) {
    track.addNote({
      midi: note.pitch,
      ticks: Math.round(note.start * midi.header.ppq),
      durationTicks: Math.round(note.duration * midi.header.ppq),
      velocity: note.velocity / 127,
    });
  }
  return midi.toArray();
}
