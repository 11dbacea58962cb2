// Sound: a piano of sines on Web Audio, and a transport that plays notes by the beat.

import {
  Compressor,
  Frequency,
  getContext,
  getTransport,
  PolySynth,
  start,
  Synth,
  type ToneAudioNode,
} from "tone";
import type { Note } from "./piece";

const VOICES = 48;
const LOUDNESS = -14; // decibels: chords of ten notes must not clip

/** Plays notes whose times are beats; more may come while it plays. */
export class Player {
  private readonly transport = getTransport();
  private readonly scheduled = new Map<Note, number>();
  private readonly held = new Set<number>();
  private synth: PolySynth | null = null;

  /** Browsers let pages sound only after somebody has touched them: call this from such an event. */
  async wake(): Promise<void> {
    await start();
    this.instrument();
  }

  get playing(): boolean {
    return this.transport.state === "started";
  }

  get beat(): number {
    return this.transport.ticks / this.transport.PPQ;
  }

  set tempo(value: number) {
    this.transport.bpm.value = value;
  }

  /** The notes to play, in place of those before; what stays the same note stays scheduled. */
  load(notes: readonly Note[]): void {
    const wanted = new Set(notes);
    for (const [note, id] of this.scheduled) {
      if (wanted.has(note)) continue;
      this.transport.clear(id);
      this.scheduled.delete(note);
    }
    for (const note of wanted) {
      if (this.scheduled.has(note)) continue;
      this.scheduled.set(note, this.transport.schedule((time) => this.strike(note, time), this.ticks(note.start)));
    }
  }

  play(): void {
    this.transport.start();
  }

  pause(): void {
    this.transport.pause();
    this.synth?.releaseAll();
  }

  seek(beat: number): void {
    this.synth?.releaseAll();
    this.transport.ticks = Math.round(beat * this.transport.PPQ);
  }

  get looping(): boolean {
    return this.transport.loop;
  }

  loop(from: number, to: number, on: boolean): void {
    this.transport.setLoopPoints(this.ticks(from), this.ticks(to));
    this.transport.loop = on && to > from;
  }

  /** A key that somebody presses. */
  press(pitch: number, velocity: number): void {
    this.held.add(pitch);
    this.instrument().triggerAttack(Frequency(pitch, "midi").toFrequency(), undefined, velocity / 127);
  }

  release(pitch: number): void {
    if (this.held.delete(pitch)) this.instrument().triggerRelease(Frequency(pitch, "midi").toFrequency());
  }

  private strike(note: Note, time: number): void {
    const seconds = (note.duration * 60) / this.transport.bpm.value;
    const frequency = Frequency(note.pitch, "midi").toFrequency();
    this.instrument().triggerAttackRelease(frequency, seconds, time, note.velocity / 127);
  }

  private ticks(beat: number): string {
    return `${Math.round(beat * this.transport.PPQ)}i`;
  }

  private instrument(): PolySynth {
    if (this.synth === null) {
      const limiter: ToneAudioNode = new Compressor(-18, 4).toDestination();
      this.synth = new PolySynth(Synth, {
        volume: LOUDNESS,
        oscillator: { type: "custom", partials: [1, 0.42, 0.24, 0.12, 0.07, 0.04, 0.02] },
        envelope: { attack: 0.004, decay: 2.4, decayCurve: "exponential", sustain: 0.02, release: 0.35 },
      }).connect(limiter);
      this.synth.maxPolyphony = VOICES;
      getContext().lookAhead = 0.05;
    }
    return this.synth;
  }
}
