//! What the door asks hands to do, and what comes back.
//!
//! Hands opens and starts, as the tenant and inside the sandbox; the descriptor travels back and the door moves the bytes
//! (docs/decisions/0003). Every [`Ask`] has one [`Said::Answer`] under its number, in any order. Answers are hostile input.

use std::{collections::BTreeMap, io};

use serde::{Deserialize, Serialize};

use super::files;

/// From door to hands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// Names the answer.
    pub(crate) id: u64,
    /// What to do.
    pub(crate) call: Call,
}

/// One thing to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// Something with files; some come with one end of a pipe.
    Files(files::Call),
    /// Start a process below a shepherd of its own. Answered by [`Reply::Child`].
    Spawn(Box<Spawn>),
    /// Send a signal to a child's process group, or on a terminal to the group in its foreground.
    Signal {
        /// Which child.
        child: u32,
        /// Its number (signal(7)).
        signal: i32,
    },
    /// Kill a child with everything that it started, also what has become a daemon.
    KillTree {
        /// Which child.
        child: u32,
    },
    /// Connect to a unix socket. Answered by [`Reply::Done`] with the descriptor.
    Connect {
        /// Where, as hands sees it.
        path: String,
    },
}

/// A process to start.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spawn {
    /// Program and arguments; not empty.
    pub(crate) argv: Vec<String>,
    /// Directory to start in; the workspace where none is given.
    pub(crate) cwd: Option<String>,
    /// Put over the environment of the instance.
    pub(crate) env: BTreeMap<String, String>,
    /// A terminal of this size, whose master is sent back; otherwise standard input, output and error come with the call.
    pub(crate) terminal: Option<Size>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    /// Columns.
    pub(crate) cols: u16,
    /// Rows.
    pub(crate) rows: u16,
}

/// From hands to door.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// The end of a call.
    Answer {
        /// Of which [`Ask`].
        id: u64,
        /// What came of it.
        result: Result<Reply, Failure>,
    },
    /// A child ended; never before the answer that named it.
    Ended {
        /// Which child.
        child: u32,
        /// How.
        end: End,
    },
}

/// What came of a call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done; a descriptor may come along.
    Done,
    /// It runs.
    Child(u32),
    /// Of a files call.
    Files(files::Reply),
}

/// How a process ended: one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// Exit status.
    pub(crate) code: Option<i32>,
    /// Number of the signal that killed it.
    pub(crate) signal: Option<i32>,
}

impl End {
    /// Returns the exit status as shells give it: 128 + signal where one killed it.
    pub(crate) fn status(self) -> i32 {
        self.code.or(self.signal.map(|signal| 128 + signal)).unwrap_or(-1)
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What kind of failure, for the status of an answer.
    pub(crate) kind: FailureKind,
    /// For a person: what it was about and what to do.
    pub(crate) message: String,
}

/// Kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    /// Nothing is there.
    NotFound,
    /// Something is there already.
    Exists,
    /// The tenant may not.
    Denied,
    /// A part of the path is no directory.
    NotADirectory,
    /// It is a directory.
    IsADirectory,
    /// The directory is not empty.
    NotEmpty,
    /// The path leads out of the roots.
    Outside,
    /// It is no regular file: a device, a socket, a pipe.
    NotAFile,
    /// The request makes no sense.
    Invalid,
    /// It is not what the caller says it is: a precondition failed.
    Changed,
    /// It changed while it was read.
    Torn,
    /// The disk is full.
    NoSpace,
    /// A quota of the file system is used up.
    Quota,
    /// Too many processes, descriptors or calls at present.
    Limit,
    /// More bytes or names than may be.
    TooLarge,
    /// Anything else.
    Io,
}

impl Failure {
    /// Makes one.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use FailureKind as Kind;
        use nix::errno::Errno;
        let kind = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => Kind::NotFound,
            Some(Errno::EEXIST) => Kind::Exists,
            Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => Kind::Denied,
            Some(Errno::ENOTDIR) => Kind::NotADirectory,
            Some(Errno::EISDIR) => Kind::IsADirectory,
            Some(Errno::ENOTEMPTY) => Kind::NotEmpty,
            Some(Errno::EXDEV | Errno::ELOOP) => Kind::Outside,
            Some(Errno::ENXIO | Errno::ENODEV) => Kind::NotAFile,
            Some(Errno::EINVAL | Errno::ENAMETOOLONG) => Kind::Invalid,
            Some(Errno::ESTALE) => Kind::Torn,
            Some(Errno::ENOSPC) => Kind::NoSpace,
            Some(Errno::EDQUOT) => Kind::Quota,
            Some(Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => Kind::Limit,
            Some(Errno::EFBIG) => Kind::TooLarge,
            Some(_) => Kind::Io,
            None => match error.kind() {
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::AlreadyExists => Kind::Exists,
                io::ErrorKind::PermissionDenied => Kind::Denied,
                io::ErrorKind::InvalidInput => Kind::Invalid,
                _ => Kind::Io,
            },
        };
        Self::new(kind, error.to_string())
    }
}
