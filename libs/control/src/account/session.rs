//! Browser sessions: what is kept in them, their end, and the store behind `tower-sessions`.

use async_trait::async_trait;
use reef_auth::{Caller, Credential, token::session_hash};
use reef_db::{DbError, Json, SaveSession, SessionRow};
use reef_model::{Revoked, Scopes, SessionId, Timestamp, UserId};
use tower_sessions::{
    SessionStore,
    session::{Id, Record},
    session_store,
};

use super::{Accounts, Client};
use crate::{Actor, ControlError};

const MAX_USER_AGENT_CHARS: usize = 300;

/// What a session of a signed-in browser holds, under [`SignedIn::KEY`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SignedIn {
    /// Who.
    pub user: UserId,
    /// The session as its owner sees it; not the cookie's value.
    pub session: SessionId,
    /// The address at sign-in.
    pub ip: Option<String>,
    /// The browser at sign-in.
    pub user_agent: Option<String>,
}

impl SignedIn {
    /// The name under which it is kept in the session.
    pub const KEY: &'static str = "signed_in";

    /// Begins a session of `user`.
    pub fn new(user: UserId, client: &Client) -> Self {
        Self {
            user,
            session: SessionId::generate(),
            ip: client.ip.map(|ip| ip.to_string()),
            user_agent: client
                .user_agent
                .as_ref()
                .map(|text| text.chars().take(MAX_USER_AGENT_CHARS).collect()),
        }
    }
}

impl Accounts {
    /// Returns who a signed-in session is, and when it ends; `None`: it has ended, or the account is gone or locked.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn session_caller(
        &self,
        user: UserId,
        session: SessionId,
    ) -> Result<Option<(Caller, Timestamp)>, ControlError> {
        let found = self.db.lookup_signed_in(user, session, self.now()).await?;
        let caller = |role| Caller {
            tenant: user,
            role,
            credential: Credential::Session(session),
            scopes: Scopes::all(),
            instances: None,
        };
        Ok(found.map(|(role, ends_at)| (caller(role), ends_at)))
    }

    /// Ends a session of the actor's account, also on every other replica.
    ///
    /// # Errors
    /// [`ControlError::NotFound`].
    pub async fn end_session(&self, actor: &Actor, id: SessionId) -> Result<(), ControlError> {
        let now = self.now();
        let mut tx = self.db.write().await?;
        tx.delete_session(actor.tenant, id).await?.ok_or(ControlError::NotFound)?;
        tx.insert_audit(&actor.entry("session.end", id, now)).await?;
        tx.insert_revocation(Revoked::Session, id.as_uuid(), now).await?;
        Ok(tx.commit().await?)
    }

    /// Ends every session of the actor's account but one. Returns how many.
    ///
    /// # Errors
    /// [`ControlError::Db`].
    pub async fn end_other_sessions(
        &self,
        actor: &Actor,
        keep: Option<SessionId>,
    ) -> Result<usize, ControlError> {
        let now = self.now();
        let mut tx = self.db.write().await?;
        let ended = tx.delete_other_sessions(actor.tenant, keep).await?;
        for (id,) in &ended {
            tx.insert_audit(&actor.entry("session.end", id, now)).await?;
        }
        for (id,) in &ended {
            tx.insert_revocation(Revoked::Session, id.as_uuid(), now).await?;
        }
        tx.commit().await?;
        Ok(ended.len())
    }

    /// Returns the store for `tower-sessions`.
    pub fn session_store(&self) -> DbSessionStore {
        DbSessionStore(self.clone())
    }
}

/// Keeps `tower-sessions` records in the database, found by the hash of the cookie's value.
///
/// Saving a session that was ended meanwhile does not bring it back.
#[derive(Debug, Clone)]
pub struct DbSessionStore(Accounts);

impl DbSessionStore {
    fn row(&self, record: &Record) -> session_store::Result<SaveSession> {
        let data = serde_json::to_value(&record.data)
            .map_err(|error| session_store::Error::Encode(error.to_string()))?;
        let signed_in: Option<SignedIn> = match record.data.get(SignedIn::KEY) {
            Some(value) => Some(
                serde_json::from_value(value.clone())
                    .map_err(|error| session_store::Error::Encode(error.to_string()))?,
            ),
            None => None,
        };
        let (user_id, id, ip, user_agent) = match signed_in {
            Some(SignedIn { user, session, ip, user_agent }) => (Some(user), session, ip, user_agent),
            None => (None, SessionId::generate(), None, None),
        };
        Ok(SaveSession {
            id,
            token_hash: session_hash(record.id.0),
            user_id,
            data,
            ip,
            user_agent,
            now: self.0.now(),
            expires_at: Timestamp::from(record.expiry_date),
        })
    }
}

#[async_trait]
impl SessionStore for DbSessionStore {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        loop {
            let row = self.row(record)?;
            let mut tx = self.0.db.write().await.map_err(backend)?;
            let is_new = tx.insert_session(&row).await.map_err(backend)? == 1;
            tx.commit().await.map_err(backend)?;
            if is_new {
                return Ok(());
            }
            record.id = Id::default();
        }
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        let row = self.row(record)?;
        let mut tx = self.0.db.write().await.map_err(backend)?;
        tx.update_session(&row).await.map_err(backend)?;
        tx.commit().await.map_err(backend)
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        let found =
            self.0.db.lookup_session_by_token(&session_hash(id.0), self.0.now()).await.map_err(backend)?;
        let Some(SessionRow { data: Json(data), expires_at, .. }) = found else { return Ok(None) };
        let data =
            serde_json::from_value(data).map_err(|error| session_store::Error::Decode(error.to_string()))?;
        Ok(Some(Record { id: *id, data, expiry_date: expires_at.as_offset_date_time() }))
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        let now = self.0.now();
        let mut tx = self.0.db.write().await.map_err(backend)?;
        if let Some(SessionRow { id, user_id: Some(_), .. }) =
            tx.delete_session_by_token(&session_hash(id.0)).await.map_err(backend)?
        {
            tx.insert_revocation(Revoked::Session, id.as_uuid(), now).await.map_err(backend)?;
        }
        tx.commit().await.map_err(backend)
    }
}

fn backend(error: DbError) -> session_store::Error {
    tracing::warn!(error = &error as &dyn std::error::Error, "the session store failed");
    session_store::Error::Backend(error.to_string())
}
