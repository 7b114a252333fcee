//! What every runtime tells its doors.

use std::time::Duration;

use reef_door::ending;

/// Returns the arguments of `reef-instance door` that are the same whatever runs it; a shell without viewers, input and output
/// is ended after `terminal_idle`.
pub fn arguments(terminal_idle: Duration) -> [(&'static str, String); 2] {
    [("--drain-seconds", ending::DRAIN), ("--terminal-idle-seconds", terminal_idle)]
        .map(|(flag, duration)| (flag, duration.as_secs().to_string()))
}
