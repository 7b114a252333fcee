import { ApiProblem, problemOf } from "../api/problem";
import { SseParser } from "../lib/sse";
import type { Turn } from "./transcript";

/** A message on its way, until the session's stream shows it. */
export interface Outgoing {
  /** Also the `Idempotency-Key`: sent twice, it is still one turn. */
  key: string;
  text: string;
  files: OutgoingFile[];
  /** The last turn that was there before it. */
  since?: string | undefined;
  turnId?: string;
  problem?: string | undefined;
}

export interface OutgoingFile {
  name: string;
  mime_type: string;
  size: number;
  /** Base64 (RFC 4648 §4). */
  content: string;
}

export const MAX_FILES = 16;
export const MAX_BYTES = 15 * 1024 * 1024;
const ATTEMPTS = 4;
const WAIT_MS = 800;

/**
 * Returns the messages that the session's stream does not show yet. It may show one before the answer to its own request
 * has told which turn it is: then it is known by its text among the turns that came after it was written.
 */
export function stillOnTheirWay(messages: Outgoing[], turns: Turn[]): Outgoing[] {
  const shown = new Set<string>();
  return messages.filter(({ turnId, text, since }) => {
    const newer = turns.slice(turns.findIndex(({ id }) => id === since) + 1);
    const turn = newer.find(
      ({ id, asked }) => asked && !shown.has(id) && (turnId ? id === turnId : asked.content === text),
    );
    if (turn) shown.add(turn.id);
    return !turn;
  });
}

/** Sends a message and returns the id of its turn as soon as the log has it; the answer comes on the session's stream. */
export async function send(instance: string, session: string, message: Outgoing): Promise<string> {
  const body = JSON.stringify({
    message: message.text,
    session_id: session,
    attachments: message.files.map(({ name, mime_type, content }) => ({ name, mime_type, content })),
  });
  for (let attempt = 1; ; attempt += 1) {
    const stop = new AbortController();
    try {
      const response = await fetch(`/api/instances/${instance}/chat/stream`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          accept: "text/event-stream",
          "idempotency-key": message.key,
        },
        body,
        signal: stop.signal,
      });
      if (!response.ok || !response.body) throw await problemOf(response);
      return await turnOf(response.body);
    } catch (error) {
      const isLost = !(error instanceof ApiProblem) || error.status >= 502;
      if (!isLost || attempt === ATTEMPTS) throw error instanceof ApiProblem ? error : new ApiProblem(0);
      await new Promise((resolve) => setTimeout(resolve, WAIT_MS * attempt));
    } finally {
      // The turn goes on without this connection.
      stop.abort();
    }
  }
}

async function turnOf(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  const parser = new SseParser();
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new ApiProblem(0);
    const event = parser.push(value)[0];
    if (event) return (JSON.parse(event.data) as { turn_id: string }).turn_id;
  }
}

/** Reads files that were dropped, pasted or chosen. */
export async function read(files: Iterable<File>): Promise<OutgoingFile[]> {
  return Promise.all(
    Array.from(files, async (file) => ({
      name: file.name || "pasted",
      mime_type: file.type || "application/octet-stream",
      size: file.size,
      content: await base64(file),
    })),
  );
}

function base64(file: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    // `data:…;base64,` comes before the content.
    reader.onload = () => resolve((reader.result as string).split(",", 2)[1] ?? "");
    reader.onerror = () => reject(new Error(`${(file as File).name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}
