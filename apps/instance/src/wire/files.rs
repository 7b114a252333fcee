//! Calls about files. Paths are texts as clients give them: absolute beneath a root, `~`, or relative to the workspace.

use reef_door::files::Entry;
use serde::{Deserialize, Serialize};

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// Describe what is at `path`, without following a last symbolic link. Answered by [`Reply::Entry`].
    Stat {
        /// Where.
        path: String,
    },
    /// Open a regular file to read. Answered by [`Reply::Entry`] with the descriptor.
    Open {
        /// Where.
        path: String,
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// What is there now.
    Entry(Box<Entry>),
}
