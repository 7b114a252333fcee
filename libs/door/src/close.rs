//! How a WebSocket is ended.

use std::borrow::Cow;

/// Body of `POST /sockets/{uuid}/close` on the door: the close frame (RFC 6455 §5.5.1) to send.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CloseReason {
    /// Status code (RFC 6455 §7.4): 1001 the instance stops, 1012 the server restarts, 4401 the credential was revoked.
    pub code: u16,
    /// For a person; at most 123 bytes fit a frame.
    pub reason: Cow<'static, str>,
}

impl CloseReason {
    /// The instance is going down.
    pub const STOPPING: Self = Self { code: 1001, reason: Cow::Borrowed("the instance is stopping") };
}
