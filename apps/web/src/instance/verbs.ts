import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, unwrap, type Instance } from "../api/client";
import { ApiProblem, messageOf } from "../api/problem";
import { entitlementsQuery, forgetInstance, instancesQuery, storeInstance } from "../api/queries";
import { useToast } from "../ui/toast";

export type Verb = "start" | "stop" | "restart";
/** How long the server is asked to wait for the end of a long verb. */
const WAIT_SECONDS = 60;

/** Start, stop, restart, delete with its undo; what comes of them arrives on the stream of events. */
export function useVerbs(instance: Instance) {
  const client = useQueryClient();
  const say = useToast();
  const [asked, setAsked] = useState<Verb | "delete" | null>(null);
  const path = { id: instance.id };

  const run = async (verb: Verb): Promise<void> => {
    setAsked(verb);
    try {
      await unwrap(api.POST(`/api/instances/{id}/${verb}`, { params: { path } }));
      storeInstance(client, await unwrap(api.GET("/api/instances/{id}", { params: { path } })));
    } catch (error) {
      say({ kind: "bad", text: messageOf(error) });
    } finally {
      setAsked(null);
    }
  };

  const undo = async (): Promise<void> => {
    try {
      await bringBack(instance.id, instance.desired === "running");
      say({ text: `${instance.name} is back.` });
    } catch (error) {
      say({ kind: "bad", text: messageOf(error) });
    } finally {
      await client.invalidateQueries({ queryKey: instancesQuery.queryKey });
      await client.invalidateQueries({ queryKey: entitlementsQuery.queryKey });
    }
  };

  const remove = async (): Promise<void> => {
    setAsked("delete");
    try {
      await unwrap(api.DELETE("/api/instances/{id}", { params: { path } }));
      forgetInstance(client, instance.id);
      await client.invalidateQueries({ queryKey: entitlementsQuery.queryKey });
      say({ text: `${instance.name} is deleted.`, undo: () => void undo() });
    } finally {
      setAsked(null);
    }
  };

  return { run, remove, asked };
}

/** Undoes a deletion and starts the instance. A deletion that is under way is waited for: it cannot be cut in upon. */
export async function bringBack(id: string, start: boolean): Promise<void> {
  const params = { path: { id }, query: { wait: WAIT_SECONDS } };
  for (let attempt = 0; ; attempt += 1) {
    try {
      await unwrap(api.POST("/api/instances/{id}/restore", { params }));
      break;
    } catch (error) {
      const isBusy = error instanceof ApiProblem && error.status === 409 && error.retryAfter !== undefined;
      if (!isBusy || attempt > WAIT_SECONDS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
  if (start) await unwrap(api.POST("/api/instances/{id}/start", { params: { path: { id } } }));
}
