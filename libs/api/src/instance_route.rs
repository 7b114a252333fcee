//! The instance that a path names, and that the caller may know of.

use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use reef_control::instance::Upstream;
use reef_model::{InstanceId, UserId};

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
        let id = named(parts, state).await?;
        let caller = Caller::<R>::admit(parts, state, Some(id)).await?;
        let upstream = known(state, caller.tenant(), id).await?;
        Ok(Self { caller, id, upstream })
    }
}

/// Returns the id in the path. A text that is none reads as an id that never was, to those who may ask at all.
pub(crate) async fn named(parts: &mut Parts, state: &ApiState) -> ApiResult<InstanceId> {
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(ApiError::internal)?;
    let text = params.iter().find(|(name, _)| *name == "id").map(|(_, value)| value);
    let id = text.and_then(|text| text.parse().ok());
    Ok(id.unwrap_or(InstanceId::from_uuid(uuid::Uuid::nil())))
}

/// Returns the way to an instance of `tenant`; others are not there.
pub(crate) async fn known(state: &ApiState, tenant: UserId, id: InstanceId) -> ApiResult<Arc<Upstream>> {
    state.control().upstream(tenant, id).await.map_err(|error| match error {
        reef_control::ControlError::NotFound => ApiError::not_found("instance"),
        other => other.into(),
    })
}
