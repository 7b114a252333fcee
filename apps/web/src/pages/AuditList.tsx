import "./audit.css";

import { useState } from "react";

import { api, type AuditRecord } from "../api/client";
import { Pages, pagesOf } from "../api/pages";
import { when } from "../lib/format";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { withFields } from "./Gate";
import { text } from "./SignIn";

interface Filter {
  actor?: string;
  action?: string;
  target?: string;
  from?: string;
  to?: string;
}

const auditQuery = (path: "/api/audit" | "/api/admin/audit", filter: Filter) =>
  pagesOf(["audit", path, filter], (page) => api.GET(path, { params: { query: { ...page, ...filter } } }));

/** What was done by whom, newest first: in one's own account, or in all. */
export function AuditList({ path }: { path: "/api/audit" | "/api/admin/audit" }) {
  const [filter, setFilter] = useState<Filter>({});
  const apply = (form: FormData) => {
    const day = (name: string) => (text(form, name) ? new Date(text(form, name)).toISOString() : "");
    const said = { actor: text(form, "actor"), action: text(form, "action"), target: text(form, "target"), from: day("from"), to: day("to") };
    setFilter(Object.fromEntries(Object.entries(said).filter(([, value]) => value !== "")));
    return Promise.resolve();
  };
  return (
    <>
      <form className="audit-filter" onSubmit={withFields(apply)}>
        <Field label="Action" name="action" placeholder="key.create, or key" autoComplete="off" spellCheck={false} />
        <Field label="By" name="actor" placeholder="usr_… or key_…" autoComplete="off" spellCheck={false} />
        <Field label="On" name="target" placeholder="An id" autoComplete="off" spellCheck={false} />
        <Field label="From the day" name="from" type="date" />
        <Field label="Before the day" name="to" type="date" />
        <Button type="submit">Filter</Button>
      </form>
      <Pages of={auditQuery(path, filter)} none="Nothing of that kind was done.">
        {(record) => <Row record={record} />}
      </Pages>
    </>
  );
}

function Row({ record }: { record: AuditRecord }) {
  const details = Object.keys(record.details).length > 0 ? JSON.stringify(record.details) : null;
  return (
    <div className="grow audit">
      <p>
        <strong>{record.action}</strong> <time dateTime={record.at}>{when(record.at)}</time>
      </p>
      <p className="soft">
        by {record.actor_kind} {record.actor_id && <code>{record.actor_id}</code>}
        {record.ip && <> from {record.ip}</>}
        {record.target && record.target !== record.actor_id && (
          <>
            {" "}
            on <code>{record.target}</code>
          </>
        )}
      </p>
      {details && <p className="soft">{details}</p>}
    </div>
  );
}
