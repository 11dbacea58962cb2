// Sound: a piano of sines on Web Audio, and a transport that plays notes by the beat.

import { Compressor, Frequency, getContext, getTransport, immediate, PolySynth, start, Synth } from "tone";
import type { Note } from "./piece";

const VOICES = 48;
const LOUDNESS = -14; // decibels: chords of ten notes must not clip

/** Plays notes whose times are beats; more may come while it plays. */
export class Player {
  private readonly transport = getTransport();
  private readonly scheduled = new Map<Note, readonly [number, number]>(); // its beginning and its end
  private readonly held = new Map<number, number>(); // by how many hands each key is down
  private end = -1; // the event that stops at the end of the music
  private synth: PolySynth | null = null;

  /** `ended` is called when the music has come to its end, and has stopped there. */
  constructor(private readonly ended: () => void) {
    this.transport.on("loop", (time) => this.synth?.releaseAll(time)); // what ends with the loop has no end of its own
  }

  /** Browsers let pages sound only after somebody has touched them: call this from such an event. */
  wake(): void {
    void start();
    this.instrument();
  }

  get awake(): boolean {
    return getContext().state === "running";
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
      const key = frequency(note.pitch);
      const strike = (time: number): unknown => this.instrument().triggerAttack(key, time, note.velocity / 127);
      const release = (time: number): unknown => this.instrument().triggerRelease(key, time);
      this.scheduled.set(note, [
        this.transport.schedule(strike, this.ticks(note.start)),
        this.transport.schedule(release, this.ticks(note.start + note.duration)),
      ]);
    }
    this.transport.clear(this.end);
    this.end = this.transport.schedule((time) => {
      this.transport.pause(time);
      this.synth?.releaseAll(time);
      getContext().setTimeout(this.ended, Math.max(0, time - getContext().currentTime));
    }, this.ticks(beats));
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
      this.held.has(pitch) && this.instrument().triggerAttack(frequency(pitch), immediate(), velocity / 127);
    if (this.awake) strike();
    else void start().then(strike);
    return true;
  }

  /** False where another hand still has it down. */
  release(pitch: number): boolean {
    const hands = this.held.get(pitch) ?? 0;
    if (hands > 1) this.held.set(pitch, hands - 1);
    else if (this.held.delete(pitch)) {
      this.instrument().triggerRelease(frequency(pitch), immediate());
    }
    return hands < 2;
  }

  private ticks(beat: number): string {
    return `${Math.round(beat * this.transport.PPQ)}i`;
  }

  private instrument(): PolySynth {
    if (this.synth === null) {
      this.synth = new PolySynth(Synth, {
        volume: LOUDNESS,
        oscillator: { type: "custom", partials: [1, 0.42, 0.24, 0.12, 0.07, 0.04, 0.02] },
        envelope: { attack: 0.004, decay: 2.4, decayCurve: "exponential", sustain: 0.02, release: 0.35 },
      }).connect(new Compressor(-18, 4).toDestination());
      this.synth.maxPolyphony = VOICES;
    }
    return this.synth;
  }
}

function frequency(pitch: number): number {
  return Frequency(pitch, "midi").toFrequency();
}
