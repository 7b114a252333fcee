import createClient from "openapi-fetch";

import { ApiProblem, seconds } from "./problem";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Instance = Schemas["Instance"];
export type Operation = Schemas["Operation"];
export type ApiKey = Schemas["ApiKey"];
export type MintedKey = Schemas["MintedKey"];
export type Scope = Schemas["Scope"];
export type Entitlement = Schemas["Entitlement"];
export type BrowserSession = Schemas["Session"];
export type User = Schemas["User"];
export type ListedUser = Schemas["ListedUser"];
export type ListedInstance = Schemas["ListedInstance"];
export type Invite = Schemas["Invite"];
export type MintedInvite = Schemas["MintedInvite"];
export type Plan = Schemas["Plan"];
export type Usage = Schemas["Usage"];
export type AuditRecord = Schemas["AuditRecord"];
export type ChatSession = Schemas["ChatSession"];
export type ChatMessage = Schemas["ChatMessage"];
export type ToolCall = Schemas["ToolCall"];
export type TurnStatus = Schemas["TurnStatus"];
export type TurnView = Schemas["Turn"];
export type FileEntry = Schemas["FileEntry"];
export type LogLine = Schemas["LogLine"];

/** The client of the whole API, typed by openapi.yaml; the browser's cookie says who asks. */
export const api = createClient<paths>({
  baseUrl: location.origin,
  fetch: async (request) => {
    try {
      return await fetch(request);
    } catch (error) {
      if (request.signal.aborted) throw error;
      throw new ApiProblem(0);
    }
  },
});

/** Returns what a call answered, or throws its `ApiProblem`. */
export async function unwrap<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  const { data, error, response } = await call;
  if (!response.ok) throw new ApiProblem(response.status, error as ConstructorParameters<typeof ApiProblem>[1], seconds(response));
  return data as T;
}
