//! How many files this process may have open: every client, every way to a door and every instance's socket is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Below this a busy server runs out; shells and service managers often give 1024.
pub(crate) const FEW: u64 = 8_192;

/// Raises the limit to the most that the system allows without asking; returns what is then in force.
pub(crate) fn raise() -> nix::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}
