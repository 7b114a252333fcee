import { Play } from "lucide-react";

import type { Instance } from "../api/client";
import { Button } from "../ui/Button";
import { Notice } from "../ui/Notice";
import { isBusy } from "../ui/Status";
import { Progress } from "./Progress";
import { useVerbs } from "./verbs";

/** Says plainly why a tab cannot do its work now, and offers the way out; nothing where it can. */
export function NotReady({ instance }: { instance: Instance }) {
  const { run, asked } = useVerbs(instance);
  if (instance.status === "ready") return null;
  if (isBusy(instance)) return <Progress instance={instance} />;
  const hasFailed = instance.status === "error";
  return (
    <Notice
      kind={hasFailed ? "bad" : "info"}
      title={hasFailed ? "This instance has failed." : "This instance is stopped."}
      action={
        <Button icon={<Play aria-hidden />} busy={asked !== null} onClick={() => void run(hasFailed ? "restart" : "start")}>
          {hasFailed ? "Try again" : "Start"}
        </Button>
      }
    >
      {instance.status_reason ?? "What it has is kept. Start it to go on."}
    </Notice>
  );
}
