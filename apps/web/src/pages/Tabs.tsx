import { Link, type LinkProps } from "@tanstack/react-router";
import type { LucideIcon } from "lucide-react";

/** The parts of a page that has several. */
export function Tabs({ name, tabs }: { name: string; tabs: readonly { to: NonNullable<LinkProps["to"]>; name: string; icon: LucideIcon }[] }) {
  return (
    <nav className="tabs" aria-label={name}>
      {tabs.map(({ to, name, icon: Icon }) => (
        <Link key={to} to={to}>
          <Icon aria-hidden />
          <span>{name}</span>
        </Link>
      ))}
    </nav>
  );
}
