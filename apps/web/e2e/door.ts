/**
 * Stands in for `reef-instance`: ready at once, with a chat that does what the message says, so that tests of the app
 * meet each case without a model. Started by the process runtime.
 */
import { readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

interface Logged {
  id: number;
  name: string;
  data: object;
  session: string;
}
interface Message {
  id: string;
  session_id: string;
  turn_id: string;
  role: string;
  content: string;
  status: string;
  event_id: number;
  created_at: string;
  attachments?: string[];
  tools?: object[];
}
interface Turn {
  turn_id: string;
  session_id: string;
  status: string;
  reply: string;
  error?: { code: string; message: string };
  event_id: number;
  cancel: () => void;
}

if (process.argv[2] === "probe-sandbox") {
  process.stdout.write(JSON.stringify({ isolation: "bubblewrap", bubblewrap: {}, landlock: {} }));
  process.exit(0);
}

const runDir = process.argv[process.argv.indexOf("--run-dir") + 1] ?? "";
const boot = JSON.parse(readFileSync(`${runDir}/in/boot.json`, "utf8")) as { door_token: string; generation: number };

let made = 0;
/** Ids as the platform's: a prefix and 26 characters. */
const id = (prefix: string) => `${prefix}_${String((made += 1)).padStart(26, "0")}`;
const now = () => new Date().toISOString();
const log: Logged[] = [];
const messages: Message[] = [];
const sessions = new Map<string, { id: string; title: string; created_at: string; updated_at: string }>();
const turns = new Map<string, Turn>();
const followers = new Set<{ session: string; response: ServerResponse }>();

function append(session: string, name: string, data: object): number {
  const event = { id: log.length + 1, name, data, session };
  log.push(event);
  for (const follower of followers) if (follower.session === session) follower.response.write(frame(event));
  return event.id;
}

function frame({ id, name, data }: Logged): string {
  return `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

function say(turn: Turn, role: string, content: string, status: string, more: Partial<Message> = {}): void {
  const message: Message = {
    id: id("msg"),
    session_id: turn.session_id,
    turn_id: turn.turn_id,
    role,
    content,
    status,
    event_id: log.length + 1,
    created_at: now(),
    ...more,
  };
  messages.push(message);
  append(turn.session_id, role === "user" ? "message.created" : "message.completed", { turn_id: turn.turn_id, message });
}

const EVIL = [
  "<script>window.evil = 1</script><img src=x onerror='window.evil = 2'>",
  "",
  "[a link](javascript:window.evil=3) and ![a picture](https://tracker.example/pixel.png)",
  "",
  "| a | b |\n|---|---|\n| 1 | 2 |",
  "",
  "```rust\nfn main() {}\n```",
].join("\n");

async function answer(turn: Turn, text: string): Promise<void> {
  const cancelled = new Promise<void>((resolve) => (turn.cancel = resolve));
  const delta = (part: string) => {
    turn.reply += part;
    append(turn.session_id, "message.delta", { turn_id: turn.turn_id, text: part });
  };
  const end = (status: string, error?: { code: string; message: string }, tools: object[] = []) => {
    turn.status = status;
    if (error) turn.error = error;
    if (turn.reply) say(turn, "assistant", turn.reply, status, { tools });
    append(turn.session_id, `turn.${status}`, { turn_id: turn.turn_id, status, error });
  };
  turn.status = "running";
  if (text.startsWith("wait")) {
    delta("So far so good.");
    await cancelled;
    return end("cancelled");
  }
  if (text.startsWith("cut")) {
    delta("One ");
    await sleep(300);
    for (const { response } of followers) response.destroy();
    delta("two ");
    await sleep(50);
    delta("three.");
    return end("completed");
  }
  if (text.startsWith("fail")) return end("failed", { code: "model_error", message: "The model said no." });
  if (text.startsWith("interrupt")) {
    delta("Half of");
    return end("interrupted", { code: "gateway_lost", message: "The gateway was lost." });
  }
  if (text.startsWith("tool")) {
    const tool = { id: "call_1", name: "exec", arguments: { command: "ls /workspace" } };
    append(turn.session_id, "tool.started", { turn_id: turn.turn_id, tool });
    const done = { ...tool, output: "notes.md\n", is_error: false };
    append(turn.session_id, "tool.completed", { turn_id: turn.turn_id, tool: done });
    delta("There is one file.");
    return end("completed", undefined, [done]);
  }
  for (const word of (text.startsWith("evil") ? EVIL : `You said: ${text}`).split(/(?<=\s)/)) delta(word);
  end("completed");
}

function view(session: { id: string; title: string }) {
  const own = messages.filter((message) => message.session_id === session.id);
  return { ...session, message_count: own.length, last_event_id: own.at(-1)?.event_id ?? 0 };
}

async function body(request: IncomingMessage): Promise<Record<string, unknown>> {
  let text = "";
  for await (const piece of request) text += String(piece);
  return (text === "" ? {} : JSON.parse(text)) as Record<string, unknown>;
}

function begin(title = ""): string {
  const session = { id: id("chs"), title, created_at: now(), updated_at: now() };
  sessions.set(session.id, session);
  return session.id;
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://door");
  const json = (value: unknown, status = 200) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  };
  const stream = () => response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
  if (request.headers.authorization !== `Bearer ${boot.door_token}`) return json({}, 401);
  const [, , second = "", third = "", verb = ""] = url.pathname.split("/");
  const route = `${request.method ?? ""} ${url.pathname.replace(/\/(chs|turn)_\w+/, "/ID")}`;
  switch (route) {
    case "GET /status":
      // Nothing of it ever changes.
      if (url.searchParams.has("after")) await sleep(50_000);
      return json({
        revision: 1,
        generation: boot.generation,
        phase: "ready",
        isolation: "bubblewrap",
        gateway_restarts: 0,
        active_turns: 0,
      });
    case "GET /logs":
      return json([
        { at: now(), line: "gateway listening" },
        { at: now(), line: "warn: a thing to know" },
      ]);
    case "GET /chat/sessions":
      return json([...sessions.values()].reverse().map(view));
    case "POST /chat/sessions":
      return json(view(sessions.get(begin()) ?? { id: "", title: "" }), 201);
    case "PATCH /chat/sessions/ID": {
      const session = sessions.get(third);
      if (!session) return json({}, 404);
      session.title = String((await body(request))["title"]);
      return json(view(session));
    }
    case "DELETE /chat/sessions/ID":
      sessions.delete(third);
      response.writeHead(204).end();
      return;
    case "GET /chat/messages":
      return json(messages.filter((message) => message.session_id === url.searchParams.get("session_id")));
    case "GET /chat/events": {
      const session = url.searchParams.get("session_id") ?? "";
      const after = Number(request.headers["last-event-id"] ?? url.searchParams.get("after") ?? 0);
      stream();
      for (const event of log) if (event.session === session && event.id > after) response.write(frame(event));
      const follower = { session, response };
      followers.add(follower);
      response.on("close", () => followers.delete(follower));
      return;
    }
    case "POST /chat/stream": {
      const asked = await body(request);
      const files = asked["attachments"] as { name: string }[];
      const text = String(asked["message"]);
      const session = sessions.get(String(asked["session_id"]));
      if (!session) return json({}, 404);
      session.title ||= text.slice(0, 40);
      session.updated_at = now();
      const turn = { turn_id: id("turn"), session_id: session.id, status: "queued", reply: "", event_id: 0, cancel: () => undefined };
      turns.set(turn.turn_id, turn);
      stream();
      response.write(frame({ id: log.length + 1, name: "turn.started", data: { turn_id: turn.turn_id }, session: "" }));
      append(session.id, "turn.started", { turn_id: turn.turn_id, session_id: session.id });
      say(turn, "user", text, "completed", { attachments: files.map(({ name }) => name) });
      await answer(turn, text);
      response.end();
      return;
    }
    case "GET /chat/turns/ID":
    case "POST /chat/turns/ID/cancel": {
      const turn = turns.get(third);
      if (!turn) return json({}, 404);
      if (verb === "cancel") turn.cancel();
      return json(turn);
    }
    default:
      return json({ message: `no ${route} here (${second})`, error: { code: "NOT_FOUND", message: "no" } }, 404);
  }
}

// The path may be longer than a socket's address may be.
process.chdir(`${runDir}/out`);
rmSync("door.sock", { force: true });
createServer((request, response) => void serve(request, response)).listen("door.sock");
