//! The whole platform in one process, for tests: real HTTP, a real database, real verbs and reconcilers; only the place
//! where instances run is a fake ([`FakeRuntime`]), and the clock can be moved ([`TestClock`]).
//!
//! [`Platform::start`] takes an empty database, so a test runs on both engines:
//!
//! ```text
//! both_engines! {
//!     async fn an_instance_comes_up(database: TestDatabase) {
//!         let platform = Platform::start(database).await;
//!         let ada = platform.account("ada").await;
//!         let id = ada.ready_instance().await;
//!         …
//!         platform.finish().await;
//!     }
//! }
//! ```
//!
//! Every answer that a [`Client`] gets is compared with the OpenAPI document: a status or a body that is not in it fails
//! the test. Not for production code, and not for tests of one room alone.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test helper that fails, fails the test"
)]

mod account;
mod client;
mod clock;
mod contract;
mod door;
mod events;
mod logs;
mod mailbox;
mod platform;
mod replica;
mod runtime;
mod socket;
mod wait;

pub use account::Account;
pub use client::{Answer, Call, Client};
pub use clock::TestClock;
pub use contract::{Contract, Operation};
pub use door::{DoorStream, Received, Script};
pub use events::{End, Event, Events};
pub use mailbox::{Mailbox, Received as ReceivedMail};
pub use platform::{Platform, Setup};
pub use reef_api::{Caps, Policy, RateLimits};
pub use reef_testdb::{TestDatabase, both_engines};
pub use replica::Replica;
pub use runtime::{FakeRuntime, Start};
pub use rustix::io::Errno;
pub use socket::Socket;
pub use wait::{PATIENCE, eventually, within};
