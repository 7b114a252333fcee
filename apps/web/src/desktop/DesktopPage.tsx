import "../terminal/terminal.css";
import "./desktop.css";

import { useQuery } from "@tanstack/react-query";
import { ClipboardPaste, Eye, Keyboard, Maximize, Minimize, Monitor, Scaling } from "lucide-react";
import { useEffect, useRef, useState, useSyncExternalStore, type RefObject } from "react";

import { api, unwrap } from "../api/client";
import { messageOf } from "../api/problem";
import { useInstance } from "../instance/InstanceLayout";
import { NotReady } from "../instance/NotReady";
import { endOf, LONGEST_WAIT_MS, SHORTEST_WAIT_MS } from "../lib/socket";
import { text } from "../pages/SignIn";
import { Button, IconButton } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { Empty, Spinner } from "../ui/Page";
import { keysymOf, typed } from "./typed";
import type RFB from "@novnc/novnc";

type Key = [keysym: number, code: string];
const ENTER: Key = [0xff0d, "Enter"];
const BACKSPACE: Key = [0xff08, "Backspace"];
/** X11 keysyms of what phones have no keys for. */
const KEYS: [name: string, ...Key][] = [
  ["Esc", 0xff1b, "Escape"],
  ["Tab", 0xff09, "Tab"],
  ["Enter", ...ENTER],
  ["⌫", ...BACKSPACE],
  ["←", 0xff51, "ArrowLeft"],
  ["↑", 0xff52, "ArrowUp"],
  ["↓", 0xff54, "ArrowDown"],
  ["→", 0xff53, "ArrowRight"],
];
const MODIFIERS: [name: string, ...Key][] = [
  ["Ctrl", 0xffe3, "ControlLeft"],
  ["Alt", 0xffe9, "AltLeft"],
];

/** The instance's desktop, to look at and to work on. */
export function DesktopPage() {
  const instance = useInstance();
  const isUp = instance.status === "ready";
  const path = { id: instance.id };
  const { data: status, error, refetch } = useQuery({
    queryKey: ["desktop", instance.id],
    queryFn: () => unwrap(api.GET("/api/instances/{id}/vnc/status", { params: { path } })),
    enabled: isUp,
  });
  if (isUp && status && status.state !== "unavailable") return <Workplace instance={instance.id} />;
  return (
    <div className="workbench">
      <div className="page narrow">
        <NotReady instance={instance} />
        {error && isUp && <Trouble text={messageOf(error)} onAgain={() => void refetch()} />}
        {isUp && status?.state === "unavailable" && (
          <Empty icon={<Monitor />} title="This instance has no desktop">
            <p>{status.reason}</p>
            <Button onClick={() => void refetch()}>Look again</Button>
          </Empty>
        )}
        {isUp && !status && !error && <Spinner />}
      </div>
    </div>
  );
}

function Trouble({ text, onAgain }: { text: string; onAgain: () => void }) {
  return (
    <Notice
      kind="bad"
      action={
        <Button size="small" onClick={onAgain}>
          Try again
        </Button>
      }
    >
      {text}
    </Notice>
  );
}

/** Whether the page is shown in full screen, and how to change that; nothing where the browser has none (a phone of Apple's). */
function useFullScreen(frame: RefObject<HTMLElement | null>) {
  const isFull = useSyncExternalStore(
    (listener) => {
      document.addEventListener("fullscreenchange", listener);
      return () => document.removeEventListener("fullscreenchange", listener);
    },
    () => document.fullscreenElement !== null,
  );
  const toggle = () => {
    // Refused, it stays as it is.
    (isFull ? document.exitFullscreen() : frame.current?.requestFullscreen())?.catch(() => undefined);
  };
  return { isFull, toggle: document.fullscreenEnabled ? toggle : undefined };
}

function Workplace({ instance }: { instance: string }) {
  const frame = useRef<HTMLDivElement>(null);
  const screen = useRef<HTMLDivElement>(null);
  const rfb = useRef<RFB | null>(null);
  const [state, setState] = useState<"connecting" | "live" | "lost" | { end: string }>("connecting");
  const [attempt, setAttempt] = useState(0);
  const wait = useRef(SHORTEST_WAIT_MS);
  const { isFull, toggle } = useFullScreen(frame);
  const [onlyLooking, setOnlyLooking] = useState(false);
  const [fits, setFits] = useState(false);
  const [typing, setTyping] = useState(false);
  const [pasting, setPasting] = useState(false);
  const [held, setHeld] = useState<number[]>([]);
  const [copied, setCopied] = useState("");
  const [line, setLine] = useState("");

  useEffect(() => {
    const target = screen.current;
    if (!target) return;
    const stop = new AbortController();
    let connection: RFB | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const connect = ({ default: Rfb }: typeof import("@novnc/novnc")) => {
      if (stop.signal.aborted) return;
      const origin = location.origin.replace(/^http/, "ws");
      const socket = new WebSocket(`${origin}/api/instances/${instance}/vnc/ws${onlyLooking ? "?view_only=1" : ""}`);
      // The library does not tell why it was closed.
      let end: string | undefined;
      socket.addEventListener("close", ({ code, reason }) => (end = endOf(code, reason, "The desktop has ended.")));
      connection = new Rfb(target, socket, { shared: true });
      connection.viewOnly = onlyLooking;
      connection.scaleViewport = true;
      connection.background = "transparent";
      const begin = () => {
        wait.current = SHORTEST_WAIT_MS;
        setState("live");
      };
      connection.addEventListener("connect", begin, stop);
      connection.addEventListener("clipboard", (event) => setCopied((event as CustomEvent<{ text: string }>).detail.text), stop);
      connection.addEventListener(
        "disconnect",
        () => {
          if (end !== undefined) return setState({ end });
          setState("lost");
          timer = setTimeout(() => setAttempt((it) => it + 1), wait.current);
          wait.current = Math.min(wait.current * 2, LONGEST_WAIT_MS);
        },
        stop,
      );
      rfb.current = connection;
    };
    import("@novnc/novnc").then(connect).catch(() => {
      if (!stop.signal.aborted) setState({ end: "The desktop's viewer could not be loaded." });
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
  const write = (text: string) => {
    const { back, text: letters } = typed(line, text);
    setLine(text);
    for (let n = 0; n < back; n += 1) press(...BACKSPACE);
    for (const letter of letters) press(keysymOf(letter), "");
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
        <span className={`status ${state === "live" ? "good" : typeof state === "object" ? "bad" : "busy"}`} role="status">
          {typeof state === "object"
            ? "Ended"
            : { connecting: "Connecting", lost: "Reconnecting", live: onlyLooking ? "Looking" : "Connected" }[state]}
        </span>
        {toggle && (
          <IconButton
            size="small"
            label={isFull ? "Leave full screen" : "Full screen"}
            icon={isFull ? <Minimize aria-hidden /> : <Maximize aria-hidden />}
            onClick={toggle}
          />
        )}
      </div>
      {typing && !onlyLooking && (
        <div className="bar keys">
          {MODIFIERS.map(([name, keysym, code]) => (
            <Button key={name} size="small" aria-pressed={held.includes(keysym)} onClick={() => hold(keysym, code)}>
              {name}
            </Button>
          ))}
          {KEYS.map(([name, keysym, code]) => (
            <Button key={name} size="small" aria-label={name.length > 1 ? undefined : code} onClick={() => press(keysym, code)}>
              {name}
            </Button>
          ))}
          <form
            onSubmit={(event) => {
              event.preventDefault();
              press(...ENTER);
              setLine("");
            }}
          >
            <input
              type="text"
              aria-label="Type on the desktop"
              placeholder="Type here"
              value={line}
              autoComplete="off"
              autoCapitalize="off"
              onChange={({ target }) => write(target.value)}
              onKeyDown={({ key }) => {
                // Where nothing is left of what was typed here, nothing changes.
                if (key === "Backspace" && line === "") press(...BACKSPACE);
              }}
            />
          </form>
        </div>
      )}
      {typeof state === "object" && (
        <Trouble
          text={state.end}
          onAgain={() => {
            setState("connecting");
            setAttempt(attempt + 1);
          }}
        />
      )}
      <div className="glass" ref={screen} />
      <Dialog container={frame} open={pasting} onOpenChange={setPasting} title="Clipboard" description="What was last copied on the desktop, and what to put there.">
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
