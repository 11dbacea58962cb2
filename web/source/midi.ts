// MIDI files: read when one is dropped on the page, written when a piece is kept.

import { type MidiEvent, parseMidi, writeMidi } from "midi-file";
import { HIGHEST, LOWEST, type Note, TICKS } from "./piece";
import { Failure } from "./server";

const DRUMS = 9; // the tenth channel
const LONGEST = 20_000; // beats; a file that claims more has a broken time, not more music
const RESOLUTION = 480; // ticks a beat of the files written here
const MINUTE = 60_000_000; // microseconds
const USUAL = 120; // quarter notes a minute, where a file does not say
const PEDAL = 64; // number of the controller that sustains

export interface Read {
  readonly notes: readonly Note[];
  readonly tempo: number; // quarter notes a minute, at the beginning
  readonly leftOut: readonly string[]; // in words
}

/** The notes of a file, all tracks together. Throws where it is no whole MIDI file, or one that does not count beats. */
export function read(data: ArrayBuffer): Read {
  const { header, tracks } = parseMidi(new Uint8Array(data));
  const division = header.ticksPerBeat;
  if (!division || tracks.length < header.numTracks || cutOff(new DataView(data))) throw new RangeError("not whole");
  if (header.format === 2 && tracks.length > 1) throw new Failure("holds several pieces (MIDI format 2); save each as format 0 or 1");
  const notes: Note[] = [];
  const tempos: { now: number; bpm: number }[] = [];
  let [beyond, pedal] = [0, false];
  for (const track of tracks) {
    const open = new Map<number, { start: number; velocity: number }[]>(); // by channel and pitch
    const end = (key: number, now: number): void => {
      const found = open.get(key)?.shift();
      const pitch = key % 128;
      if (!found) return;
      if (key >= DRUMS * 128 && key < (DRUMS + 1) * 128 || pitch < LOWEST || pitch > HIGHEST) beyond += 1;
      else notes.push(note(pitch, found.velocity, found.start / division, now / division));
    };
    let now = 0;
    for (const event of track) {
      now += event.deltaTime;
      if (event.type === "setTempo") tempos.push({ now, bpm: MINUTE / event.microsecondsPerBeat });
      if (event.type === "controller" && event.controllerType === PEDAL && event.value >= 64) pedal = true;
      if (event.type === "endOfTrack") break;
      if (event.type !== "noteOn" && event.type !== "noteOff") continue;
      const key = event.channel * 128 + event.noteNumber;
      if (event.type === "noteOff") end(key, now);
      else open.set(key, [...(open.get(key) ?? []), { start: now, velocity: Math.min(event.velocity, 127) }]);
    }
    if (now > LONGEST * division) throw new Failure(`lasts over ${LONGEST} beats: its times are broken`);
    for (const [key, left] of open) while (left.length) end(key, now); // what nothing ends lasts as long as its track
  }
  const first = tempos.reduce<{ now: number; bpm: number } | null>((a, b) => (a && a.now <= b.now ? a : b), null);
  const leftOut = [
    ...(beyond ? [`${beyond} of drums or beyond a piano's keys`] : []),
    ...(new Set(tempos.map(({ bpm }) => bpm)).size > 1 ? ["other tempos"] : []),
    ...(pedal ? ["the pedal"] : []),
  ];
  return { notes: onOneKeyboard(notes), tempo: first && Number.isFinite(first.bpm) ? first.bpm : USUAL, leftOut };
}

/** Whether a chunk claims to be longer than what is there of it. */
function cutOff(data: DataView): boolean {
  let at = 0;
  while (at + 8 <= data.byteLength) at += 8 + data.getUint32(at + 4);
  return at > data.byteLength;
}

function note(pitch: number, velocity: number, from: number, to: number): Note {
  const [start, end] = [Math.round(from * TICKS), Math.round(to * TICKS)];
  return { pitch, velocity, start: start / TICKS, duration: Math.max(end - start, 1) / TICKS };
}

/** A key is struck once at a time: a note ends where the next of its pitch begins, which sounds as long as both. */
function onOneKeyboard(notes: readonly Note[]): Note[] {
  const sorted = [...notes].sort((a, b) => a.start - b.start || a.pitch - b.pitch || b.velocity - a.velocity);
  const last = new Map<number, number>(); // by pitch: where its last note stands
  const kept: Note[] = [];
  for (const note of sorted) {
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

/** A file of one track, in which a key that is struck again is let go before. */
export function write(notes: readonly Note[], tempo: number): Uint8Array<ArrayBuffer> {
  const events = onOneKeyboard(notes).flatMap(({ pitch, start, duration, velocity }) => [
    { time: Math.round(start * RESOLUTION), type: "noteOn" as const, pitch, velocity },
    { time: Math.round((start + duration) * RESOLUTION), type: "noteOff" as const, pitch, velocity: 0 },
  ]);
  events.sort((a, b) => a.time - b.time || (a.type < b.type ? -1 : Number(a.type > b.type)));
  const track: MidiEvent[] = [
    { deltaTime: 0, meta: true, type: "setTempo", microsecondsPerBeat: Math.round(MINUTE / tempo) },
    { deltaTime: 0, type: "programChange", channel: 0, programNumber: 0 },
  ];
  let now = 0;
  for (const { time, type, pitch, velocity } of events) {
    track.push({ deltaTime: time - now, type, channel: 0, noteNumber: pitch, velocity });
    now = time;
  }
  track.push({ deltaTime: 0, meta: true, type: "endOfTrack" });
  return new Uint8Array(writeMidi({ header: { format: 0, numTracks: 1, ticksPerBeat: RESOLUTION }, tracks: [track] }));
}
