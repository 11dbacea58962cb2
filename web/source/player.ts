// Sound: a piano of sines on Web Audio, and a transport that plays notes by the beat.

import { Compressor, Frequency, Gain, getContext, getTransport, immediate, now, PolySynth, start, Synth } from "tone";
import type { Note } from "./piece";

const VOICES = 128; // all keys, and what still fades
const LOUDNESS = -14; // decibels: chords of ten notes must not clip
const NEAR = 1e-3; // beats
const EXACT = 1e-4; // seconds to which the transport keeps its times
const LATE = 1000; // milliseconds after which a key that was pressed before there was sound is not heard any more
const MOMENT = 0.2; // seconds for which it sounds
const FADE = 0.03; // seconds in which what was planned ahead is silenced

/** Plays notes whose times are beats; more may come while it plays. */
export class Player {
  private readonly transport = getTransport();
  private readonly scheduled = new Map<Note, readonly [number, number]>(); // its beginning and its end
  private readonly held = new Map<number, number>(); // by how many hands each key is down
  private readonly late = new Set<number>(); // keys that are to sound as soon as there is sound
  private end = -1; // the event that stops at the end of the music
  private since = Infinity; // seconds: what is due before that is of a place that was left, and comes all the same
  private ending: number | null = null; // the timer, where the music has come to an end that is not heard yet
  private from = 0; // the beat where it began, or began anew
  private readonly struck = new Map<number, Note>(); // by pitch: what was struck last and not let go
  private made: Instruments | null = null;

  /** `ended` is called when the music has come to its end, and has stopped there. */
  constructor(private readonly ended: () => void) {
    this.transport.on("loop", (time) => {
      if (time < this.since) return;
      this.hush(time); // what ends with the loop has no end of its own
      this.from = this.transport.toTicks(this.transport.loopStart) / this.transport.PPQ;
      this.resound(this.from, time);
    });
  }

  /** Browsers let pages sound only after somebody has touched them: call this from such an event. */
  wake(): Promise<void> {
    this.instruments();
    return start();
  }

  get awake(): boolean {
    return getContext().state === "running";
  }

  get playing(): boolean {
    return this.transport.state === "started" || this.ending !== null;
  }

  get beat(): number {
    return this.transport.ticks / this.transport.PPQ;
  }

  /** The beat that is heard now: the transport is ahead of it, so that nothing comes late. */
  get heard(): number {
    if (!this.playing) return this.beat;
    return Math.max(this.from, this.beat - ((now() - immediate()) / 60) * this.transport.bpm.value);
  }

  set tempo(value: number) {
    this.transport.bpm.value = value;
  }

  /** The notes to play, and where they end, in place of those before; the same note stays scheduled. */
  load(notes: readonly Note[], beats: number): void {
    const wanted = new Set(notes);
    for (const [note, ids] of this.scheduled) {
      if (wanted.has(note)) continue;
      for (const id of ids) this.transport.clear(id);
      this.scheduled.delete(note);
    }
    for (const note of wanted) {
      if (this.scheduled.has(note)) continue;
      this.scheduled.set(note, [
        this.transport.schedule((time) => this.due(note, time), this.ticks(note.start)),
        this.transport.schedule((time) => this.let(note, time), this.ticks(note.start + note.duration)),
      ]);
    }
    this.transport.clear(this.end);
    this.end = this.transport.schedule((time) => {
      if (time < this.since) return;
      this.since = Infinity;
      this.transport.pause(time);
      this.hush(time);
      const left = Math.max(0, time - getContext().currentTime);
      this.ending = getContext().setTimeout(() => {
        this.ending = null;
        this.ended();
      }, left);
    }, this.ticks(beats));
  }

  /** Does nothing where it plays. */
  play(): void {
    this.notEnding();
    if (this.playing) return;
    const time = now(); // of both: striking many notes takes a while
    this.begin(this.beat, time);
    this.transport.start(time);
  }

  pause(): void {
    const { heard, playing } = this;
    this.notEnding();
    this.since = Infinity;
    this.transport.pause();
    this.mute();
    if (playing) this.seek(heard);
  }

  seek(beat: number): void {
    this.notEnding();
    this.mute();
    if (this.playing) this.begin(beat, now());
    this.transport.ticks = Math.round(beat * this.transport.PPQ);
  }

  loop(from: number, to: number, on: boolean): void {
    this.transport.setLoopPoints(this.ticks(from), this.ticks(to));
    this.transport.loop = on && to > from;
  }

  /** A key that somebody presses; false where another hand has it down already. */
  press(pitch: number, velocity: number): boolean {
    const hands = this.held.get(pitch) ?? 0;
    this.held.set(pitch, hands + 1);
    if (hands) return false;
    const strike = (): unknown =>
      this.instruments().hands.triggerAttack(frequency(pitch), immediate(), velocity / 127);
    if (this.awake) strike();
    else if (!this.late.has(pitch)) void this.strikeLate(pitch, strike);
    return true;
  }

  /** Strikes once there is sound, unless that is too late; a key that is up by then sounds for a moment. */
  private async strikeLate(pitch: number, strike: () => unknown): Promise<void> {
    const pressed = performance.now();
    this.late.add(pitch);
    await this.wake();
    this.late.delete(pitch);
    if (this.held.has(pitch)) strike();
    else if (performance.now() - pressed < LATE) {
      strike();
      this.instruments().hands.triggerRelease(frequency(pitch), immediate() + MOMENT);
    }
  }

  /** False where another hand still has it down. */
  release(pitch: number): boolean {
    const hands = this.held.get(pitch) ?? 0;
    if (hands > 1) this.held.set(pitch, hands - 1);
    else if (this.held.delete(pitch)) this.instruments().hands.triggerRelease(frequency(pitch), immediate());
    return hands < 2;
  }

  private strike(note: Note, time: number): void {
    const before = this.struck.get(note.pitch);
    if (before) this.let(before, time);
    this.struck.set(note.pitch, note);
    this.instruments().piece.triggerAttack(frequency(note.pitch), time, note.velocity / 127);
  }

  private let(note: Note, time: number): void {
    if (this.struck.get(note.pitch) !== note) return;
    this.struck.delete(note.pitch);
    this.instruments().piece.triggerRelease(frequency(note.pitch), time);
  }

  /** Makes what sounds at a beat sound from a time on, and nothing that was planned before. */
  private begin(beat: number, time: number): void {
    this.from = beat;
    this.since = time - EXACT;
    this.instruments().loudness.gain.setValueAtTime(1, time);
    this.resound(beat, time);
  }

  /** Lets go of all notes of the piece. The instrument's own way would take their keys for held. */
  private hush(time: number): void {
    for (const note of this.struck.values()) this.let(note, time);
  }

  /** Silences the piece at once, with what was planned ahead. */
  private mute(): void {
    this.made?.loudness.gain.rampTo(0, FADE, immediate());
    this.hush(now());
  }

  private notEnding(): void {
    if (this.ending !== null) getContext().clearTimeout(this.ending);
    this.ending = null;
  }

  /** Strikes a note in its turn, unless its place was left, or it was struck as playing began. */
  private due(note: Note, time: number): void {
    if (time >= this.since && this.struck.get(note.pitch) !== note) this.strike(note, time);
  }

  /** Strikes what sounds at a beat, where playing begins: the transport itself may miss what begins just there. */
  private resound(beat: number, time: number): void {
    for (const note of this.scheduled.keys()) {
      if (note.start < beat + NEAR && note.start + note.duration > beat + NEAR) this.strike(note, time);
    }
  }

  private ticks(beat: number): string {
    return `${Math.round(beat * this.transport.PPQ)}i`;
  }

  private instruments(): Instruments {
    if (this.made === null) {
      const out = new Compressor(-18, 4).toDestination();
      const loudness = new Gain(1).connect(out);
      this.made = { piece: piano().connect(loudness), hands: piano().connect(out), loudness };
    }
    return this.made;
  }
}

/** One for the piece, which can be silenced, and one for the hands, so that neither ends what the other holds. */
interface Instruments {
  readonly piece: PolySynth;
  readonly hands: PolySynth;
  readonly loudness: Gain;
}

function piano(): PolySynth {
  const synth = new PolySynth(Synth, {
    volume: LOUDNESS,
    oscillator: { type: "custom", partials: [1, 0.42, 0.24, 0.12, 0.07, 0.04, 0.02] },
    envelope: { attack: 0.004, decay: 2.4, decayCurve: "exponential", sustain: 0.02, release: 0.35 },
  });
  synth.maxPolyphony = VOICES;
  return synth;
}

function frequency(pitch: number): number {
  return Frequency(pitch, "midi").toFrequency();
}
