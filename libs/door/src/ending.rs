//! How long the end of a door takes: what it gives each part of it, and so what whoever ends it must give the whole.

use std::time::Duration;

/// How long running turns may go on after SIGTERM; a runtime says it to its doors as `--drain-seconds`.
pub const DRAIN: Duration = Duration::from_secs(15);
/// How long turns that are then broken off may take to write that down.
pub const BREAK_OFF: Duration = Duration::from_secs(5);
/// How long the gateway may take to stop by itself once its turns are over.
pub const GATEWAY: Duration = Duration::from_secs(8);
/// What is waited for an end by force: the gateway's, then that of hands, then that of what both leave.
pub const FORCE: Duration = Duration::from_secs(2);
/// How long open answers may take to end once everything behind them has: those of chat, then all others.
pub const ANSWERS: Duration = Duration::from_secs(2);

/// The longest that a door which drains for [`DRAIN`] takes: whoever kills it earlier kills a gateway that is closing its
/// databases.
pub const WHOLE: Duration = Duration::from_secs(
    DRAIN.as_secs() + BREAK_OFF.as_secs() + GATEWAY.as_secs() + 3 * FORCE.as_secs() + 2 * ANSWERS.as_secs(),
);
