//! Header names between control plane and door.
//!
//! Towards the door the control plane sends `Authorization: Bearer <door token>`, the request id, and who calls; all
//! of these are stripped from what a client sent.

/// The request's id, accepted from the client (printable, at most 128 bytes) or made.
pub const REQUEST_ID: &str = "x-request-id";
/// Who calls, for the door's log: `usr_…` or `key_…`.
pub const CALLER: &str = "x-reef-caller";
/// A client's own name for a mutating request, at most 255 bytes; the door remembers it for 24 h on its routes.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that an answer is the stored one of an earlier request with the same key.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
/// The id of the last event that an SSE client saw (WHATWG HTML §9.2).
pub const LAST_EVENT_ID: &str = "last-event-id";
/// Names a WebSocket between control plane and door, a UUID: `POST /sockets/{uuid}/close` has the door end it with a close
/// frame and a reason, which only it can put between two frames.
pub const SOCKET: &str = "x-reef-socket";
