import type { Terminal } from "@xterm/xterm";

import { endOf, LONGEST_WAIT_MS, SHORTEST_WAIT_MS } from "../lib/socket";

export interface Ended {
  text: string;
}

interface Heard {
  onBegun: (id: string) => void;
  onState: (state: "live" | "lost" | Ended) => void;
  /** Returns what is sent of what was typed. */
  onTyped: (text: string) => string;
}

type Frame =
  | { type: "session"; id: string; cols: number; rows: number; offset: number; replay: number }
  | { type: "resize"; cols: number; rows: number }
  | { type: "exit"; code?: number | null; signal?: string | null }
  | { type: "error"; message: string };


/**
 * The socket of a terminal (docs/guides/terminal.md): binary frames are bytes of the PTY, text frames are JSON. A lost one is
 * opened again, and what the screen shows already is skipped.
 */
export class Link {
  #socket: WebSocket | undefined;
  #session: string | undefined;
  /** How much of all that the terminal wrote is on the screen. */
  #seen = 0;
  #skip = 0;
  #wait = SHORTEST_WAIT_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;
  readonly #instance: string;
  readonly #terminal: Terminal;
  readonly #heard: Heard;

  constructor(instance: string, session: string | undefined, terminal: Terminal, heard: Heard) {
    this.#instance = instance;
    this.#session = session;
    this.#terminal = terminal;
    this.#heard = heard;
    const encoder = new TextEncoder();
    terminal.onData((text) => this.#send(encoder.encode(heard.onTyped(text))));
    terminal.onBinary((text) => this.#send(Uint8Array.from(text, (it) => it.charCodeAt(0))));
    terminal.onResize(({ cols, rows }) => this.#send(JSON.stringify({ type: "resize", cols, rows })));
    // React mounts twice while developing: only what stays opens a terminal.
    this.#timer = setTimeout(() => this.#open());
  }

  close(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#socket?.close(1000);
  }

  #send(data: string | Uint8Array<ArrayBuffer>): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  #open(): void {
    const { cols, rows } = this.#terminal;
    const query = new URLSearchParams({ cols: String(cols), rows: String(rows) });
    if (this.#session !== undefined) query.set("session", this.#session);
    const origin = location.origin.replace(/^http/, "ws");
    const socket = new WebSocket(`${origin}/api/instances/${this.#instance}/terminal/ws?${query.toString()}`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      if (typeof data === "string") this.#frame(JSON.parse(data) as Frame);
      else this.#bytes(new Uint8Array(data));
    };
    socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    this.#socket = socket;
  }

  #frame(frame: Frame): void {
    switch (frame.type) {
      case "session": {
        this.#heard.onState("live");
        this.#wait = SHORTEST_WAIT_MS;
        const isNew = this.#session === undefined;
        this.#session = frame.id;
        this.#skip = this.#seen - frame.offset;
        if (this.#skip < 0 || this.#skip > frame.replay) {
          // More was written meanwhile than is kept.
          this.#terminal.reset();
          this.#skip = 0;
        }
        this.#seen = frame.offset + this.#skip;
        const { cols, rows } = this.#terminal;
        if (cols !== frame.cols || rows !== frame.rows) this.#send(JSON.stringify({ type: "resize", cols, rows }));
        if (isNew) this.#heard.onBegun(frame.id);
        break;
      }
      case "exit": {
        this.#isOver = true;
        const how = frame.signal ? `was ended by ${frame.signal}` : `ended with ${String(frame.code ?? 0)}`;
        this.#heard.onState({ text: `It ${how}.` });
        break;
      }
      case "error":
      case "resize":
        break;
    }
  }

  #bytes(bytes: Uint8Array<ArrayBuffer>): void {
    const fresh = this.#skip > 0 ? bytes.subarray(this.#skip) : bytes;
    this.#skip = Math.max(0, this.#skip - bytes.length);
    this.#seen += fresh.length;
    if (fresh.length > 0) this.#terminal.write(fresh);
  }

  #closed(code: number, reason: string): void {
    if (this.#isOver) return;
    const end = endOf(code, reason, "This terminal is gone.");
    if (end !== undefined) {
      this.#isOver = true;
      this.#heard.onState({ text: end });
      return;
    }
    this.#heard.onState("lost");
    this.#timer = setTimeout(() => this.#open(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
  }
}
