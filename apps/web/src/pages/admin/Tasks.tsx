import { queryOptions, useQuery } from "@tanstack/react-query";

import { api, unwrap } from "../../api/client";
import { messageOf } from "../../api/problem";
import { ago, count } from "../../lib/format";
import { Notice } from "../../ui/Notice";
import { Spinner, useTitle } from "../../ui/Page";

const tasksQuery = queryOptions({
  queryKey: ["admin", "tasks"],
  queryFn: () => unwrap(api.GET("/api/admin/tasks")),
  refetchInterval: 5_000,
});

/** How the reconciler and what else goes on in the background does. */
export function Tasks() {
  useTitle("Background work");
  const { data: tasks, error } = useQuery(tasksQuery);
  return (
    <section className="card">
      <h2>Work in the background</h2>
      <p className="soft">Of the server that answers: with several, each has its own.</p>
      {error && <Notice kind="bad">{messageOf(error)}</Notice>}
      {tasks ? (
        <ul className="rows">
          {tasks.map((task) => (
            <li key={task.name}>
              <div className="grow">
                <strong>{task.name}</strong>
                <p className="soft">
                  {task.last_run_at ? `Ran ${ago(task.last_run_at)}, for ${task.last_duration_ms} ms` : "Has not ended yet"}
                  {" · "}
                  {count(task.run_count, "run")}, {count(task.failure_count, "failure")}
                </p>
                {task.last_error && <p className="reason bad">{task.last_error}</p>}
              </div>
              {task.failures_in_a_row > 0 ? (
                <span className="status bad">Fails</span>
              ) : (
                <span className={task.is_running ? "status good" : "status idle"}>{task.is_running ? "Running" : "Waiting"}</span>
              )}
            </li>
          ))}
        </ul>
      ) : (
        !error && <Spinner />
      )}
    </section>
  );
}
