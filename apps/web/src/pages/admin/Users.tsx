import "./admin.css";

import { useQueryClient, useSuspenseQuery } from "@tanstack/react-query";
import { EllipsisVertical, Lock, LockOpen, ShieldCheck, ShieldOff } from "lucide-react";
import { useDeferredValue, useState } from "react";

import { api, unwrap, type ListedUser } from "../../api/client";
import { Pages, pagesOf } from "../../api/pages";
import { messageOf } from "../../api/problem";
import { sessionQuery } from "../../api/queries";
import { count, when } from "../../lib/format";
import { IconButton } from "../../ui/Button";
import { Confirm } from "../../ui/Dialog";
import { Menu, MenuItem } from "../../ui/Menu";
import { useTitle } from "../../ui/Page";
import { useToast } from "../../ui/toast";

const KEY = ["admin", "users"];
const usersQuery = (email: string) =>
  pagesOf([...KEY, email], (page) => api.GET("/api/admin/users", { params: { query: { ...page, email } } }));

export function Users() {
  useTitle("Accounts");
  const [email, setEmail] = useState("");
  const wanted = useDeferredValue(email.trim());
  return (
    <section className="card">
      <div className="heading">
        <h2>Accounts</h2>
        <div className="filters">
          <input type="search" aria-label="Search by address" placeholder="Search by address" value={email} onChange={(e) => setEmail(e.target.value)} />
        </div>
      </div>
      <Pages of={usersQuery(wanted)} none="No account has such an address.">
        {(user) => <Row user={user} />}
      </Pages>
    </section>
  );
}

function Row({ user }: { user: ListedUser }) {
  const { data: self } = useSuspenseQuery(sessionQuery);
  const marks = [
    user.locked_at ? { word: "Locked", tone: "bad" } : null,
    user.role === "operator" ? { word: "Operator", tone: "good" } : null,
    user.email_verified ? null : { word: "Address not confirmed", tone: "idle" },
  ].filter((mark) => mark !== null);
  return (
    <>
      <div className="grow">
        <strong>{user.email}</strong>
        <p className="soft">
          {[user.name, count(user.instance_count, "instance"), `since ${when(user.created_at)}`].filter(Boolean).join(" · ")}
        </p>
        {marks.length > 0 && (
          <p className="marks">
            {marks.map(({ word, tone }) => (
              <span key={word} className={`status ${tone}`}>
                {word}
              </span>
            ))}
          </p>
        )}
      </div>
      {user.id === self.id ? <span className="soft">You</span> : <Actions user={user} />}
    </>
  );
}

function Actions({ user }: { user: ListedUser }) {
  const client = useQueryClient();
  const say = useToast();
  const [asked, setAsked] = useState<"lock" | "promote" | null>(null);
  const change = async (body: { role?: "user" | "operator"; is_locked?: boolean }) => {
    await unwrap(api.PATCH("/api/admin/users/{id}", { params: { path: { id: user.id } }, body }));
    await client.invalidateQueries({ queryKey: KEY });
  };
  const now = (body: Parameters<typeof change>[0]) => {
    change(body).catch((error: unknown) => say({ kind: "bad", text: messageOf(error) }));
  };
  return (
    <>
      <Menu trigger={<IconButton label={`Actions for ${user.email}`} size="small" icon={<EllipsisVertical aria-hidden />} />}>
        {user.role === "operator" ? (
          <MenuItem icon={<ShieldOff aria-hidden />} onSelect={() => now({ role: "user" })}>
            Make it an ordinary account
          </MenuItem>
        ) : (
          <MenuItem icon={<ShieldCheck aria-hidden />} onSelect={() => setAsked("promote")}>
            Make it an operator…
          </MenuItem>
        )}
        {user.locked_at ? (
          <MenuItem icon={<LockOpen aria-hidden />} onSelect={() => now({ is_locked: false })}>
            Unlock
          </MenuItem>
        ) : (
          <MenuItem icon={<Lock aria-hidden />} danger onSelect={() => setAsked("lock")}>
            Lock…
          </MenuItem>
        )}
      </Menu>
      <Confirm open={asked === "lock"} onOpenChange={() => setAsked(null)} title={`Lock ${user.email}?`} action="Lock account" onConfirm={() => change({ is_locked: true })}>
        <p>Its sessions end at once, and its keys are refused until you unlock it. Its instances stay as they are; stop them if they should not run.</p>
      </Confirm>
      <Confirm open={asked === "promote"} onOpenChange={() => setAsked(null)} title={`Make ${user.email} an operator?`} action="Make operator" onConfirm={() => change({ role: "operator" })}>
        <p>An operator sees every account, makes invites, and can lock you out.</p>
      </Confirm>
    </>
  );
}
