//! Making, moving, copying and removing.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use reef_door::files::{CopyReport, FileKind};
use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, chmodat, fchmod, fstat, mkdirat, readlinkat, renameat, symlinkat,
        unlinkat,
    },
    io::Errno,
};

use super::{
    beneath::{Place, Roots, open_below, path_of, proc_path},
    entry::{entry_of, kind, require},
    staged::{Staged, Temp, rename_new, temp_name},
    upload::look,
    walk::{Item, Walk, names, open_directory},
};
use crate::wire::{
    files::{Condition, Reply},
    work::{Failure, FailureKind},
};

/// Directories within each other that are emptied from below; deeper ones are moved up first.
const MAX_DEPTH: usize = 64;

/// Enough to name things in a directory, and granted where it may be entered.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// Makes a directory and those above it.
pub(super) fn make_directory(roots: &Roots, path: &str) -> Result<Reply, Failure> {
    let place = roots.place(path)?;
    let (dir, is_new) = place.make_directory()?;
    let entry = entry_of(&dir, &place).map_err(|error| place.failure(error))?;
    Ok(Reply::Written(Box::new(entry), is_new))
}

/// Sets permission bits; special ones (setuid and the like) are not given.
pub(super) fn chmod(roots: &Roots, path: &str, mode: u32) -> Result<Reply, Failure> {
    let place = roots.place(path)?;
    let fail = |error: io::Error| place.failure(error);
    if mode > 0o777 {
        return Err(place.refuse(FailureKind::Invalid, "a mode is 0000 to 0777"));
    }
    let fd = place.open(OFlags::PATH).map_err(fail)?;
    chmodat(CWD, proc_path(&fd), Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(|error| fail(error.into()))?;
    Ok(Reply::Entry(Box::new(entry_of(&fd, &place).map_err(fail)?)))
}

/// Gives something another path.
pub(super) fn rename(roots: &Roots, from: &str, to: &str, overwrite: bool) -> Result<Reply, Failure> {
    let (from, to) = (roots.place(from)?, roots.place(to)?);
    let (source, target) = (from.open_parent()?, to.open_parent()?);
    if look(&source, from.name()).map_err(|error| from.failure(error))?.is_none() {
        return Err(from.failure(Errno::NOENT));
    }
    let renamed = match rename_new(&source, from.name(), &target, to.name()) {
        Err(Errno::EXIST) if overwrite => renameat(&source, from.name(), &target, to.name()),
        result => result,
    };
    match renamed {
        // Workspace and home may be mounted apart.
        Err(Errno::XDEV) => {
            copy_to(&from, &to, overwrite)?;
            remove(&source, from.name(), true).map_err(|error| from.failure(error))?;
        }
        Err(Errno::INVAL) => return Err(into_itself(&to)),
        result => result.map_err(|error| to.failure(error))?,
    }
    Ok(Reply::Entry(Box::new(described(&to)?)))
}

/// Copies a file, link or tree; what is incomplete is never seen.
pub(super) fn copy(roots: &Roots, from: &str, to: &str, overwrite: bool) -> Result<Reply, Failure> {
    let report = copy_to(&roots.place(from)?, &roots.place(to)?, overwrite)?;
    Ok(Reply::Copied(Box::new(report)))
}

/// Removes a file, link or directory.
pub(super) fn delete(
    roots: &Roots,
    path: &str,
    recursive: bool,
    condition: &Condition,
) -> Result<Reply, Failure> {
    let place = roots.place(path)?;
    let dir = place.open_parent()?;
    let now = look(&dir, place.name()).map_err(|error| place.failure(error))?;
    if now.is_none() {
        return Err(place.failure(Errno::NOENT));
    }
    require(condition, &place, now.as_ref())?;
    remove(&dir, place.name(), recursive).map_err(|error| place.failure(error))?;
    Ok(Reply::Done)
}

/// Removes what is at a name; a directory with its content if `recursive`.
fn remove(dir: &OwnedFd, name: &OsStr, recursive: bool) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) if recursive => remove_tree(dir, name),
        Err(Errno::ISDIR) => Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?),
        result => Ok(result?),
    }
}

/// Removes a directory with all below, however deep; links are removed, not followed.
pub(super) fn remove_tree(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let top = open_directory(dir, name)?;
    let mut deep = Vec::new();
    clear(&top, &top, 0, &mut deep)?;
    while let Some(name) = deep.pop() {
        clear(&open_directory(&top, &name)?, &top, 1, &mut deep)?;
        unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Empties a directory. What is too deep for our descriptors is moved into `top`, under a name that is added to `deep`.
fn clear(dir: &OwnedFd, top: &OwnedFd, depth: usize, deep: &mut Vec<OsString>) -> io::Result<()> {
    for name in names(dir)? {
        match unlinkat(dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) if depth == MAX_DEPTH => {
                let other = temp_name();
                renameat(dir, &name, top, &other)?;
                deep.push(other);
            }
            Err(Errno::ISDIR) => {
                clear(&open_directory(dir, &name)?, top, depth + 1, deep)?;
                unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_to(from: &Place<'_>, to: &Place<'_>, overwrite: bool) -> Result<CopyReport, Failure> {
    let source = from.open_nofollow().map_err(|error| from.failure(error))?;
    let dir = to.open_parent()?;
    let fail = |error: io::Error| to.failure(error);
    if !overwrite && look(&dir, to.name()).map_err(fail)?.is_some() {
        return Err(to.failure(Errno::EXIST));
    }
    let stat = fstat(&source).map_err(|error| from.failure(error))?;
    let mut count = Count::default();
    match kind(&stat) {
        FileKind::File => {
            let file = super::open_regular(from)?;
            copy_file(file, &dir, to.name(), overwrite, &mut count).map_err(fail)?;
        }
        FileKind::Symlink => {
            let temp = Temp::new(&dir).map_err(fail)?;
            let link = readlinkat(&source, "", Vec::new()).map_err(|error| from.failure(error))?;
            symlinkat(&link, &dir, &temp.name).map_err(|error| fail(error.into()))?;
            temp.place(to.name(), overwrite).map_err(fail)?;
        }
        FileKind::Directory => {
            let inside = path_of(&source).map_err(fail)?;
            if path_of(&dir).map_err(fail)?.starts_with(inside) {
                return Err(into_itself(to));
            }
            let temp = Temp::new(&dir).map_err(fail)?;
            let source = from.open(OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW);
            let source = source.map_err(|error| from.failure(error))?;
            copy_tree(source, &dir, &temp.name, &mut count).map_err(fail)?;
            temp.place(to.name(), overwrite).map_err(fail)?;
        }
        FileKind::Other => return Err(from.failure(Errno::NXIO)),
    }
    let Count { files, bytes, skipped } = count;
    Ok(CopyReport { entry: described(to)?, files, bytes, skipped })
}

#[derive(Default)]
struct Count {
    files: u64,
    bytes: u64,
    skipped: u64,
}

fn copy_file(file: OwnedFd, dir: &OwnedFd, name: &OsStr, replace: bool, count: &mut Count) -> io::Result<()> {
    let mode = Mode::from_raw_mode(fstat(&file)?.st_mode & 0o777);
    let staged = Staged::new(dir.try_clone()?)?;
    // In the kernel, and shared where the file system can (copy_file_range(2)).
    count.bytes += io::copy(&mut File::from(file), &mut staged.reopen()?)?;
    fchmod(staged.file(), mode)?;
    staged.place(name, replace)?;
    count.files += 1;
    Ok(())
}

fn copy_tree(source: OwnedFd, dir: &OwnedFd, name: &OsStr, count: &mut Count) -> io::Result<()> {
    let mut modes = vec![(PathBuf::new(), fstat(&source)?.st_mode)];
    // Until it is whole nobody else looks into it.
    mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
    let mut targets = Targets::new(open_directory(dir, name)?);
    let mut walk = Walk::new(source)?;
    while let Some(item) = walk.next() {
        let item = item?;
        let target = targets.parent_of(&item.path)?;
        match kind(&item.stat) {
            FileKind::Directory => {
                mkdirat(target, &item.name, Mode::from_raw_mode(0o700))?;
                modes.push((item.path, item.stat.st_mode));
            }
            FileKind::File => match item.open_regular() {
                Ok(file) => copy_file(file, target, &item.name, false, count)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            },
            FileKind::Symlink => copy_link(&item, target)?,
            FileKind::Other => count.skipped += 1,
        }
    }
    // From below: a directory may be closed to ourselves.
    for (path, mode) in modes.into_iter().rev() {
        let fd = open_below(&targets.top, &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        fchmod(fd, Mode::from_raw_mode(mode & 0o777))?;
    }
    Ok(())
}

fn copy_link(item: &Item, target: &OwnedFd) -> io::Result<()> {
    let link = readlinkat(&*item.dir, &item.name, Vec::new())?;
    Ok(symlinkat(&link, target, &item.name)?)
}

/// Directories below a top, the last one kept open: neighbours come after each other.
pub(super) struct Targets {
    pub(super) top: OwnedFd,
    last: Option<(PathBuf, OwnedFd)>,
}

impl Targets {
    pub(super) fn new(top: OwnedFd) -> Self {
        Self { top, last: None }
    }

    /// Returns the directory that `path` is in, made where it is missing.
    pub(super) fn make_parent_of(&mut self, path: &Path) -> Result<&OwnedFd, Errno> {
        match self.parent_of(path) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                let above: Vec<&Path> = path.ancestors().skip(1).collect();
                for dir in above.into_iter().rev().filter(|dir| !dir.as_os_str().is_empty()) {
                    let parent = open_below(&self.top, dir.parent().unwrap_or(Path::new("")), DIRECTORY)?;
                    match mkdirat(&parent, dir.file_name().unwrap_or_default(), Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        self.parent_of(path)
    }

    /// Returns the directory that `path` is in; it must exist and be reached without links.
    pub(super) fn parent_of(&mut self, path: &Path) -> Result<&OwnedFd, Errno> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let kept = self.last.take().filter(|(last, _)| last == parent);
        let (_, fd) = self.last.insert(match kept {
            Some(kept) => kept,
            None => (parent.into(), open_below(&self.top, parent, DIRECTORY)?),
        });
        Ok(fd)
    }
}

fn described(place: &Place<'_>) -> Result<reef_door::files::Entry, Failure> {
    place.open_nofollow().and_then(|fd| entry_of(&fd, place)).map_err(|error| place.failure(error))
}

fn into_itself(to: &Place<'_>) -> Failure {
    to.refuse(FailureKind::Invalid, "a directory cannot be put into itself")
}
