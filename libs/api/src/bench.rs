//! What the benchmark measures that has no route of its own.

use http::request::Parts;

use crate::{
    ApiResult, ApiState,
    caller::{Anyone, Caller},
    context::RequestContext,
};

impl ApiState {
    /// Checks and counts a request as routes do that take any good credential; parts that are checked again keep what
    /// is known of the request.
    ///
    /// # Errors
    /// Those of any request that is refused.
    #[doc(hidden)]
    pub async fn check(&self, parts: &mut Parts) -> ApiResult<()> {
        if parts.extensions.get::<RequestContext>().is_none() {
            let context = RequestContext::of(&parts.headers, &parts.extensions, self.trusted_proxies());
            parts.extensions.insert(context);
        }
        Caller::<Anyone>::admit(parts, self, None).await.map(drop)
    }
}
