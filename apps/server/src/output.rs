//! What is said to the person who typed the command: results on standard output, complaints on standard error.

use std::io::Write;

/// Prints a line, or several; a closed pipe is nobody's loss.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints why it cannot go on.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "reef: {text}");
}
