import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { Uploads } from "./uploads";

/** What the instance has, by path. */
let there: Record<string, string>;
let sent: string[];

/** A server that knows what `If-None-Match: *` means. */
class Request {
  upload = {};
  status = 0;
  responseText = "";
  onload: () => void = () => undefined;
  onabort: () => void = () => undefined;
  #path = "";
  #onlyNew = false;
  open(_: string, url: string) {
    this.#path = new URL(url, "http://reef").searchParams.get("path") ?? "";
  }
  setRequestHeader(name: string, value: string) {
    this.#onlyNew ||= name === "if-none-match" && value === "*";
  }
  abort() {
    this.onabort();
  }
  send(file: File) {
    sent.push(this.#path);
    queueMicrotask(() => {
      this.status = this.#onlyNew && this.#path in there ? 412 : 200;
      if (this.status === 200) there[this.#path] = file.name;
      this.onload();
    });
  }
}

beforeEach(() => {
  there = {};
  sent = [];
  vi.stubGlobal("XMLHttpRequest", Request);
});
afterEach(() => vi.unstubAllGlobals());

const file = (name: string) => new File(["x"], name);

it("replaces no file unasked, and does what one says then", async () => {
  there = { "/w/a.txt": "theirs", "/w/b.txt": "theirs", "/w/b (2).txt": "theirs", "/w/c.txt": "theirs" };
  const done = vi.fn();
  const uploads = new Uploads("i", done);
  uploads.add("/w", ["a.txt", "b.txt", "c.txt", "d.txt"].map((path) => ({ path, file: file("mine") })));
  await vi.waitFor(() => expect(uploads.shown().filter(({ isTaken }) => isTaken)).toHaveLength(3));
  expect(there).toMatchObject({ "/w/a.txt": "theirs", "/w/b.txt": "theirs", "/w/c.txt": "theirs", "/w/d.txt": "mine" });
  const [a, b, c] = uploads.shown();
  uploads.decide(a?.key ?? 0, "replace");
  uploads.decide(b?.key ?? 0, "both");
  uploads.drop(c?.key ?? 0);
  await vi.waitFor(() => expect(uploads.shown()).toEqual([]));
  expect(there).toEqual({
    "/w/a.txt": "mine",
    "/w/b.txt": "theirs",
    "/w/b (2).txt": "theirs",
    "/w/b (3).txt": "mine",
    "/w/c.txt": "theirs",
    "/w/d.txt": "mine",
  });
  expect(done).toHaveBeenCalledTimes(3);
});

it("sends nothing of what is cancelled while it waits", async () => {
  const uploads = new Uploads("i", () => undefined);
  uploads.add("/w", ["1", "2", "3"].map((path) => ({ path, file: file(path) })));
  uploads.drop(uploads.shown()[2]?.key ?? 0);
  await vi.waitFor(() => expect(uploads.shown()).toEqual([]));
  expect(sent).toEqual(["/w/1", "/w/2"]);
});
