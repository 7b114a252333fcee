import { X } from "lucide-react";
import { Toast } from "radix-ui";
import { createContext, use, useCallback, useMemo, useState, type ReactNode } from "react";

import { Button, IconButton } from "./Button";

interface Note {
  text: string;
  kind?: "plain" | "bad";
  /** The way back, while the note is shown. */
  undo?: () => void;
}

const Say = createContext<(note: Note) => void>(() => undefined);
const SHOWN_MS = 6_000;
const UNDO_MS = 12_000;

/** Returns the function that tells something in passing. */
export const useToast = () => use(Say);

export function ToastProvider({ children }: { children: ReactNode }) {
  const [notes, setNotes] = useState<(Note & { key: number })[]>([]);
  const say = useCallback((note: Note) => {
    // Few at a time: the oldest goes.
    setNotes((shown) => [...shown.slice(-2), { ...note, key: (shown.at(-1)?.key ?? 0) + 1 }]);
  }, []);
  const forget = (key: number) => setNotes((shown) => shown.filter((note) => note.key !== key));
  const shown = useMemo(() => children, [children]);
  return (
    <Say value={say}>
      <Toast.Provider swipeDirection="down" label="Notification">
        {shown}
        {notes.map((note) => (
          <Toast.Root
            key={note.key}
            className={`toast ${note.kind ?? "plain"}`}
            duration={note.undo ? UNDO_MS : SHOWN_MS}
            onOpenChange={(open) => {
              if (!open) forget(note.key);
            }}
          >
            <Toast.Description className="grow">{note.text}</Toast.Description>
            {note.undo && (
              <Toast.Action asChild altText="Undo">
                <Button size="small" onClick={note.undo}>
                  Undo
                </Button>
              </Toast.Action>
            )}
            <Toast.Close asChild>
              <IconButton label="Dismiss" size="small" icon={<X aria-hidden />} />
            </Toast.Close>
          </Toast.Root>
        ))}
        <Toast.Viewport className="toasts" />
      </Toast.Provider>
    </Say>
  );
}
