import { expect, it } from "vitest";

import { parseEnvironment } from "./environment";

it("reads lines as a shell's file has them", () => {
  expect(parseEnvironment("A=1\n\n# no\n export B_2=x = y \r\nC=")).toEqual({ A: "1", B_2: "x = y ", C: "" });
});

it("names the line that is none", () => {
  expect(() => parseEnvironment("A=1\nB C")).toThrow(expect.objectContaining({ fields: { env: "Line 2 is not of the form NAME=value." } }));
});
