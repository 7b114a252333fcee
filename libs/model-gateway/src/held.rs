//! Request bodies in memory: bounded for each instance and for all of them together.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Instance, MAX_BODY_BYTES, error::ModelError};

/// For all instances: eight of the largest bodies, hundreds of ordinary ones.
const ALL_BYTES: usize = 8 * MAX_BODY_BYTES;
/// For one instance, so that it cannot keep the others waiting.
const ONE_BYTES: usize = 2 * MAX_BODY_BYTES;
const KIB: usize = 1024;
/// How long a request waits for room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(20);
/// How long its body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Room for bodies.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// Returns the room of all instances.
    pub(crate) fn of_all() -> Self {
        Self(Arc::new(Semaphore::new(ALL_BYTES / KIB)))
    }

    /// Returns the room of one instance.
    pub(crate) fn of_one() -> Self {
        Self(Arc::new(Semaphore::new(ONE_BYTES / KIB)))
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ModelError> {
        let kib = u32::try_from(bytes.div_ceil(KIB).max(1)).map_err(|_| ModelError::TooLarge)?;
        Arc::clone(&self.0).acquire_many_owned(kib).await.map_err(|_| ModelError::Busy)
    }
}

/// A whole body; its room is free again when it is dropped, which is when the answer begins.
pub(crate) struct Held {
    bytes: Bytes,
    _rooms: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl std::ops::Deref for Held {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FromRequest<Instance> for Held {
    type Rejection = ModelError;

    async fn from_request(request: Request<Body>, instance: &Instance) -> Result<Self, ModelError> {
        let body = request.into_body();
        let most = usize::try_from(body.size_hint().upper().unwrap_or(MAX_BODY_BYTES as u64));
        let most = most.ok().filter(|most| *most <= MAX_BODY_BYTES).ok_or(ModelError::TooLarge)?;
        // Its own room first: who waits there holds nothing of the others'.
        let rooms =
            async { Ok((instance.room.take(most).await?, instance.gateway.0.room.take(most).await?)) };
        let rooms = tokio::time::timeout(ROOM_TIMEOUT, rooms).await.map_err(|_| ModelError::Busy)??;
        let bytes = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES))
            .await
            .map_err(|_| ModelError::Invalid("the body did not come in time".to_owned()))?
            .map_err(|_| ModelError::TooLarge)?;
        Ok(Self { bytes, _rooms: rooms })
    }
}

#[cfg(test)]
mod tests {
    use reef_model::InstanceId;

    use super::*;
    use crate::{ModelGateway, Usage, UsageSink};

    struct Nowhere;

    impl UsageSink for Nowhere {
        fn record(&self, _: InstanceId, _: Usage) {}
    }

    /// A body of unknown length that never comes.
    fn pending() -> Request {
        let never = futures_util::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        Request::new(Body::from_stream(never))
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_do_not_come_hold_no_more_than_the_room_of_one() {
        let gateway = ModelGateway::new(None, Arc::new(Nowhere)).unwrap();
        let instance = |gateway: &ModelGateway| Instance {
            id: InstanceId::generate(),
            gateway: gateway.clone(),
            room: Room::of_one(),
        };
        let (one, two) = (instance(&gateway), instance(&gateway));
        let ordinary = async {
            // Comes when the others hold what they can.
            tokio::task::yield_now().await;
            let held = Held::from_request(Request::new(Body::from("hello")), &two).await;
            assert_eq!(&**held.as_ref().map_err(|_| "no room").unwrap(), b"hello");
        };
        let (first, second, third, ()) = tokio::join!(
            Held::from_request(pending(), &one),
            Held::from_request(pending(), &one),
            Held::from_request(pending(), &one),
            ordinary,
        );
        assert!(
            matches!(first, Err(ModelError::Invalid(_))) && matches!(second, Err(ModelError::Invalid(_)))
        );
        assert!(matches!(third, Err(ModelError::Busy)));
        assert!(Held::from_request(Request::new(Body::from("again")), &one).await.is_ok());
    }
}
