import type { ChatMessage, ToolCall, TurnStatus, TurnView } from "../api/client";
import type { SseEvent } from "../lib/sse";

/** A question and what became of it. */
export interface Turn {
  id: string;
  status: TurnStatus;
  /** The person's message; null for one that did not begin with one. */
  asked: ChatMessage | null;
  /** The answer as far as it has come. */
  text: string;
  tools: ToolCall[];
  /** The answer, once it is whole or as whole as it will be. */
  answer: ChatMessage | null;
  /** What the gateway itself said. */
  notes: ChatMessage[];
  error: string | null;
}

/** A session as far as it is known: turns, oldest first, and the last event that is in them. */
export interface Transcript {
  turns: Turn[];
  lastEventId: number;
  /** The oldest event that is in it; there may be older ones. */
  firstEventId: number;
  hasOlder: boolean;
}

export const EMPTY: Transcript = { turns: [], lastEventId: 0, firstEventId: 0, hasOlder: false };

export function isOver(status: TurnStatus): boolean {
  return status !== "queued" && status !== "running";
}

/** Puts a page of messages together; `pageSize` tells whether there may be older ones. */
export function fromMessages(messages: ChatMessage[], pageSize: number): Transcript {
  const turns: Turn[] = [];
  for (const message of messages) place(turns, message);
  return {
    turns,
    firstEventId: messages[0]?.event_id ?? 0,
    lastEventId: messages.at(-1)?.event_id ?? 0,
    hasOlder: messages.length === pageSize,
  };
}

/** Puts an older page before what is known. */
export function withOlder(transcript: Transcript, older: Transcript): Transcript {
  const known = new Set(transcript.turns.map((turn) => turn.id));
  // A turn that the page border cuts in two: its beginning is in the older half.
  const turns = transcript.turns.map((turn) => {
    const half = older.turns.find((other) => other.id === turn.id);
    return half ? { ...turn, asked: turn.asked ?? half.asked, notes: [...half.notes, ...turn.notes] } : turn;
  });
  return {
    ...transcript,
    turns: [...older.turns.filter((turn) => !known.has(turn.id)), ...turns],
    firstEventId: older.firstEventId || transcript.firstEventId,
    hasOlder: older.hasOlder,
  };
}

/** Takes events in order; those that it has already are left out, so a stream may begin anywhere before its end. */
export function withEvents(transcript: Transcript, events: SseEvent[]): Transcript {
  const turns = [...transcript.turns];
  let { lastEventId } = transcript;
  for (const event of events) {
    const id = Number(event.id);
    if (!(id > lastEventId)) continue;
    lastEventId = id;
    take(turns, event);
  }
  return lastEventId === transcript.lastEventId ? transcript : { ...transcript, turns, lastEventId };
}

/** The turns of which the log says only that they began. */
export function openTurns(transcript: Transcript): Turn[] {
  return transcript.turns.filter((turn) => turn.answer === null && !isOver(turn.status));
}

/** Takes what became of open turns; those that still go on are followed from their beginning. */
export function settled(transcript: Transcript, views: TurnView[]): Transcript {
  const turns = [...transcript.turns];
  let { lastEventId } = transcript;
  for (const view of views) {
    const turn = find(turns, view.turn_id);
    if (isOver(view.status)) {
      put(turns, { ...turn, status: view.status, text: view.reply, error: view.error?.message ?? null });
    } else {
      put(turns, { ...turn, status: view.status });
      lastEventId = Math.min(lastEventId, turn.asked?.event_id ?? 0);
    }
  }
  return { ...transcript, turns, lastEventId };
}

interface EventData {
  turn_id: string;
  message?: ChatMessage;
  text?: string;
  tool?: ToolCall;
  status?: TurnStatus;
  error?: { message: string } | null;
}

function take(turns: Turn[], event: SseEvent): void {
  const data = JSON.parse(event.data) as EventData;
  const turn = find(turns, data.turn_id);
  switch (event.name) {
    case "message.delta":
      put(turns, { ...turn, text: turn.text + (data.text ?? "") });
      break;
    case "tool.started":
    case "tool.completed":
      if (data.tool) put(turns, { ...turn, tools: withTool(turn.tools, data.tool) });
      break;
    case "message.created":
    case "message.completed":
      put(turns, turn);
      if (data.message) place(turns, data.message, event.name === "message.created" ? "running" : undefined);
      break;
    case "turn.completed":
    case "turn.failed":
    case "turn.cancelled":
    case "turn.interrupted":
      put(turns, { ...turn, status: data.status ?? "interrupted", error: data.error?.message ?? null });
      break;
    default:
      // `turn.started`, and events of a newer server.
      put(turns, turn);
  }
}

function withTool(tools: ToolCall[], tool: ToolCall): ToolCall[] {
  return tools.some((other) => other.id === tool.id)
    ? tools.map((other) => (other.id === tool.id ? { ...other, ...tool } : other))
    : [...tools, tool];
}

function find(turns: Turn[], id: string): Turn {
  return (
    turns.findLast((turn) => turn.id === id) ?? {
      id,
      status: "running",
      asked: null,
      text: "",
      tools: [],
      answer: null,
      notes: [],
      error: null,
    }
  );
}

function put(turns: Turn[], turn: Turn): void {
  const at = turns.findLastIndex((other) => other.id === turn.id);
  if (at < 0) turns.push(turn);
  else turns[at] = turn;
}

/** A message of the log. A question alone says nothing of its turn's end: that is asked for, or followed. */
function place(turns: Turn[], message: ChatMessage, status?: TurnStatus): void {
  const turn = find(turns, message.turn_id);
  switch (message.role) {
    case "user":
      put(turns, { ...turn, asked: message, status: status ?? turn.status });
      break;
    case "assistant":
      put(turns, {
        ...turn,
        answer: message,
        text: message.content,
        tools: message.tools?.length ? message.tools : turn.tools,
        status: message.status,
      });
      break;
    case "system":
      put(turns, { ...turn, notes: [...turn.notes, message], status: isOver(turn.status) ? turn.status : message.status });
      break;
  }
}
