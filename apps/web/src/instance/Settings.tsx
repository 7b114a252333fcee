import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { Trash2 } from "lucide-react";
import { useState, type ReactNode } from "react";

import { api, unwrap } from "../api/client";
import { storeInstance } from "../api/queries";
import { when } from "../lib/format";
import { streamCommand } from "../pages/FirstSteps";
import { useSubmit, withFields } from "../pages/Gate";
import { text } from "../pages/SignIn";
import { Button } from "../ui/Button";
import { Copy, Snippet } from "../ui/Copy";
import { Confirm } from "../ui/Dialog";
import { Field, TextField } from "../ui/Field";
import { useToast } from "../ui/toast";
import { parseEnvironment } from "./environment";
import { useInstance } from "./InstanceLayout";
import { useVerbs } from "./verbs";

const ISOLATION = {
  none: "none: it runs as a plain process",
  landlock: "landlock: your files are out of its reach",
  bubblewrap: "bubblewrap: own files, processes and network",
  container: "container",
  pod: "pod",
};
/** Name, environment, what it is, and its end. */
export function Settings() {
  return (
    <div className="page narrow">
      <General />
      <Environment />
      <About />
      <Danger />
    </div>
  );
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="card">
      <h2>{title}</h2>
      {children}
    </section>
  );
}

function useChange() {
  const instance = useInstance();
  const client = useQueryClient();
  return async (body: { name?: string; env?: Record<string, string> }) => {
    const params = { path: { id: instance.id } };
    storeInstance(client, await unwrap(api.PATCH("/api/instances/{id}", { params, body })));
  };
}

function General() {
  const instance = useInstance();
  const change = useChange();
  const say = useToast();
  // What is being typed stays, whatever happens to the instance meanwhile.
  const [name, setName] = useState<string | null>(null);
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    await change({ name: text(form, "name") });
    setName(null);
    say({ text: "Saved." });
  });
  return (
    <Section title="General">
      {general}
      <form onSubmit={withFields(submit)} noValidate>
        <Field
          label="Name"
          name="name"
          value={name ?? instance.name}
          onChange={({ target }) => setName(target.value)}
          maxLength={64}
          required
          error={fields["name"]}
        />
        <footer>
          <Button kind="primary" type="submit" busy={busy}>
            Save
          </Button>
        </footer>
      </form>
    </Section>
  );
}

function Environment() {
  const change = useChange();
  const say = useToast();
  const [emptying, setEmptying] = useState(false);
  const replace = async (env: Record<string, string>) => {
    await change({ env });
    say({ text: "Saved. It takes effect at the next start." });
  };
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    const env = parseEnvironment(text(form, "env"));
    if (Object.keys(env).length === 0) setEmptying(true);
    else await replace(env);
  });
  return (
    <Section title="Environment">
      {general}
      <form onSubmit={withFields(submit)}>
        <TextField
          label="Variables for the agent's programs"
          hint="One NAME=value a line. What is there is not shown; saving replaces all of it."
          name="env"
          rows={4}
          className="mono"
          spellCheck={false}
          autoComplete="off"
          placeholder={"GITHUB_TOKEN=…\nTZ=Europe/Berlin"}
          error={fields["env"] ?? Object.entries(fields).find(([name]) => name.startsWith("env"))?.[1]}
        />
        <footer>
          <Button type="submit" busy={busy}>
            Replace environment
          </Button>
        </footer>
      </form>
      <Confirm open={emptying} onOpenChange={setEmptying} title="Remove all variables?" action="Remove all" onConfirm={() => replace({})}>
        <p>You gave none, so the environment will be empty. What is in it now cannot be got back.</p>
      </Confirm>
    </Section>
  );
}

function About() {
  const instance = useInstance();
  const facts: [string, ReactNode][] = [
    ["Id", <Copyable key="id" text={instance.id} />],
    ["Address", <Copyable key="url" text={instance.url} />],
    ["Plan", instance.plan],
    ["OpenClaw", instance.openclaw_version ?? "not started yet"],
    ["Runs in", instance.runtime],
    ["Kept apart by", instance.isolation ? ISOLATION[instance.isolation] : "not started yet"],
    ["Made", when(instance.created_at)],
    ["Started", instance.started_at ? when(instance.started_at) : "not running"],
  ];
  return (
    <Section title="About">
      <dl className="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <h3>From a terminal</h3>
      <Snippet label="command" text={streamCommand(instance.id)} />
    </Section>
  );
}

function Copyable({ text }: { text: string }) {
  return (
    <span className="copyable">
      <code>{text}</code>
      <Copy text={text} />
    </span>
  );
}

function Danger() {
  const instance = useInstance();
  const navigate = useNavigate();
  const { remove } = useVerbs(instance);
  const [open, setOpen] = useState(false);
  return (
    <Section title="Delete">
      <p>The instance stops. Its conversations and files can be restored for a while, then they are gone.</p>
      <footer>
        <Button kind="danger" icon={<Trash2 aria-hidden />} onClick={() => setOpen(true)}>
          Delete this instance
        </Button>
      </footer>
      <Confirm
        open={open}
        onOpenChange={setOpen}
        title={`Delete ${instance.name}?`}
        action="Delete"
        onConfirm={() => remove().then(() => navigate({ to: "/instances" }))}
      >
        <p>You can undo this for a while.</p>
      </Confirm>
    </Section>
  );
}
