//! A place where another user can reach what lies in directories that are closed to it.
//!
//! A clone in `/root` or in a `mktemp -d` cannot be entered by the instance's user. Where the door is root it takes a
//! mount namespace of its own and binds the few things that hands needs below a fresh tmpfs there; nobody else sees it.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{HandsUser, Layout};

/// Empty on nearly every machine; the first that holds nothing of ours is taken.
const PLACES: &[&str] = &["/mnt", "/media", "/srv"];

/// Returns a layout that `user` can reach, the same one if it can already.
///
/// To be called while the process has one thread.
///
/// # Errors
/// Where something is out of reach and this process may not mount; the message names it.
pub(crate) fn reachable(layout: &Layout, user: HandsUser, ours: &[&Path]) -> anyhow::Result<Layout> {
    let things = [&layout.program, &layout.openclaw, &layout.home, &layout.workspace];
    let Some(closed) = things.iter().find_map(|thing| closed_to(thing, user)) else {
        return Ok(layout.clone());
    };
    stage(layout, ours).with_context(|| {
        format!(
            "user {} of the instance cannot enter {}: open it (chmod o+x) or move the data",
            user.uid,
            closed.display()
        )
    })
}

/// Returns the outermost directory above `thing` that `user` cannot enter.
pub(super) fn closed_to(thing: &Path, user: HandsUser) -> Option<PathBuf> {
    let above: Vec<&Path> = thing.ancestors().skip(1).collect();
    above.into_iter().rev().find(|dir| !may_enter(dir, user)).map(Path::to_path_buf)
}

fn may_enter(dir: &Path, user: HandsUser) -> bool {
    let Ok(meta) = std::fs::metadata(dir) else { return false };
    let mode = meta.permissions().mode();
    let bit = if meta.uid() == user.uid {
        0o100
    } else if meta.gid() == user.gid {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

fn stage(layout: &Layout, ours: &[&Path]) -> anyhow::Result<Layout> {
    let all = [&layout.program, &layout.openclaw, &layout.home, &layout.workspace];
    let place = PLACES
        .iter()
        .map(Path::new)
        .find(|place| {
            place.is_dir()
                && !all.iter().any(|thing| thing.starts_with(place))
                && !ours.iter().any(|thing| thing.starts_with(place))
        })
        .context("no free mount point")?;
    unshare(CloneFlags::CLONE_NEWNS).context("no right to make a mount namespace")?;
    let none = None::<&Path>;
    mount(none, Path::new("/"), none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some("mode=0711,size=1m"))?;
    let bind = |from: &Path, name: &str| -> anyhow::Result<PathBuf> {
        let to = place.join(name);
        if from.is_dir() {
            std::fs::create_dir(&to)?;
        } else {
            std::fs::File::create(&to)?;
        }
        mount(Some(from), &to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
            .with_context(|| format!("cannot bind {}", from.display()))?;
        Ok(to)
    };
    Ok(Layout {
        program: bind(&layout.program, "reef-instance")?,
        openclaw: bind(&layout.openclaw, "openclaw")?,
        home: bind(&layout.home, "home")?,
        workspace: bind(&layout.workspace, "workspace")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_outermost_closed_directory() {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let stranger = HandsUser { uid: 4_000_000, gid: 4_000_000 };
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o700)).unwrap();
        assert_eq!(closed_to(&inner, stranger), Some(root.path().to_path_buf()));
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o711)).unwrap();
        assert_eq!(closed_to(&inner, stranger), None);
    }
}
