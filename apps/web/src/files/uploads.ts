import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { useSyncExternalStore } from "react";

import { ApiProblem, messageOf } from "../api/problem";
import { upload, type Condition } from "./content";
import { join, numbered } from "./paths";

export interface Upload {
  key: number;
  /** Where it goes. */
  path: string;
  part: number;
  /** There is a file of this name already: what to do is asked. */
  isTaken?: boolean;
  problem?: string;
}

/** What to do with a file whose name is taken. */
export type Choice = "replace" | "both";

/** So many at a time: a browser gives six connections to an origin. */
const AT_ONCE = 2;
const ABSENT: Condition = { "if-none-match": "*" };

/** A file and where it belongs below the directory that it is dropped on. */
export interface Dropped {
  path: string;
  file: File;
}

/** Sends files one after the other and tells how far they are; those that are done leave the list. */
export class Uploads {
  #shown: Upload[] = [];
  #running = 0;
  #lastKey = 0;
  readonly #queue: (() => Promise<void>)[] = [];
  readonly #files = new Map<number, { file: File; stop: AbortController }>();
  readonly #listeners = new Set<() => void>();
  readonly #instance: string;
  readonly #onDone: () => void;

  constructor(instance: string, onDone: () => void) {
    this.#instance = instance;
    this.#onDone = onDone;
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly shown = (): Upload[] => this.#shown;

  add(directory: string, files: Dropped[]): void {
    for (const { path, file } of files) {
      const key = (this.#lastKey += 1);
      const target = join(directory, path);
      this.#files.set(key, { file, stop: new AbortController() });
      this.#show([...this.#shown, { key, path: target, part: 0 }]);
      this.#enqueue(key, () => this.#send(key, target, ABSENT));
    }
  }

  /** Answers what was asked of a name that is taken. */
  decide(key: number, choice: Choice): void {
    const target = this.#shown.find((it) => it.key === key)?.path ?? "";
    this.#change(key, { isTaken: false, part: 0 });
    this.#enqueue(key, () => (choice === "replace" ? this.#send(key, target, {}) : this.#sendBeside(key, target)));
  }

  drop(key: number): void {
    this.#files.get(key)?.stop.abort();
    this.#end(key);
  }

  #enqueue(key: number, send: () => Promise<void>): void {
    this.#queue.push(async () => {
      try {
        await send();
        this.#end(key);
        this.#onDone();
      } catch (error) {
        if (isTaken(error)) this.#change(key, { isTaken: true });
        else this.#change(key, { problem: messageOf(error) });
      }
    });
    this.#pump();
  }

  #pump(): void {
    while (this.#running < AT_ONCE) {
      const next = this.#queue.shift();
      if (!next) return;
      this.#running += 1;
      void next().finally(() => {
        this.#running -= 1;
        this.#pump();
      });
    }
  }

  async #send(key: number, target: string, condition: Condition): Promise<void> {
    const it = this.#files.get(key);
    // Cancelled while it waited.
    if (!it) return;
    await upload(this.#instance, target, it.file, condition, (part) => this.#change(key, { part }), it.stop.signal);
  }

  /** Sends it under the first name that is free. */
  async #sendBeside(key: number, target: string): Promise<void> {
    for (let number = 2; ; number += 1) {
      const path = numbered(target, number);
      this.#change(key, { path });
      try {
        await this.#send(key, path, ABSENT);
        return;
      } catch (error) {
        if (!isTaken(error)) throw error;
      }
    }
  }

  #change(key: number, changed: Partial<Upload>): void {
    this.#show(this.#shown.map((it) => (it.key === key ? { ...it, ...changed } : it)));
  }

  #end(key: number): void {
    this.#files.delete(key);
    this.#show(this.#shown.filter((it) => it.key !== key));
  }

  #show(shown: Upload[]): void {
    this.#shown = shown;
    for (const listener of this.#listeners) listener();
  }
}

function isTaken(error: unknown): boolean {
  return error instanceof ApiProblem && error.status === 412;
}

/** Of each instance: they go on while one looks at other folders and pages. */
const ALL = new Map<string, Uploads>();

function uploadsOf(client: QueryClient, instance: string): Uploads {
  const known = ALL.get(instance) ?? new Uploads(instance, () => void client.invalidateQueries({ queryKey: ["files", instance] }));
  ALL.set(instance, known);
  return known;
}

/** The files that are on their way to an instance. */
export function useUploads(instance: string): { uploads: Uploads; shown: Upload[] } {
  const uploads = uploadsOf(useQueryClient(), instance);
  return { uploads, shown: useSyncExternalStore(uploads.subscribe, uploads.shown) };
}

/** Reads what was dropped, folders with all that is in them. */
export async function dropped(transfer: DataTransfer): Promise<Dropped[]> {
  // Read at once: the list is gone after the event.
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length === 0) return Array.from(transfer.files, (file) => ({ path: file.name, file }));
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry: FileSystemEntry): Promise<Dropped[]> {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ path, file }];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: Dropped[] = [];
  // A reader gives some entries at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found;
    for (const child of some) found.push(...(await walk(child)));
  }
}
