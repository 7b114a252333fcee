import type { Instance } from "../api/client";

const WORDS: Record<Instance["status"], [word: string, tone: string]> = {
  provisioning: ["Being made", "busy"],
  starting: ["Starting", "busy"],
  ready: ["Ready", "good"],
  stopping: ["Stopping", "busy"],
  stopped: ["Stopped", "idle"],
  updating: ["Updating", "busy"],
  error: ["Failed", "bad"],
  deleting: ["Being deleted", "busy"],
  deleted: ["Deleted", "idle"],
};

/** What an instance does, in a word and a dot. */
export function StatusBadge({ instance }: { instance: Pick<Instance, "status"> }) {
  const [word, tone] = WORDS[instance.status];
  return (
    <span className={`status ${tone}`}>
      <span className="dot" aria-hidden />
      {word}
    </span>
  );
}

export function isBusy(instance: Pick<Instance, "status">): boolean {
  return WORDS[instance.status][1] === "busy";
}
