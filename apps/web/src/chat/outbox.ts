import { queryOptions, type QueryClient } from "@tanstack/react-query";

import { stillOnTheirWay, type Outgoing } from "./send";
import type { Turn } from "./transcript";

const LEFT = "The page was left before it was sent.";

/** What is on its way to a conversation, or did not get there: kept while one looks at others, and through a reload. */
export const outboxQuery = (instance: string, session: string) =>
  queryOptions({
    queryKey: ["outbox", instance, session],
    queryFn: () => kept(instance, session),
    initialData: () => kept(instance, session),
    staleTime: Infinity,
    gcTime: Infinity,
  });

/** Changes what is on its way to a conversation. */
export function changeOutbox(client: QueryClient, instance: string, session: string, change: (messages: Outgoing[]) => Outgoing[]): void {
  const { queryKey } = outboxQuery(instance, session);
  const messages = change(client.getQueryData(queryKey) ?? kept(instance, session));
  client.setQueryData(queryKey, messages);
  // What has a turn is in the log.
  const unsent = messages.filter(({ turnId }) => turnId === undefined);
  const name = keyOf(instance, session);
  try {
    if (unsent.length > 0) sessionStorage.setItem(name, JSON.stringify(unsent));
    else sessionStorage.removeItem(name);
  } catch {
    // Its files are more than a browser keeps: it lasts as long as the page.
  }
}

/** Forgets what the conversation shows; what is left is newer than that. */
export function withoutShown(messages: Outgoing[], turns: Turn[]): Outgoing[] {
  const pending = stillOnTheirWay(messages, turns);
  if (pending.length === messages.length) return messages;
  return pending.map((message) => ({ ...message, since: turns.at(-1)?.id }));
}

function kept(instance: string, session: string): Outgoing[] {
  const messages = JSON.parse(sessionStorage.getItem(keyOf(instance, session)) ?? "[]") as Outgoing[];
  return messages.map((message) => ({ ...message, problem: message.problem ?? LEFT }));
}

function keyOf(instance: string, session: string): string {
  return `reef.outbox/${instance}/${session}`;
}
