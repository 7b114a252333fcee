/** How long a lost WebSocket waits before it is opened again: at first, and at most. */
export const SHORTEST_WAIT_MS = 500;
export const LONGEST_WAIT_MS = 10_000;
/** The end, for a reason that coming back does not mend. */
const FINAL = [1000, 1008, 4401, 4403, 4404];

/** Says why a WebSocket is closed for good; undefined where coming back helps. */
export function endOf(code: number, reason: string, otherwise: string): string | undefined {
  if (!FINAL.includes(code)) return undefined;
  return reason === "" ? otherwise : `Closed: ${reason}.`;
}
