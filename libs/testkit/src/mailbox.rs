//! Where mail ends up in tests.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use reef_mail::{Mail, Mailer, SendError};

use crate::eventually;

/// Takes all mail, and keeps it.
#[derive(Debug, Clone, Default)]
pub struct Mailbox(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    received: Vec<Received>,
    refused: BTreeSet<String>,
}

/// A mail that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// To whom.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
}

impl Received {
    /// Returns the token of the link in it.
    pub fn token(&self) -> String {
        let (_, rest) = self.text.split_once("token=").unwrap_or_else(|| panic!("no token in {}", self.text));
        rest.split_whitespace().next().unwrap_or_default().to_owned()
    }
}

impl Mailbox {
    /// Returns what came for an address so far, in order.
    pub fn of(&self, address: &str) -> Vec<Received> {
        self.lock().received.iter().filter(|mail| mail.to == address).cloned().collect()
    }

    /// Waits for a mail to an address whose subject contains this, and takes it out.
    pub async fn next(&self, address: &str, subject: &str) -> Received {
        eventually(&format!("a mail to {address}: {subject}"), async || {
            let mut inner = self.lock();
            let is_it = |mail: &Received| mail.to == address && mail.subject.contains(subject);
            let at = inner.received.iter().position(is_it)?;
            Some(inner.received.remove(at))
        })
        .await
    }

    /// Refuses mail to an address from now on.
    pub fn refuse(&self, address: &str) {
        self.lock().refused.insert(address.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Mailer for Mailbox {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let mut inner = self.lock();
        if inner.refused.contains(&mail.to) {
            return Err(SendError::Refused(Box::new(io::Error::other("no such mailbox"))));
        }
        inner.received.push(Received {
            to: mail.to.clone(),
            subject: mail.rendered.subject.clone(),
            text: mail.rendered.text.clone(),
        });
        Ok(())
    }
}
