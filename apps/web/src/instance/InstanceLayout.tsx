import { useSuspenseQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation, useNavigate, useParams } from "@tanstack/react-router";
import { ChevronLeft, Folder, MessageSquare, Monitor, ScrollText, Settings, SquareTerminal } from "lucide-react";

import type { Instance } from "../api/client";
import { instanceQuery, isGone } from "../api/queries";
import { InstanceMenu } from "../pages/Instances";
import { useTitle } from "../ui/Page";
import { StatusBadge } from "../ui/Status";
import { Gone } from "./Gone";

const TABS = [
  { to: "/instances/$id/chat", name: "Chat", icon: MessageSquare },
  { to: "/instances/$id/files", name: "Files", icon: Folder },
  { to: "/instances/$id/terminal", name: "Terminal", icon: SquareTerminal },
  { to: "/instances/$id/desktop", name: "Desktop", icon: Monitor },
  { to: "/instances/$id/logs", name: "Logs", icon: ScrollText },
  { to: "/instances/$id/settings", name: "Settings", icon: Settings },
] as const;

/** Returns the instance of this address; the stream of events keeps it as it is. */
export function useInstance(): Instance {
  const { id } = useParams({ from: "/shell/instances/$id" });
  return useSuspenseQuery(instanceQuery(id)).data;
}

/** Name, status and tabs of one instance. */
export function InstanceLayout() {
  const instance = useInstance();
  const navigate = useNavigate();
  const { pathname } = useLocation();
  const tab = TABS.find(({ to }) => pathname.startsWith(to.replace("$id", instance.id)));
  useTitle(tab ? `${tab.name} · ${instance.name}` : instance.name);
  return (
    <div className="instance-page">
      <div className="instance-head">
        <Link to="/instances" className="button ghost icon small" aria-label="All instances">
          <ChevronLeft aria-hidden />
        </Link>
        <h1>{instance.name}</h1>
        <StatusBadge instance={instance} />
        <nav aria-label={instance.name} className="tabs">
          {TABS.map(({ to, name, icon: Icon }) => (
            <Link key={to} to={to} params={{ id: instance.id }}>
              <Icon aria-hidden />
              <span>{name}</span>
            </Link>
          ))}
        </nav>
        {!isGone(instance) && <InstanceMenu instance={instance} onDeleted={() => void navigate({ to: "/instances" })} />}
      </div>
      {isGone(instance) ? <Gone instance={instance} /> : <Outlet />}
    </div>
  );
}
