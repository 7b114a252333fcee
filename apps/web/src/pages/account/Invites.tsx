import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Ticket } from "lucide-react";
import { useRef } from "react";

import { api, unwrap } from "../../api/client";
import { messageOf } from "../../api/problem";
import { entitlementsQuery, instancesQuery } from "../../api/queries";
import { when } from "../../lib/format";
import { Button } from "../../ui/Button";
import { Field } from "../../ui/Field";
import { Notice } from "../../ui/Notice";
import { Spinner, useTitle } from "../../ui/Page";
import { useToast } from "../../ui/toast";
import { useSubmit, withFields } from "../Gate";
import { text } from "../SignIn";

export function Invites() {
  useTitle("Invites");
  const client = useQueryClient();
  const say = useToast();
  const form = useRef<HTMLFormElement>(null);
  const { data: entitlements, error } = useQuery(entitlementsQuery);
  const { data: instances } = useQuery(instancesQuery);
  const { busy, submit, fields, general } = useSubmit(
    async (data: FormData) => {
      await unwrap(api.POST("/api/invites/redeem", { body: { code: text(data, "code") } }));
      form.current?.reset();
      say({ text: "Redeemed: you can create one instance more." });
      await client.invalidateQueries({ queryKey: entitlementsQuery.queryKey });
    },
    ({ status }) => (status === 403 ? "code" : undefined),
  );
  return (
    <>
      <section className="card">
        <h2>Redeem an invite code</h2>
        <p className="soft">A code lets you hold one instance. The operator of this service gives them out.</p>
        {general}
        <form onSubmit={withFields(submit)} ref={form} noValidate>
          <Field label="Code" name="code" autoComplete="off" spellCheck={false} error={fields["code"]} />
          <footer>
            <Button kind="primary" type="submit" busy={busy}>
              Redeem
            </Button>
          </footer>
        </form>
      </section>
      <section className="card">
        <h2>What you may hold</h2>
        {error && <Notice kind="bad">{messageOf(error)}</Notice>}
        {entitlements?.length === 0 && <p className="soft">Nothing yet.</p>}
        {entitlements ? (
          <ul className="rows">
            {entitlements.map(({ id, plan, instance_id, created_at, expires_at }) => (
              <li key={id}>
                <Ticket aria-hidden />
                <div className="grow">
                  <strong>One instance on the {plan} plan</strong>
                  <p className="soft">
                    Since {when(created_at)}
                    {expires_at && <> · until {when(expires_at)}</>}
                  </p>
                </div>
                {instance_id ? (
                  <Link to="/instances/$id" params={{ id: instance_id }}>
                    {instances?.find((it) => it.id === instance_id)?.name ?? "Its instance"}
                  </Link>
                ) : (
                  <span className="status good">Free</span>
                )}
              </li>
            ))}
          </ul>
        ) : (
          !error && <Spinner />
        )}
      </section>
    </>
  );
}
