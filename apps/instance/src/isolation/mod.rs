//! How hands are kept apart from the door and from the machine.
//!
//! | | who does it | gives |
//! |---|---|---|
//! | `bubblewrap` | the door, by the command line of [`bubblewrap`] | own user, pid, mount, ipc, uts and network namespaces |
//! | `landlock` | hands, to itself ([`landlock`]) | an allow-list of files, no signals to the outside |
//! | `none` | nobody | nothing |
//! | `container` | whoever started the container; the door drops the user | another user with no capability |
//!
//! In all of them hands is another user than a door that runs as root, and can gain no privilege.

pub(crate) mod bubblewrap;
pub(crate) mod landlock;
pub(crate) mod probe;
pub(crate) mod staging;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use reef_model::Isolation;
use tokio::process::Command;

/// User and group of hands, where the door is root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandsUser {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
}

/// Where things are, absolute and without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// This program.
    pub(crate) program: PathBuf,
    /// Node and OpenClaw.
    pub(crate) openclaw: PathBuf,
    /// The tenant's home.
    pub(crate) home: PathBuf,
    /// The agent's workspace.
    pub(crate) workspace: PathBuf,
}

impl Layout {
    /// Returns the same things as hands sees them.
    pub(crate) fn seen_by_hands(&self, isolation: Isolation) -> Self {
        if isolation == Isolation::Bubblewrap { bubblewrap::layout_inside() } else { self.clone() }
    }
}

/// Variables of the door's environment that tell programs which certificates to trust, with the files they name.
const TRUST_VARIABLES: &[&str] = &[
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
];

/// Returns those that are set and name an absolute path that hands can reach.
pub(crate) fn trust_env(user: Option<HandsUser>) -> BTreeMap<String, String> {
    TRUST_VARIABLES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .filter(|(_, path)| Path::new(path).is_absolute() && Path::new(path).exists())
        .filter(|(_, path)| user.is_none_or(|user| staging::closed_to(Path::new(path), user).is_none()))
        .collect()
}

/// Tells whether a limit of processes that hands sets for itself counts this instance's and no others: in a user
/// namespace of its own (Linux 5.14 or later), or as a user of its own. In a container the engine counts.
pub(crate) fn counts_processes(isolation: Isolation, user: Option<HandsUser>) -> bool {
    match isolation {
        Isolation::Bubblewrap => true,
        Isolation::Landlock | Isolation::None => user.is_some(),
        Isolation::Container | Isolation::Pod => false,
    }
}

/// A command that is ready to be spawned, and what must stay open until it is.
pub(crate) struct Prepared {
    /// The command; its standard streams are the caller's to set.
    pub(crate) command: Command,
    /// Descriptors that the child inherits; close ours after the spawn.
    pub(crate) inherited: Vec<OwnedFd>,
}

/// Prepares the command that runs hands.
///
/// # Errors
/// Where the made-up files of the sandbox cannot be written.
pub(crate) fn hands_command(
    isolation: Isolation,
    share_network: bool,
    layout: &Layout,
    user: Option<HandsUser>,
    trust: &BTreeMap<String, String>,
) -> std::io::Result<Prepared> {
    let mut prepared = if isolation == Isolation::Bubblewrap {
        bubblewrap::command(layout, trust, share_network)?
    } else {
        let mut command = Command::new(&layout.program);
        command.env_clear().arg("hands");
        Prepared { command, inherited: Vec::new() }
    };
    let command = &mut prepared.command;
    command.current_dir("/").process_group(0).kill_on_drop(true);
    if let Some(HandsUser { uid, gid }) = user {
        // As root this also empties the supplementary groups; capabilities go with user 0.
        command.uid(uid).gid(gid);
    }
    Ok(prepared)
}
