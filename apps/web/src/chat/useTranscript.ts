import { queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { api, unwrap, type ChatMessage } from "../api/client";
import { chatSessionsQuery } from "../api/queries";
import { follow } from "../lib/follow";
import { fromMessages, openTurns, settled, withEvents, withOlder, type Transcript } from "./transcript";

const PAGE = 60;

function messages(id: string, session: string, before?: number): Promise<ChatMessage[]> {
  const query = { session_id: session, tail: true, limit: PAGE, ...(before === undefined ? {} : { before }) };
  return unwrap(api.GET("/api/instances/{id}/chat/messages", { params: { path: { id }, query } }));
}

/** Asks what became of the turns of which the log says only that they began. */
async function settle(id: string, transcript: Transcript): Promise<Transcript> {
  const views = await Promise.all(
    openTurns(transcript).map((turn) =>
      unwrap(api.GET("/api/instances/{id}/chat/turns/{turn_id}", { params: { path: { id, turn_id: turn.id } } })),
    ),
  );
  return settled(transcript, views);
}

export const transcriptQuery = (id: string, session: string) =>
  queryOptions({
    queryKey: ["transcript", id, session],
    queryFn: async () => settle(id, fromMessages(await messages(id, session), PAGE)),
    // The stream of events keeps it; what it was when the page was left is where the stream goes on.
    staleTime: Infinity,
    gcTime: 30 * 60_000,
  });

/** A session as it is: what was said, and what is being said. */
export function useTranscript(id: string, session: string | undefined, isUp: boolean) {
  const client = useQueryClient();
  const query = useQuery({ ...transcriptQuery(id, session ?? ""), enabled: session !== undefined && isUp });
  const [connection, setConnection] = useState<"live" | "lost">("live");
  /** Why it is not followed any more. */
  const [refused, setRefused] = useState<unknown>(null);
  const [attempt, setAttempt] = useState(0);
  const isLoaded = query.data !== undefined;

  useEffect(() => {
    if (session === undefined || !isLoaded || !isUp) return;
    const stop = new AbortController();
    const { queryKey } = transcriptQuery(id, session);
    const start = client.getQueryData(queryKey)?.lastEventId ?? 0;
    follow({
      url: (lastId) =>
        `/api/instances/${id}/chat/events?session_id=${session}&deltas=true&after=${lastId ?? start}`,
      onEvents: (events) => {
        client.setQueryData(queryKey, (transcript) => transcript && withEvents(transcript, events));
        // Titles and order of the list change with messages.
        if (events.some(({ name }) => name === "message.created" || name === "message.completed")) {
          void client.invalidateQueries({ queryKey: chatSessionsQuery(id).queryKey });
        }
      },
      onState: setConnection,
      signal: stop.signal,
    }).catch((error: unknown) => {
      setRefused(error);
      return client.invalidateQueries({ queryKey: chatSessionsQuery(id).queryKey });
    });
    return () => {
      stop.abort();
      setConnection("live");
      setRefused(null);
    };
  }, [client, id, session, isLoaded, isUp, attempt]);

  const loadOlder = async (): Promise<void> => {
    if (session === undefined || !query.data) return;
    const older = await settle(id, fromMessages(await messages(id, session, query.data.firstEventId), PAGE));
    // What was said meanwhile is in what is known by now.
    client.setQueryData(transcriptQuery(id, session).queryKey, (transcript) => transcript && withOlder(transcript, older));
  };

  const retry = () => {
    if (query.error) void query.refetch();
    setAttempt(attempt + 1);
  };

  return { transcript: query.data, error: query.error ?? refused, retry, connection, loadOlder };
}
