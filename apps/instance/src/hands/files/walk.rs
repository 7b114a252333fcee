//! Walks a tree by descriptors, in a stable order, never through a link.

use std::{
    ffi::{OsStr, OsString},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, RawDir, Stat, openat, statat},
    io::Errno,
};

use super::entry::kind;
use reef_door::files::FileKind;

/// Directories within each other. Each costs a descriptor.
const MAX_DEPTH: usize = 200;
/// Names in one directory.
const MAX_NAMES: usize = 1_000_000;
/// Files of ours that are on their way to their name.
pub(super) const TEMP_PREFIX: &str = ".reef-tmp-";

/// Something in a directory.
pub(super) struct Item {
    /// The directory.
    pub(super) dir: Rc<OwnedFd>,
    /// Its name there.
    pub(super) name: OsString,
    /// Path below the top of the walk.
    pub(super) path: PathBuf,
    /// What it was a moment ago; a link itself.
    pub(super) stat: Stat,
}

impl Item {
    /// Opens it to read if it is a regular file still.
    pub(super) fn open_regular(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&*self.dir, &self.name, flags, Mode::empty())?;
        super::entry::require_regular(&file)?;
        Ok(file)
    }
}

/// Yields what is below a directory: names in the order of their bytes, what is in a directory after it.
pub(super) struct Walk {
    levels: Vec<Level>,
    /// The directory that was yielded last, to be entered.
    pending: Option<Pending>,
}

struct Level {
    dir: Rc<OwnedFd>,
    path: PathBuf,
    names: std::vec::IntoIter<OsString>,
}

struct Pending {
    parent: Rc<OwnedFd>,
    name: OsString,
    path: PathBuf,
}

impl Walk {
    /// Starts at an open directory.
    pub(super) fn new(top: OwnedFd) -> io::Result<Self> {
        let mut walk = Self { levels: Vec::new(), pending: None };
        walk.enter(top, PathBuf::new())?;
        Ok(walk)
    }

    /// Leaves out what is in the directory that was yielded last.
    pub(super) fn skip(&mut self) {
        self.pending = None;
    }

    /// Returns the next one; errors are about one directory, and the walk may go on after them.
    pub(super) fn next(&mut self) -> Option<io::Result<Item>> {
        if let Some(pending) = self.pending.take() {
            match open_directory(&pending.parent, &pending.name) {
                Ok(dir) => {
                    if let Err(error) = self.enter(dir, pending.path) {
                        return Some(Err(error));
                    }
                }
                // It was removed or replaced meanwhile.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
        loop {
            let level = self.levels.last_mut()?;
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let stat = match statat(&*level.dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Some(Err(error.into())),
            };
            let (dir, path) = (level.dir.clone(), level.path.join(&name));
            if kind(&stat) == FileKind::Directory {
                self.pending = Some(Pending { parent: dir.clone(), name: name.clone(), path: path.clone() });
            }
            return Some(Ok(Item { dir, name, path, stat }));
        }
    }

    fn enter(&mut self, dir: OwnedFd, path: PathBuf) -> io::Result<()> {
        if self.levels.len() == MAX_DEPTH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "there are more than {MAX_DEPTH} directories within each other; name one further down"
                ),
            ));
        }
        let mut names = names(&dir)?;
        names.retain(|name| !is_temp(name));
        names.sort_unstable();
        self.levels.push(Level { dir: Rc::new(dir), path, names: names.into_iter() });
        Ok(())
    }
}

/// Opens a directory in a directory to read, not through a link.
pub(super) fn open_directory(dir: &OwnedFd, name: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name.as_ref(), flags, Mode::empty())
}

/// Returns the names in a directory, in no order.
pub(super) fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            if names.len() == MAX_NAMES {
                return Err(Errno::FBIG.into());
            }
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

pub(super) fn is_temp(name: &OsStr) -> bool {
    name.as_bytes().starts_with(TEMP_PREFIX.as_bytes())
}
