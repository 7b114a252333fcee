import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";

import { api, unwrap } from "../api/client";
import { sessionQuery } from "../api/queries";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { useTitle } from "../ui/Page";
import { Gate, useSubmit, withFields } from "./Gate";

export function SignIn() {
  useTitle("Sign in");
  const { next } = useSearch({ from: "/sign-in" });
  const navigate = useNavigate();
  const client = useQueryClient();
  const { busy, submit, fields, general } = useSubmit(
    async (form: FormData) => {
      const body = { email: text(form, "email"), password: exactly(form, "password") };
      const { user } = await unwrap(api.POST("/api/auth/login", { body }));
      // Nothing of who was here before.
      client.clear();
      client.setQueryData(sessionQuery.queryKey, user);
      await navigate({ href: next ?? "/instances" });
    },
    (problem) => (problem.status === 401 ? "password" : undefined),
  );
  return (
    <Gate
      title="Sign in"
      below={
        <>
          No account yet?{" "}
          <Link to="/sign-up" search={next ? { next } : {}}>
            Create one
          </Link>
        </>
      }
    >
      {general}
      <form onSubmit={withFields(submit)} noValidate>
        <Field label="E-mail address" name="email" type="email" autoComplete="username" required error={fields["email"]} />
        <Field
          label="Password"
          name="password"
          type="password"
          autoComplete="current-password"
          required
          error={fields["password"]}
        />
        <Button kind="primary" type="submit" busy={busy}>
          Sign in
        </Button>
        <Link to="/forgot-password">Forgot your password?</Link>
      </form>
    </Gate>
  );
}

/** Returns a text field of a form, without the white space around it. */
export function text(form: FormData, name: string): string {
  return exactly(form, name).trim();
}

/** Returns a text field of a form as it was typed. */
export function exactly(form: FormData, name: string): string {
  const value = form.get(name);
  return typeof value === "string" ? value : "";
}
