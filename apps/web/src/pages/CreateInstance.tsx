import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";

import { api, unwrap } from "../api/client";
import { entitlementsQuery, storeInstance } from "../api/queries";
import { isPast } from "../lib/format";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Field, SelectField } from "../ui/Field";
import { useSubmit, withFields } from "./Gate";
import { text } from "./SignIn";

/** Asks for what a new instance needs, and goes there. */
export function CreateInstance({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title="New instance"
      description="It is ready in about half a minute; you can close the page in the meantime."
    >
      <Form onDone={() => onOpenChange(false)} onCancel={() => onOpenChange(false)} />
    </Dialog>
  );
}

function Form({ onDone, onCancel }: { onDone: () => void; onCancel: () => void }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const { data: entitlements } = useQuery(entitlementsQuery);
  const free = entitlements?.filter(({ instance_id, expires_at }) => !instance_id && !isPast(expires_at));
  const plans = [...new Set(free?.map(({ plan }) => plan))];
  const needsCode = free?.length === 0;
  const { busy, submit, fields, general } = useSubmit(
    async (form: FormData) => {
      const plan = plans.find((known) => known === form.get("plan"));
      const body = {
        name: text(form, "name") || null,
        invite_code: text(form, "invite_code") || null,
        ...(plan ? { plan } : {}),
      };
      const instance = await unwrap(api.POST("/api/instances", { body }));
      storeInstance(client, instance);
      void client.invalidateQueries({ queryKey: entitlementsQuery.queryKey });
      onDone();
      await navigate({ to: "/instances/$id/chat", params: { id: instance.id } });
    },
    ({ reason }) => (reason === "invite_invalid" || reason === "subscription_or_invite_required" ? "invite_code" : undefined),
  );
  return (
    <form onSubmit={withFields(submit)} noValidate>
      {general}
      <Field label="Name" hint="May be left empty." name="name" maxLength={64} autoComplete="off" error={fields["name"]} />
      {plans.length > 1 && (
        <SelectField label="Plan" name="plan" error={fields["plan"]}>
          {plans.map((plan) => (
            <option key={plan}>{plan}</option>
          ))}
        </SelectField>
      )}
      {(needsCode || fields["invite_code"]) && (
        <Field
          label="Invite code"
          hint="The operator of this service gives them out. It is used up by this instance."
          name="invite_code"
          autoComplete="off"
          spellCheck={false}
          error={fields["invite_code"]}
        />
      )}
      <footer>
        <Button onClick={onCancel}>Cancel</Button>
        <Button kind="primary" type="submit" busy={busy}>
          Create
        </Button>
      </footer>
    </form>
  );
}
