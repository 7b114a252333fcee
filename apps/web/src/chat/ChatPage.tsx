import "./chat.css";

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useEffect } from "react";

import { api, unwrap, type ChatSession } from "../api/client";
import { messageOf } from "../api/problem";
import { chatSessionsQuery } from "../api/queries";
import { uuid } from "../lib/plainHttp";
import { useInstance } from "../instance/InstanceLayout";
import { NotReady } from "../instance/NotReady";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { Spinner } from "../ui/Page";
import { useToast } from "../ui/toast";
import { Composer } from "./Composer";
import { Conversation } from "./Conversation";
import { changeOutbox, outboxQuery, withoutShown } from "./outbox";
import { send, stillOnTheirWay, type Outgoing, type OutgoingFile } from "./send";
import { Sessions } from "./Sessions";
import { isOver } from "./transcript";
import { useTranscript } from "./useTranscript";

/** The address of a conversation that has not begun. */
const NEW = "new";

export function ChatPage() {
  const instance = useInstance();
  const client = useQueryClient();
  const navigate = useNavigate();
  const { session: named } = useParams({ strict: false });
  const isUp = instance.status === "ready";
  const { data: sessions, error: listError, refetch } = useQuery({ ...chatSessionsQuery(instance.id), enabled: isUp });
  // Without a name it is the newest one, as the API has it.
  const session = named === NEW ? undefined : (named ?? sessions?.[0]?.id);
  const { transcript, error, retry, connection, loadOlder } = useTranscript(instance.id, session, isUp);
  const { data: outgoing } = useQuery(outboxQuery(instance.id, session ?? NEW));
  const tell = useToast();

  const change = (of: string, key: string, changed: Partial<Outgoing> | null) =>
    changeOutbox(client, instance.id, of, (all) =>
      all.flatMap((it) => (it.key !== key ? [it] : changed ? [{ ...it, ...changed }] : [])),
    );

  const deliver = async (to: string, message: Outgoing) => {
    try {
      change(to, message.key, { turnId: await send(instance.id, to, message) });
      // The first message gives the conversation its title.
      await client.invalidateQueries({ queryKey: chatSessionsQuery(instance.id).queryKey });
    } catch (problem) {
      change(to, message.key, { problem: messageOf(problem) });
    }
  };

  const say = async (text: string, files: OutgoingFile[]): Promise<void> => {
    const message: Outgoing = { key: uuid(), text, files, since: transcript?.turns.at(-1)?.id };
    const to = session ?? (await begin()).id;
    changeOutbox(client, instance.id, to, (all) => [...all, message]);
    void deliver(to, message);
  };
  const ask = (text: string) => void say(text, []).catch((problem: unknown) => tell({ kind: "bad", text: messageOf(problem) }));

  const begin = async (): Promise<ChatSession> => {
    const made = await unwrap(
      api.POST("/api/instances/{id}/chat/sessions", { params: { path: { id: instance.id } }, body: {} }),
    );
    client.setQueryData(chatSessionsQuery(instance.id).queryKey, (list) => [made, ...(list ?? [])]);
    await navigate({ to: "/instances/$id/chat/$session", params: { id: instance.id, session: made.id }, replace: true });
    return made;
  };

  const turns = transcript?.turns;
  const pending = stillOnTheirWay(outgoing, turns ?? []);
  const shown = outgoing.length - pending.length;
  useEffect(() => {
    if (session && turns && shown > 0) changeOutbox(client, instance.id, session, (all) => withoutShown(all, turns));
  }, [client, instance.id, session, turns, shown]);

  const active = turns?.findLast((turn) => !isOver(turn.status));
  const cancel = async (turn: string): Promise<void> => {
    const params = { path: { id: instance.id, turn_id: turn } };
    await unwrap(api.POST("/api/instances/{id}/chat/turns/{turn_id}/cancel", { params }));
  };

  // Of another way in: a channel, a script on the gateway.
  const origin = sessions?.find(({ id }) => id === session)?.origin;
  const isLoading = isUp && (sessions === undefined ? !listError : session !== undefined && !transcript && !error);
  const problem = isUp ? (error ?? listError) : null;
  return (
    <div className="chat">
      <Sessions instance={instance} sessions={sessions} current={session} />
      <section className="talk" aria-label="Conversation">
        {isLoading ? (
          <Spinner label="Loading the conversation" />
        ) : (
          <Conversation
            // Another conversation begins at its own end.
            key={session ?? NEW}
            instance={instance}
            turns={turns ?? []}
            pending={pending}
            hasOlder={transcript?.hasOlder ?? false}
            loadOlder={loadOlder}
            onRetry={(message) => {
              if (!session) return;
              change(session, message.key, { problem: undefined });
              void deliver(session, message);
            }}
            onDiscard={(message) => session && change(session, message.key, null)}
            isAway={!isUp && !transcript && named !== NEW && sessions?.length !== 0}
            onAsk={isUp && origin == null ? ask : undefined}
          />
        )}
        <div className="foot">
          {problem && (
            <Notice
              kind="bad"
              action={
                <Button
                  size="small"
                  onClick={() => {
                    void refetch();
                    retry();
                  }}
                >
                  Try again
                </Button>
              }
            >
              {messageOf(problem)}
            </Notice>
          )}
          {connection === "lost" && isUp && (
            <p className="reconnecting" role="status">
              <span className="ring" aria-hidden /> Reconnecting. The agent goes on; its answer continues here.
            </p>
          )}
          <NotReady instance={instance} />
          {origin && <Notice>This conversation goes on elsewhere ({origin}); here it can be read.</Notice>}
          <Composer
            key={session ?? NEW}
            draftKey={`${instance.id}/${session ?? NEW}`}
            disabled={!isUp || origin != null}
            onSend={say}
            onCancel={active && (() => cancel(active.id))}
          />
        </div>
      </section>
    </div>
  );
}
