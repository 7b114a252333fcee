//! One table per file: what is measured, and the rows.

pub(crate) mod desktop;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod key_check;
pub(crate) mod memory;
pub(crate) mod one_core;
pub(crate) mod pass_through;
pub(crate) mod terminals;

use std::io::Write;

/// Writes a line of the report.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}
