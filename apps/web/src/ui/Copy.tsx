import { Check, Copy as CopyIcon } from "lucide-react";
import { useEffect, useState } from "react";

import { messageOf } from "../api/problem";
import { copyText } from "../lib/plainHttp";
import { Button, IconButton } from "./Button";
import { useToast } from "./toast";

/** Copies a text and says so. */
export function Copy({ text, label = "Copy", named = false }: { text: string; label?: string; named?: boolean }) {
  const [done, setDone] = useState(false);
  const say = useToast();
  useEffect(() => {
    if (!done) return;
    const timer = setTimeout(() => setDone(false), 2_000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = () =>
    void copyText(text).then(
      () => setDone(true),
      (error: unknown) => say({ kind: "bad", text: messageOf(error) }),
    );
  const icon = done ? <Check aria-hidden className="good" /> : <CopyIcon aria-hidden />;
  return named ? (
    <Button size="small" icon={icon} onClick={copy}>
      {done ? "Copied" : label}
    </Button>
  ) : (
    <IconButton size="small" icon={icon} label={done ? "Copied" : label} onClick={copy} />
  );
}

/** Lines to paste into a terminal. */
export function Snippet({ text, label }: { text: string; label: string }) {
  return (
    <div className="snippet">
      {/* Scrolls sideways, so the keyboard must reach it. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre tabIndex={0} aria-label={label}>
        <code>{text}</code>
      </pre>
      <Copy text={text} label={`Copy ${label}`} />
    </div>
  );
}
