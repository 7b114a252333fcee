import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Pause, Play, ScrollText } from "lucide-react";
import { useDeferredValue, useEffect, useRef, useState } from "react";

import { api, unwrap } from "../api/client";
import { messageOf } from "../api/problem";
import { Button } from "../ui/Button";
import { Copy } from "../ui/Copy";
import { Notice } from "../ui/Notice";
import { Empty, Spinner } from "../ui/Page";
import { useInstance } from "./InstanceLayout";
import { NotReady } from "./NotReady";

const LINES = 1000;
const EVERY_MS = 2_000;
/** The gateway writes its own time, which is the one beside it. */
const OWN_TIME = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:?\d\d)\s+/;

/** What the gateway writes: followed, filtered. */
export function Logs() {
  const instance = useInstance();
  const [following, setFollowing] = useState(true);
  const [wanted, setWanted] = useState("");
  const filter = useDeferredValue(wanted.trim().toLowerCase());
  const isUp = instance.status === "ready" || instance.status === "starting";
  const { data: lines, error, refetch } = useQuery({
    queryKey: ["logs", instance.id],
    queryFn: () =>
      unwrap(api.GET("/api/instances/{id}/logs", { params: { path: { id: instance.id }, query: { lines: LINES } } })),
    enabled: isUp,
    refetchInterval: following && isUp ? EVERY_MS : false,
    placeholderData: keepPreviousData,
  });
  const shown = lines?.filter(({ line }) => line.toLowerCase().includes(filter));
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (following) end.current?.scrollIntoView({ block: "end" });
  }, [following, shown?.length]);
  return (
    <section className="logs" aria-label="Logs">
      <NotReady instance={instance} />
      <div className="filters">
        <input type="search" aria-label="Filter lines" placeholder="Filter" value={wanted} onChange={(e) => setWanted(e.target.value)} />
        <Button
          icon={following ? <Pause aria-hidden /> : <Play aria-hidden />}
          aria-pressed={following}
          onClick={() => setFollowing(!following)}
        >
          {following ? "Following" : "Follow"}
        </Button>
        <Copy named label="Copy lines" text={(shown ?? []).map(({ at, line }) => `${at} ${line}`).join("\n")} />
      </div>
      {error && isUp && (
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
      )}
      {shown ? (
        shown.length === 0 ? (
          <Empty icon={<ScrollText />} title={filter ? "No line like that" : "Nothing written yet"} />
        ) : (
          // Scrolls by itself, so the keyboard must reach it.
          // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
          <div className="lines" tabIndex={0} role="log" aria-label="Lines" aria-live="off">
            {shown.map(({ at, line }, index) => (
              <div key={`${at}-${index}`} className={tone(line)}>
                <time dateTime={at}>{new Date(at).toLocaleTimeString()}</time>
                <span>{line.replace(OWN_TIME, "")}</span>
              </div>
            ))}
            <div ref={end} />
          </div>
        )
      ) : isUp && !error ? (
        <Spinner />
      ) : null}
    </section>
  );
}

function tone(line: string): string {
  if (/\b(error|fatal|panic)/i.test(line)) return "bad";
  return /\bwarn/i.test(line) ? "warn" : "";
}
