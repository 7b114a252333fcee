import { Link } from "@tanstack/react-router";
import { Plus } from "lucide-react";

import { Button } from "../ui/Button";
import { Snippet } from "../ui/Copy";

/** What a new account sees: three steps, and the lines for its own address. */
export function FirstSteps({ onCreate }: { onCreate: () => void }) {
  return (
    <div className="first">
      <p className="lead">An instance is an OpenClaw agent of your own, with files, a shell and a memory. Three steps to its first answer:</p>
      <ol>
        <li>
          <h2>Create an instance</h2>
          <p>It takes about half a minute. You need an invite code; the operator of this service gives them out.</p>
          <Button kind="primary" icon={<Plus aria-hidden />} onClick={onCreate}>
            Create your first instance
          </Button>
        </li>
        <li>
          <h2>Talk to it here</h2>
          <p>Open it and write. Answers stream in, and nothing is lost when you close the page.</p>
        </li>
        <li>
          <h2>Or from a program</h2>
          <p>
            Make an <Link to="/account/keys">API key</Link> and paste:
          </p>
          <Snippet label="command" text={streamCommand("INSTANCE_ID")} />
        </li>
      </ol>
    </div>
  );
}

/** The line that streams an answer, with this origin. */
export function streamCommand(instance: string): string {
  return [
    `curl -N -X POST ${location.origin}/api/instances/${instance}/chat/stream \\`,
    `  -H "Authorization: Bearer YOUR_API_KEY" -H "Content-Type: application/json" \\`,
    `  -d '{"message":"Hello"}'`,
  ].join("\n");
}
