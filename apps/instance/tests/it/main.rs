//! The real `reef-instance door` with the real OpenClaw, as a runtime starts it.

#![expect(clippy::unwrap_used, reason = "a helper that panics fails its test, as it should")]

mod files;
mod harness;
mod hostile;
mod life;
#[path = "../../src/skipped.rs"]
mod skipped;
