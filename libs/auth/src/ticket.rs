//! Tickets: what a browser opens a socket with, instead of a key in a URL. For one route, for 30 seconds, once.
//!
//! A ticket carries who made it and is authenticated with a key derived from the server key, so any replica takes one
//! that another gave out. Each replica remembers those that it took; one that was taken could be used a second time at
//! *another* replica within its 30 seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reef_model::{ApiKeyId, SessionId, Timestamp, UserId};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::{Credential, ServerKey, server_key::mac};

/// How long a ticket may be used.
pub const TICKET_TTL: Duration = Duration::from_secs(30);
/// kind, user, credential, expiry.
pub(crate) const CLAIMS_LEN: usize = 1 + 16 + 16 + 8;
const NONCE_LEN: usize = 16;
const LEN: usize = CLAIMS_LEN + NONCE_LEN + 32;

/// Gives out and takes tickets. Clones share what was taken.
#[derive(Clone)]
pub struct Tickets {
    key: [u8; 32],
    /// Until when a taken ticket, by its nonce, must be remembered.
    taken: Arc<Mutex<HashMap<[u8; NONCE_LEN], Timestamp>>>,
}

/// What a ticket or a link says: by whom it was made, and until when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// The account.
    pub user: UserId,
    /// The session or key that it was made with: it ends with that.
    pub credential: Credential,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why a ticket was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a ticket of this deployment, or for another route.
    #[error("the ticket is not valid for this route")]
    Invalid,
    /// Too old.
    #[error("the ticket has expired")]
    Expired,
    /// Used before.
    #[error("the ticket was used before")]
    Taken,
}

impl Tickets {
    /// Returns a giver of tickets that every replica with the same key takes.
    pub fn new(server_key: &ServerKey) -> Self {
        Self { key: server_key.derive("tickets"), taken: Arc::default() }
    }

    /// Makes a ticket for `route`, 119 characters that are safe in a URL. Returns it and when it ends.
    pub fn issue(
        &self,
        user: UserId,
        credential: Credential,
        route: &str,
        now: Timestamp,
    ) -> (String, Timestamp) {
        let claims = Claims { user, credential, expires_at: now + TICKET_TTL };
        let claimed = [&claims.to_bytes()[..], &rand::random::<[u8; NONCE_LEN]>()].concat();
        let tag = mac(&self.key, &[&claimed, route.as_bytes()]);
        (URL_SAFE_NO_PAD.encode([&claimed[..], &tag].concat()), claims.expires_at)
    }

    /// Takes a ticket for `route`; a second time it is refused.
    ///
    /// # Errors
    /// [`TicketError`], each variant with its cause.
    pub fn take(&self, text: &str, route: &str, now: Timestamp) -> Result<Claims, TicketError> {
        let mut bytes = [0; LEN];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| TicketError::Invalid)?;
        if len != LEN {
            return Err(TicketError::Invalid);
        }
        let (claimed, tag) = bytes.split_at(CLAIMS_LEN + NONCE_LEN);
        let is_ours: bool = mac(&self.key, &[claimed, route.as_bytes()]).ct_eq(tag).into();
        let (claims, nonce) = claimed.split_at(CLAIMS_LEN);
        let claims = Claims::read(claims).filter(|_| is_ours).ok_or(TicketError::Invalid)?;
        let nonce = nonce.try_into().map_err(|_| TicketError::Invalid)?;
        if claims.expires_at <= now {
            return Err(TicketError::Expired);
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, until| *until > now);
        match taken.insert(nonce, claims.expires_at) {
            None => Ok(claims),
            Some(_) => Err(TicketError::Taken),
        }
    }
}

impl Claims {
    /// Returns the form that is authenticated.
    pub(crate) fn to_bytes(self) -> [u8; CLAIMS_LEN] {
        let (kind, id) = match self.credential {
            Credential::Session(id) => (0, id.as_uuid()),
            Credential::Key(id) => (1, id.as_uuid()),
        };
        let mut bytes = [kind; CLAIMS_LEN];
        bytes[1..17].copy_from_slice(self.user.as_uuid().as_bytes());
        bytes[17..33].copy_from_slice(id.as_bytes());
        bytes[33..].copy_from_slice(&self.expires_at.unix_micros().to_be_bytes());
        bytes
    }

    /// Reads that form; `None` where it is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (user, rest) = rest.split_first_chunk::<16>()?;
        let (id, rest) = rest.split_first_chunk::<16>()?;
        let id = Uuid::from_bytes(*id);
        let credential = match kind {
            0 => Credential::Session(SessionId::from_uuid(id)),
            1 => Credential::Key(ApiKeyId::from_uuid(id)),
            _ => return None,
        };
        let expires_at = Timestamp::from_unix_micros(i64::from_be_bytes(rest.try_into().ok()?));
        Some(Self { user: UserId::from_uuid(Uuid::from_bytes(*user)), credential, expires_at })
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUTE: &str = "/api/instances/inst_x/terminal/ws";

    #[test]
    fn once_for_its_route_and_in_time() {
        let key = ServerKey::generate();
        let (here, there) = (Tickets::new(&key), Tickets::new(&key));
        let now = Timestamp::from_unix_micros(1);
        let (user, credential) = (UserId::generate(), Credential::Session(SessionId::generate()));
        let (text, expires_at) = here.issue(user, credential, ROUTE, now);
        assert_eq!(text.len(), 119);
        assert_eq!(there.take(&text, "/other", now), Err(TicketError::Invalid));
        assert_eq!(there.take(&text, ROUTE, expires_at), Err(TicketError::Expired));
        assert_eq!(there.take(&text, ROUTE, now), Ok(Claims { user, credential, expires_at }));
        assert_eq!(there.take(&text, ROUTE, now), Err(TicketError::Taken));
        assert_eq!(Tickets::new(&ServerKey::generate()).take(&text, ROUTE, now), Err(TicketError::Invalid));
        let (later, _) = here.issue(user, credential, ROUTE, expires_at);
        there.take(&later, ROUTE, expires_at).unwrap();
        assert_eq!(there.taken.lock().unwrap().len(), 1, "the first is forgotten");
    }

    proptest! {
        #[test]
        fn forgeries_are_refused(text: String, bytes in proptest::collection::vec(any::<u8>(), LEN)) {
            let tickets = Tickets::new(&ServerKey::generate());
            let now = Timestamp::from_unix_micros(0);
            prop_assert_eq!(tickets.take(&text, ROUTE, now), Err(TicketError::Invalid));
            prop_assert_eq!(tickets.take(&URL_SAFE_NO_PAD.encode(bytes), ROUTE, now), Err(TicketError::Invalid));
        }
    }
}
