import { useRef, useState } from "react";

import { messageOf } from "../api/problem";
import { upload } from "./content";
import { join } from "./paths";

export interface Upload {
  key: number;
  name: string;
  part: number;
  problem?: string;
}

/** So many at a time: a browser gives six connections to an origin. */
const AT_ONCE = 2;

/** A file and where it belongs below the directory that it is dropped on. */
export interface Dropped {
  path: string;
  file: File;
}

/** Sends files one after the other and tells how far they are; those that are done leave the list. */
export function useUploads(instance: string, onDone: () => void) {
  const [uploads, setUploads] = useState<Upload[]>([]);
  const queue = useRef<(() => Promise<void>)[]>([]);
  const running = useRef(0);
  const stops = useRef(new Map<number, AbortController>());
  const lastKey = useRef(0);

  const change = (key: number, changed: Partial<Upload> | null) =>
    setUploads((all) => all.flatMap((it) => (it.key !== key ? [it] : changed ? [{ ...it, ...changed }] : [])));

  const pump = () => {
    while (running.current < AT_ONCE) {
      const next = queue.current.shift();
      if (!next) return;
      running.current += 1;
      void next().finally(() => {
        running.current -= 1;
        pump();
      });
    }
  };

  const add = (directory: string, files: Dropped[]) => {
    for (const { path, file } of files) {
      const key = (lastKey.current += 1);
      const stop = new AbortController();
      stops.current.set(key, stop);
      setUploads((all) => [...all, { key, name: path, part: 0 }]);
      queue.current.push(async () => {
        if (stop.signal.aborted) return;
        try {
          await upload(instance, join(directory, path), file, (part) => change(key, { part }), stop.signal);
          change(key, null);
          onDone();
        } catch (error) {
          change(key, { problem: messageOf(error) });
        }
      });
    }
    pump();
  };

  const drop = (key: number) => {
    stops.current.get(key)?.abort();
    change(key, null);
  };

  return { uploads, add, drop };
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
