// MIDI files: read when one is dropped on the page, written when a piece is kept.

import { Midi } from "@tonejs/midi";
import { HIGHEST, LOWEST, type Note } from "./piece";

const DRUMS = 9; // the tenth channel
const TICKS = 24; // to a beat: no finer times leave this page

export interface Read {
  readonly notes: readonly Note[];
  readonly tempo: number | null; // quarter notes a minute, at the beginning
  readonly leftOut: number; // notes of drums, and those that a piano does not have
}

/** The notes of a file, all tracks together. Throws where it is no MIDI file. */
export function read(data: ArrayBuffer): Read {
  const midi = new Midi(data);
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
  notes.sort((a, b) => a.start - b.start || a.pitch - b.pitch);
  return { notes, tempo: midi.header.tempos[0]?.bpm ?? null, leftOut };
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
