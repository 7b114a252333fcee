/** What phones have no keys for, as a terminal sends it (xterm's control sequences, "PC-Style Function Keys"). */
export const KEYS = [
  ["Esc", "Escape"],
  ["Tab", "Tab"],
  ["←", "ArrowLeft"],
  ["↑", "ArrowUp"],
  ["↓", "ArrowDown"],
  ["→", "ArrowRight"],
] as const;
const ARROWS: Record<string, string> = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D" };

/** Returns what a key sends; full-screen programs ask for other arrows. */
export function sequenceOf(key: string, hasApplicationArrows: boolean): string {
  if (key === "Escape") return "\x1b";
  if (key === "Tab") return "\t";
  return `\x1b${hasApplicationArrows ? "O" : "["}${ARROWS[key] ?? ""}`;
}

/** Returns the character that Ctrl makes of one: `C` or `c` is 3. */
export function withCtrl(text: string): string {
  return /^[@-_a-z]$/.test(text) ? String.fromCharCode(text.toUpperCase().charCodeAt(0) & 0x1f) : text;
}
