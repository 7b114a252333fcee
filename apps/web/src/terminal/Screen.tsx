import "@xterm/xterm/css/xterm.css";

import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { Terminal } from "@xterm/xterm";
import { ChevronDown, ChevronUp, X } from "lucide-react";
import { useEffect, useRef, useState, type ReactNode } from "react";

import { IconButton } from "../ui/Button";
import { Link, type Ended } from "./link";

const THEME = {
  background: "#0f1416",
  foreground: "#e3e8e7",
  cursor: "#64cbc1",
  cursorAccent: "#0f1416",
  selectionBackground: "#2c4f4d",
  black: "#22292c",
  red: "#f07f75",
  green: "#78cf9f",
  yellow: "#e5b866",
  blue: "#7db3ee",
  magenta: "#c99be8",
  cyan: "#64cbc1",
  white: "#cfd6d5",
  brightBlack: "#6f7f84",
  brightRed: "#ff9d94",
  brightGreen: "#97e3b8",
  brightYellow: "#f5d08d",
  brightBlue: "#a3ccfb",
  brightMagenta: "#deb8f6",
  brightCyan: "#8de0d8",
  brightWhite: "#ffffff",
};

interface Props {
  instance: string;
  /** To attach to; none: a new one. */
  session: string | undefined;
  fontSize: number;
  onBegun: (id: string) => void;
  onEnded: () => void;
  /** What to do after its end. */
  again: ReactNode;
}

/** One terminal on the page, and its socket. */
export function Screen({ instance, session, fontSize, onBegun, onEnded, again }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const terminal = useRef<{ xterm: Terminal; fit: FitAddon; search: SearchAddon } | null>(null);
  const [state, setState] = useState<"live" | "lost" | Ended>("live");
  const [searching, setSearching] = useState(false);
  // What happens later is told to whoever listens then.
  const told = useRef({ onBegun, onEnded });
  useEffect(() => {
    told.current = { onBegun, onEnded };
  });

  useEffect(() => {
    if (!box.current) return;
    const xterm = new Terminal({
      fontFamily: getComputedStyle(box.current).fontFamily,
      theme: THEME,
      scrollback: 10_000,
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      allowProposedApi: false,
    });
    const [fit, search] = [new FitAddon(), new SearchAddon()];
    xterm.loadAddon(fit);
    xterm.loadAddon(search);
    xterm.open(box.current);
    terminal.current = { xterm, fit, search };
    fit.fit();
    if (matchMedia("(pointer: fine)").matches) xterm.focus();
    const link = new Link(instance, session, xterm, {
      onBegun: (id) => told.current.onBegun(id),
      onState: (next) => {
        setState(next);
        if (typeof next === "object") told.current.onEnded();
      },
    });
    xterm.attachCustomKeyEventHandler((event) => {
      if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey) return true;
      if (event.code === "KeyC" && xterm.hasSelection()) {
        event.preventDefault();
        void navigator.clipboard.writeText(xterm.getSelection());
        return false;
      }
      if (event.code === "KeyF") {
        event.preventDefault();
        setSearching(true);
        return false;
      }
      return true;
    });
    const watch = new ResizeObserver(() => fit.fit());
    watch.observe(box.current);
    return () => {
      watch.disconnect();
      link.close();
      xterm.dispose();
      terminal.current = null;
    };
  }, [instance, session]);

  useEffect(() => {
    if (!terminal.current) return;
    terminal.current.xterm.options.fontSize = fontSize;
    terminal.current.fit.fit();
  }, [fontSize, instance, session]);

  return (
    <div className="screen">
      <div className="xterm-box" ref={box} />
      {searching && <Search find={(text, back) => seek(terminal.current?.search, text, back)} onClose={() => setSearching(false)} />}
      {state !== "live" && (
        <div className="over" role="status">
          {state === "lost" ? (
            <>
              <span className="ring" aria-hidden /> Reconnecting. What runs goes on.
            </>
          ) : (
            <>
              {state.text} {again}
            </>
          )}
        </div>
      )}
    </div>
  );
}

function seek(search: SearchAddon | undefined, text: string, back: boolean): void {
  if (back) search?.findPrevious(text);
  else search?.findNext(text, { incremental: false });
}

function Search({ find, onClose }: { find: (text: string, back: boolean) => void; onClose: () => void }) {
  const [text, setText] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return (
    <form
      className="find"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        find(text, true);
      }}
    >
      <input ref={field} type="search" aria-label="Find in the terminal" value={text} onChange={(event) => setText(event.target.value)} />
      <IconButton size="small" type="submit" label="Find above" icon={<ChevronUp aria-hidden />} />
      <IconButton size="small" label="Find below" icon={<ChevronDown aria-hidden />} onClick={() => find(text, false)} />
      <IconButton size="small" label="Close" icon={<X aria-hidden />} onClick={onClose} />
    </form>
  );
}
