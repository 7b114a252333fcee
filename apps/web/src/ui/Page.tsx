import type { ReactNode } from "react";
import { useEffect } from "react";

/** Names the page in the browser's tab and history. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · Reef` : "Reef";
  }, [title]);
}

/** Says to a screen reader, and to the keyboard, where one has come to; unless the page has a place of its own for that. */
export function arrive(): void {
  const main = document.getElementById("main");
  const heading = main?.querySelector("h1");
  const isTaken = document.activeElement?.closest("main :is(input, textarea, [contenteditable]), [role=dialog], [role=alertdialog]");
  if (!heading || isTaken) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

export function Spinner({ label = "Loading" }: { label?: string }) {
  return (
    <div className="loading" role="status">
      <span className="ring" aria-hidden />
      <span className="hidden">{label}</span>
    </div>
  );
}

/** A place with nothing in it yet, and what to do about that. */
export function Empty({ icon, title, children }: { icon: ReactNode; title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <div className="mark" aria-hidden>
        {icon}
      </div>
      <h2>{title}</h2>
      {children}
    </div>
  );
}
