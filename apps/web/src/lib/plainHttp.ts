/** What browsers leave out of a page that came over plain http from another machine (W3C Secure Contexts). */

const REFUSED = "This browser does not let the page copy. Select the text and copy it yourself.";

/** Returns a random UUID (RFC 9562 §5.4). */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Puts a text on the clipboard; rejects where the browser lets nobody. */
export async function copyText(text: string): Promise<void> {
  // Its type says that it is always there.
  const clipboard = navigator.clipboard as Clipboard | undefined;
  if (clipboard) return clipboard.writeText(text).catch(() => Promise.reject(new Error(REFUSED)));
  // The old way copies what is selected. Nothing takes the focus: a dialog would take it back.
  const box = document.createElement("span");
  box.textContent = text;
  box.className = "hidden";
  box.style.whiteSpace = "pre";
  document.body.append(box);
  const selection = getSelection();
  const before = selection && selection.rangeCount > 0 ? selection.getRangeAt(0) : undefined;
  selection?.selectAllChildren(box);
  // eslint-disable-next-line @typescript-eslint/no-deprecated
  const isDone = document.execCommand("copy");
  selection?.removeAllRanges();
  if (before) selection?.addRange(before);
  box.remove();
  if (!isDone) throw new Error(REFUSED);
}

/** Returns the text of the clipboard; none where the browser does not give it away. */
export async function pastedText(): Promise<string | undefined> {
  const clipboard = navigator.clipboard as Clipboard | undefined;
  return clipboard?.readText().catch(() => undefined);
}
