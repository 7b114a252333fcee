//! Calls about files. Paths are texts as clients give them: absolute beneath a root, `~`, or relative to the workspace.

use reef_door::files::{ArchiveFormat, CopyReport, Entry, ExtractReport};
use serde::{Deserialize, Serialize};

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// Describe what is at `path`. Answered by [`Reply::Entry`].
    Stat {
        /// Where.
        path: String,
        /// Whether a last symbolic link is followed.
        follow: bool,
    },
    /// Open a regular file to read. Answered by [`Reply::Entry`] with the descriptor.
    Open {
        /// Where.
        path: String,
    },
    /// Write entries below a directory to the pipe that comes along, as lines of JSON. Answered by [`Reply::Listed`].
    List(List),
    /// Make a directory and those above it. Answered by [`Reply::Written`].
    MakeDirectory {
        /// Where.
        path: String,
    },
    /// Open a nameless file to be filled. Answered by [`Reply::Upload`] with the descriptor.
    Create(Create),
    /// Give it its name, at once. Answered by [`Reply::Written`].
    Commit {
        /// Number of the upload.
        upload: u64,
    },
    /// Forget it. Answered by [`Reply::Done`].
    Abort {
        /// Number of the upload.
        upload: u64,
    },
    /// Give something another path. Answered by [`Reply::Entry`].
    Move {
        /// What.
        from: String,
        /// Its new path.
        to: String,
        /// Replace what is there.
        overwrite: bool,
    },
    /// Copy a file, link or tree. Answered by [`Reply::Copied`].
    Copy {
        /// What.
        from: String,
        /// Path of the copy.
        to: String,
        /// Replace what is there.
        overwrite: bool,
    },
    /// Set permission bits. Answered by [`Reply::Entry`].
    Chmod {
        /// What; links are followed.
        path: String,
        /// The bits.
        mode: u32,
    },
    /// Remove a file, link or directory. Answered by [`Reply::Done`].
    Delete {
        /// What; links are not followed.
        path: String,
        /// With what is in it.
        recursive: bool,
        /// Only if this holds.
        condition: Condition,
    },
    /// Write an archive to the pipe that comes along. Answered by [`Reply::Done`].
    Archive {
        /// A directory, whose content is packed, or one file.
        path: String,
        /// How.
        format: ArchiveFormat,
    },
    /// Unpack the archive from the pipe that comes along. Answered by [`Reply::Extracted`].
    Extract {
        /// Into which directory; made where it is missing.
        path: String,
    },
    /// Write matches to the pipe that comes along, as lines of JSON. Answered by [`Reply::Searched`].
    Search(Search),
    /// Write what changes to the pipe that comes along, as lines of JSON, until its other end is closed or the watched
    /// thing is gone. Answered by [`Reply::Done`].
    Watch {
        /// A directory or a file.
        path: String,
        /// Also in directories below.
        recursive: bool,
    },
}

/// What is listed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct List {
    /// The directory.
    pub(crate) path: String,
    /// Also what is in directories below, each after its directory.
    pub(crate) recursive: bool,
    /// How many entries at most.
    pub(crate) limit: u32,
    /// Go on after this one; see [`Reply::Listed`].
    pub(crate) cursor: Option<String>,
}

/// A file to be written.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Create {
    /// Where; links are followed.
    pub(crate) path: String,
    /// Make missing directories above.
    pub(crate) parents: bool,
    /// Permission bits; those of the file that is replaced, or 0644.
    pub(crate) mode: Option<u32>,
    /// How many bytes will come, where known.
    pub(crate) size: Option<u64>,
    /// Only if this holds, now and at the end.
    pub(crate) condition: Condition,
}

/// A precondition: entity tags with quotes, or `*` (RFC 9110 §13.1).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// The file has one of these.
    pub(crate) if_match: Option<Vec<String>>,
    /// The file has none of these.
    pub(crate) if_none_match: Option<Vec<String>>,
}

/// Returns the entity tag of a file, with its quotes: another file, length or time of change makes another one.
pub(crate) fn etag(stat: &rustix::fs::Stat) -> String {
    let nanos = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    format!("\"{:x}-{:x}-{nanos:x}\"", stat.st_ino, stat.st_size)
}

/// What is looked for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Search {
    /// A directory, or one file.
    pub(crate) path: String,
    /// Text, or a regular expression.
    pub(crate) query: String,
    /// Which of the two.
    pub(crate) regex: bool,
    /// Whether upper and lower case are the same.
    pub(crate) ignore_case: bool,
    /// Only files whose path below `path` matches; without `/`: whose name does.
    pub(crate) glob: Option<String>,
    /// Leave out what `.gitignore` files say.
    pub(crate) gitignore: bool,
    /// Also names that begin with a dot.
    pub(crate) hidden: bool,
    /// How many matches at most.
    pub(crate) limit: u32,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done.
    Done,
    /// What is there now.
    Entry(Box<Entry>),
    /// What is there now, and whether nothing was before.
    Written(Box<Entry>, bool),
    /// Number of an upload.
    Upload(u64),
    /// The end of a listing, with a cursor where there is more.
    Listed(Option<String>),
    /// A copy.
    Copied(Box<CopyReport>),
    /// What an archive held.
    Extracted(ExtractReport),
    /// The end of a search.
    Searched {
        /// Files looked into.
        files: u64,
        /// Whether a limit ended it.
        truncated: bool,
    },
}
