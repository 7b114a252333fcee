/** Where the list begins. */
export const WORKSPACE = "/workspace";

export function join(directory: string, name: string): string {
  return `${directory.replace(/\/$/, "")}/${name}`;
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf("/"), 1));
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Returns the path with a number before its ending: `/a/b.txt` is `/a/b (2).txt` then. */
export function numbered(path: string, number: number): string {
  const name = nameOf(path);
  const dot = name.lastIndexOf(".");
  const end = dot > 0 ? dot : name.length;
  return join(parentOf(path), `${name.slice(0, end)} (${number})${name.slice(end)}`);
}

/** The directories above a path and itself, from the root that the instance gives away. */
export function trail(path: string): { name: string; path: string }[] {
  const parts = path.split("/").filter(Boolean);
  const steps = parts.map((name, index) => ({ name, path: `/${parts.slice(0, index + 1).join("/")}` }));
  // `/home` itself is nobody's to list.
  return parts[0] === "home" ? steps.slice(1) : steps;
}

export type Look = "text" | "image" | "pdf" | "media" | "none";

const IMAGES: Record<string, string> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  ico: "image/x-icon",
  bmp: "image/bmp",
  svg: "image/svg+xml",
};
const BINARY = /\.(zip|gz|tgz|tar|xz|bz2|zst|7z|exe|bin|so|o|a|class|jar|wasm|woff2?|ttf|otf|sqlite|db|docx?|xlsx?|pptx?|mp3|mp4|mov|webm|ogg|wav|flac)$/i;
/** Larger ones are for programs, not for eyes. */
const MAX_TEXT_BYTES = 2 * 1024 * 1024;
const MAX_PICTURE_BYTES = 32 * 1024 * 1024;

/** Tells how a file can be looked at here, and as what: never as what the instance calls it. */
export function lookOf(name: string, size: number): { look: Look; type: string } {
  const ending = /\.([a-z0-9]+)$/i.exec(name)?.[1]?.toLowerCase() ?? "";
  const image = IMAGES[ending];
  if (image && size <= MAX_PICTURE_BYTES) return { look: "image", type: image };
  if (ending === "pdf" && size <= MAX_PICTURE_BYTES) return { look: "pdf", type: "application/pdf" };
  return { look: BINARY.test(name) || size > MAX_TEXT_BYTES ? "none" : "text", type: "text/plain" };
}
