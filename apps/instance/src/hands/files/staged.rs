//! Files that appear at once, whole, or not at all.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use super::{beneath::proc_path, walk::TEMP_PREFIX};

/// A file without a name, in the directory where it will have one. Nothing is left of it until [`Staged::place`],
/// not even after a kill.
pub(super) struct Staged {
    dir: OwnedFd,
    file: OwnedFd,
    /// Its hidden name, where the file system knows no nameless files.
    temp: Option<Temp>,
}

impl Staged {
    /// Makes one in `dir`.
    pub(super) fn new(dir: OwnedFd) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        // `dir` may be `O_PATH`; `.` in it can be opened.
        match openat(&dir, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(Self { dir, file, temp: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let temp = Temp::new(&dir)?;
                let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let file = openat(&dir, &temp.name, flags, mode)?;
                Ok(Self { dir, file, temp: Some(temp) })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Returns another descriptor of the same open file.
    pub(super) fn reopen(&self) -> io::Result<File> {
        Ok(self.file.try_clone()?.into())
    }

    /// Gives it its name; says whether there was nothing before.
    ///
    /// # Errors
    /// `EEXIST` where something is there and may not be replaced, `EISDIR` where that is a directory.
    pub(super) fn place(mut self, name: &OsStr, replace: bool) -> io::Result<bool> {
        let temp = match self.temp.take() {
            Some(temp) => temp,
            None => {
                match self.link(name) {
                    Err(Errno::EXIST) if replace => {}
                    result => return Ok(result.map(|()| true)?),
                }
                let temp = Temp::new(&self.dir)?;
                self.link(&temp.name)?;
                temp
            }
        };
        temp.place(name, replace)
    }

    fn link(&self, name: &OsStr) -> Result<(), Errno> {
        // Not `AT_EMPTY_PATH`, which needs a capability (linkat(2)).
        linkat(CWD, proc_path(&self.file), &self.dir, name, AtFlags::SYMLINK_FOLLOW)
    }
}

/// A hidden name in a directory; what is there is removed with it unless it is placed.
pub(super) struct Temp {
    dir: OwnedFd,
    pub(super) name: OsString,
    is_placed: bool,
}

impl Temp {
    /// Picks a name that nothing has.
    pub(super) fn new(dir: &OwnedFd) -> io::Result<Self> {
        Ok(Self { dir: dir.try_clone()?, name: temp_name(), is_placed: false })
    }

    /// Renames what is there; says whether there was nothing before.
    ///
    /// # Errors
    /// As [`Staged::place`].
    pub(super) fn place(mut self, name: &OsStr, replace: bool) -> io::Result<bool> {
        let is_new = match rename_new(&self.dir, &self.name, &self.dir, name) {
            Err(Errno::EXIST) if replace => {
                renameat(&self.dir, &self.name, &self.dir, name)?;
                false
            }
            result => result.map(|()| true)?,
        };
        self.is_placed = true;
        Ok(is_new)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.is_placed && matches!(unlinkat(&self.dir, &self.name, AtFlags::empty()), Err(Errno::ISDIR)) {
            // Whatever is left is hidden, and the error that led here is the one to tell.
            let _ = super::tree::remove_tree(&self.dir, &self.name);
        }
    }
}

/// Renames unless something is at the new name.
///
/// # Errors
/// `EEXIST` where it is.
pub(super) fn rename_new(from: &OwnedFd, old: &OsStr, to: &OwnedFd, new: &OsStr) -> Result<(), Errno> {
    match renameat_with(from, old, to, new, RenameFlags::NOREPLACE) {
        // The file system does not know the flag (renameat2(2)); or the rename itself makes no sense.
        Err(Errno::INVAL | Errno::NOSYS) => match statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => renameat(from, old, to, new),
            Err(error) => Err(error),
        },
        result => result,
    }
}

pub(super) fn temp_name() -> OsString {
    Path::new(&format!("{TEMP_PREFIX}{:016x}", rand::random::<u64>())).into()
}
