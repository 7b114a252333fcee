//! Mail on its way.

use reef_model::{MailId, Timestamp, UserId};

use crate::{DbError, Page, Sql, Tx, Wake, statement::statements};

/// A mail as the operator sees it: that it is there, never what it says.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct MailRow {
    /// The id.
    pub id: MailId,
    /// What kind of letter.
    pub kind: String,
    /// The address.
    pub recipient: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next; `None`: given up.
    pub next_attempt_at: Option<Timestamp>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When it was written.
    pub created_at: Timestamp,
    /// Until when it is tried.
    pub deadline_at: Timestamp,
}

/// A mail that was claimed, to be sent.
#[derive(Clone, sqlx::FromRow)]
pub struct ClaimedMail {
    /// The id.
    pub id: MailId,
    /// Whose account it is about.
    pub user_id: Option<UserId>,
    /// What kind of letter.
    pub kind: String,
    /// The address.
    pub recipient: String,
    /// What it says, sealed.
    pub letter_enc: Vec<u8>,
    /// How often it was tried, this time included: the claim is over when another one has counted on.
    pub attempts: i64,
    /// Until when it is tried.
    pub deadline_at: Timestamp,
}

/// A new mail.
#[derive(Clone)]
pub struct NewMail {
    /// The id.
    pub id: MailId,
    /// Whose account it is about.
    pub user_id: Option<UserId>,
    /// What kind of letter.
    pub kind: &'static str,
    /// The address.
    pub recipient: String,
    /// What it says, sealed.
    pub letter_enc: Vec<u8>,
    /// Now.
    pub created_at: Timestamp,
    /// Until when it is tried.
    pub deadline_at: Timestamp,
}

/// How much mail waits, and how much was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct MailCounts {
    /// Waiting.
    pub waiting: i64,
    /// Given up.
    pub given_up: i64,
}

macro_rules! claim {
    ($lock:literal) => {
        concat!(
            "UPDATE mails SET attempts = attempts + 1, next_attempt_at = $2 WHERE id = (\
             SELECT id FROM mails WHERE next_attempt_at <= $1 ORDER BY next_attempt_at, id LIMIT 1",
            $lock,
            ") RETURNING id, user_id, kind, recipient, letter_enc, attempts, deadline_at"
        )
    };
}

statements! {
    /// Returns a page of all mail that is not sent, newest first, for operators.
    pub Db.list_mails_any(page: Page) -> Vec<MailRow>
        = Sql::same(
            "SELECT id, kind, recipient, attempts, next_attempt_at, last_error, created_at, deadline_at FROM mails \
             WHERE id < $1 ORDER BY id DESC LIMIT $2"
        ),
        [page.bound(), page.limit];

    /// Counts the mail that is not sent.
    pub Db.count_mails_any() -> One<MailCounts>
        = Sql::same(
            "SELECT COUNT(next_attempt_at) AS waiting, COUNT(*) - COUNT(next_attempt_at) AS given_up FROM mails"
        ),
        [];

    pub(crate) Tx.append_mail(new: &NewMail) -> Count
        = Sql::same(
            "INSERT INTO mails (id, user_id, kind, recipient, letter_enc, attempts, next_attempt_at, created_at, deadline_at) \
             VALUES ($1, $2, $3, $4, $5, 0, $6, $6, $7)"
        ),
        [new.id, new.user_id, new.kind, &new.recipient, &new.letter_enc[..], new.created_at, new.deadline_at];

    /// Claims the mail that is due for longest, until `until`; `None`: none is due.
    pub Tx.claim_mail(now: Timestamp, until: Timestamp) -> Option<ClaimedMail>
        = Sql::differing(claim!(""), claim!(" FOR UPDATE SKIP LOCKED")),
        [now, until];

    /// Removes a mail that was sent, unless another claim has taken it meanwhile.
    pub Tx.finish_mail(id: MailId, attempts: i64) -> Count
        = Sql::same("DELETE FROM mails WHERE id = $1 AND attempts = $2"),
        [id, attempts];

    /// Has a mail tried again at `at`, unless another claim has taken it meanwhile.
    pub Tx.postpone_mail(id: MailId, attempts: i64, at: Timestamp, error: &str) -> Count
        = Sql::same(
            "UPDATE mails SET next_attempt_at = $3, last_error = $4 \
             WHERE id = $1 AND attempts = $2 AND next_attempt_at IS NOT NULL"
        ),
        [id, attempts, at, error];

    /// Gives a mail up: what it says goes, that it was not sent stays.
    pub Tx.give_up_mail(id: MailId, attempts: i64, error: &str) -> Count
        = Sql::same(
            "UPDATE mails SET next_attempt_at = NULL, letter_enc = NULL, last_error = $3 WHERE id = $1 AND attempts = $2"
        ),
        [id, attempts, error];

    /// Forgets mail that was given up and was written before `before`.
    pub Tx.reap_mails(before: Timestamp) -> Count
        = Sql::same("DELETE FROM mails WHERE next_attempt_at IS NULL AND created_at < $1"),
        [before];

    /// Forgets all mail about an account.
    pub Tx.delete_mails(tenant: UserId) -> Count
        = Sql::same("DELETE FROM mails WHERE user_id = $1"),
        [tenant];
}

impl Tx {
    /// Writes a mail, to be sent once the transaction is committed.
    ///
    /// # Errors
    /// [`DbError`] where a statement fails.
    pub async fn insert_mail(&mut self, new: &NewMail) -> Result<(), DbError> {
        self.append_mail(new).await?;
        self.notify(Wake::Mail).await
    }
}
