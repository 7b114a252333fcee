import { useSuspenseQuery } from "@tanstack/react-query";
import { Link, Outlet } from "@tanstack/react-router";
import { KeyRound, MonitorSmartphone, Ticket } from "lucide-react";

import { sessionQuery } from "../../api/queries";

const TABS = [
  { to: "/account/keys", name: "API keys", icon: KeyRound },
  { to: "/account/invites", name: "Invites", icon: Ticket },
  { to: "/account/sessions", name: "Profile", icon: MonitorSmartphone },
] as const;

export function AccountLayout() {
  const { data: user } = useSuspenseQuery(sessionQuery);
  return (
    <div className="page">
      <div className="heading">
        <h1>Account</h1>
        <span className="soft">{user.email}</span>
      </div>
      <nav className="tabs" aria-label="Account">
        {TABS.map(({ to, name, icon: Icon }) => (
          <Link key={to} to={to}>
            <Icon aria-hidden />
            <span>{name}</span>
          </Link>
        ))}
      </nav>
      <Outlet />
    </div>
  );
}
