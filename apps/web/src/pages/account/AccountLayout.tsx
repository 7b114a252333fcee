import { useSuspenseQuery } from "@tanstack/react-query";
import { Outlet } from "@tanstack/react-router";
import { ChartColumn, KeyRound, MonitorSmartphone, ScrollText, Ticket } from "lucide-react";

import { sessionQuery } from "../../api/queries";
import { Tabs } from "../Tabs";

const TABS = [
  { to: "/account/keys", name: "API keys", icon: KeyRound },
  { to: "/account/invites", name: "Invites", icon: Ticket },
  { to: "/account/usage", name: "Usage", icon: ChartColumn },
  { to: "/account/audit", name: "History", icon: ScrollText },
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
      <Tabs name="Account" tabs={TABS} />
      <Outlet />
    </div>
  );
}
