import { describe, expect, it } from "vitest";

import { SseParser } from "./sse";

const STREAM = "\uFEFF: hello\nid: 1\nevent: message.delta\ndata: {\"a\":\ndata: 1}\n\nid: 2\r\ndata:x\r\n\r\ndata\n\n:heartbeat\n\nid\nid: 3\0\nunknown: y\nevent: done\rdata:  z\r\r";
const EVENTS = [
  { id: "1", name: "message.delta", data: "{\"a\":\n1}" },
  { id: "2", name: "message", data: "x" },
  { id: "2", name: "message", data: "" },
  { id: "", name: "done", data: " z" },
];

describe("events of a stream", () => {
  it("are read as the standard says", () => {
    expect(new SseParser().push(STREAM)).toEqual(EVENTS);
  });

  it("are the same however the stream is cut", () => {
    for (let size = 1; size < STREAM.length; size += 1) {
      const parser = new SseParser();
      const events = [];
      for (let at = 0; at < STREAM.length; at += size) events.push(...parser.push(STREAM.slice(at, at + size)));
      expect(events, `pieces of ${size}`).toEqual(EVENTS);
    }
  });

  it("that are not whole are not told", () => {
    expect(new SseParser().push("id: 9\ndata: half\n")).toEqual([]);
  });
});
