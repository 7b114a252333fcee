import { describe, expect, it } from "vitest";

import type { ChatMessage, TurnView } from "../api/client";
import type { SseEvent } from "../lib/sse";
import { EMPTY, fromMessages, openTurns, settled, withEvents, withOlder } from "./transcript";

const message = (event_id: number, turn_id: string, role: ChatMessage["role"], content: string, status: ChatMessage["status"] = "completed"): ChatMessage => ({
  id: `msg_${event_id}`,
  session_id: "chs_1",
  turn_id,
  role,
  content,
  status,
  event_id,
  created_at: "2026-01-01T00:00:00.000Z",
});
const event = (id: number, name: string, data: object): SseEvent => ({ id: String(id), name, data: JSON.stringify(data) });
const delta = (id: number, turn_id: string, text: string) => event(id, "message.delta", { turn_id, text });
const view = (turn_id: string, status: TurnView["status"], reply = ""): TurnView => ({ turn_id, session_id: "chs_1", status, reply, event_id: 99 });

describe("a transcript", () => {
  it("grows by events, each counted once", () => {
    const events = [
      event(1, "turn.started", { turn_id: "t1" }),
      event(2, "message.created", { turn_id: "t1", message: message(2, "t1", "user", "hi") }),
      delta(3, "t1", "Hel"),
      event(4, "tool.started", { turn_id: "t1", tool: { id: "c", name: "exec", arguments: {} } }),
      event(5, "tool.completed", { turn_id: "t1", tool: { id: "c", name: "exec", output: "ok", is_error: false } }),
      delta(6, "t1", "lo"),
    ];
    const once = withEvents(EMPTY, events);
    expect(once.turns).toMatchObject([
      { id: "t1", status: "running", text: "Hello", asked: { content: "hi" }, tools: [{ output: "ok", arguments: {} }] },
    ]);
    expect(withEvents(once, events), "again").toBe(once);
    const whole = withEvents(once, [
      event(7, "message.completed", { turn_id: "t1", message: message(7, "t1", "assistant", "Hello.") }),
      event(8, "turn.completed", { turn_id: "t1", status: "completed" }),
    ]);
    expect(whole.turns[0]).toMatchObject({ status: "completed", text: "Hello.", answer: { content: "Hello." } });
    expect(once.turns[0]?.text, "what was there is not changed").toBe("Hello");
  });

  it("follows open turns from their beginning, and knows how the others ended", () => {
    const loaded = fromMessages(
      [message(2, "t1", "user", "a"), message(5, "t2", "user", "b"), message(9, "t3", "user", "c")],
      60,
    );
    expect(openTurns(loaded).map(({ id }) => id)).toEqual(["t1", "t2", "t3"]);
    const known = settled(loaded, [view("t1", "failed", "part"), view("t2", "running", "so far"), view("t3", "queued")]);
    expect(known.turns.map(({ status, text }) => [status, text])).toEqual([
      ["failed", "part"],
      ["running", ""],
      ["queued", ""],
    ]);
    // The deltas of t2 come again, and are counted from nothing.
    expect(known.lastEventId).toBe(5);
    expect(withEvents(known, [delta(6, "t2", "so "), delta(10, "t2", "far")]).turns[1]?.text).toBe("so far");
  });

  it("never shows an interrupted answer as a whole one", () => {
    const loaded = fromMessages([message(2, "t1", "user", "a"), message(3, "t1", "assistant", "Half", "interrupted")], 60);
    expect(loaded.turns[0]).toMatchObject({ status: "interrupted", text: "Half" });
    expect(openTurns(loaded)).toEqual([]);
  });

  it("takes older pages in front, and mends the turn that the border cut", () => {
    const newer = fromMessages([message(5, "t2", "assistant", "B"), message(6, "t3", "user", "c"), message(7, "t3", "assistant", "C")], 3);
    expect(newer.hasOlder).toBe(true);
    const all = withOlder(newer, fromMessages([message(3, "t1", "user", "a"), message(4, "t2", "user", "b")], 3));
    expect(all.turns.map(({ id, asked, text }) => [id, asked?.content, text])).toEqual([
      ["t1", "a", ""],
      ["t2", "b", "B"],
      ["t3", "c", "C"],
    ]);
    expect(all).toMatchObject({ firstEventId: 3, lastEventId: 7, hasOlder: false });
  });
});
