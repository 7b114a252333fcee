//! What the control plane and an instance agree on: routes, headers, bodies, the boot file and the sockets.
//!
//! The control plane (`reef`) and the instance daemon (`reef-instance`) are built apart and may differ by one version,
//! so everything here only grows: new fields are optional, readers ignore what they do not know.

pub mod boot;
pub mod chat;
pub mod close;
pub mod desktop;
pub mod ending;
pub mod error;
pub mod files;
pub mod headers;
pub mod socket;
pub mod status;
pub mod terminal;

pub use boot::{Boot, RunDir};
pub use close::CloseReason;
pub use error::{ErrorBody, ErrorCode};
pub use status::{DoorPhase, DoorStatus};
