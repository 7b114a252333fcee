import { expect, it } from "vitest";

import { keysymOf, typed } from "./typed";

it("makes keys of what a phone's keyboard does to a field", () => {
  expect(typed("", "a")).toEqual({ back: 0, text: ["a"] });
  expect(typed("ab", "a")).toEqual({ back: 1, text: [] });
  // A composition writes its text anew with each letter, and may correct it at the end.
  expect(typed("hel", "hell")).toEqual({ back: 0, text: ["l"] });
  expect(typed("teh", "the ")).toEqual({ back: 2, text: ["h", "e", " "] });
  expect(typed("x", "x🐙")).toEqual({ back: 0, text: ["🐙"] });
  expect(["a", "ü", "€"].map(keysymOf)).toEqual([0x61, 0xfc, 0x10020ac]);
});
