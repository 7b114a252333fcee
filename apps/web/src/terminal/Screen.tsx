import "@xterm/xterm/css/xterm.css";

import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { Terminal } from "@xterm/xterm";
import { ChevronDown, ChevronUp, X } from "lucide-react";
import { useEffect, useImperativeHandle, useRef, useState, type ReactNode, type Ref } from "react";

import { messageOf } from "../api/problem";
import { copyText, pastedText } from "../lib/plainHttp";
import { exactly } from "../pages/SignIn";
import { Button, IconButton } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { useToast } from "../ui/toast";
import { KEYS, sequenceOf, withCtrl } from "./keys";
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

/** What the bar above does to the screen. */
export interface Controls {
  find: () => void;
  copy: () => void;
  paste: () => void;
}

interface Props {
  instance: string;
  /** To attach to; none: a new one. Another one needs another screen. */
  session: string | undefined;
  fontSize: number;
  controls: Ref<Controls>;
  onBegun: (id: string) => void;
  onEnded: () => void;
  /** What to do after its end. */
  again: ReactNode;
}

/** One terminal on the page, and its socket. */
export function Screen({ instance, session, fontSize, controls, onBegun, onEnded, again }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const terminal = useRef<{ xterm: Terminal; fit: FitAddon; search: SearchAddon } | null>(null);
  const [state, setState] = useState<"live" | "lost" | Ended>("live");
  const [searching, setSearching] = useState(false);
  const [pasting, setPasting] = useState(false);
  const [ctrl, setCtrl] = useState(false);
  // A new one gets its id while it is shown.
  const [first] = useState(session);
  const say = useToast();
  // What happens later is told to whoever listens then.
  const typed = (text: string) => {
    // A held Ctrl goes with one key.
    setCtrl(false);
    return ctrl ? withCtrl(text) : text;
  };
  const copy = () => {
    const xterm = terminal.current?.xterm;
    if (!xterm?.hasSelection()) return say({ text: "Select something first." });
    void copyText(xterm.getSelection())
      .then(
        () => say({ text: "Copied." }),
        (error: unknown) => say({ kind: "bad", text: messageOf(error) }),
      )
      .finally(() => xterm.focus());
  };
  const paste = async () => {
    const text = await pastedText();
    if (text === undefined) setPasting(true);
    else terminal.current?.xterm.paste(text);
    terminal.current?.xterm.focus();
  };
  const press = (key: string) => {
    const xterm = terminal.current?.xterm;
    xterm?.input(sequenceOf(key, xterm.modes.applicationCursorKeysMode));
  };
  useImperativeHandle(controls, () => ({ find: () => setSearching(true), copy, paste: () => void paste() }));
  const told = useRef({ onBegun, onEnded, typed, copy });
  useEffect(() => {
    told.current = { onBegun, onEnded, typed, copy };
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
    const link = new Link(instance, first, xterm, {
      onBegun: (id) => told.current.onBegun(id),
      onState: (next) => {
        setState(next);
        if (typeof next === "object") told.current.onEnded();
      },
      onTyped: (text) => told.current.typed(text),
    });
    xterm.attachCustomKeyEventHandler((event) => {
      if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey) return true;
      if (event.code === "KeyC" && xterm.hasSelection()) {
        event.preventDefault();
        told.current.copy();
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
  }, [instance, first]);

  useEffect(() => {
    if (!terminal.current) return;
    terminal.current.xterm.options.fontSize = fontSize;
    terminal.current.fit.fit();
  }, [fontSize, instance, first]);

  return (
    <>
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
      {/* Pressed without taking the focus: a phone would put its keyboard away. */}
      <div className="bar keys touch" role="toolbar" aria-label="Keys">
        <Button size="small" aria-pressed={ctrl} onMouseDown={(event) => event.preventDefault()} onClick={() => setCtrl(!ctrl)}>
          Ctrl
        </Button>
        {KEYS.map(([name, key]) => (
          <Button key={key} size="small" aria-label={name.length > 1 ? undefined : key} onMouseDown={(event) => event.preventDefault()} onClick={() => press(key)}>
            {name}
          </Button>
        ))}
      </div>
      <Dialog open={pasting} onOpenChange={setPasting} title="Paste" description="This browser does not give its clipboard to the page: paste here.">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            terminal.current?.xterm.paste(exactly(new FormData(event.currentTarget), "text"));
            setPasting(false);
          }}
        >
          <TextField label="Text" name="text" rows={6} />
          <footer>
            <Button kind="primary" type="submit">
              Paste
            </Button>
          </footer>
        </form>
      </Dialog>
    </>
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
