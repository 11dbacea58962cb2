// Sound: a piano of sines on Web Audio, and a transport that plays notes by the beat.

import { Compressor, Frequency, getContext, getTransport, immediate, now, PolySynth, start, Synth } from "tone";
import type { Note } from "./piece";

const VOICES = 48;
const LOUDNESS = -14; // decibels: chords of ten notes must not clip
const NEAR = 1e-3; // beats

/** Plays notes whose times are beats; more may come while it plays. */
export class Player {
  private readonly transport = getTransport();
  private readonly scheduled = new Map<Note, readonly [number, number]>(); // its beginning and its end
  private readonly held = new Map<number, number>(); // by how many hands each key is down
  private end = -1; // the event that stops at the end of the music
  private over = false; // whether that has come: it comes several times, since what was planned ahead still runs
  private from = 0; // the beat where it began, or began anew
  private synths: { readonly piece: PolySynth; readonly hands: PolySynth } | null = null;

  /** `ended` is called when the music has come to its end, and has stopped there. */
  constructor(private readonly ended: () => void) {
    this.transport.on("loop", (time) => {
      this.synths?.piece.releaseAll(time); // what ends with the loop has no end of its own
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
    return this.transport.state === "started";
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
      const release = (time: number): unknown => this.instruments().piece.triggerRelease(frequency(note.pitch), time);
      this.scheduled.set(note, [
        this.transport.schedule((time) => this.strike(note, time), this.ticks(note.start)),
        this.transport.schedule(release, this.ticks(note.start + note.duration)),
      ]);
    }
    this.over = false;
    this.transport.clear(this.end);
    this.end = this.transport.schedule((time) => {
      if (this.over) return;
      this.over = true;
      this.transport.pause(time);
      this.synths?.piece.releaseAll(time);
      getContext().setTimeout(this.ended, Math.max(0, time - getContext().currentTime));
    }, this.ticks(beats));
  }

  play(): void {
    this.over = false;
    this.from = this.beat;
    this.resound(this.from, now());
    this.transport.start();
  }

  pause(): void {
    const heard = this.heard;
    const playing = this.playing;
    this.transport.pause();
    this.synths?.piece.releaseAll();
    if (playing) this.seek(heard);
  }

  seek(beat: number): void {
    this.synths?.piece.releaseAll();
    this.from = beat;
    this.over = false;
    this.transport.ticks = Math.round(beat * this.transport.PPQ);
    if (this.playing) this.resound(beat, now());
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
      this.held.has(pitch) && this.instruments().hands.triggerAttack(frequency(pitch), immediate(), velocity / 127);
    if (this.awake) strike();
    else void this.wake().then(strike);
    return true;
  }

  /** False where another hand still has it down. */
  release(pitch: number): boolean {
    const hands = this.held.get(pitch) ?? 0;
    if (hands > 1) this.held.set(pitch, hands - 1);
    else if (this.held.delete(pitch)) this.instruments().hands.triggerRelease(frequency(pitch), immediate());
    return hands < 2;
  }

  private strike(note: Note, time: number): void {
    this.instruments().piece.triggerAttack(frequency(note.pitch), time, note.velocity / 127);
  }

  /** Strikes what began before a beat and sounds there. */
  private resound(beat: number, time: number): void {
    for (const note of this.scheduled.keys()) {
      if (note.start < beat - NEAR && note.start + note.duration > beat + NEAR) this.strike(note, time);
    }
  }

  private ticks(beat: number): string {
    return `${Math.round(beat * this.transport.PPQ)}i`;
  }

  /** One for the piece and one for the hands, so that neither ends what the other holds. */
  private instruments(): { readonly piece: PolySynth; readonly hands: PolySynth } {
    if (this.synths === null) {
      const out = new Compressor(-18, 4).toDestination();
      const made = (): PolySynth => {
        const synth = new PolySynth(Synth, {
          volume: LOUDNESS,
          oscillator: { type: "custom", partials: [1, 0.42, 0.24, 0.12, 0.07, 0.04, 0.02] },
          envelope: { attack: 0.004, decay: 2.4, decayCurve: "exponential", sustain: 0.02, release: 0.35 },
        }).connect(out);
        synth.maxPolyphony = VOICES;
        return synth;
      };
      this.synths = { piece: made(), hands: made() };
    }
    return this.synths;
  }
}

function frequency(pitch: number): number {
  return Frequency(pitch, "midi").toFrequency();
}
