// Asks the function: one request at a time, patient with one that is starting or busy.

import type { Drawn } from "./piece";

export interface Answer {
  readonly notes: readonly Drawn[];
  readonly frames: number;
  readonly state: string;
}

export interface Health {
  readonly model: { readonly sha256: string; readonly frames_per_beat: number };
}

/** What went wrong, in words for the one who plays. */
export class Failure extends Error {}

/** What a piece goes on from is another model's. */
export class Stale extends Failure {}

const STALE = 409;
const BUSY = [429, 502, 503, 504]; // of a function that starts, or has as many requests as it may
const PAUSES = [1, 2, 4, 8]; // seconds before it is asked again
const SLOW = 1500; // milliseconds after which an answer is late
const AWAKE = 300_000; // milliseconds after an answer in which it will hardly have fallen asleep
const LONGEST = 90_000; // milliseconds for an answer; the function itself gives up before

let answered = -AWAKE; // when it last did

/** Called with what the page is waiting for. */
export type Report = (text: string) => void;

export async function ask<T>(route: string, fields: object | null, report: Report, signal?: AbortSignal): Promise<T> {
  for (const pause of [...PAUSES, 0]) {
    signal?.throwIfAborted();
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    const limit = setTimeout(abort, LONGEST);
    signal?.addEventListener("abort", abort);
    const asleep = performance.now() - answered > AWAKE;
    const late = setTimeout(() => asleep && report("Waiting for the server, which may be waking up …"), SLOW);
    try {
      const response = await fetch(route, {
        method: fields === null ? "GET" : "POST",
        headers: fields === null ? {} : { "content-type": "application/json" },
        body: fields === null ? null : JSON.stringify(fields),
        signal: stop.signal,
      });
      if (response.ok) {
        const answer = (await response.json()) as T;
        answered = performance.now();
        return answer;
      }
      if (response.status === STALE) throw new Stale(await reason(response));
      if (!BUSY.includes(response.status) || pause === 0) throw new Failure(await reason(response));
      report(`The server is busy (${response.status}); trying again in ${pause} s …`);
    } catch (error) {
      if (error instanceof Failure || signal?.aborted) throw error;
      throw new Failure("No answer from the server: is the network there, and does the server still run?");
    } finally {
      clearTimeout(late);
      clearTimeout(limit);
      signal?.removeEventListener("abort", abort);
    }
    await new Promise((resolve) => {
      setTimeout(resolve, pause * 1000);
      signal?.addEventListener("abort", resolve, { once: true });
    });
  }
  throw new Failure("The server is busy.");
}

async function reason(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const { error, hint } = JSON.parse(text) as { error?: unknown; hint?: unknown };
    const advice = typeof hint === "string" ? `; ${hint}` : "";
    if (typeof error === "string") return `The server refused (${response.status}): ${error}${advice}.`;
  } catch {
    // Not of the function, but of something before it.
  }
  return `The server answered with an error (${response.status}).`;
}
