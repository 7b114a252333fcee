import { useQuery, useQueryClient } from "@tanstack/react-query";
import { MonitorSmartphone } from "lucide-react";

import { api, unwrap, type BrowserSession } from "../../api/client";
import { messageOf } from "../../api/problem";
import { browserSessionsQuery } from "../../api/queries";
import { ago, browserName, when } from "../../lib/format";
import { Button } from "../../ui/Button";
import { Notice } from "../../ui/Notice";
import { Spinner, useTitle } from "../../ui/Page";
import { useSubmit } from "../Gate";
import { Address, Deletion, Password, Profile } from "./Profile";

export function Sessions() {
  useTitle("Profile");
  const { data: sessions, error } = useQuery(browserSessionsQuery);
  return (
    <>
      <Profile />
      <Address />
      <section className="card">
        <h2>Where you are signed in</h2>
        {error && <Notice kind="bad">{messageOf(error)}</Notice>}
        {sessions ? (
          <ul className="rows">
            {sessions.map((session) => (
              <Row key={session.id} session={session} />
            ))}
          </ul>
        ) : (
          !error && <Spinner />
        )}
      </section>
      <Password />
      <Deletion />
    </>
  );
}

function Row({ session }: { session: BrowserSession }) {
  const client = useQueryClient();
  const { busy, submit, general } = useSubmit(async () => {
    await unwrap(api.DELETE("/api/account/sessions/{id}", { params: { path: { id: session.id } } }));
    await client.invalidateQueries({ queryKey: browserSessionsQuery.queryKey });
  });
  const name = browserName(session.user_agent);
  return (
    <li>
      <MonitorSmartphone aria-hidden />
      <div className="grow">
        <strong>{name}</strong>
        <p className="soft">
          {session.ip ?? "unknown address"} · signed in {when(session.created_at)} · used {ago(session.last_seen_at)}
        </p>
        {general}
      </div>
      {session.current ? (
        <span className="status good">This one</span>
      ) : (
        <Button size="small" busy={busy} onClick={() => void submit()} aria-label={`Sign out ${name}`}>
          Sign out
        </Button>
      )}
    </li>
  );
}
