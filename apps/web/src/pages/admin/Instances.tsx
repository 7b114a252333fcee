import { useQueryClient } from "@tanstack/react-query";
import { Play, Square } from "lucide-react";

import { api, unwrap, type ListedInstance } from "../../api/client";
import { Pages, pagesOf } from "../../api/pages";
import { ago } from "../../lib/format";
import { Button } from "../../ui/Button";
import { useTitle } from "../../ui/Page";
import { isBusy, StatusBadge } from "../../ui/Status";
import { useSubmit } from "../Gate";

const WAIT_SECONDS = 60;
const instancesQuery = pagesOf(["admin", "instances"], (query) => api.GET("/api/admin/instances", { params: { query } }));

export function Instances() {
  useTitle("All instances");
  return (
    <section className="card">
      <h2>Instances of all accounts</h2>
      <Pages of={instancesQuery} none="There are none.">
        {(instance) => <Row instance={instance} />}
      </Pages>
    </section>
  );
}

function Row({ instance }: { instance: ListedInstance }) {
  const client = useQueryClient();
  const isDown = instance.desired !== "running";
  const { busy, submit, general } = useSubmit(async () => {
    const params = { path: { id: instance.id }, query: { wait: WAIT_SECONDS } };
    await unwrap(api.POST(`/api/admin/instances/{id}/${isDown ? "start" : "stop"}`, { params }));
    await client.invalidateQueries({ queryKey: instancesQuery.queryKey });
  });
  return (
    <>
      <div className="grow">
        <strong>{instance.name}</strong>
        <p className="soft">
          {instance.owner_email} · {instance.plan} · {instance.runtime}
          {instance.last_active_at && <> · used {ago(instance.last_active_at)}</>}
        </p>
        {instance.status_reason && <p className="soft">{instance.status_reason}</p>}
        {general}
      </div>
      <StatusBadge instance={instance} />
      {instance.desired !== "deleted" && (
        <Button
          size="small"
          busy={busy}
          aria-disabled={isBusy(instance)}
          icon={isDown ? <Play aria-hidden /> : <Square aria-hidden />}
          aria-label={`${isDown ? "Start" : "Stop"} ${instance.name} of ${instance.owner_email}`}
          onClick={() => void submit()}
        >
          {isDown ? "Start" : "Stop"}
        </Button>
      )}
    </>
  );
}
