import { useQuery, useSuspenseQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { Boxes, EllipsisVertical, MessageSquare, Play, Plus, RotateCw, Settings, Square, Trash2 } from "lucide-react";
import { useDeferredValue, useState } from "react";

import type { Instance } from "../api/client";
import { deletedInstancesQuery, instancesQuery } from "../api/queries";
import { Progress } from "../instance/Progress";
import { useVerbs } from "../instance/verbs";
import { ago, when } from "../lib/format";
import { Button, IconButton } from "../ui/Button";
import { Confirm } from "../ui/Dialog";
import { Menu, MenuItem, MenuLine } from "../ui/Menu";
import { Empty, useTitle } from "../ui/Page";
import { isBusy, StatusBadge } from "../ui/Status";
import { CreateInstance } from "./CreateInstance";
import { FirstSteps } from "./FirstSteps";

type Order = "newest" | "name" | "used";
/** From so many on, they are looked for rather than looked at. */
const MANY = 6;

export function Instances() {
  useTitle("Instances");
  const { data: instances } = useSuspenseQuery(instancesQuery);
  const [creating, setCreating] = useState(false);
  const [wanted, setWanted] = useState("");
  const [order, setOrder] = useState<Order>("newest");
  const shown = useDeferredValue(arranged(instances, wanted, order));
  return (
    <div className="page">
      <div className="heading">
        <h1>Instances</h1>
        <Button kind="primary" icon={<Plus aria-hidden />} onClick={() => setCreating(true)}>
          New instance
        </Button>
      </div>
      {instances.length >= MANY && (
        <div className="filters">
          <input type="search" aria-label="Search instances" placeholder="Search" value={wanted} onChange={(e) => setWanted(e.target.value)} />
          <select aria-label="Order" value={order} onChange={(e) => setOrder(e.target.value as Order)}>
            <option value="newest">Newest first</option>
            <option value="name">By name</option>
            <option value="used">Last used first</option>
          </select>
        </div>
      )}
      {instances.length === 0 ? (
        <FirstSteps onCreate={() => setCreating(true)} />
      ) : shown.length === 0 ? (
        <Empty icon={<Boxes />} title="None of that name">
          <Button onClick={() => setWanted("")}>Show all</Button>
        </Empty>
      ) : (
        <ul className="cards">
          {shown.map((instance) => (
            <Card key={instance.id} instance={instance} />
          ))}
        </ul>
      )}
      <Deleted />
      <CreateInstance open={creating} onOpenChange={setCreating} />
    </div>
  );
}

/** What was deleted, while it can be restored. */
function Deleted() {
  const { data: deleted } = useQuery(deletedInstancesQuery);
  if (!deleted?.length) return null;
  return (
    <details className="card">
      <summary>Recently deleted ({deleted.length})</summary>
      <ul className="rows">
        {deleted.map((instance) => (
          <li key={instance.id}>
            <Trash2 aria-hidden />
            <div className="grow">
              <Link to="/instances/$id" params={{ id: instance.id }}>
                {instance.name}
              </Link>
              {instance.deleted_at && <p className="soft">Deleted {ago(instance.deleted_at)}</p>}
            </div>
            {instance.restorable_until && <span className="soft">Kept until {when(instance.restorable_until)}</span>}
          </li>
        ))}
      </ul>
    </details>
  );
}

function arranged(instances: Instance[], wanted: string, order: Order): Instance[] {
  const words = wanted.trim().toLowerCase();
  const found = instances.filter((it) => it.name.toLowerCase().includes(words) || it.id.includes(words));
  if (order === "name") return found.sort((a, b) => a.name.localeCompare(b.name));
  if (order === "used") return found.sort((a, b) => (b.last_active_at ?? "").localeCompare(a.last_active_at ?? ""));
  return found;
}

function Card({ instance }: { instance: Instance }) {
  return (
    <li className="card instance">
      <div className="head">
        <h2>
          <Link to="/instances/$id/chat" params={{ id: instance.id }}>
            {instance.name}
          </Link>
        </h2>
        <StatusBadge instance={instance} />
        <InstanceMenu instance={instance} />
      </div>
      <p className="soft">
        {instance.plan} plan
        {instance.openclaw_version && <> · OpenClaw {instance.openclaw_version}</>}
        {instance.last_active_at && <> · used {ago(instance.last_active_at)}</>}
      </p>
      {instance.status_reason && <p className={instance.status === "error" ? "reason bad" : "reason"}>{instance.status_reason}</p>}
      {isBusy(instance) ? (
        <Progress instance={instance} />
      ) : (
        <div className="actions">
          {instance.status === "ready" ? (
            <Link className="button small" to="/instances/$id/chat" params={{ id: instance.id }}>
              <MessageSquare aria-hidden />
              <span>Chat</span>
            </Link>
          ) : (
            <StartButton instance={instance} />
          )}
        </div>
      )}
    </li>
  );
}

function StartButton({ instance }: { instance: Instance }) {
  const { run, asked } = useVerbs(instance);
  const verb = instance.status === "error" ? "restart" : "start";
  return (
    <Button size="small" icon={<Play aria-hidden />} busy={asked !== null} onClick={() => void run(verb)}>
      {verb === "restart" ? "Try again" : "Start"}
    </Button>
  );
}

/** What can be done with an instance now. */
export function InstanceMenu({ instance, onDeleted }: { instance: Instance; onDeleted?: () => void }) {
  const { run, remove, asked } = useVerbs(instance);
  const [deleting, setDeleting] = useState(false);
  const navigate = useNavigate();
  const isUp = ["ready", "starting", "provisioning", "updating"].includes(instance.status);
  return (
    <>
      <Menu
        trigger={
          <IconButton label={`Actions for ${instance.name}`} size="small" busy={asked !== null} icon={<EllipsisVertical aria-hidden />} />
        }
      >
        {isUp || instance.status === "error" ? (
          <>
            <MenuItem icon={<RotateCw aria-hidden />} onSelect={() => void run("restart")}>
              Restart
            </MenuItem>
            <MenuItem icon={<Square aria-hidden />} onSelect={() => void run("stop")}>
              Stop
            </MenuItem>
          </>
        ) : (
          <MenuItem icon={<Play aria-hidden />} disabled={isBusy(instance)} onSelect={() => void run("start")}>
            Start
          </MenuItem>
        )}
        <MenuItem icon={<Settings aria-hidden />} onSelect={() => void navigate({ to: "/instances/$id/settings", params: { id: instance.id } })}>
          Settings
        </MenuItem>
        <MenuLine />
        <MenuItem icon={<Trash2 aria-hidden />} danger onSelect={() => setDeleting(true)}>
          Delete…
        </MenuItem>
      </Menu>
      <Confirm
        open={deleting}
        onOpenChange={setDeleting}
        title={`Delete ${instance.name}?`}
        action="Delete"
        onConfirm={() => remove().then(onDeleted)}
      >
        <p>It stops now. Its conversations and files can be restored for a while, then they are gone.</p>
      </Confirm>
    </>
  );
}
