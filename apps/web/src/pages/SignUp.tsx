import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";

import { api, unwrap } from "../api/client";
import { sessionQuery } from "../api/queries";
import { Button } from "../ui/Button";
import { Field } from "../ui/Field";
import { useTitle } from "../ui/Page";
import { useToast } from "../ui/toast";
import { Gate, useSubmit, withFields } from "./Gate";
import { exactly, text } from "./SignIn";

export function SignUp() {
  useTitle("Create an account");
  const { next, invite } = useSearch({ from: "/sign-up" });
  const navigate = useNavigate();
  const client = useQueryClient();
  const say = useToast();
  const { busy, submit, fields, general } = useSubmit(
    async (form: FormData) => {
      const body = {
        email: text(form, "email"),
        password: exactly(form, "password"),
        name: text(form, "name") || null,
        invite_code: text(form, "invite_code") || null,
      };
      const { user } = await unwrap(api.POST("/api/auth/signup", { body }));
      client.clear();
      client.setQueryData(sessionQuery.queryKey, user);
      say({ text: `A mail to confirm ${user.email} is on its way.` });
      await navigate({ href: next ?? "/instances" });
    },
    (problem) => (problem.status === 409 ? "email" : problem.reason === "invite_invalid" ? "invite_code" : undefined),
  );
  return (
    <Gate
      title="Create an account"
      below={
        <>
          Have an account?{" "}
          <Link to="/sign-in" search={next ? { next } : {}}>
            Sign in
          </Link>
        </>
      }
    >
      {general}
      <form onSubmit={withFields(submit)} noValidate>
        <Field label="E-mail address" name="email" type="email" autoComplete="username" required error={fields["email"]} />
        <Field
          label="Password"
          hint="At least 10 characters; a few words do well."
          name="password"
          type="password"
          autoComplete="new-password"
          required
          error={fields["password"]}
        />
        <Field label="Name" hint="What to call you; may be left empty." name="name" autoComplete="name" maxLength={100} error={fields["name"]} />
        <Field
          label="Invite code"
          hint="If you have one; you can redeem it later too."
          name="invite_code"
          defaultValue={invite}
          autoComplete="off"
          spellCheck={false}
          error={fields["invite_code"]}
        />
        <Button kind="primary" type="submit" busy={busy}>
          Create account
        </Button>
      </form>
    </Gate>
  );
}
