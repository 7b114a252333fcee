//! What the door checks and makes before it runs: boot file, directories, who hands is.

use std::{
    io::{ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, fstat},
    unistd::{Gid, Uid, fchown, geteuid},
};
use reef_door::{Boot, RunDir};
use reef_model::Isolation;

use super::{Args, Prepared};
use crate::isolation::{HandsUser, Layout, staging};

/// Far more than a boot file can need; it also bounds what is sent on to hands.
const MAX_BOOT_BYTES: u64 = 96 * 1024;
/// User of hands in the instance image.
const CONTAINER_UID: u32 = 10001;

/// Reads the boot file and makes the directories.
///
/// # Errors
/// The first thing that is wrong, with what to do about it.
pub(super) fn prepare(args: Args) -> anyhow::Result<Prepared> {
    let run_dir = RunDir::new(canonical(&args.run_dir)?);
    let boot = read_boot(&run_dir)?;
    let user = hands_user(&args)?;
    let state_dir = private_dir(&args.state_dir)?;
    let chowned = user.filter(|_| args.isolation != Isolation::Container);
    let layout = Layout {
        program: std::env::current_exe().context("this program cannot find itself")?,
        openclaw: canonical(&args.openclaw)?,
        home: tenant_dir(&args.home, chowned)?,
        workspace: tenant_dir(&args.workspace, chowned)?,
    };
    let layout = match chowned {
        Some(user) => staging::reachable(&layout, user, &[run_dir.path(), &state_dir])?,
        None => layout,
    };
    Ok(Prepared {
        run_dir,
        state_dir,
        boot,
        isolation: args.isolation,
        share_network: args.share_network,
        layout,
        user,
        drain: Duration::from_secs(args.drain_seconds),
        terminal_idle: Duration::from_secs(args.terminal_idle_seconds),
    })
}

fn canonical(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("cannot use {}", path.display()))
}

fn read_boot(run_dir: &RunDir) -> anyhow::Result<Boot> {
    let path = run_dir.boot_file();
    let at = || format!("cannot read the boot file {}", path.display());
    let mut text = String::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(MAX_BOOT_BYTES + 1).read_to_string(&mut text))
        .with_context(at)?;
    anyhow::ensure!(text.len() as u64 <= MAX_BOOT_BYTES, "{}: larger than 96 KiB", at());
    // The cause may quote the text, which has tokens in it: say only where.
    let boot: Boot = serde_json::from_str(&text).map_err(|error| {
        anyhow::anyhow!("{}: wrong at line {} column {}", at(), error.line(), error.column())
    })?;
    let is_empty = boot.door_token.is_empty() || boot.gateway_token.is_empty();
    anyhow::ensure!(!is_empty, "{}: a token is empty", at());
    Ok(boot)
}

fn hands_user(args: &Args) -> anyhow::Result<Option<HandsUser>> {
    let given = args.hands_uid.zip(args.hands_gid).map(|(uid, gid)| HandsUser { uid, gid });
    if !geteuid().is_root() {
        let own = geteuid().as_raw();
        anyhow::ensure!(
            given.is_none_or(|user| user.uid == own),
            "--hands-uid needs a door that runs as root"
        );
        return Ok(None);
    }
    let user = match given {
        Some(user) => user,
        None if args.isolation == Isolation::Container => {
            HandsUser { uid: CONTAINER_UID, gid: CONTAINER_UID }
        }
        None => anyhow::bail!("as root, hands needs a user of its own: give --hands-uid and --hands-gid"),
    };
    anyhow::ensure!(user.uid != 0 && user.gid != 0, "hands must not be root");
    Ok(Some(user))
}

/// Makes the door's own directory, and checks that it is.
fn private_dir(path: &Path) -> anyhow::Result<PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let path = canonical(path)?;
    let owner = std::fs::metadata(&path)?.uid();
    anyhow::ensure!(owner == geteuid().as_raw(), "{} belongs to user {owner}", path.display());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700))?;
    Ok(path)
}

/// Makes a directory of the tenant's, and gives it to `user`.
///
/// What is below it is the tenant's own doing: nothing there is touched, and no link is followed to it.
fn tenant_dir(path: &Path, user: Option<HandsUser>) -> anyhow::Result<PathBuf> {
    let at = || format!("cannot use {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        anyhow::bail!("{}: it has no name", at())
    };
    let path = if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() };
    let path = canonical(&path)?.join(name);
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(at),
        _ => {}
    }
    if let Some(HandsUser { uid, gid }) = user {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = open(&path, flags, Mode::empty()).with_context(at)?;
        if fstat(&dir)?.st_uid == geteuid().as_raw() {
            fchown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).with_context(at)?;
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_boot_file_is_named_and_its_content_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(dir.path());
        assert!(read_boot(&run_dir).unwrap_err().to_string().contains("in/boot.json"));
        std::fs::create_dir(run_dir.inward()).unwrap();
        std::fs::write(run_dir.boot_file(), "{\"door_token\": \"s3cret\", \"generation\": \"s3cret\"}")
            .unwrap();
        let error = format!("{:#}", read_boot(&run_dir).unwrap_err());
        assert!(error.contains("line 1") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn a_tenant_directory_is_made_once_and_no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let user = geteuid().is_root().then_some(HandsUser { uid: 12345, gid: 12345 });
        for _ in 0..2 {
            tenant_dir(&home, user).unwrap();
        }
        if user.is_some() {
            assert_eq!(std::fs::metadata(&home).unwrap().uid(), 12345);
            let link = root.path().join("link");
            std::os::unix::fs::symlink("/etc", &link).unwrap();
            tenant_dir(&link, user).unwrap_err();
        }
    }
}
