//! Landlock (landlock(7)): hands restricts itself before it runs anything of the tenant's.

use std::{
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use nix::unistd::geteuid;

/// The newest interface whose rights we name; an older kernel enforces those it knows.
const NEWEST: ABI = ABI::V6;
/// The oldest that is worth the name.
const OLDEST: ABI = ABI::V1;

const READABLE: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/proc",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
    "/run/systemd/resolve",
];
const DEVICES: &str = "/dev";
/// Programs set their own `oom_score_adj` and the like; whose files may be written is the kernel's to say.
const PROCESSES: &str = "/proc";

/// Makes and returns the one directory in `/tmp` that OpenClaw cannot do without: it names it by the user, whatever
/// `TMPDIR` says.
///
/// # Errors
/// Where it cannot be made, or is not this user's.
pub(crate) fn openclaw_locks() -> anyhow::Result<PathBuf> {
    let uid = geteuid().as_raw();
    let dir = PathBuf::from(format!("/tmp/openclaw-state-locks-{uid}"));
    match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).context("cannot write in /tmp")?
        }
        _ => {}
    }
    let meta = std::fs::symlink_metadata(&dir)?;
    anyhow::ensure!(meta.is_dir() && meta.uid() == uid, "{} is not ours: remove it", dir.display());
    Ok(dir)
}

/// Restricts this process and all that it will start to the system's programs (read-only), `read` (read-only) and
/// `write`. `/tmp` is not among them: it is everybody's, and data directories are made there. Signals and abstract sockets of the outside are out of reach where the kernel can do that.
///
/// To be called while the process has one thread.
///
/// # Errors
/// Where the kernel has no Landlock.
pub(crate) fn restrict(read: &[&Path], write: &[&Path]) -> anyhow::Result<()> {
    let readable = READABLE.iter().map(Path::new).chain(read.iter().copied());
    let writable = write.iter().copied().chain([Path::new(DEVICES)]);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(OLDEST))
        .context("this kernel has no Landlock")?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::Signal)?
        .scope(Scope::AbstractUnixSocket)?
        .create()?
        .add_rules(path_beneath_rules(readable, AccessFs::from_read(NEWEST)))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(NEWEST)))?
        .add_rules(path_beneath_rules([PROCESSES], AccessFs::WriteFile))?
        .restrict_self()?;
    anyhow::ensure!(status.ruleset != RulesetStatus::NotEnforced, "this kernel does not enforce Landlock");
    Ok(())
}
