import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, expect, it, vi } from "vitest";

import type { Instance, Operation } from "./client";
import { useLive } from "./live";
import { instancesQuery, operationQuery } from "./queries";

const restart: Operation = {
  id: "op_1",
  instance_id: "inst_1",
  kind: "restart",
  status: "running",
  progress: 10,
  created_at: "2026-01-01T00:00:00.000Z",
};
const failures: Operation[] = [];

function Probe() {
  useLive(
    (failure) => failures.push(failure),
    () => undefined,
  );
  return null;
}

afterEach(() => vi.unstubAllGlobals());

it("asks after a return for what was said while nobody listened", async () => {
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  const streams: ReadableStreamDefaultController<Uint8Array>[] = [];
  vi.stubGlobal("fetch", (asked: Request | string) => {
    if (asked === "/api/events") return Promise.resolve(new Response(new ReadableStream<Uint8Array>({ start: (it) => void streams.push(it) })));
    return Promise.resolve(Response.json([{ ...restart, status: "failed" }, { ...restart, id: "op_0", status: "failed" }]));
  });
  const client = new QueryClient();
  client.setQueryData(instancesQuery.queryKey, [{ id: "inst_1" } as Instance]);
  client.setQueryData(operationQuery("inst_1").queryKey, restart);
  const root = createRoot(document.createElement("div"));
  act(() =>
    root.render(
      <QueryClientProvider client={client}>
        <Probe />
      </QueryClientProvider>,
    ),
  );
  await vi.waitFor(() => expect(streams).toHaveLength(1));
  expect(client.getQueryState(instancesQuery.queryKey)?.isInvalidated).toBe(false);
  await act(async () => {
    streams[0]?.close();
    await vi.waitFor(() => expect(failures).toHaveLength(1), { timeout: 5_000 });
  });
  expect(failures[0]).toMatchObject({ id: "op_1", status: "failed" });
  expect(client.getQueryState(instancesQuery.queryKey)?.isInvalidated).toBe(true);
  act(() => root.unmount());
});
