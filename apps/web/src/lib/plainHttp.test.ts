import { afterEach, expect, it, vi } from "vitest";

import { copyText, pastedText, uuid } from "./plainHttp";

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

it("makes ids without `crypto.randomUUID`", () => {
  vi.stubGlobal("crypto", { getRandomValues: (bytes: Uint8Array) => bytes.fill(0xff) });
  expect(uuid()).toBe("ffffffff-ffff-4fff-bfff-ffffffffffff");
});

it("copies what it selects where there is no clipboard, and says when that was refused", async () => {
  expect(navigator.clipboard, "jsdom has none").toBeUndefined();
  const copied: string[] = [];
  const copy = vi.fn(() => copied.push(String(getSelection())) > 0);
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  document.execCommand = copy;
  await copyText("a\n  b");
  expect(copied).toEqual(["a\n  b"]);
  expect(document.body.childElementCount, "nothing is left of it").toBe(0);
  copy.mockReturnValue(false);
  await expect(copyText("a")).rejects.toThrow("copy it yourself");
  expect(await pastedText()).toBeUndefined();
});
