import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { follow } from "../lib/follow";
import type { SseEvent } from "../lib/sse";
import { api, unwrap, type Instance, type Operation } from "./client";
import { deletedInstancesQuery, forgetInstance, instancesQuery, operationQuery, storeInstance } from "./queries";

const OPERATIONS = 200;

/** Keeps instances and operations as they are, by following `/api/events`; tells whether the stream is there. */
export function useLive(onFailure: (operation: Operation) => void, onRefused: () => void): "live" | "lost" {
  const client = useQueryClient();
  const [state, setState] = useState<"live" | "lost">("live");
  useEffect(() => {
    const stop = new AbortController();
    let isFirst = true;
    follow({
      url: () => "/api/events",
      onEvents: (events) => events.forEach((event) => take(client, event, onFailure)),
      onState: (next) => {
        setState(next);
        if (next === "lost") return;
        // What cannot be told now is told at the next return.
        if (!isFirst) catchUp(client, onFailure).catch(() => undefined);
        isFirst = false;
      },
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
      void client.invalidateQueries({ queryKey: deletedInstancesQuery.queryKey });
      break;
    case "operation.updated": {
      note(client, (data as { operation: Operation }).operation, onFailure);
      break;
    }
  }
}

function note(client: QueryClient, operation: Operation, onFailure: (operation: Operation) => void): void {
  client.setQueryData(operationQuery(operation.instance_id).queryKey, operation);
  if (operation.status === "failed") onFailure(operation);
}

/** The stream begins with what there is: what is gone, and what failed, while nobody listened is asked for. */
async function catchUp(client: QueryClient, onFailure: (operation: Operation) => void): Promise<void> {
  void client.invalidateQueries({ queryKey: instancesQuery.queryKey });
  void client.invalidateQueries({ queryKey: ["instance"] });
  for (const operation of await unwrap(api.GET("/api/operations", { params: { query: { limit: OPERATIONS } } }))) {
    const known = client.getQueryData(operationQuery(operation.instance_id).queryKey);
    if (known?.id === operation.id && known.status !== operation.status) note(client, operation, onFailure);
  }
}
