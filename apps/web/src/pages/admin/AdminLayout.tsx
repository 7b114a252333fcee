import { Outlet } from "@tanstack/react-router";
import { Boxes, Mail, RefreshCw, ScrollText, Ticket, Users } from "lucide-react";

import { Tabs } from "../Tabs";

const TABS = [
  { to: "/admin/users", name: "Accounts", icon: Users },
  { to: "/admin/invites", name: "Invites", icon: Ticket },
  { to: "/admin/instances", name: "Instances", icon: Boxes },
  { to: "/admin/tasks", name: "Background", icon: RefreshCw },
  { to: "/admin/mails", name: "Mail", icon: Mail },
  { to: "/admin/audit", name: "Audit", icon: ScrollText },
] as const;

/** What the operator of this service sees of all of it. */
export function AdminLayout() {
  return (
    <div className="page">
      <div className="heading">
        <h1>Operator</h1>
      </div>
      <Tabs name="Operator" tabs={TABS} />
      <Outlet />
    </div>
  );
}
