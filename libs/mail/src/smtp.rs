//! Over SMTP (RFC 5321), with TLS as the URL says.

use std::time::Duration;

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use secrecy::{ExposeSecret, SecretString};

use crate::{Mail, Mailer, SendError};

/// For each step of the conversation.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// For all of it.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Replies that speak of the recipient: no such mailbox, not here, not allowed (RFC 5321 §4.2.3), no mail here (RFC 7504).
const REFUSALS: [u16; 4] = [550, 551, 553, 556];

/// A mail server, with a few connections kept open.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// Why the server cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum SmtpSettingsError {
    /// The URL is none that SMTP can be spoken with.
    #[error("REEF_SMTP_URL is not valid: type REEF_SMTP_URL=smtp://USER:PASSWORD@HOST:PORT?tls=required")]
    Url(#[source] lettre::transport::smtp::Error),
    /// The sender is no address.
    #[error("REEF_MAIL_FROM is not valid: type REEF_MAIL_FROM='Reef <reef@example.org>'")]
    From(#[source] lettre::address::AddressError),
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Returns the server at `url` (`smtp://` or `smtps://`, `?tls=required` or `opportunistic` for STARTTLS) and the
    /// sender of all mail; connects to nobody yet. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`SmtpSettingsError`], each variant with its cause.
    pub fn new(url: &SecretString, from: &str) -> Result<Self, SmtpSettingsError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose_secret())
            .map_err(SmtpSettingsError::Url)?
            .timeout(Some(STEP_TIMEOUT))
            .build();
        Ok(Self { transport, from: from.parse().map_err(SmtpSettingsError::From)? })
    }

    /// Connects and signs in, sends nothing.
    ///
    /// # Errors
    /// [`SendError::Failed`].
    pub async fn check(&self) -> Result<(), SendError> {
        match tokio::time::timeout(TIMEOUT, self.transport.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(SendError::Failed("it does not answer as a mail server".into())),
            Ok(Err(error)) => Err(SendError::Failed(error.into())),
            Err(late) => Err(SendError::Failed(late.into())),
        }
    }

    fn message(&self, mail: &Mail) -> Result<Message, SendError> {
        let to = mail.to.parse().map_err(|error| SendError::Refused(Box::new(error)))?;
        // RFC 3834: no holiday replies to it.
        let automatic =
            HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&mail.rendered.subject)
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .raw_header(automatic)
            .multipart(MultiPart::alternative_plain_html(
                mail.rendered.text.clone(),
                mail.rendered.html.clone(),
            ))
            .map_err(|error| SendError::Failed(Box::new(error)))
    }
}

#[async_trait]
impl Mailer for Smtp {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = self.message(mail)?;
        match tokio::time::timeout(TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let is_refusal = error.status().is_some_and(|code| REFUSALS.contains(&code.into()));
                Err(if is_refusal {
                    SendError::Refused(error.into())
                } else {
                    SendError::Failed(error.into())
                })
            }
            Err(late) => Err(SendError::Failed(Box::new(late))),
        }
    }
}

#[cfg(test)]
mod tests {
    use reef_model::MailId;

    use super::*;
    use crate::Letter;

    #[tokio::test]
    async fn a_message_has_both_forms_and_a_lasting_id() {
        let smtp = Smtp::new(&"smtp://127.0.0.1:1".into(), "Reef für alle <reef@example.org>").unwrap();
        let rendered = Letter::PasswordChanged.render("https://reef.example.org");
        let mail = Mail { id: MailId::generate(), to: "zoë@example.org".to_owned(), rendered };
        let text = String::from_utf8(smtp.message(&mail).unwrap().formatted()).unwrap();
        assert!(text.contains(&format!("Message-ID: <{}@example.org>", mail.id)), "{text}");
        for part in ["Auto-Submitted: auto-generated", "text/plain", "text/html", "multipart/alternative"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_server_is_said_at_the_start() {
        let settings = |url: &str, from: &str| Smtp::new(&url.into(), from).map(drop);
        assert!(matches!(settings("http://x", "reef@example.org"), Err(SmtpSettingsError::Url(_))));
        assert!(matches!(settings("smtp://x", "reef"), Err(SmtpSettingsError::From(_))));
        settings("smtps://user:p%40ss@mail.example.org", "Reef <reef@localhost>").unwrap();
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_tried_again() {
        let smtp = Smtp::new(&"smtp://127.0.0.1:1".into(), "reef@example.org").unwrap();
        let rendered = Letter::PasswordChanged.render("https://reef.example.org");
        let mail = Mail { id: MailId::generate(), to: "ada@example.org".to_owned(), rendered };
        assert!(matches!(smtp.send(&mail).await, Err(SendError::Failed(_))));
        assert!(smtp.check().await.is_err());
        let mail = Mail { to: "no address".to_owned(), ..mail };
        assert!(matches!(smtp.send(&mail).await, Err(SendError::Refused(_))));
    }
}
