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

const BUSY = [429, 502, 503, 504]; // of a function that starts, or has as many requests as it may
const PAUSES = [1, 2, 4, 8]; // seconds before it is asked again
const SLOW = 1500; // milliseconds after which an answer is late

/** Called with what the page is waiting for. */
export type Report = (text: string) => void;

export async function ask<T>(route: string, fields: object | null, report: Report, signal?: AbortSignal): Promise<T> {
  for (const pause of [...PAUSES, 0]) {
    const late = setTimeout(() => report("Waiting for the function, which may be waking up …"), SLOW);
    try {
      const response = await fetch(route, {
        method: fields === null ? "GET" : "POST",
        headers: fields === null ? {} : { "content-type": "application/json" },
        body: fields === null ? null : JSON.stringify(fields),
        signal: signal ?? null,
      });
      if (response.ok) return (await response.json()) as T;
      if (!BUSY.includes(response.status) || pause === 0) throw new Failure(await reason(response));
      report(`The function is busy (${response.status}); trying again in ${pause} s …`);
    } catch (error) {
      if (error instanceof Failure || signal?.aborted) throw error;
      throw new Failure("No answer from the function: is the network there, and does it still run?");
    } finally {
      clearTimeout(late);
    }
    await new Promise((resolve) => {
      setTimeout(resolve, pause * 1000);
      signal?.addEventListener("abort", resolve, { once: true });
    });
    signal?.throwIfAborted();
  }
  throw new Failure("The function is busy.");
}

async function reason(response: Response): Promise<string> {
  const text = await response.text();
  try {
    const { error, hint } = JSON.parse(text) as { error?: unknown; hint?: unknown };
    if (typeof error === "string") return `The function refused (${response.status}): ${error}; ${String(hint)}.`;
  } catch {
    // Not of the function, but of something before it.
  }
  return `The function answered with an error (${response.status}).`;
}
