import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { EllipsisVertical, PanelLeft, Pencil, SquarePen, Trash2 } from "lucide-react";
import { useState } from "react";

import { api, unwrap, type ChatSession, type Instance } from "../api/client";
import { chatSessionsQuery } from "../api/queries";
import { ago } from "../lib/format";
import { useSubmit, withFields } from "../pages/Gate";
import { text } from "../pages/SignIn";
import { Button, IconButton } from "../ui/Button";
import { Confirm, Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Menu, MenuItem } from "../ui/Menu";
import { changeOutbox } from "./outbox";
import { transcriptQuery } from "./useTranscript";

interface Props {
  instance: Instance;
  sessions: ChatSession[] | undefined;
  current: string | undefined;
}

/** The conversations of an instance, newest first: beside the talk, on a phone behind a button. */
export function Sessions({ instance, sessions, current }: Props) {
  const [open, setOpen] = useState(false);
  const title = sessions?.find(({ id }) => id === current)?.title ?? "New conversation";
  return (
    <>
      <div className="sessions-bar">
        <Button kind="ghost" size="small" icon={<PanelLeft aria-hidden />} onClick={() => setOpen(true)}>
          {title === "" ? "New conversation" : title}
        </Button>
        <NewLink instance={instance} />
      </div>
      <aside className="sessions" aria-label="Conversations">
        <NewLink instance={instance} wide />
        <List instance={instance} sessions={sessions} current={current} />
      </aside>
      <Dialog open={open} onOpenChange={setOpen} title="Conversations">
        {/* Following any link closes the list; the links themselves take the keyboard. */}
        {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions, jsx-a11y/click-events-have-key-events */}
        <div onClick={(event) => (event.target as Element).closest("a") && setOpen(false)}>
          <List instance={instance} sessions={sessions} current={current} />
        </div>
      </Dialog>
    </>
  );
}

function NewLink({ instance, wide = false }: { instance: Instance; wide?: boolean }) {
  return (
    <Link
      className={wide ? "button" : "button ghost icon small"}
      to="/instances/$id/chat/$session"
      params={{ id: instance.id, session: "new" }}
      aria-label="New conversation"
    >
      <SquarePen aria-hidden />
      {wide && <span>New conversation</span>}
    </Link>
  );
}

function List({ instance, sessions, current }: Props) {
  if (sessions?.length === 0) return <p className="soft">None yet.</p>;
  return (
    <ul>
      {sessions?.map((session) => (
        <Item key={session.id} instance={instance} session={session} isCurrent={session.id === current} />
      ))}
    </ul>
  );
}

function Item({ instance, session, isCurrent }: { instance: Instance; session: ChatSession; isCurrent: boolean }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [asked, setAsked] = useState<"rename" | "delete" | null>(null);
  const close = () => setAsked(null);
  const title = session.title || "New conversation";
  const params = { path: { id: instance.id, sid: session.id } };
  const { queryKey } = chatSessionsQuery(instance.id);
  const { busy, submit, fields, general } = useSubmit(async (form: FormData) => {
    const changed = await unwrap(
      api.PATCH("/api/instances/{id}/chat/sessions/{sid}", { params, body: { title: text(form, "title") } }),
    );
    client.setQueryData(queryKey, (list) => list?.map((it) => (it.id === changed.id ? changed : it)));
    close();
  });
  const remove = async () => {
    await unwrap(api.DELETE("/api/instances/{id}/chat/sessions/{sid}", { params }));
    if (isCurrent) await navigate({ to: "/instances/$id/chat", params: { id: instance.id } });
    client.setQueryData(queryKey, (list) => list?.filter(({ id }) => id !== session.id));
    client.removeQueries({ queryKey: transcriptQuery(instance.id, session.id).queryKey });
    changeOutbox(client, instance.id, session.id, () => []);
  };
  return (
    <li className={isCurrent ? "current" : undefined}>
      <Link
        to="/instances/$id/chat/$session"
        params={{ id: instance.id, session: session.id }}
        aria-current={isCurrent ? "page" : undefined}
      >
        <span className="title">{title}</span>
        <span className="soft">{ago(session.updated_at)}</span>
      </Link>
      <Menu trigger={<IconButton size="small" label={`Actions for ${title}`} icon={<EllipsisVertical aria-hidden />} />}>
        <MenuItem icon={<Pencil aria-hidden />} onSelect={() => setAsked("rename")}>
          Rename…
        </MenuItem>
        <MenuItem icon={<Trash2 aria-hidden />} danger onSelect={() => setAsked("delete")}>
          Delete…
        </MenuItem>
      </Menu>
      <Dialog open={asked === "rename"} onOpenChange={close} title="Rename conversation">
        <form onSubmit={withFields(submit)} noValidate>
          {general}
          <Field label="Title" name="title" defaultValue={session.title} maxLength={200} error={fields["title"]} />
          <footer>
            <Button onClick={close}>Cancel</Button>
            <Button kind="primary" type="submit" busy={busy}>
              Rename
            </Button>
          </footer>
        </form>
      </Dialog>
      <Confirm open={asked === "delete"} onOpenChange={close} title={`Delete “${title}”?`} action="Delete" onConfirm={remove}>
        <p>All of its messages go too. This cannot be undone.</p>
      </Confirm>
    </li>
  );
}
