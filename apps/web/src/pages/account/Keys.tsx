import { useQuery, useQueryClient } from "@tanstack/react-query";
import { EllipsisVertical, KeyRound, Pencil, Plus, RefreshCw, Trash2 } from "lucide-react";
import { useState } from "react";

import { api, unwrap, type ApiKey, type MintedKey } from "../../api/client";
import { messageOf } from "../../api/problem";
import { keysQuery } from "../../api/queries";
import { ago, count, isPast, when } from "../../lib/format";
import { Button, IconButton } from "../../ui/Button";
import { Confirm, Dialog } from "../../ui/Dialog";
import { Field, SelectField } from "../../ui/Field";
import { Menu, MenuItem, MenuLine } from "../../ui/Menu";
import { Notice } from "../../ui/Notice";
import { Empty, Spinner, useTitle } from "../../ui/Page";
import { useToast } from "../../ui/toast";
import { useSubmit, withFields } from "../Gate";
import { text } from "../SignIn";
import { MintKey, Secret } from "./MintKey";

export function Keys() {
  useTitle("API keys");
  const { data: keys, error } = useQuery(keysQuery);
  const [minting, setMinting] = useState(false);
  // Here and not in its row: the row of a key that ends at once is gone by then.
  const [rotated, setRotated] = useState<MintedKey | null>(null);
  return (
    <section className="card">
      <div className="heading">
        <h2>API keys</h2>
        <Button kind="primary" icon={<Plus aria-hidden />} onClick={() => setMinting(true)}>
          New key
        </Button>
      </div>
      <p className="soft">
        A key lets a program use your instances. Send it as <code>Authorization: Bearer sk_live_…</code>
      </p>
      {error && <Notice kind="bad">{messageOf(error)}</Notice>}
      {keys ? (
        keys.length === 0 ? (
          <Empty icon={<KeyRound />} title="No keys yet">
            <p>
              With a key and the <a href="/docs">quick start</a> a script answers in a minute.
            </p>
          </Empty>
        ) : (
          <ul className="rows">
            {keys.map((key) => (
              <Row key={key.id} apiKey={key} onRotated={setRotated} />
            ))}
          </ul>
        )
      ) : (
        !error && <Spinner />
      )}
      <MintKey open={minting} onOpenChange={setMinting} />
      <Dialog open={rotated !== null} onOpenChange={() => setRotated(null)} title="Your new key">
        {rotated && <Secret minted={rotated} onDone={() => setRotated(null)} />}
      </Dialog>
    </section>
  );
}

function Row({ apiKey: key, onRotated }: { apiKey: ApiKey; onRotated: (key: MintedKey) => void }) {
  const client = useQueryClient();
  const say = useToast();
  const [asked, setAsked] = useState<"rename" | "rotate" | "revoke" | null>(null);
  const close = () => setAsked(null);
  const params = { path: { id: key.id } };
  const hasEnded = isPast(key.expires_at);
  const rename = useSubmit(async (form: FormData) => {
    await unwrap(api.PATCH("/api/keys/{id}", { params, body: { name: text(form, "name") } }));
    await client.invalidateQueries({ queryKey: keysQuery.queryKey });
    close();
  });
  const revoke = async () => {
    await unwrap(api.DELETE("/api/keys/{id}", { params }));
    await client.invalidateQueries({ queryKey: keysQuery.queryKey });
    say({ text: `${key.name} is revoked.` });
  };
  return (
    <li>
      <KeyRound aria-hidden />
      <div className="grow">
        <strong>{key.name}</strong> {hasEnded && <span className="status bad">Ended</span>}
        <p>
          <code>
            {key.prefix}…{key.last4}
          </code>
        </p>
        <p className="soft">
          {scopesOf(key)} · {key.instance_ids ? `on ${count(key.instance_ids.length, "instance")}` : "on all instances"} ·{" "}
          {key.last_used_at ? `used ${ago(key.last_used_at)}` : "never used"}
          {key.expires_at && !hasEnded && <> · ends {when(key.expires_at)}</>}
        </p>
      </div>
      <Menu trigger={<IconButton label={`Actions for ${key.name}`} icon={<EllipsisVertical aria-hidden />} />}>
        <MenuItem icon={<Pencil aria-hidden />} onSelect={() => setAsked("rename")}>
          Rename…
        </MenuItem>
        <MenuItem icon={<RefreshCw aria-hidden />} onSelect={() => setAsked("rotate")}>
          Rotate…
        </MenuItem>
        <MenuLine />
        <MenuItem icon={<Trash2 aria-hidden />} danger onSelect={() => setAsked("revoke")}>
          Revoke…
        </MenuItem>
      </Menu>
      <Dialog open={asked === "rename"} onOpenChange={close} title="Rename key">
        <form onSubmit={withFields(rename.submit)} noValidate>
          {rename.general}
          <Field label="Name" name="name" defaultValue={key.name} maxLength={100} error={rename.fields["name"]} />
          <footer>
            <Button onClick={close}>Cancel</Button>
            <Button kind="primary" type="submit" busy={rename.busy}>
              Rename
            </Button>
          </footer>
        </form>
      </Dialog>
      <Rotate apiKey={key} open={asked === "rotate"} onClose={close} onRotated={onRotated} />
      <Confirm open={asked === "revoke"} onOpenChange={close} title={`Revoke ${key.name}?`} action={`Revoke ${key.name}`} onConfirm={revoke}>
        <p>
          Programs that use{" "}
          <code>
            {key.prefix}…{key.last4}
          </code>{" "}
          are refused at once, and their open streams end. This cannot be undone.
        </p>
      </Confirm>
    </li>
  );
}

interface RotateProps {
  apiKey: ApiKey;
  open: boolean;
  onClose: () => void;
  onRotated: (key: MintedKey) => void;
}

function Rotate({ apiKey: key, open, onClose, onRotated }: RotateProps) {
  const client = useQueryClient();
  const { busy, submit, general } = useSubmit(async (form: FormData) => {
    const body = { overlap_seconds: Number(form.get("overlap")) };
    const minted = await unwrap(api.POST("/api/keys/{id}/rotate", { params: { path: { id: key.id } }, body }));
    onClose();
    onRotated(minted);
    await client.invalidateQueries({ queryKey: keysQuery.queryKey });
  });
  return (
    <Dialog open={open} onOpenChange={onClose} title={`Rotate ${key.name}`}>
      <form onSubmit={withFields(submit)}>
        <p>A new key with the same rights takes its place.</p>
        {general}
        <SelectField label="The old one" name="overlap" defaultValue={3600}>
          <option value={0}>ends at once</option>
          <option value={3600}>works for another hour</option>
          <option value={86400}>works for another day</option>
          <option value={604800}>works for another week</option>
        </SelectField>
        <footer>
          <Button onClick={onClose}>Cancel</Button>
          <Button kind="primary" type="submit" busy={busy}>
            Rotate
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

function scopesOf(key: ApiKey): string {
  return key.scopes.length > 3 ? count(key.scopes.length, "scope") : key.scopes.join(", ");
}
