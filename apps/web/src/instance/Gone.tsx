import { useQueryClient } from "@tanstack/react-query";
import { ArchiveRestore, Trash2 } from "lucide-react";

import { api, unwrap, type Instance } from "../api/client";
import { entitlementsQuery, instancesQuery, storeInstance } from "../api/queries";
import { when } from "../lib/format";
import { useSubmit } from "../pages/Gate";
import { Button } from "../ui/Button";
import { Empty } from "../ui/Page";
import { bringBack } from "./verbs";

/** A deleted instance, while it can be restored. */
export function Gone({ instance }: { instance: Instance }) {
  const client = useQueryClient();
  const params = { path: { id: instance.id } };
  const { busy, submit, general } = useSubmit(async () => {
    await bringBack(instance.id, true);
    storeInstance(client, await unwrap(api.GET("/api/instances/{id}", { params })));
    await client.invalidateQueries({ queryKey: instancesQuery.queryKey });
    await client.invalidateQueries({ queryKey: entitlementsQuery.queryKey });
  });
  return (
    <Empty icon={<Trash2 />} title="This instance is deleted">
      <p>
        {instance.restorable_until
          ? `Its conversations and files are kept until ${when(instance.restorable_until)}.`
          : "Its data is being taken away."}
      </p>
      {general}
      {instance.restorable_until && (
        <Button kind="primary" icon={<ArchiveRestore aria-hidden />} busy={busy} onClick={() => void submit()}>
          Restore it
        </Button>
      )}
    </Empty>
  );
}
