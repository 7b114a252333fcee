import { expect, it } from "vitest";

import { sequenceOf, withCtrl } from "./keys";

it("sends what a keyboard sends", () => {
  expect(["Escape", "Tab", "ArrowUp", "ArrowLeft"].map((key) => sequenceOf(key, false))).toEqual(["\x1b", "\t", "\x1b[A", "\x1b[D"]);
  expect(sequenceOf("ArrowDown", true)).toBe("\x1bOB");
  expect(["c", "C", "[", "1", "long", "\x1b[A"].map(withCtrl)).toEqual(["\x03", "\x03", "\x1b", "1", "long", "\x1b[A"]);
});
