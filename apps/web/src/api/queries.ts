import { queryOptions, type QueryClient } from "@tanstack/react-query";

import { api, unwrap, type Instance, type Operation } from "./client";

const PAGE = 200;

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async () => (await unwrap(api.GET("/api/auth/session"))).user,
  staleTime: 5 * 60_000,
});

export const instancesQuery = queryOptions({
  queryKey: ["instances"],
  queryFn: () => unwrap(api.GET("/api/instances", { params: { query: { limit: PAGE } } })),
});

/** What was deleted and can still be restored. */
export const deletedInstancesQuery = queryOptions({
  queryKey: ["instances", "deleted"],
  queryFn: () => unwrap(api.GET("/api/instances", { params: { query: { deleted: true, limit: PAGE } } })),
});

export const instanceQuery = (id: string) =>
  queryOptions({
    queryKey: ["instance", id],
    queryFn: () => unwrap(api.GET("/api/instances/{id}", { params: { path: { id } } })),
  });

/** The newest long verb of an instance; written by the stream of events. */
export const operationQuery = (id: string) =>
  queryOptions<Operation | null>({ queryKey: ["operation", id], queryFn: () => null, staleTime: Infinity });

export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: () => unwrap(api.GET("/api/keys", { params: { query: { limit: PAGE } } })),
});

export const entitlementsQuery = queryOptions({
  queryKey: ["entitlements"],
  queryFn: () => unwrap(api.GET("/api/account/entitlements", { params: { query: { limit: PAGE } } })),
});

export const accountQuery = queryOptions({
  queryKey: ["account"],
  queryFn: () => unwrap(api.GET("/api/account")),
});

export const plansQuery = queryOptions({
  queryKey: ["plans"],
  queryFn: () => unwrap(api.GET("/api/plans")),
  staleTime: Infinity,
});

export const browserSessionsQuery = queryOptions({
  queryKey: ["sessions"],
  queryFn: () => unwrap(api.GET("/api/account/sessions", { params: { query: { limit: PAGE } } })),
});

export const chatSessionsQuery = (id: string) =>
  queryOptions({
    queryKey: ["chat-sessions", id],
    queryFn: () => unwrap(api.GET("/api/instances/{id}/chat/sessions", { params: { path: { id }, query: { limit: PAGE } } })),
  });

/** Puts what is known of an instance by now where every page looks. */
export function storeInstance(client: QueryClient, instance: Instance): void {
  client.setQueryData(instanceQuery(instance.id).queryKey, instance);
  client.setQueryData(instancesQuery.queryKey, (list) => list && placed(list, instance, !isGone(instance)));
  client.setQueryData(deletedInstancesQuery.queryKey, (list) => list && placed(list, instance, isGone(instance)));
}

function placed(list: Instance[], instance: Instance, belongs: boolean): Instance[] {
  if (!belongs) return list.filter((other) => other.id !== instance.id);
  const known = list.some((other) => other.id === instance.id);
  // Ids grow with time: newest first.
  return known
    ? list.map((other) => (other.id === instance.id ? instance : other))
    : [instance, ...list].sort((a, b) => (a.id < b.id ? 1 : -1));
}

export function forgetInstance(client: QueryClient, id: string): void {
  client.removeQueries({ queryKey: instanceQuery(id).queryKey });
  client.setQueryData(instancesQuery.queryKey, (list) => list?.filter((other) => other.id !== id));
}

/** Whether it is deleted, though it may still be restored. */
export function isGone(instance: Instance): boolean {
  return instance.desired === "deleted";
}
