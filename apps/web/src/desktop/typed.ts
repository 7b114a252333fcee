/** What a change of a text field is in keys: so many times Backspace, then characters. Compositions are changes of changes. */
export function typed(before: string, after: string): { back: number; text: string[] } {
  const [old, now] = [Array.from(before), Array.from(after)];
  let same = 0;
  while (same < old.length && old[same] === now[same]) same += 1;
  return { back: old.length - same, text: now.slice(same) };
}

/** The keysym of a character (X11 protocol, appendix A): Latin-1 is itself, the rest is Unicode with a mark. */
export function keysymOf(letter: string): number {
  const point = letter.codePointAt(0) ?? 0;
  return point < 0x100 ? point : 0x1000000 + point;
}
