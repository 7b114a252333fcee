import { useQueryClient } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { useState } from "react";

import { api, unwrap } from "../api/client";
import { sessionQuery } from "../api/queries";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { Notice } from "../ui/Notice";
import { useTitle } from "../ui/Page";
import { Gate, useSubmit, withFields } from "./Gate";
import { exactly, text } from "./SignIn";

const toSignIn = <Link to="/sign-in">Sign in</Link>;

/** Asks for the mail with which a new password is chosen. */
export function ForgotPassword() {
  useTitle("Forgot password");
  const [sentTo, setSentTo] = useState<string | null>(null);
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    const email = text(form, "email");
    await unwrap(api.POST("/api/auth/password/forgot", { body: { email } }));
    setSentTo(email);
  });
  return (
    <Gate title="Forgot your password?" below={toSignIn}>
      {sentTo !== null ? (
        <Notice kind="good" title="Look into your mail.">
          If {sentTo} has an account here, a link to choose a new password is on its way. It works for an hour.
        </Notice>
      ) : (
        <>
          {general}
          <form onSubmit={withFields(submit)} noValidate>
            <Field label="E-mail address" name="email" type="email" autoComplete="username" error={fields["email"]} />
            <Button kind="primary" type="submit" busy={busy}>
              Send me a link
            </Button>
          </form>
        </>
      )}
    </Gate>
  );
}

/** Where the mailed link leads: a new password. */
export function ResetPassword() {
  useTitle("New password");
  const { token } = useSearch({ from: "/reset-password" });
  const [isDone, setDone] = useState(false);
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    await unwrap(api.POST("/api/auth/password/reset", { body: { token: token ?? "", password: exactly(form, "password") } }));
    setDone(true);
  });
  return (
    <Gate title="Choose a new password" below={<Link to="/forgot-password">Send another link</Link>}>
      {isDone ? (
        <>
          <Notice kind="good" title="Your password is changed.">
            You are signed out everywhere; keys stay.
          </Notice>
          <Link className="button primary" to="/sign-in">
            Sign in
          </Link>
        </>
      ) : (
        <>
          {general}
          {fields["token"] && <Notice kind="bad">{fields["token"]}</Notice>}
          <form onSubmit={withFields(submit)} noValidate>
            <Field
              label="New password"
              hint="At least 10 characters; a few words do well."
              name="password"
              type="password"
              autoComplete="new-password"
              error={fields["password"]}
            />
            <Button kind="primary" type="submit" busy={busy}>
              Set password
            </Button>
          </form>
        </>
      )}
    </Gate>
  );
}

/** Where the mailed link leads: an address is proven. Asked for, since programs that read mail open links too. */
export function VerifyEmail() {
  useTitle("Confirm your address");
  const { token } = useSearch({ from: "/verify-email" });
  const client = useQueryClient();
  const [isDone, setDone] = useState(false);
  const { busy, submit, fields, general } = useSubmit(async () => {
    await unwrap(api.POST("/api/auth/email/verify", { body: { token: token ?? "" } }));
    await client.invalidateQueries({ queryKey: sessionQuery.queryKey });
    setDone(true);
  });
  return (
    <Gate title="Confirm your address" below={toSignIn}>
      {isDone ? (
        <>
          <Notice kind="good">Thank you: this address is yours.</Notice>
          <Link className="button primary" to="/instances">
            To your instances
          </Link>
        </>
      ) : (
        <>
          {general}
          {fields["token"] && <Notice kind="bad">{fields["token"]}</Notice>}
          <Button kind="primary" busy={busy} onClick={() => void submit()}>
            Yes, it is mine
          </Button>
        </>
      )}
    </Gate>
  );
}
