import { X } from "lucide-react";
import { AlertDialog, Dialog as Radix } from "radix-ui";
import { useState, type ReactNode, type RefObject } from "react";

import { messageOf } from "../api/problem";
import { Button, IconButton } from "./Button";
import { Notice } from "./Notice";

/** A dialog over the page; focus goes in and comes back (WAI-ARIA dialog pattern, by Radix). */
export function Dialog({
  open,
  onOpenChange,
  title,
  description,
  children,
  wide = false,
  container,
}: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description?: ReactNode;
  children: ReactNode;
  wide?: boolean;
  /** What it is part of where that may fill the screen, which shows nothing else then; else the page. */
  container?: RefObject<HTMLElement | null>;
}) {
  return (
    <Radix.Root open={open} onOpenChange={onOpenChange}>
      <Radix.Portal container={container?.current}>
        <Radix.Overlay className="overlay" />
        <Radix.Content className={wide ? "dialog wide" : "dialog"} {...(description ? {} : { "aria-describedby": undefined })}>
          <header>
            <Radix.Title>{title}</Radix.Title>
            <Radix.Close asChild>
              <IconButton label="Close" icon={<X aria-hidden />} />
            </Radix.Close>
          </header>
          {description && <Radix.Description className="soft">{description}</Radix.Description>}
          {children}
        </Radix.Content>
      </Radix.Portal>
    </Radix.Root>
  );
}

/** Asks before what cannot be taken back. */
export function Confirm({
  open,
  onOpenChange,
  title,
  children,
  action,
  onConfirm,
}: {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  children: ReactNode;
  action: string;
  onConfirm: () => Promise<unknown>;
}) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const confirm = async () => {
    setBusy(true);
    setProblem(null);
    try {
      await onConfirm();
      onOpenChange(false);
    } catch (error) {
      setProblem(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <AlertDialog.Root open={open} onOpenChange={onOpenChange}>
      <AlertDialog.Portal>
        <AlertDialog.Overlay className="overlay" />
        <AlertDialog.Content className="dialog">
          <header>
            <AlertDialog.Title>{title}</AlertDialog.Title>
          </header>
          <AlertDialog.Description asChild>
            <div>{children}</div>
          </AlertDialog.Description>
          {problem !== null && <Notice kind="bad">{messageOf(problem)}</Notice>}
          <footer>
            <AlertDialog.Cancel asChild>
              <Button>Cancel</Button>
            </AlertDialog.Cancel>
            <Button kind="danger" busy={busy} onClick={() => void confirm()}>
              {action}
            </Button>
          </footer>
        </AlertDialog.Content>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
