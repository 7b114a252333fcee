import { problemOf, type ApiProblem } from "../api/problem";
import { SseParser, type SseEvent } from "./sse";

/** Heartbeats come every 15 s: a stream that is silent for longer than this is dead. */
const SILENCE_MS = 40_000;
const SHORTEST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** A browser opens six connections to an origin: a tab that nobody looks at gives its own back. */
const HIDDEN_MS = 20_000;

export interface Following {
  /** The address, given the id of the last event that was seen. */
  url: (lastId: string | undefined) => string;
  lastId?: string | undefined;
  /** Gets the events in the order in which they came, those of one piece together. */
  onEvents: (events: SseEvent[]) => void;
  onState: (state: "live" | "lost") => void;
  signal: AbortSignal;
}

/**
 * Follows a stream until `signal` says otherwise: through lost networks, restarts of the server and tabs in the background.
 * Throws an `ApiProblem` where coming back would not help.
 */
export async function follow({ url, lastId, onEvents, onState, signal }: Following): Promise<void> {
  let wait = SHORTEST_WAIT_MS;
  const isDone = () => signal.aborted;
  while (!isDone()) {
    const attempt = new Attempt(signal);
    try {
      await visible(signal);
      const response = await fetch(url(lastId), {
        headers: { accept: "text/event-stream" },
        signal: attempt.signal,
      });
      if (!response.ok || !response.body) throw await problemOf(response);
      attempt.heard();
      onState("live");
      const parser = new SseParser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        attempt.heard();
        const events = parser.push(value);
        const last = events.at(-1);
        if (!last) continue;
        wait = SHORTEST_WAIT_MS;
        if (last.id !== "") lastId = last.id;
        onEvents(events);
      }
    } catch (error) {
      if (isDone()) return;
      if (isFinal(error)) throw error;
      wait = Math.max(wait, retryAfter(error));
    } finally {
      attempt.end();
    }
    // Hidden: not lost, put away.
    const isPutAway = attempt.isPutAway;
    if (!isPutAway) onState("lost");
    await pause(isPutAway ? 0 : wait * (0.75 + Math.random() / 2), signal);
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
}

/** One connection, which ends when it is silent for too long or its tab is out of sight. */
class Attempt {
  isPutAway = false;
  readonly #abort = new AbortController();
  #silence: ReturnType<typeof setTimeout> | undefined;
  #hidden: ReturnType<typeof setTimeout> | undefined;
  readonly signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.signal = AbortSignal.any([signal, this.#abort.signal]);
    document.addEventListener("visibilitychange", this.#look);
    this.#look();
  }

  heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#abort.abort(), SILENCE_MS);
  }

  end(): void {
    clearTimeout(this.#silence);
    clearTimeout(this.#hidden);
    document.removeEventListener("visibilitychange", this.#look);
    this.#abort.abort();
  }

  readonly #look = (): void => {
    clearTimeout(this.#hidden);
    if (document.visibilityState === "visible") return;
    this.#hidden = setTimeout(() => {
      this.isPutAway = true;
      this.#abort.abort();
    }, HIDDEN_MS);
  };
}

function isFinal(error: unknown): error is ApiProblem {
  if (!(error instanceof Error) || !("status" in error)) return false;
  return [400, 401, 403, 404, 405, 410, 422].includes((error as ApiProblem).status);
}

function retryAfter(error: unknown): number {
  return error instanceof Error && "retryAfter" in error ? ((error as ApiProblem).retryAfter ?? 0) * 1000 : 0;
}

/** Waits, but not longer than until the network is back or the tab is looked at again. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    window.addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}

function visible(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (document.visibilityState !== "visible" && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
    look();
  });
}
