//! Integration tests: the platform in one process over HTTP, on both engines; a module per resource.
//!
//! What an instance does is faked (`reef-testkit`); the real one is in `tests/e2e`. A new route needs no line here to
//! be walked for authorization ([`authz_walk`]) and compared with the document (every answer of the client is).

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod account;
mod accounts;
mod admin;
mod authz_walk;
mod discovery;
mod errors;
mod idempotency;
mod instances;
mod invites;
mod keys;
mod limits;
mod links;
mod pipe;
mod reconcile;
mod secrets;
mod sockets;
mod throttle;
mod usage;
