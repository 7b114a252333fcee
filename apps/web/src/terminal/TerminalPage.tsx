import "./terminal.css";

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { AArrowDown, AArrowUp, ClipboardPaste, Copy, Plus, Search, SquareTerminal, X } from "lucide-react";
import { useRef, useState } from "react";

import { api, unwrap } from "../api/client";
import { messageOf } from "../api/problem";
import { useInstance } from "../instance/InstanceLayout";
import { NotReady } from "../instance/NotReady";
import { Button, IconButton } from "../ui/Button";
import { Confirm } from "../ui/Dialog";
import { Notice } from "../ui/Notice";
import { Empty, Spinner } from "../ui/Page";
import { Screen, type Controls } from "./Screen";

const SIZES = [11, 12, 13, 14, 16, 18, 22];
const SIZE_KEY = "reef.terminal.size";
/** The address of a terminal that has not begun. */
const NEW = "new";

/** Shells of the instance, one tab each; they outlive the page. */
export function TerminalPage() {
  const instance = useInstance();
  const navigate = useNavigate();
  const client = useQueryClient();
  const { session: wanted } = useSearch({ from: "/shell/instances/$id/terminal" });
  const isUp = instance.status === "ready";
  const queryKey = ["terminals", instance.id];
  const { data: sessions, error, refetch } = useQuery({
    queryKey,
    queryFn: () => unwrap(api.GET("/api/instances/{id}/terminal/sessions", { params: { path: { id: instance.id } } })),
    enabled: isUp,
  });
  const [size, setSize] = useState(() => Number(localStorage.getItem(SIZE_KEY)) || 13);
  const [ending, setEnding] = useState<string | null>(null);
  const [fresh, setFresh] = useState(0);
  /** Under which name the screens of those that began here are, by id: the screen stays as it is when it gets one. */
  const [begun, setBegun] = useState<Record<string, string>>({});
  const controls = useRef<Controls>(null);

  const screenOf = (id: string) => (id === NEW ? `${NEW} ${fresh}` : (begun[id] ?? id));
  const open = (session: string) => navigate({ to: "/instances/$id/terminal", params: { id: instance.id }, search: { session }, replace: true });
  const refresh = () => client.invalidateQueries({ queryKey });
  const resize = (step: number) => {
    const next = SIZES[Math.max(0, Math.min(SIZES.length - 1, SIZES.findIndex((it) => it >= size) + step))] ?? size;
    localStorage.setItem(SIZE_KEY, String(next));
    setSize(next);
  };
  const end = async (id: string) => {
    await unwrap(api.DELETE("/api/instances/{id}/terminal/sessions/{tid}", { params: { path: { id: instance.id, tid: id } } }));
    await refresh();
    if (id === current) await open(sessions?.find((it) => it.id !== id)?.id ?? NEW);
  };

  const another = () => {
    setFresh(fresh + 1);
    void open(NEW);
  };
  const begin = async (id: string) => {
    setBegun((all) => ({ ...all, [id]: screenOf(NEW) }));
    await refresh();
    await open(id);
  };

  const current = wanted ?? (sessions && (sessions.find(({ exit }) => !exit)?.id ?? NEW));
  // A tab of its own until the list has it.
  const tabs = sessions?.some(({ id }) => id === current) ? sessions : [...(sessions ?? []), ...(current ? [{ id: current, command: null }] : [])];

  if (!isUp) {
    return (
      <div className="workbench">
        <div className="page narrow">
          <NotReady instance={instance} />
        </div>
      </div>
    );
  }
  if (error && !sessions) {
    return (
      <div className="workbench">
        <div className="page narrow">
          <Notice
            kind="bad"
            action={
              <Button size="small" onClick={() => void refetch()}>
                Try again
              </Button>
            }
          >
            {messageOf(error)}
          </Notice>
        </div>
      </div>
    );
  }
  return (
    <section className="workbench terminal" aria-label="Terminal">
      <div className="bar">
        <ul className="terminals" aria-label="Terminals">
          {tabs.map(({ id, command }, index) => (
            <li key={id} className={id === current ? "current" : undefined}>
              <button type="button" aria-current={id === current} onClick={() => void open(id)}>
                <SquareTerminal aria-hidden />
                {command ?? `Shell ${index + 1}`}
              </button>
              {id !== NEW && (
                <IconButton size="small" label={`End ${command ?? `shell ${index + 1}`}`} icon={<X aria-hidden />} onClick={() => setEnding(id)} />
              )}
            </li>
          ))}
        </ul>
        <IconButton size="small" label="New terminal" icon={<Plus aria-hidden />} onClick={another} />
        <span className="grow" />
        <IconButton size="small" label="Find in the terminal" icon={<Search aria-hidden />} onClick={() => controls.current?.find()} />
        <IconButton size="small" label="Copy what is selected" icon={<Copy aria-hidden />} onClick={() => controls.current?.copy()} />
        <IconButton size="small" label="Paste" icon={<ClipboardPaste aria-hidden />} onClick={() => controls.current?.paste()} />
        <IconButton size="small" label="Smaller text" icon={<AArrowDown aria-hidden />} onClick={() => resize(-1)} />
        <IconButton size="small" label="Larger text" icon={<AArrowUp aria-hidden />} onClick={() => resize(1)} />
      </div>
      {current ? (
        <Screen
          // Another terminal, or a new one again.
          key={screenOf(current)}
          instance={instance.id}
          session={current === NEW ? undefined : current}
          fontSize={size}
          controls={controls}
          onBegun={(id) => void begin(id)}
          onEnded={() => void refresh()}
          again={
            <Button size="small" onClick={another}>
              New terminal
            </Button>
          }
        />
      ) : sessions ? (
        <Empty icon={<SquareTerminal />} title="No terminal" />
      ) : (
        <Spinner />
      )}
      <Confirm open={ending !== null} onOpenChange={() => setEnding(null)} title="End this terminal?" action="End it" onConfirm={() => end(ending ?? "")}>
        <p>What runs in it is killed.</p>
      </Confirm>
    </section>
  );
}
