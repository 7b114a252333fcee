import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, unwrap, type MintedKey, type Scope } from "../../api/client";
import { instancesQuery, keysQuery } from "../../api/queries";
import { Button } from "../../ui/Button";
import { Copy } from "../../ui/Copy";
import { Dialog } from "../../ui/Dialog";
import { Field, SelectField } from "../../ui/Field";
import { Notice } from "../../ui/Notice";
import { useSubmit, withFields } from "../Gate";
import { text } from "../SignIn";

const SCOPES: [scope: Scope, meaning: string][] = [
  ["instances:read", "See instances and their status"],
  ["instances:write", "Create, change, start, stop and delete them"],
  ["chat", "Chat; whoever may chat can make the agent run commands"],
  ["files", "Read and write files"],
  ["terminal", "Run commands and open terminals"],
  ["desktop", "See and control the desktop"],
  ["gateway", "Reach the OpenClaw gateway itself"],
  ["account", "Manage this account: keys, sessions, invites"],
];
export const DAYS: [days: number, name: string][] = [
  [0, "Never"],
  [1, "In a day"],
  [7, "In a week"],
  [30, "In 30 days"],
  [90, "In 90 days"],
  [365, "In a year"],
];
const DAY_MS = 86_400_000;

/** Returns the instant so many days from now; none for 0. */
export function inDays(days: number): string | null {
  return days > 0 ? new Date(Date.now() + days * DAY_MS).toISOString() : null;
}

export function MintKey({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  const [made, setMade] = useState<MintedKey | null>(null);
  const change = (next: boolean) => {
    if (!next) setMade(null);
    onOpenChange(next);
  };
  return (
    <Dialog open={open} onOpenChange={change} title={made ? "Your new key" : "New API key"}>
      {made ? <Secret minted={made} onDone={() => change(false)} /> : <Form onMade={setMade} onCancel={() => change(false)} />}
    </Dialog>
  );
}

function Form({ onMade, onCancel }: { onMade: (key: MintedKey) => void; onCancel: () => void }) {
  const client = useQueryClient();
  const { data: instances } = useQuery(instancesQuery);
  const [some, setSome] = useState(false);
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    const body = {
      name: text(form, "name"),
      scopes: form.getAll("scope") as Scope[],
      instance_ids: some ? (form.getAll("instance") as string[]) : null,
      ip_allow: text(form, "ip_allow") ? text(form, "ip_allow").split(/[\s,]+/) : null,
      expires_at: inDays(Number(form.get("days"))),
    };
    const minted = await unwrap(api.POST("/api/keys", { body }));
    onMade(minted);
    await client.invalidateQueries({ queryKey: keysQuery.queryKey });
  });
  return (
    <form onSubmit={withFields(submit)} noValidate>
      {general}
      <Field label="Name" hint="What will use it." name="name" maxLength={100} autoComplete="off" error={fields["name"]} />
      <fieldset>
        <legend>It may</legend>
        {SCOPES.map(([scope, meaning]) => (
          <label key={scope} className="check">
            <input type="checkbox" name="scope" value={scope} defaultChecked={scope !== "account"} />
            <code>{scope}</code>
            <span className="soft">{meaning}</span>
          </label>
        ))}
        {fields["scopes"] && <p className="error">{fields["scopes"]}</p>}
      </fieldset>
      {instances && instances.length > 0 && (
        <fieldset>
          <legend>On</legend>
          <label className="check">
            <input type="radio" name="reach" checked={!some} onChange={() => setSome(false)} />
            <span>all instances, also later ones</span>
          </label>
          <label className="check">
            <input type="radio" name="reach" checked={some} onChange={() => setSome(true)} />
            <span>these only</span>
          </label>
          {some &&
            instances.map((instance) => (
              <label key={instance.id} className="check deeper">
                <input type="checkbox" name="instance" value={instance.id} />
                <span>{instance.name}</span>
              </label>
            ))}
          {fields["instance_ids"] && <p className="error">{fields["instance_ids"]}</p>}
        </fieldset>
      )}
      <SelectField label="Ends" name="days" defaultValue={0} error={fields["expires_at"]}>
        {DAYS.map(([days, name]) => (
          <option key={days} value={days}>
            {name}
          </option>
        ))}
      </SelectField>
      <Field
        label="Only from these addresses"
        hint="Addresses or networks (192.0.2.0/24) with spaces between; empty: from anywhere."
        name="ip_allow"
        autoComplete="off"
        spellCheck={false}
        error={Object.entries(fields).find(([name]) => name.startsWith("ip_allow"))?.[1]}
      />
      <footer>
        <Button onClick={onCancel}>Cancel</Button>
        <Button kind="primary" type="submit" busy={busy}>
          Create key
        </Button>
      </footer>
    </form>
  );
}

/** A secret, shown this once. */
export function Secret({ minted, onDone }: { minted: MintedKey; onDone: () => void }) {
  // Left out only where a request is answered a second time.
  const secret = minted.secret ?? "";
  return (
    <>
      <Notice kind="warn" title="Copy it now.">
        It is not shown again: Reef keeps only its hash.
      </Notice>
      <output className="secret" aria-label={`Secret of ${minted.name}`}>
        {secret}
      </output>
      <footer>
        <Copy named text={secret} label="Copy key" />
        <Button kind="primary" onClick={onDone}>
          Done
        </Button>
      </footer>
    </>
  );
}
