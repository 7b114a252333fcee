import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { follow } from "./follow";

const body = (text: string) => new Response(text, { headers: { "content-type": "text/event-stream" } });
let answers: (() => Response | Promise<Response>)[];
let asked: string[];

beforeEach(() => {
  vi.useFakeTimers();
  asked = [];
  vi.stubGlobal("fetch", (url: string, { signal }: RequestInit) => {
    asked.push(url);
    const answer = answers.shift();
    if (answer) return Promise.resolve().then(answer);
    // Nothing more comes.
    return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(new Error("aborted"))));
  });
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

function start(stop = new AbortController()) {
  const seen: string[] = [];
  const states: string[] = [];
  const done = follow({
    url: (last) => `/events?after=${last ?? 0}`,
    onEvents: (events) => seen.push(...events.map(({ data }) => data)),
    onState: (state) => states.push(state),
    signal: stop.signal,
  });
  return { seen, states, done, stop };
}

it("goes on after the last event when the connection breaks", async () => {
  answers = [
    () => body("id: 7\ndata: a\n\nid: 8\ndata: b\n\nid: 9\ndata: half"),
    () => Promise.reject(new TypeError("network")),
    () => new Response("{}", { status: 503, headers: { "retry-after": "2" } }),
    () => body("id: 9\ndata: c\n\n"),
  ];
  const { seen, states, done, stop } = start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(seen).toEqual(["a", "b", "c"]);
  expect(asked.slice(0, 4)).toEqual(["/events?after=0", "/events?after=8", "/events?after=8", "/events?after=8"]);
  expect(asked[4]).toBe("/events?after=9");
  expect(states.slice(0, 2)).toEqual(["live", "lost"]);
  stop.abort();
  await vi.runAllTimersAsync();
  await done;
});

it("gives up where coming back does not help", async () => {
  answers = [() => Response.json({ message: "Gone." }, { status: 404 })];
  await expect(start().done).rejects.toMatchObject({ status: 404, message: "Gone." });
  expect(asked).toHaveLength(1);
});

it("comes back at once when the network does", async () => {
  answers = [() => Promise.reject(new TypeError("network")), () => body("id: 1\ndata: a\n\n")];
  const { seen, stop, done } = start();
  await vi.advanceTimersByTimeAsync(0);
  window.dispatchEvent(new Event("online"));
  await vi.advanceTimersByTimeAsync(0);
  await vi.advanceTimersByTimeAsync(0);
  expect(seen).toEqual(["a"]);
  stop.abort();
  await vi.runAllTimersAsync();
  await done;
});

it("leaves a connection that is silent for too long", async () => {
  vi.stubGlobal("fetch", (url: string, { signal }: RequestInit) => {
    asked.push(url);
    if (asked.length > 1) return Promise.resolve(body("id: 1\ndata: a\n\n"));
    return Promise.resolve(
      new Response(new ReadableStream({ start: (it) => signal?.addEventListener("abort", () => it.error(new Error("aborted"))) })),
    );
  });
  const { seen, stop, done } = start();
  await vi.advanceTimersByTimeAsync(39_000);
  expect(asked).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(seen[0]).toBe("a");
  stop.abort();
  await vi.runAllTimersAsync();
  await done;
});
