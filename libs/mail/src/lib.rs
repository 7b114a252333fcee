//! Letters to people, and how they leave: over SMTP, or into the log.
//!
//! A [`Letter`] is what is to be said; [`Letter::render`] writes it as text and HTML with links to this deployment, and
//! with nothing that a mail program would have to fetch. A [`Mailer`] hands a [`Mail`] over once; waiting, repeating and
//! giving up are the outbox's, in `reef-control`. To add a letter, add its variant and its arm in `letter.rs`.

mod letter;
mod log;
mod smtp;

use async_trait::async_trait;
use reef_model::MailId;

pub use letter::{Letter, Rendered};
pub use log::LogMailer;
pub use smtp::{Smtp, SmtpSettingsError};

/// One mail to one address.
#[derive(Debug)]
pub struct Mail {
    /// Its id, also at the left of `Message-ID`: a mail that is sent twice can be told to be one.
    pub id: MailId,
    /// The address.
    pub to: String,
    /// What it says.
    pub rendered: Rendered,
}

/// Hands mail over.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// Hands one mail over; once it returned `Ok`, delivering it is somebody else's duty.
    ///
    /// # Errors
    /// [`SendError`], each variant with its cause.
    ///
    /// # Cancel safety
    /// The mail may or may not have been handed over.
    async fn send(&self, mail: &Mail) -> Result<(), SendError>;
}

/// Why a mail was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The address will never take it; repeating is of no use.
    #[error("the address is refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It may work later.
    #[error("the mail server did not take it")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
