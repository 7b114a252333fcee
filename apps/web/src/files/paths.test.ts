import { expect, it } from "vitest";

import { join, lookOf, nameOf, numbered, parentOf, trail } from "./paths";

it("paths are taken apart and put together", () => {
  expect(join("/workspace/", "a b")).toBe("/workspace/a b");
  expect([parentOf("/workspace/a/b"), nameOf("/workspace/a/b"), parentOf("/workspace")]).toEqual(["/workspace/a", "b", "/"]);
  expect(["/a/b.txt", "/a.b/c", "/a/.env"].map((path) => numbered(path, 2))).toEqual(["/a/b (2).txt", "/a.b/c (2)", "/a/.env (2)"]);
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
