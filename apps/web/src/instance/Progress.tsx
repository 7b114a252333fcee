import { useQuery } from "@tanstack/react-query";

import type { Instance } from "../api/client";
import { operationQuery } from "../api/queries";

const DOING: Partial<Record<Instance["status"], string>> = {
  provisioning: "Making its place: about half a minute.",
  starting: "OpenClaw starts: about half a minute.",
  stopping: "Ends what it does, then stops.",
  updating: "Gets another version.",
  deleting: "Is being taken away.",
};

/** What a long verb does now. */
export function Progress({ instance }: { instance: Instance }) {
  const { data: operation } = useQuery(operationQuery(instance.id));
  const percent = operation?.status === "running" && operation.progress > 0 ? operation.progress : undefined;
  return (
    <div className="progress" role="status">
      <progress max={100} value={percent} aria-label="Progress" />
      <span className="soft">{DOING[instance.status] ?? "Under way."}</span>
    </div>
  );
}
