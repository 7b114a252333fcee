import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Plus, Trash2 } from "lucide-react";
import { useState } from "react";

import { api, unwrap, type Invite, type MintedInvite, type Plan } from "../../api/client";
import { Pages, pagesOf } from "../../api/pages";
import { plansQuery } from "../../api/queries";
import { isPast, when } from "../../lib/format";
import { Button, IconButton } from "../../ui/Button";
import { Copy } from "../../ui/Copy";
import { Confirm, Dialog } from "../../ui/Dialog";
import { Field, SelectField } from "../../ui/Field";
import { Notice } from "../../ui/Notice";
import { useTitle } from "../../ui/Page";
import { DAYS, inDays } from "../account/MintKey";
import { useSubmit, withFields } from "../Gate";
import { text } from "../SignIn";

const invitesQuery = pagesOf(["admin", "invites"], (query) => api.GET("/api/admin/invites", { params: { query } }));

export function Invites() {
  useTitle("Invites");
  const [making, setMaking] = useState(false);
  return (
    <section className="card">
      <div className="heading">
        <h2>Invites</h2>
        <Button kind="primary" icon={<Plus aria-hidden />} onClick={() => setMaking(true)}>
          New invite
        </Button>
      </div>
      <p className="soft">Each use of a code lets one account hold one instance more.</p>
      <Pages of={invitesQuery} none="None yet.">
        {(invite) => <Row invite={invite} />}
      </Pages>
      <Make open={making} onOpenChange={setMaking} />
    </section>
  );
}

function Row({ invite }: { invite: Invite }) {
  const client = useQueryClient();
  const [asked, setAsked] = useState(false);
  const revoke = async () => {
    await unwrap(api.DELETE("/api/admin/invites/{id}", { params: { path: { id: invite.id } } }));
    await client.invalidateQueries({ queryKey: invitesQuery.queryKey });
  };
  const end = invite.revoked_at ? "Withdrawn" : isPast(invite.expires_at) ? "Expired" : invite.uses >= invite.max_uses ? "Used up" : null;
  return (
    <>
      <div className="grow">
        <strong>
          <code>…{invite.code_hint}</code> {invite.plan}
        </strong>
        <p className="soft">
          Used {invite.uses} of {invite.max_uses} · made {when(invite.created_at)}
          {invite.expires_at && <> · ends {when(invite.expires_at)}</>}
        </p>
      </div>
      {end ? (
        <span className="status idle">{end}</span>
      ) : (
        <IconButton size="small" icon={<Trash2 aria-hidden />} label={`Withdraw …${invite.code_hint}`} onClick={() => setAsked(true)} />
      )}
      <Confirm open={asked} onOpenChange={setAsked} title={`Withdraw …${invite.code_hint}?`} action="Withdraw invite" onConfirm={revoke}>
        <p>The code is refused from then on. What it gave already stays.</p>
      </Confirm>
    </>
  );
}

function Make({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  const client = useQueryClient();
  const { data: plans = [] } = useQuery(plansQuery);
  const [made, setMade] = useState<MintedInvite | null>(null);
  const close = () => {
    setMade(null);
    onOpenChange(false);
  };
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    const body = {
      plan: text(form, "plan") as Plan,
      max_uses: Number(form.get("uses")),
      expires_at: inDays(Number(form.get("days"))),
      email: text(form, "email") || null,
    };
    setMade(await unwrap(api.POST("/api/admin/invites", { body })));
    await client.invalidateQueries({ queryKey: invitesQuery.queryKey });
  });
  return (
    <Dialog open={open} onOpenChange={close} title={made ? "The new invite" : "New invite"}>
      {made ? (
        <Code code={made.code ?? ""} onDone={close} />
      ) : (
        <form onSubmit={withFields(submit)} noValidate>
          {general}
          <SelectField label="Plan" name="plan" defaultValue="solo" error={fields["plan"]}>
            {plans.map(({ plan }) => (
              <option key={plan}>{plan}</option>
            ))}
          </SelectField>
          <Field label="Uses" name="uses" type="number" min={1} defaultValue={1} error={fields["max_uses"]} />
          <SelectField label="Ends" name="days" defaultValue={30} error={fields["expires_at"]}>
            {DAYS.map(([days, name]) => (
              <option key={days} value={days}>
                {name}
              </option>
            ))}
          </SelectField>
          <Field label="Mail it to" hint="May be left empty: you get the code in any case." name="email" type="email" autoComplete="off" error={fields["email"]} />
          <footer>
            <Button onClick={close}>Cancel</Button>
            <Button kind="primary" type="submit" busy={busy}>
              Create invite
            </Button>
          </footer>
        </form>
      )}
    </Dialog>
  );
}

/** A code, shown this once, and the address where it is filled in already. */
function Code({ code, onDone }: { code: string; onDone: () => void }) {
  return (
    <>
      <Notice kind="warn" title="Copy it now.">
        It is not shown again: Reef keeps only its hash.
      </Notice>
      <output className="secret" aria-label="Invite code">
        {code}
      </output>
      <footer>
        <Copy named text={`${location.origin}/sign-up?invite=${code}`} label="Copy link" />
        <Copy named text={code} label="Copy code" />
        <Button kind="primary" onClick={onDone}>
          Done
        </Button>
      </footer>
    </>
  );
}
