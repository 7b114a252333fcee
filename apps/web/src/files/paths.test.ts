import { expect, it } from "vitest";

import { join, lookOf, nameOf, parentOf, trail } from "./paths";

it("paths are taken apart and put together", () => {
  expect(join("/workspace/", "a b")).toBe("/workspace/a b");
  expect([parentOf("/workspace/a/b"), nameOf("/workspace/a/b"), parentOf("/workspace")]).toEqual(["/workspace/a", "b", "/"]);
  expect(trail("/workspace/a").map(({ path }) => path)).toEqual(["/workspace", "/workspace/a"]);
  expect(trail("/home/claw/x").map(({ path }) => path)).toEqual(["/home/claw", "/home/claw/x"]);
});

it("files are looked at as what they are to us", () => {
  expect(lookOf("a.PNG", 10)).toEqual({ look: "image", type: "image/png" });
  expect(lookOf("page.html", 10)).toEqual({ look: "text", type: "text/plain" });
  expect(lookOf("Makefile", 10).look).toBe("text");
  expect(lookOf("a.tar.gz", 10).look).toBe("none");
  expect(lookOf("huge.log", 10_000_000).look).toBe("none");
});
