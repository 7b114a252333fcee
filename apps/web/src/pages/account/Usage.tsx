import { keepPreviousData, queryOptions, useQuery } from "@tanstack/react-query";
import { Download } from "lucide-react";
import { useState } from "react";

import { api, unwrap, type Usage as UsageSums } from "../../api/client";
import { messageOf } from "../../api/problem";
import { instancesQuery, plansQuery } from "../../api/queries";
import { size } from "../../lib/format";
import { Button } from "../../ui/Button";
import { Notice } from "../../ui/Notice";
import { Spinner, useTitle } from "../../ui/Page";
import { useToast } from "../../ui/toast";
import { useSubmit } from "../Gate";
import { Bars, perDay } from "./Bars";

type GroupBy = "day" | "instance";
const DAY_MS = 86_400_000;

/** From the first midnight (UTC) of so many days, today included. */
const since = (days: number) => new Date((Math.floor(Date.now() / DAY_MS) - days + 1) * DAY_MS).toISOString();

const usageQuery = (group_by: GroupBy, days: number) =>
  queryOptions({
    queryKey: ["usage", group_by, days],
    // The route also knows a table, which only comes where it is asked for.
    queryFn: async () => (await unwrap(api.GET("/api/usage", { params: { query: { group_by, from: since(days) } } }))) as UsageSums,
    placeholderData: keepPreviousData,
  });

export function Usage() {
  useTitle("Usage");
  const [days, setDays] = useState(30);
  const byDay = useQuery(usageQuery("day", days));
  const byInstance = useQuery(usageQuery("instance", days));
  const { data: instances } = useQuery(instancesQuery);
  const error = byDay.error ?? byInstance.error;
  const nameOf = (id: string) => instances?.find((it) => it.id === id)?.name ?? id;
  return (
    <>
      <section className="card">
        <div className="heading">
          <h2>Use of models</h2>
          <div className="filters">
            <select aria-label="Time" value={days} onChange={(event) => setDays(Number(event.target.value))}>
              <option value={7}>Last 7 days</option>
              <option value={30}>Last 30 days</option>
              <option value={90}>Last 90 days</option>
            </select>
          </div>
        </div>
        {error && <Notice kind="bad">{messageOf(error)}</Notice>}
        {byDay.data ? (
          <>
            <p>
              <strong>{byDay.data.total.prompt_tokens.toLocaleString()}</strong> tokens sent,{" "}
              <strong>{byDay.data.total.completion_tokens.toLocaleString()}</strong> received, in{" "}
              <strong>{byDay.data.total.requests.toLocaleString()}</strong> requests
              {byDay.data.total.estimated_requests > 0 && <>, {byDay.data.total.estimated_requests.toLocaleString()} of them estimated</>}.
            </p>
            <Bars days={perDay(byDay.data.rows, byDay.data.from, byDay.data.to)} />
          </>
        ) : (
          !error && <Spinner />
        )}
        <SaveTable groupBy="day" days={days} />
      </section>
      <section className="card">
        <h2>By instance</h2>
        {byInstance.data?.rows.length === 0 && <p className="soft">None of your instances used a model.</p>}
        <ul className="rows">
          {byInstance.data?.rows.map(({ instance_id, requests, prompt_tokens, completion_tokens }) => (
            <li key={instance_id}>
              <div className="grow">
                <strong>{nameOf(instance_id ?? "")}</strong>
                <p className="soft">
                  {prompt_tokens.toLocaleString()} tokens sent · {completion_tokens.toLocaleString()} received · {requests.toLocaleString()} requests
                </p>
              </div>
            </li>
          ))}
        </ul>
        <SaveTable groupBy="instance" days={days} />
      </section>
      <Plans />
    </>
  );
}

/** The same as a file; a link cannot say that it wants a table. */
function SaveTable({ groupBy, days }: { groupBy: GroupBy; days: number }) {
  const say = useToast();
  const { busy, submit, general } = useSubmit(async () => {
    const params = { query: { group_by: groupBy, from: since(days) } };
    const table = await unwrap(api.GET("/api/usage", { params, headers: { accept: "text/csv" }, parseAs: "text" }));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([table], { type: "text/csv" }));
    link.download = `usage-by-${groupBy}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
    say({ text: `${link.download} is saved.` });
  });
  return (
    <footer>
      {general}
      <Button size="small" icon={<Download aria-hidden />} busy={busy} onClick={() => void submit()}>
        CSV by {groupBy}
      </Button>
    </footer>
  );
}

function Plans() {
  const { data: plans } = useQuery(plansQuery);
  return (
    <section className="card">
      <h2>What the plans allow</h2>
      <p className="soft">Each instance has the limits of the plan of its invite.</p>
      <dl className="facts">
        {plans?.map(({ plan, limits }) => (
          <div key={plan}>
            <dt>{plan}</dt>
            <dd>
              {limits.cpu_millis / 1000} CPU · {size(limits.memory_bytes)} memory · {limits.pids} processes
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
