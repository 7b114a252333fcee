import { useQuery, useQueryClient, useSuspenseQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { Trash2 } from "lucide-react";
import { useRef, useState } from "react";

import { api, unwrap } from "../../api/client";
import { messageOf } from "../../api/problem";
import { accountQuery, browserSessionsQuery, sessionQuery } from "../../api/queries";
import { when } from "../../lib/format";
import { Button } from "../../ui/Button";
import { Dialog } from "../../ui/Dialog";
import { Field } from "../../ui/Field";
import { Notice } from "../../ui/Notice";
import { Spinner } from "../../ui/Page";
import { useToast } from "../../ui/toast";
import { useSubmit, withFields } from "../Gate";
import { exactly, text } from "../SignIn";

export function Profile() {
  const { data: user } = useSuspenseQuery(sessionQuery);
  const client = useQueryClient();
  const say = useToast();
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    await unwrap(api.PATCH("/api/account", { body: { name: text(form, "name") || null } }));
    await client.invalidateQueries({ queryKey: sessionQuery.queryKey });
    say({ text: "Saved." });
  });
  return (
    <section className="card">
      <h2>Profile</h2>
      {general}
      <form onSubmit={withFields(submit)} noValidate>
        <Field label="Name" hint="What to call you; may be left empty." name="name" autoComplete="name" defaultValue={user.name ?? ""} maxLength={100} error={fields["name"]} />
        <dl className="facts">
          <div>
            <dt>Member since</dt>
            <dd>{when(user.created_at)}</dd>
          </div>
          {user.role === "operator" && (
            <div>
              <dt>Role</dt>
              <dd>Operator of this service</dd>
            </div>
          )}
        </dl>
        <footer>
          <Button type="submit" busy={busy}>
            Save
          </Button>
        </footer>
      </form>
    </section>
  );
}

/** The address: whether it is proven, which one waits to be, and its change. */
export function Address() {
  const { data: account, error } = useQuery(accountQuery);
  const client = useQueryClient();
  const say = useToast();
  const form = useRef<HTMLFormElement>(null);
  const again = useSubmit(async () => {
    await unwrap(api.POST("/api/auth/email/resend"));
    say({ text: "The mail is on its way once more." });
  });
  const change = useSubmit(
    async (data: FormData) => {
      const email = text(data, "email");
      await unwrap(api.PATCH("/api/account", { body: { email, current_password: exactly(data, "current") } }));
      form.current?.reset();
      say({ text: `A mail to confirm ${email} is on its way.` });
      await client.invalidateQueries({ queryKey: accountQuery.queryKey });
    },
    ({ status }) => (status === 409 ? "email" : status === 401 || status === 403 ? "current_password" : undefined),
  );
  if (!account) return error ? <Notice kind="bad">{messageOf(error)}</Notice> : <Spinner />;
  const waiting = account.pending_email ?? (account.email_verified ? null : account.email);
  return (
    <section className="card">
      <h2>E-mail address</h2>
      <p>
        <strong>{account.email}</strong> {account.email_verified && <span className="status good">Confirmed</span>}
      </p>
      {waiting && (
        <Notice
          kind="warn"
          title={`${waiting} is not confirmed.`}
          action={
            <Button size="small" busy={again.busy} onClick={() => void again.submit()}>
              Send the mail again
            </Button>
          }
        >
          {account.pending_email ? "It becomes your address once you open the link in the mail that was sent there." : "Open the link in the mail that was sent there."}
        </Notice>
      )}
      {again.general}
      {change.general}
      <form ref={form} onSubmit={withFields(change.submit)} noValidate>
        <Field label="New address" name="email" type="email" autoComplete="email" error={change.fields["email"]} />
        <Field label="Your password" name="current" type="password" autoComplete="current-password" error={change.fields["current_password"]} />
        <footer>
          <Button type="submit" busy={change.busy}>
            Change the address
          </Button>
        </footer>
      </form>
    </section>
  );
}

export function Password() {
  const client = useQueryClient();
  const say = useToast();
  const form = useRef<HTMLFormElement>(null);
  const { busy, submit, fields, general } = useSubmit(
    async (data: FormData) => {
      const body = { current_password: exactly(data, "current"), password: exactly(data, "password") };
      await unwrap(api.PATCH("/api/account", { body }));
      form.current?.reset();
      say({ text: "Your password is changed. Other browsers are signed out; keys stay." });
      await client.invalidateQueries({ queryKey: browserSessionsQuery.queryKey });
    },
    ({ status }) => (status === 401 || status === 403 ? "current_password" : undefined),
  );
  return (
    <section className="card">
      <h2>Change the password</h2>
      {general}
      <form ref={form} onSubmit={withFields(submit)} noValidate>
        <Field label="Present password" name="current" type="password" autoComplete="current-password" error={fields["current_password"]} />
        <Field label="New password" hint="At least 10 characters. Other browsers are signed out." name="password" type="password" autoComplete="new-password" error={fields["password"]} />
        <footer>
          <Button type="submit" busy={busy}>
            Change
          </Button>
        </footer>
      </form>
    </section>
  );
}

export function Deletion() {
  const { data: user } = useSuspenseQuery(sessionQuery);
  const client = useQueryClient();
  const navigate = useNavigate();
  const [open, setOpen] = useState(false);
  const { busy, submit, fields, general } = useSubmit(
    async (form: FormData) => {
      await unwrap(api.DELETE("/api/account", { body: { password: exactly(form, "password") } }));
      await navigate({ to: "/sign-up" });
      client.clear();
    },
    ({ status }) => (status === 401 || status === 403 ? "password" : undefined),
  );
  return (
    <section className="card">
      <h2>Delete this account</h2>
      <p>Keys and sessions end at once. Instances, with their conversations and files, are gone after the restore window.</p>
      <footer>
        <Button kind="danger" icon={<Trash2 aria-hidden />} onClick={() => setOpen(true)}>
          Delete account
        </Button>
      </footer>
      <Dialog open={open} onOpenChange={setOpen} title={`Delete ${user.email}?`} description="All of your instances go with it.">
        <form onSubmit={withFields(submit)} noValidate>
          {general}
          <Field label="Your password" name="password" type="password" autoComplete="current-password" error={fields["password"]} />
          <footer>
            <Button onClick={() => setOpen(false)}>Cancel</Button>
            <Button kind="danger" type="submit" busy={busy}>
              Delete account
            </Button>
          </footer>
        </form>
      </Dialog>
    </section>
  );
}
