import { api, unwrap, type FileEntry } from "../api/client";
import { ApiProblem, problemOf } from "../api/problem";

/** The address of a file's bytes. */
export function contentUrl(instance: string, path: string): string {
  return `/api/instances/${instance}/files/content?path=${encodeURIComponent(path)}`;
}

export function archiveUrl(instance: string, path: string, format: "tar.gz" | "zip"): string {
  return `/api/instances/${instance}/files/archive?format=${format}&path=${encodeURIComponent(path)}`;
}

export interface Loaded {
  blob: Blob;
  etag: string;
}

/** Reads a whole file. */
export async function load(instance: string, path: string, signal: AbortSignal): Promise<Loaded> {
  const response = await reach(contentUrl(instance, path), { signal });
  return { blob: await response.blob(), etag: response.headers.get("etag") ?? "" };
}

/** What must be so for a file to be written (RFC 9110 §13.1). */
export type Condition = { "if-match": string } | { "if-none-match": "*" } | Record<string, never>;

/** Writes a text where `condition` holds, and returns its new `ETag`. */
export async function save(instance: string, path: string, text: string, condition: Condition): Promise<string> {
  const headers = { "content-type": "application/octet-stream", ...condition };
  const response = await reach(contentUrl(instance, path), { method: "PUT", headers, body: text });
  return response.headers.get("etag") ?? ((await response.json()) as { etag?: string | null }).etag ?? "";
}

/** Tells what a path names, or a link leads to. */
export function stat(instance: string, path: string): Promise<FileEntry> {
  const params = { path: { id: instance }, query: { path, follow: true } };
  return unwrap(api.GET("/api/instances/{id}/files/stat", { params }));
}

/** Has the browser save what `url` gives, once it is known to be there: a refusal would be a page of its own. */
export async function download(instance: string, path: string, url: string): Promise<void> {
  await stat(instance, path);
  const link = document.createElement("a");
  link.href = url;
  link.download = "";
  link.click();
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, init).catch((error: unknown) => {
    if (init.signal?.aborted) throw error;
    throw new ApiProblem(0);
  });
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** Sends a file as it is, and tells how far it is (0 to 1); `fetch` cannot. */
export function upload(
  instance: string,
  path: string,
  file: File,
  condition: Condition,
  onProgress: (part: number) => void,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", contentUrl(instance, path));
    request.setRequestHeader("content-type", "application/octet-stream");
    for (const [name, value] of Object.entries(condition)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onProgress(total === 0 ? 1 : loaded / total);
    request.onload = () => {
      if (request.status < 300) resolve();
      else reject(problemOfText(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiProblem(0));
    request.onabort = () => resolve();
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

function problemOfText(status: number, text: string): ApiProblem {
  try {
    return new ApiProblem(status, JSON.parse(text) as ConstructorParameters<typeof ApiProblem>[1]);
  } catch {
    return new ApiProblem(status);
  }
}
