import { api } from "../../api/client";
import { Pages, pagesOf } from "../../api/pages";
import { ago, count, when } from "../../lib/format";
import { useTitle } from "../../ui/Page";

const mailsQuery = pagesOf(["admin", "mails"], (query) => api.GET("/api/admin/mails", { params: { query } }));

export function Mails() {
  useTitle("Mail");
  return (
    <section className="card">
      <h2>Mail that is not sent</h2>
      <p className="soft">What waits, and what was given up in the last 30 days.</p>
      <Pages of={mailsQuery} none="Nothing waits: all mail is sent.">
        {(mail) => (
          <>
            <div className="grow">
              <strong>{mail.recipient}</strong>
              <p className="soft">
                <code>{mail.kind}</code> · written {when(mail.created_at)} · {count(mail.attempts, "attempt")}
              </p>
              {mail.last_error && <p className="reason bad">{mail.last_error}</p>}
            </div>
            {mail.next_attempt_at ? (
              <span className="status busy">Next try {ago(mail.next_attempt_at)}</span>
            ) : (
              <span className="status bad">Given up</span>
            )}
          </>
        )}
      </Pages>
    </section>
  );
}
