//! End to end: the real `reef` binary, the real `reef-instance`, the real OpenClaw; nothing is faked but the model.
//!
//! `REEF_BIN`, `REEF_INSTANCE_BIN` and `REEF_OPENCLAW_DIR` say where they are; `make test` sets them.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod bulk;
mod composed;
mod crash;
mod first_five_minutes;
mod hostile;
mod mail;
mod platform;
mod random_kills;
mod sse;
mod stop;
mod terminal;
mod vnc;
mod workbench;
