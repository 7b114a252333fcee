import { expect, test } from "vitest";

import { perDay } from "./Bars";

test("days without use are there too, from the first to the last", () => {
  const rows = [{ day: "2026-02-28", prompt_tokens: 3, completion_tokens: 4 }];
  expect(perDay(rows, "2026-02-27T10:00:00.000Z", "2026-03-01T00:00:00.001Z")).toEqual([
    { day: "2026-02-27", tokens: 0 },
    { day: "2026-02-28", tokens: 7 },
    { day: "2026-03-01", tokens: 0 },
  ]);
});
