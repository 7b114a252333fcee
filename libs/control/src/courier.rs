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

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use async_trait::async_trait;
    use reef_auth::{SecretBox, ServerKey};
    use reef_db::{Db, Page};
    use reef_model::{MailId, ManualClock, Timestamp};
    use reef_testdb::{TestDatabase, both_engines};

    use super::*;
    use crate::account::Client;

    /// A mail server that may be down.
    #[derive(Default)]
    struct Server {
        is_down: Mutex<bool>,
        came: Mutex<Vec<MailId>>,
    }

    #[async_trait]
    impl Mailer for Server {
        async fn send(&self, mail: &Mail) -> Result<(), SendError> {
            if *self.is_down.lock().unwrap() {
                return Err(SendError::Failed(Box::new(io::Error::other("connection refused"))));
            }
            self.came.lock().unwrap().push(mail.id);
            Ok(())
        }
    }

    struct World {
        db: Db,
        clock: Arc<ManualClock>,
        server: Arc<Server>,
        courier: Courier,
    }

    impl World {
        /// A world with one forgotten password and its mail.
        async fn open(database: &TestDatabase) -> Self {
            let db = Db::connect(database.url(), 8).await.unwrap();
            db.migrate().await.unwrap();
            let clock = Arc::new(ManualClock::new(Timestamp::from_unix_micros(1_775_272_200_000_000)));
            let secrets = SecretBox::new(&ServerKey::generate(), &[]);
            let accounts = Accounts::new(db.clone(), clock.clone(), secrets);
            accounts.ensure_operator(None, Some("correct horse".into())).await.unwrap();
            accounts.forget_password("operator@localhost", &Client::default()).await.unwrap();
            let server = Arc::new(Server::default());
            let courier = Courier::new(accounts, server.clone(), "https://reef.example.org".to_owned());
            Self { db, clock, server, courier }
        }

        fn set_down(&self, is_down: bool) {
            *self.server.is_down.lock().unwrap() = is_down;
        }

        async fn work(&self) {
            self.courier.send_due(&CancellationToken::new()).await.unwrap();
        }

        fn came(&self) -> Vec<MailId> {
            self.server.came.lock().unwrap().clone()
        }

        async fn waiting(&self) -> Vec<reef_db::MailRow> {
            self.db.list_mails_any(Page::first(10)).await.unwrap()
        }
    }

    both_engines! {
        async fn a_server_that_is_down_is_tried_again_ever_more_seldom(database: TestDatabase) {
            let world = World::open(&database).await;
            world.set_down(true);
            world.work().await;
            let [mail] = &world.waiting().await[..] else { panic!("one mail waits") };
            assert_eq!((mail.kind.as_str(), mail.attempts), ("reset_password", 1));
            assert!(mail.last_error.as_deref().unwrap().ends_with("connection refused"), "{mail:?}");
            for (wait, attempts) in [(14, 1), (1, 2), (29, 2), (1, 3)] {
                world.clock.advance(Duration::from_secs(wait));
                world.work().await;
                assert_eq!(world.waiting().await[0].attempts, attempts);
            }
            world.set_down(false);
            world.clock.advance(Duration::from_secs(60));
            world.work().await;
            assert_eq!((world.came(), world.waiting().await), (vec![mail.id], vec![]));
        }

        async fn what_is_of_no_use_any_more_is_given_up_and_forgotten(database: TestDatabase) {
            let world = World::open(&database).await;
            world.set_down(true);
            for _ in 0..20 {
                world.work().await;
                world.clock.advance(Duration::from_secs(600));
            }
            let [mail] = &world.waiting().await[..] else { panic!("it is still shown") };
            assert_eq!((mail.next_attempt_at, mail.attempts < 10), (None, true), "{mail:?}");
            world.set_down(false);
            world.work().await;
            assert_eq!(world.came(), []);
            world.clock.advance(Duration::from_secs(30 * 24 * 3600));
            world.courier.accounts.sweep().await.unwrap();
            assert_eq!(world.waiting().await, []);
        }

        async fn what_a_courier_died_with_is_sent_by_another(database: TestDatabase) {
            let world = World::open(&database).await;
            let now = world.courier.accounts.now();
            let mut tx = world.db.write().await.unwrap();
            let held = tx.claim_mail(now, now + CLAIM).await.unwrap().unwrap();
            tx.commit().await.unwrap();
            world.work().await;
            assert_eq!(world.came(), []);
            world.clock.advance(CLAIM);
            world.work().await;
            assert_eq!(world.came().len(), 1);
            // The first one was only slow: what it does now is of no effect.
            world.courier.accounts.answer_forgotten(&held, None, None).await.unwrap();
            world.work().await;
            assert_eq!(world.came().len(), 1);
        }

        async fn many_couriers_send_each_mail_once(database: TestDatabase) {
            let world = World::open(&database).await;
            for n in 0..12 {
                let email = format!("a{n}@example.org");
                let wish = crate::account::SignUp { email, password: "correct horse".into(), name: None, invite_code: None };
                world.courier.accounts.sign_up(wish, &Client::default()).await.unwrap();
            }
            tokio::join!(world.work(), world.work(), world.work());
            let mut came = world.came();
            came.sort_unstable();
            came.dedup();
            assert_eq!((world.came().len(), came.len()), (13, 13));
        }
    }
}
