import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, useEffect } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";

import type { ChatMessage } from "../api/client";
import { useTranscript } from "./useTranscript";

const message = (event_id: number, role: ChatMessage["role"], content: string) => ({
  id: `msg_${event_id}`,
  turn_id: `t${event_id - (event_id % 2)}`,
  role,
  content,
  status: "completed",
  event_id,
});
/** 60 messages: a whole page, so there may be older ones. */
const newest = Array.from({ length: 60 }, (_, n) => message(100 + n, n % 2 ? "assistant" : "user", `m${100 + n}`));

let shown: ReturnType<typeof useTranscript>;
let stream: ReadableStreamDefaultController<Uint8Array>;
let answerOlder: (response: Response) => void;
let followed: Response | undefined;

function Probe() {
  const transcript = useTranscript("i", "s", true);
  useEffect(() => {
    shown = transcript;
  });
  return null;
}

beforeEach(() => {
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  const older = new Promise<Response>((resolve) => (answerOlder = resolve));
  followed = undefined;
  vi.stubGlobal("fetch", (asked: Request | string) => {
    const url = typeof asked === "string" ? asked : asked.url;
    if (url.includes("/events")) {
      return Promise.resolve(followed ?? new Response(new ReadableStream<Uint8Array>({ start: (it) => void (stream = it) })));
    }
    if (url.includes("before=")) return older;
    return Promise.resolve(Response.json(url.includes("/messages") ? newest : []));
  });
});
afterEach(() => vi.unstubAllGlobals());

async function show() {
  const root = createRoot(document.createElement("div"));
  act(() =>
    root.render(
      <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>
        <Probe />
      </QueryClientProvider>,
    ),
  );
  await act(() => vi.waitFor(() => expect(shown.transcript).toBeDefined()));
  return root;
}

it("loses nothing that is said while older messages come", async () => {
  const root = await show();
  const loading = shown.loadOlder();
  const data = JSON.stringify({ turn_id: "t200", text: "meanwhile" });
  await act(async () => {
    stream.enqueue(new TextEncoder().encode(`id: 200\nevent: message.delta\ndata: ${data}\n\n`));
    await vi.waitFor(() => expect(shown.transcript?.turns.at(-1)?.text).toBe("meanwhile"));
    answerOlder(Response.json([message(2, "user", "old"), message(3, "assistant", "older")]));
    await loading;
    await vi.waitFor(() => expect(shown.transcript?.hasOlder).toBe(false));
  });
  expect(shown.transcript?.turns.map(({ text }) => text)).toContain("meanwhile");
  expect(shown.transcript?.turns[0]?.text).toBe("older");
  act(() => root.unmount());
});

it("says why it is not followed any more, and follows again when asked to", async () => {
  followed = Response.json({ message: "This conversation is gone." }, { status: 404 });
  const root = await show();
  await act(() => vi.waitFor(() => expect(shown.error).toMatchObject({ message: "This conversation is gone." })));
  followed = undefined;
  act(() => shown.retry());
  await vi.waitFor(() => expect(shown.error).toBeNull());
  act(() => root.unmount());
});
