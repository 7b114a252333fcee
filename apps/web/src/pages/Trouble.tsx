import { Link, useRouter, type ErrorComponentProps } from "@tanstack/react-router";
import { Compass, Unplug } from "lucide-react";

import { ApiProblem, messageOf } from "../api/problem";
import { Button } from "../ui/Button";
import { Empty, useTitle } from "../ui/Page";

/** A page that could not be shown, and the way on. */
export function Trouble({ error, reset }: ErrorComponentProps) {
  const router = useRouter();
  useTitle("Something went wrong");
  if (error instanceof ApiProblem && error.status === 404) return <NotFound />;
  const again = () => {
    reset();
    void router.invalidate();
  };
  return (
    <Empty icon={<Unplug />} title="That did not work">
      <p>{messageOf(error)}</p>
      {error instanceof ApiProblem && error.requestId && (
        <p className="soft">
          Request <code>{error.requestId}</code>
        </p>
      )}
      <Button kind="primary" onClick={again}>
        Try again
      </Button>
    </Empty>
  );
}

export function NotFound() {
  useTitle("Not found");
  return (
    <Empty icon={<Compass />} title="There is nothing here">
      <p>It may have been deleted, or the address is mistyped.</p>
      <Link className="button primary" to="/instances">
        Your instances
      </Link>
    </Empty>
  );
}
