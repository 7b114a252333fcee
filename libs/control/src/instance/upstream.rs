//! The way to an instance's door, cached: the warm path of a chat makes no query.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use reef_model::{InstanceId, Status, UserId};
use secrecy::ExposeSecret;

use crate::{ControlError, Inner};

/// How long another replica's change may stay unseen where its wake is lost; this process's own are seen at once.
const UPSTREAM_TTL: Duration = Duration::from_secs(2);
const MAX_CACHED: u64 = 100_000;

/// What the pipe must know of an instance.
#[derive(Debug)]
pub struct Upstream {
    /// The instance.
    pub id: InstanceId,
    /// Its owner.
    pub tenant: UserId,
    /// What it does.
    pub status: Status,
    /// Why, where that is not plain.
    pub status_reason: Option<String>,
    /// The generation of intent: connections to an older door are not used for a newer one.
    pub generation: i64,
    /// The `Authorization` that the door wants to see.
    pub authorization: HeaderValue,
}

/// Makes the cache of [`Inner::upstream`].
pub fn upstream_cache() -> moka::future::Cache<InstanceId, Arc<Upstream>> {
    moka::future::Cache::builder().max_capacity(MAX_CACHED).time_to_live(UPSTREAM_TTL).build()
}

impl Inner {
    /// Returns the way to the tenant's instance.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] where it does not exist or is another tenant's.
    ///
    /// # Cancel safety
    /// Safe: a dropped lookup leaves the shared query running for other waiters.
    pub async fn upstream(&self, tenant: UserId, id: InstanceId) -> Result<Arc<Upstream>, ControlError> {
        if let Some(upstream) = self.upstreams.get(&id).await {
            return if upstream.tenant == tenant { Ok(upstream) } else { Err(ControlError::NotFound) };
        }
        let found = self.upstreams.try_get_with(id, async {
            let row = self.db().lookup_instance_any(id).await?.ok_or(ControlError::NotFound)?;
            let token = self.tokens_of(&row)?.door;
            let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
                .map_err(|_| ControlError::Secret)?;
            authorization.set_sensitive(true);
            Ok(Arc::new(Upstream {
                id,
                tenant: row.user_id,
                status: row.status,
                status_reason: row.status_reason,
                generation: row.generation,
                authorization,
            }))
        });
        match found.await {
            Ok(upstream) if upstream.tenant == tenant => Ok(upstream),
            Ok(_) => Err(ControlError::NotFound),
            Err(error) => Err(Arc::try_unwrap(error).unwrap_or_else(|shared| match &*shared {
                ControlError::NotFound => ControlError::NotFound,
                // The other waiters share the cause; it is logged where it is owned.
                _ => ControlError::Overloaded,
            })),
        }
    }
}
