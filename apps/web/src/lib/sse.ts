/** One event of a `text/event-stream`. */
export interface SseEvent {
  id: string;
  name: string;
  data: string;
}

/** Reads server-sent events as WHATWG HTML §9.2.6 says, from text that arrives in any pieces. */
export class SseParser {
  #rest = "";
  #started = false;
  #afterReturn = false;
  #id = "";
  #name = "";
  #data: string[] = [];

  /** Takes the next piece and returns the events that it completes. */
  push(text: string): SseEvent[] {
    if (!this.#started && text.length > 0) {
      this.#started = true;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    this.#rest += text;
    const events: SseEvent[] = [];
    for (;;) {
      // The other half of a line's end that the piece before was cut in.
      if (this.#afterReturn && this.#rest !== "") {
        if (this.#rest.startsWith("\n")) this.#rest = this.#rest.slice(1);
        this.#afterReturn = false;
      }
      const end = this.#rest.search(/[\r\n]/);
      if (end < 0) return events;
      this.#afterReturn = this.#rest[end] === "\r";
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 1);
      const event = this.#line(line);
      if (event) events.push(event);
    }
  }

  #line(line: string): SseEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return undefined;
  }

  #dispatch(): SseEvent | undefined {
    const event = { id: this.#id, name: this.#name === "" ? "message" : this.#name, data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#name = "";
    this.#data = [];
    return isEmpty ? undefined : event;
  }
}
