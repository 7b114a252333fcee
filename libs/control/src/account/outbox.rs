//! The outbox: what is to be mailed is written in the transaction of what caused it, sealed, and sent by the courier.

use std::time::Duration;

use reef_db::{ClaimedMail, NewMail, Tx};
use reef_mail::Letter;
use reef_model::{MailId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::{Accounts, password::RESET_TTL};
use crate::ControlError;

/// How long a letter is worth being sent.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// What the courier is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "errand", rename_all = "snake_case")]
pub(crate) enum Errand {
    /// Send this.
    Send(Letter),
    /// Somebody forgot the password of the recipient's account: if there is one, write them. Looked up by the courier,
    /// so that who asks learns nothing, not even from the time it takes.
    ForgottenPassword {
        /// In which request.
        request_id: Option<String>,
        /// From where.
        ip: Option<String>,
    },
}

impl Errand {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Send(letter) => letter.kind(),
            Self::ForgottenPassword { .. } => "forgotten_password",
        }
    }

    fn patience(&self) -> Duration {
        match self {
            Self::Send(Letter::ResetPassword { .. }) | Self::ForgottenPassword { .. } => RESET_TTL,
            Self::Send(_) => PATIENCE,
        }
    }
}

impl Accounts {
    /// Writes a letter to `to` about an account, to be sent once the transaction is kept.
    pub(super) async fn post(
        &self,
        tx: &mut Tx,
        user: Option<UserId>,
        to: &str,
        letter: Letter,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        self.put(tx, user, to, &Errand::Send(letter), now).await
    }

    pub(super) async fn put(
        &self,
        tx: &mut Tx,
        user: Option<UserId>,
        to: &str,
        errand: &Errand,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let id = MailId::generate();
        let text = serde_json::to_vec(errand).expect("an errand is plain data");
        Ok(tx
            .insert_mail(&NewMail {
                id,
                user_id: user,
                kind: errand.kind(),
                recipient: to.to_owned(),
                letter_enc: self.secrets.seal(&text, &place(id)),
                created_at: now,
                deadline_at: now + errand.patience(),
            })
            .await?)
    }

    /// Returns what a claimed mail says.
    pub(crate) fn unseal(&self, mail: &ClaimedMail) -> Result<Errand, ControlError> {
        let text = self.secrets.open(&mail.letter_enc, &place(mail.id)).map_err(|_| ControlError::Secret)?;
        serde_json::from_slice(&text).map_err(|_| ControlError::Secret)
    }
}

fn place(id: MailId) -> Vec<u8> {
    [b"mail ", &id.as_uuid().as_bytes()[..]].concat()
}
