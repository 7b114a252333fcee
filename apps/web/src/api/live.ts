import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { follow } from "../lib/follow";
import type { SseEvent } from "../lib/sse";
import type { Instance, Operation } from "./client";
import { forgetInstance, operationQuery, storeInstance } from "./queries";

/** Keeps instances and operations as they are, by following `/api/events`; tells whether the stream is there. */
export function useLive(onFailure: (operation: Operation) => void, onRefused: () => void): "live" | "lost" {
  const client = useQueryClient();
  const [state, setState] = useState<"live" | "lost">("live");
  useEffect(() => {
    const stop = new AbortController();
    follow({
      url: () => "/api/events",
      onEvents: (events) => events.forEach((event) => take(client, event, onFailure)),
      onState: setState,
      signal: stop.signal,
    }).catch(onRefused);
    return () => stop.abort();
  }, [client, onFailure, onRefused]);
  return state;
}

function take(client: QueryClient, event: SseEvent, onFailure: (operation: Operation) => void): void {
  const data = JSON.parse(event.data) as unknown;
  switch (event.name) {
    case "instance.updated":
      storeInstance(client, (data as { instance: Instance }).instance);
      break;
    case "instance.purged":
      forgetInstance(client, (data as { instance_id: string }).instance_id);
      break;
    case "operation.updated": {
      const { operation } = data as { operation: Operation };
      client.setQueryData(operationQuery(operation.instance_id).queryKey, operation);
      if (operation.status === "failed") onFailure(operation);
      break;
    }
  }
}
