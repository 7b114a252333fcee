import { useTitle } from "../../ui/Page";
import { AuditList } from "../AuditList";

export function Audit() {
  useTitle("Audit");
  return (
    <section className="card">
      <h2>What was done in all accounts</h2>
      <AuditList path="/api/admin/audit" />
    </section>
  );
}
