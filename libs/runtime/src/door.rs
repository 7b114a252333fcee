//! What every runtime tells its doors.

use reef_door::ending;

/// Returns the arguments of `reef-instance door` that are the same whatever runs it.
pub fn arguments() -> [(&'static str, String); 1] {
    [("--drain-seconds", ending::DRAIN.as_secs().to_string())]
}
