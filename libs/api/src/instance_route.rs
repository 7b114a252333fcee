//! The instance that a path names, and that the caller may know of.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use reef_control::instance::Upstream;
use reef_model::InstanceId;

use crate::{
    ApiError, ApiResult, ApiState,
    caller::{Caller, Right},
};

/// A caller with the right `R` and an instance of theirs; from the cache where it is warm.
pub(crate) struct InstanceRoute<R> {
    /// Who asks.
    pub(crate) caller: Caller<R>,
    /// Which instance.
    pub(crate) id: InstanceId,
    /// The way to its door.
    pub(crate) upstream: Arc<Upstream>,
}

impl<R: Right> FromRequestParts<ApiState> for InstanceRoute<R> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> ApiResult<Self> {
        let unknown = || ApiError::not_found("instance");
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(ApiError::internal)?;
        let named = params.iter().find(|(name, _)| *name == "id").map(|(_, value)| value);
        let id: Option<InstanceId> = named.and_then(|text| text.parse().ok());
        // A text that is no id reads as an id that never was, to those who may ask at all.
        let caller =
            Caller::<R>::admit(parts, state, id.or(Some(InstanceId::from_uuid(uuid::Uuid::nil())))).await?;
        let id = id.ok_or_else(unknown)?;
        let upstream = state.control().upstream(caller.tenant(), id).await.map_err(|error| match error {
            reef_control::ControlError::NotFound => unknown(),
            other => other.into(),
        })?;
        Ok(Self { caller, id, upstream })
    }
}
