//! Carries the outbox: claims what is due, sends it, and repeats or gives up.
//!
//! At least once: a courier that dies between sending and writing it down leaves a claim that runs out, and the mail is
//! sent again under the same `Message-ID`.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use reef_db::{ClaimedMail, Wake};
use reef_mail::{Mail, Mailer, SendError};
use tokio_util::sync::CancellationToken;

use crate::{
    ControlError,
    account::{Accounts, Errand},
};

/// What is due by time alone is seen so soon.
const PERIOD: Duration = Duration::from_secs(10);
/// Longer than a mailer takes.
const CLAIM: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Mails that are sent at a time.
const HANDS: usize = 4;
const MAX_ERROR_CHARS: usize = 300;

/// Sends what is in the outbox; any number of them may run, on one replica or many.
pub struct Courier {
    accounts: Accounts,
    mailer: Arc<dyn Mailer>,
    origin: String,
}

impl Courier {
    /// Returns a courier that sends with `mailer`; links in letters lead to `origin` (no slash at its end).
    pub fn new(accounts: Accounts, mailer: Arc<dyn Mailer>, origin: String) -> Self {
        Self { accounts, mailer, origin }
    }

    /// Works until `stop`; what is being sent then is finished.
    pub async fn run(&self, stop: CancellationToken) {
        let mut wakes = self.accounts.db().wakes(Wake::Mail);
        while !stop.is_cancelled() {
            if let Err(error) = self.send_due(&stop).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the outbox cannot be worked on");
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PERIOD) => {}
                _ = wakes.changed() => {}
            }
        }
    }

    /// Sends what is due, until nothing is or `stop`.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn send_due(&self, stop: &CancellationToken) -> Result<(), ControlError> {
        let hands = join_all((0..HANDS).map(|_| async {
            while !stop.is_cancelled() && self.send_next().await? {}
            Ok(())
        }));
        let outcome: Result<(), ControlError> = hands.await.into_iter().collect();
        let counts = self.accounts.db().count_mails_any().await?;
        metrics::gauge!("reef_mails_waiting").set(counts.waiting as f64);
        metrics::gauge!("reef_mails_given_up").set(counts.given_up as f64);
        outcome
    }

    /// Sends the mail that is due for longest; tells whether there was one.
    async fn send_next(&self) -> Result<bool, ControlError> {
        let now = self.accounts.now();
        let mut tx = self.accounts.db().write().await?;
        let claimed = tx.claim_mail(now, now + CLAIM).await?;
        tx.commit().await?;
        let Some(mail) = claimed else { return Ok(false) };
        match self.accounts.unseal(&mail) {
            Ok(Errand::Send(letter)) => {
                let letter =
                    Mail { id: mail.id, to: mail.recipient.clone(), rendered: letter.render(&self.origin) };
                let sent = self.mailer.send(&letter).await;
                self.record(&mail, sent).await?;
            }
            Ok(Errand::ForgottenPassword { request_id, ip }) => {
                self.accounts.answer_forgotten(&mail, request_id, ip).await?;
            }
            // It may become readable: a replica that has the key takes it.
            Err(error) => self.record(&mail, Err(SendError::Failed(Box::new(error)))).await?,
        }
        Ok(true)
    }

    async fn record(&self, mail: &ClaimedMail, sent: Result<(), SendError>) -> Result<(), ControlError> {
        let next = self.accounts.now() + pause(mail.attempts);
        let mut tx = self.accounts.db().write().await?;
        let outcome = match sent {
            Ok(()) => {
                tx.finish_mail(mail.id, mail.attempts).await?;
                "sent"
            }
            Err(error) => {
                let text = text_of(&error);
                let is_over = matches!(error, SendError::Refused(_)) || next >= mail.deadline_at;
                if is_over {
                    tracing::error!(id = %mail.id, kind = mail.kind, error = text, "a mail was given up");
                    tx.give_up_mail(mail.id, mail.attempts, &text).await?;
                    "given_up"
                } else {
                    tracing::warn!(id = %mail.id, kind = mail.kind, error = text, "a mail was not sent");
                    tx.postpone_mail(mail.id, mail.attempts, next, &text).await?;
                    "postponed"
                }
            }
        };
        metrics::counter!("reef_mails_total", "kind" => mail.kind.clone(), "outcome" => outcome).increment(1);
        Ok(tx.commit().await?)
    }
}

/// Doubles with each attempt, of which there was at least one.
fn pause(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or_default().min(16);
    (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
}

fn text_of(error: &SendError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().take(MAX_ERROR_CHARS).collect()
}
