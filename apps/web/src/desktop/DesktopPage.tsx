import "../terminal/terminal.css";
import "./desktop.css";

import { useQuery } from "@tanstack/react-query";
import { ClipboardPaste, Eye, Keyboard, Maximize, Monitor, Scaling } from "lucide-react";
import { useEffect, useRef, useState } from "react";

import { api, unwrap } from "../api/client";
import { messageOf } from "../api/problem";
import { useInstance } from "../instance/InstanceLayout";
import { NotReady } from "../instance/NotReady";
import { text } from "../pages/SignIn";
import { Button, IconButton } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { Empty, Spinner } from "../ui/Page";
import type RFB from "@novnc/novnc";

/** X11 keysyms of what phones have no keys for. */
const KEYS: [name: string, keysym: number, code: string][] = [
  ["Esc", 0xff1b, "Escape"],
  ["Tab", 0xff09, "Tab"],
  ["Enter", 0xff0d, "Enter"],
  ["⌫", 0xff08, "Backspace"],
  ["←", 0xff51, "ArrowLeft"],
  ["↑", 0xff52, "ArrowUp"],
  ["↓", 0xff54, "ArrowDown"],
  ["→", 0xff53, "ArrowRight"],
];
const MODIFIERS: [name: string, keysym: number, code: string][] = [
  ["Ctrl", 0xffe3, "ControlLeft"],
  ["Alt", 0xffe9, "AltLeft"],
];
const WAIT_MS = 2_000;

/** The instance's desktop, to look at and to work on. */
export function DesktopPage() {
  const instance = useInstance();
  const isUp = instance.status === "ready";
  const path = { id: instance.id };
  const { data: status, error } = useQuery({
    queryKey: ["desktop", instance.id],
    queryFn: () => unwrap(api.GET("/api/instances/{id}/vnc/status", { params: { path } })),
    enabled: isUp,
  });
  if (isUp && status && status.state !== "unavailable") return <Workplace instance={instance.id} />;
  return (
    <div className="workbench">
      <div className="page narrow">
        <NotReady instance={instance} />
        {error && isUp && <Notice kind="bad">{messageOf(error)}</Notice>}
        {isUp && status?.state === "unavailable" && (
          <Empty icon={<Monitor />} title="This instance has no desktop">
            <p>{status.reason}</p>
          </Empty>
        )}
        {isUp && !status && !error && <Spinner />}
      </div>
    </div>
  );
}

function Workplace({ instance }: { instance: string }) {
  const frame = useRef<HTMLDivElement>(null);
  const screen = useRef<HTMLDivElement>(null);
  const rfb = useRef<RFB | null>(null);
  const [state, setState] = useState<"connecting" | "live" | "lost">("connecting");
  const [attempt, setAttempt] = useState(0);
  const [onlyLooking, setOnlyLooking] = useState(false);
  const [fits, setFits] = useState(false);
  const [typing, setTyping] = useState(false);
  const [pasting, setPasting] = useState(false);
  const [held, setHeld] = useState<number[]>([]);
  const [copied, setCopied] = useState("");

  useEffect(() => {
    const target = screen.current;
    if (!target) return;
    const stop = new AbortController();
    let connection: RFB | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    void import("@novnc/novnc").then(({ default: Rfb }) => {
      if (stop.signal.aborted) return;
      const origin = location.origin.replace(/^http/, "ws");
      connection = new Rfb(target, `${origin}/api/instances/${instance}/vnc/ws${onlyLooking ? "?view_only=1" : ""}`, { shared: true });
      connection.viewOnly = onlyLooking;
      connection.scaleViewport = true;
      connection.background = "transparent";
      connection.addEventListener("connect", () => setState("live"), stop);
      connection.addEventListener("clipboard", (event) => setCopied((event as CustomEvent<{ text: string }>).detail.text), stop);
      connection.addEventListener(
        "disconnect",
        () => {
          setState("lost");
          timer = setTimeout(() => setAttempt((it) => it + 1), WAIT_MS);
        },
        stop,
      );
      rfb.current = connection;
    });
    return () => {
      stop.abort();
      clearTimeout(timer);
      connection?.disconnect();
      rfb.current = null;
      target.replaceChildren();
    };
  }, [instance, onlyLooking, attempt]);

  useEffect(() => {
    if (rfb.current && state === "live") rfb.current.resizeSession = fits;
  }, [fits, state]);

  const press = (keysym: number, code: string) => {
    rfb.current?.sendKey(keysym, code);
    // A held key goes with one press.
    for (const [, modifier, name] of MODIFIERS) if (held.includes(modifier)) rfb.current?.sendKey(modifier, name, false);
    setHeld([]);
  };
  const hold = (keysym: number, code: string) => {
    const isDown = held.includes(keysym);
    rfb.current?.sendKey(keysym, code, !isDown);
    setHeld(isDown ? held.filter((it) => it !== keysym) : [...held, keysym]);
  };

  return (
    <section className="workbench desktop" aria-label="Desktop" ref={frame}>
      <div className="bar">
        <IconButton size="small" label="Keys and text" aria-pressed={typing} icon={<Keyboard aria-hidden />} disabled={onlyLooking} onClick={() => setTyping(!typing)} />
        <IconButton size="small" label="Clipboard" icon={<ClipboardPaste aria-hidden />} onClick={() => setPasting(true)} />
        <IconButton size="small" label="Fit the desktop to this window" aria-pressed={fits} icon={<Scaling aria-hidden />} disabled={onlyLooking} onClick={() => setFits(!fits)} />
        <IconButton size="small" label="Only look" aria-pressed={onlyLooking} icon={<Eye aria-hidden />} onClick={() => setOnlyLooking(!onlyLooking)} />
        <span className="grow" />
        <span className={`status ${state === "live" ? "good" : "busy"}`} role="status">
          {state === "live" ? (onlyLooking ? "Looking" : "Connected") : state === "lost" ? "Reconnecting" : "Connecting"}
        </span>
        <IconButton size="small" label="Full screen" icon={<Maximize aria-hidden />} onClick={() => void frame.current?.requestFullscreen()} />
      </div>
      {typing && !onlyLooking && (
        <div className="bar keys">
          {MODIFIERS.map(([name, keysym, code]) => (
            <Button key={name} size="small" aria-pressed={held.includes(keysym)} onClick={() => hold(keysym, code)}>
              {name}
            </Button>
          ))}
          {KEYS.map(([name, keysym, code]) => (
            <Button key={name} size="small" aria-label={code} onClick={() => press(keysym, code)}>
              {name}
            </Button>
          ))}
          <input
            type="text"
            aria-label="Type on the desktop"
            placeholder="Type here"
            value=""
            autoComplete="off"
            autoCapitalize="off"
            onChange={({ target }) => {
              for (const letter of target.value) press(keysymOf(letter), "");
            }}
          />
        </div>
      )}
      <div className="glass" ref={screen} />
      <Dialog open={pasting} onOpenChange={setPasting} title="Clipboard" description="What was last copied on the desktop, and what to put there.">
        <form
          onSubmit={(event) => {
            event.preventDefault();
            rfb.current?.clipboardPasteFrom(text(new FormData(event.currentTarget), "text"));
            setPasting(false);
          }}
        >
          <TextField label="Text" name="text" rows={6} defaultValue={copied} />
          <footer>
            <Button kind="primary" type="submit" disabled={onlyLooking}>
              Put on the desktop&apos;s clipboard
            </Button>
          </footer>
        </form>
      </Dialog>
    </section>
  );
}

/** The keysym of a character (X11 protocol, appendix A): Latin-1 is itself, the rest is Unicode with a mark. */
function keysymOf(letter: string): number {
  const point = letter.codePointAt(0) ?? 0;
  return point < 0x100 ? point : 0x1000000 + point;
}
