import { LoaderCircle } from "lucide-react";
import type { ButtonHTMLAttributes, ReactNode } from "react";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: "primary" | "plain" | "ghost" | "danger";
  size?: "normal" | "small";
  /** Under way: cannot be pressed again. */
  busy?: boolean;
  icon?: ReactNode;
}

export function Button({ kind = "plain", size = "normal", busy = false, icon, children, className, ...rest }: Props) {
  return (
    <button
      type="button"
      {...rest}
      className={["button", kind, size, className].filter(Boolean).join(" ")}
      aria-busy={busy || undefined}
      aria-disabled={busy || rest["aria-disabled"] || undefined}
      onClick={busy ? (event) => event.preventDefault() : rest.onClick}
    >
      {busy ? <LoaderCircle className="spin" aria-hidden /> : icon}
      {children !== undefined && <span>{children}</span>}
    </button>
  );
}

/** A button that is only an icon; its name is what a screen reader and the pointer get. */
export function IconButton({ label, ...rest }: Omit<Props, "children"> & { label: string }) {
  return <Button kind="ghost" {...rest} className={["icon", rest.className].filter(Boolean).join(" ")} aria-label={label} title={label} />;
}
