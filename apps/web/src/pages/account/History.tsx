import { useTitle } from "../../ui/Page";
import { AuditList } from "../AuditList";

export function History() {
  useTitle("History");
  return (
    <section className="card">
      <h2>What was done in this account</h2>
      <AuditList path="/api/audit" />
    </section>
  );
}
