import { QueryClient } from "@tanstack/react-query";
import { beforeEach, expect, it } from "vitest";

import { changeOutbox, outboxQuery, withoutShown } from "./outbox";
import type { Outgoing } from "./send";
import type { Turn } from "./transcript";

const turn = (id: string, text: string): Turn => ({ id, asked: { content: text } }) as Turn;
const message = (key: string, text: string): Outgoing => ({ key, text, files: [], since: "t1" });

/** What a page has that is loaded now. */
function reloaded(): Outgoing[] {
  const client = new QueryClient();
  changeOutbox(client, "i", "s", (all) => all);
  return client.getQueryData(outboxQuery("i", "s").queryKey) ?? [];
}

beforeEach(() => sessionStorage.clear());

it("keeps what was not sent, through a reload too", () => {
  const client = new QueryClient();
  changeOutbox(client, "i", "s", (all) => [...all, { ...message("a", "hi"), problem: "No network." }, message("b", "on its way")]);
  changeOutbox(client, "i", "other", (all) => [...all, message("c", "elsewhere")]);
  expect(client.getQueryData(outboxQuery("i", "s").queryKey)).toHaveLength(2);
  expect(reloaded().map(({ key, problem }) => [key, problem])).toEqual([
    ["a", "No network."],
    ["b", "The page was left before it was sent."],
  ]);
  changeOutbox(client, "i", "s", () => [{ ...message("b", "on its way"), turnId: "t2" }]);
  expect(reloaded(), "that is in the log").toEqual([]);
});

it("lasts as long as the page where it is more than a browser keeps", () => {
  const client = new QueryClient();
  const content = "x".repeat(6 * 1024 * 1024);
  changeOutbox(client, "i", "s", () => [{ ...message("a", ""), files: [{ name: "f", mime_type: "", size: 1, content }] }]);
  expect(client.getQueryData(outboxQuery("i", "s").queryKey)).toHaveLength(1);
});

it("forgets what is shown, and counts what was written twice", () => {
  const [first, both] = [turn("t1", "hi"), [message("a", "hi"), message("b", "hi")]];
  const left = withoutShown(both, [first, turn("t2", "hi")]);
  expect(left).toMatchObject([{ key: "b", since: "t2" }]);
  expect(withoutShown(left, [first, turn("t2", "hi")])).toBe(left);
  expect(withoutShown(left, [first, turn("t2", "hi"), turn("t3", "hi")])).toEqual([]);
});
