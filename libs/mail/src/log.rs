//! Into the log, where no mail server is configured.

use async_trait::async_trait;

use crate::{Mail, Mailer, SendError};

/// Writes each mail to the log, links and their tokens included: who reads the log of such a deployment runs it.
#[derive(Debug, Clone, Copy)]
pub struct LogMailer;

#[async_trait]
impl Mailer for LogMailer {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let (to, subject) = (&mail.to, &mail.rendered.subject);
        tracing::info!(
            to,
            subject,
            "a mail, shown here since REEF_SMTP_URL is not set:\n\n{}",
            mail.rendered.text
        );
        Ok(())
    }
}
