//! The words that every room of Reef shares: ids, instants, states, plans and scopes.
//!
//! Nothing here does I/O or reads a clock by itself; `sqlx` traits are derived so that a row can hold these
//! types directly. To add an entity, add its id in [`id`]; to add a state, add it to its enum and let the
//! compiler show every place that must decide what it means.

pub mod account;
pub mod id;
pub mod instance;
pub mod plan;
pub mod scope;
pub mod text;
pub mod time;

pub use account::{ActorKind, EntitlementSource, InviteKind, Revoked, Role, TokenPurpose};
pub use id::{
    ApiKeyId, AuditId, ChatSessionId, CommandId, EntitlementId, HostId, InstanceId, InviteId, MailId,
    MessageId, OperationId, ParseIdError, RequestId, SessionId, TerminalId, TurnId, UserId,
};
pub use instance::{
    Desired, Isolation, OperationKind, OperationStatus, Power, RuntimeKind, SleepTarget, Status,
};
pub use plan::{Limits, Plan};
pub use scope::{Scope, Scopes};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
