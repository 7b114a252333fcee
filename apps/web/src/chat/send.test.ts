import { describe, expect, it } from "vitest";

import { stillOnTheirWay, type Outgoing } from "./send";
import type { Turn } from "./transcript";

const turn = (id: string, text: string): Turn => ({ id, asked: { content: text } }) as Turn;
const message = (key: string, text: string, more: Partial<Outgoing> = {}): Outgoing => ({
  key,
  text,
  files: [],
  since: "t1",
  ...more,
});

describe("what is still on its way", () => {
  const old = turn("t1", "again");

  it("is what no newer turn asks", () => {
    expect(stillOnTheirWay([message("a", "again")], [old])).toHaveLength(1);
    expect(stillOnTheirWay([message("a", "again")], [old, turn("t2", "again")])).toHaveLength(0);
  });

  it("is counted when it was written twice", () => {
    const twice = [message("a", "again"), message("b", "again")];
    expect(stillOnTheirWay(twice, [old, turn("t2", "again")]).map(({ key }) => key)).toEqual(["b"]);
    expect(stillOnTheirWay(twice, [old, turn("t2", "again"), turn("t3", "again")])).toHaveLength(0);
  });

  it("goes by its turn once that is known", () => {
    const known = message("a", "again", { turnId: "t3" });
    expect(stillOnTheirWay([known], [old, turn("t2", "again")])).toHaveLength(1);
    expect(stillOnTheirWay([known], [old, turn("t3", "again")])).toHaveLength(0);
  });
});
