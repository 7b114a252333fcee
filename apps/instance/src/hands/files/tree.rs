//! Making, moving, copying and removing.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use reef_door::files::{CopyReport, FileKind};
use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, Stat, Timespec, Timestamps, chmodat, fchmod, fstat, futimens, mkdirat,
        readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    beneath::{Place, Roots, open_below, path_of, proc_path},
    entry::{entry_of, kind, require, size},
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
        Err(Errno::XDEV) => carry(&from, &to, overwrite)?,
        Err(Errno::INVAL) => return Err(into_itself(&to)),
        result => result.map_err(|error| to.failure(error))?,
    }
    Ok(Reply::Entry(Box::new(described(&to)?)))
}

/// Copies a file, link or tree; what is incomplete is never seen.
pub(super) fn copy(roots: &Roots, from: &str, to: &str, overwrite: bool) -> Result<Reply, Failure> {
    let to = roots.place(to)?;
    let Copied { files, bytes, skipped, .. } = copy_to(&roots.place(from)?, &to, overwrite, false)?;
    Ok(Reply::Copied(Box::new(CopyReport { entry: described(&to)?, files, bytes, skipped })))
}

/// Moves to another file system: copies, then removes what was copied.
fn carry(from: &Place<'_>, to: &Place<'_>, overwrite: bool) -> Result<(), Failure> {
    refuse_special(from)?;
    let copied = copy_to(from, to, overwrite, true)?;
    let is_empty = from.open_parent().and_then(|dir| {
        remove_copied(&dir, from.name(), &copied.sources).map_err(|error| from.failure(error))
    })?;
    if is_empty {
        return Ok(());
    }
    Err(from.refuse(FailureKind::NotEmpty, "it was moved, but for what changed here meanwhile"))
}

/// Refuses a tree with something in it that cannot be copied.
fn refuse_special(place: &Place<'_>) -> Result<(), Failure> {
    let fail = |error: io::Error| place.failure(error);
    let top = place.open_nofollow().map_err(fail)?;
    if kind(&fstat(&top).map_err(|error| fail(error.into()))?) != FileKind::Directory {
        return Ok(());
    }
    let mut walk = Walk::new(open_directory(&top, ".").map_err(|error| fail(error.into()))?).map_err(fail)?;
    while let Some(item) = walk.next() {
        let item = item.map_err(fail)?;
        if kind(&item.stat) == FileKind::Other {
            let what = "sockets, pipes and devices cannot be moved to another disk; delete it first";
            return Err(place.join(&item.path).refuse(FailureKind::NotAFile, what));
        }
    }
    Ok(())
}

/// Removes what was copied and is still the same; says whether nothing is left.
fn remove_copied(dir: &OwnedFd, name: &OsStr, sources: &[(PathBuf, Stat)]) -> io::Result<bool> {
    let mut is_empty = true;
    // From below: each after what is in it.
    for (path, copied) in sources.iter().rev() {
        let path = if path.as_os_str().is_empty() { name.into() } else { Path::new(name).join(path) };
        let parent = match open_below(dir, path.parent().unwrap_or(Path::new("")), DIRECTORY) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error.into()),
        };
        let name = path.file_name().unwrap_or_default();
        let Some(now) = look(&parent, name)? else { continue };
        let is_dir = kind(copied) == FileKind::Directory;
        if !is_same(&now, copied) || !(is_dir || is_unchanged(&now, copied)) {
            is_empty = false;
            continue;
        }
        match unlinkat(&parent, name, if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() }) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY) => is_empty = false,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(is_empty)
}

fn is_same(now: &Stat, before: &Stat) -> bool {
    (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino)
}

/// Says whether nothing was written in between.
fn is_unchanged(now: &Stat, before: &Stat) -> bool {
    (now.st_size, now.st_mtime, now.st_mtime_nsec) == (before.st_size, before.st_mtime, before.st_mtime_nsec)
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

fn copy_to(from: &Place<'_>, to: &Place<'_>, overwrite: bool, is_move: bool) -> Result<Copied, Failure> {
    let source = from.open_nofollow().map_err(|error| from.failure(error))?;
    let dir = to.open_parent()?;
    let fail = |error: io::Error| to.failure(error);
    if !overwrite && look(&dir, to.name()).map_err(fail)?.is_some() {
        return Err(to.failure(Errno::EXIST));
    }
    let stat = fstat(&source).map_err(|error| from.failure(error))?;
    let mut copied = Copied { is_move, ..Copied::default() };
    match kind(&stat) {
        FileKind::File => {
            let file = super::open_regular(from)?;
            copied.file(file, PathBuf::new(), &dir, to.name(), overwrite).map_err(fail)?;
        }
        FileKind::Symlink => {
            let temp = Temp::new(&dir).map_err(fail)?;
            copied.link(&source, OsStr::new(""), PathBuf::new(), &dir, &temp.name).map_err(fail)?;
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
            copied.tree(source, &dir, &temp.name).map_err(fail)?;
            temp.place(to.name(), overwrite).map_err(fail)?;
        }
        FileKind::Other => return Err(from.failure(Errno::NXIO)),
    }
    Ok(copied)
}

/// What a copy comes to.
#[derive(Default)]
struct Copied {
    files: u64,
    bytes: u64,
    skipped: u64,
    /// The source is to be removed: times are kept, and it is noted what was copied.
    is_move: bool,
    /// Of a move: paths below the source, each after its directory.
    sources: Vec<(PathBuf, Stat)>,
}

impl Copied {
    fn file(
        &mut self,
        file: OwnedFd,
        path: PathBuf,
        dir: &OwnedFd,
        name: &OsStr,
        replace: bool,
    ) -> io::Result<()> {
        let (stat, file) = (fstat(&file)?, File::from(file));
        let staged = Staged::new(dir.try_clone()?)?;
        // In the kernel, and shared where the file system can (copy_file_range(2)); never more than there was.
        let count = io::copy(&mut (&file).take(size(&stat)), &mut staged.reopen()?)?;
        if count < size(&stat) || !is_unchanged(&fstat(&file)?, &stat) {
            return Err(Errno::STALE.into());
        }
        fchmod(staged.file(), Mode::from_raw_mode(stat.st_mode & 0o777))?;
        if self.is_move {
            futimens(staged.file(), &times_of(&stat))?;
        }
        staged.place(name, replace)?;
        self.files += 1;
        self.bytes += count;
        self.note(path, stat);
        Ok(())
    }

    /// Copies the link `name` in `from`, or the open one itself.
    fn link(
        &mut self,
        from: &OwnedFd,
        name: &OsStr,
        path: PathBuf,
        dir: &OwnedFd,
        target: &OsStr,
    ) -> io::Result<()> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)?;
        symlinkat(readlinkat(from, name, Vec::new())?, dir, target)?;
        if self.is_move {
            utimensat(dir, target, &times_of(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        self.note(path, stat);
        Ok(())
    }

    fn tree(&mut self, source: OwnedFd, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let mut dirs = vec![(PathBuf::new(), fstat(&source)?)];
        self.note(PathBuf::new(), dirs[0].1);
        // Until it is whole nobody else looks into it.
        mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
        let mut targets = Targets::new(open_directory(dir, name)?);
        let mut walk = Walk::new(source)?;
        while let Some(item) = walk.next() {
            let item = item?;
            let Item { dir, name, path, stat } = &item;
            let target = targets.parent_of(path)?;
            match kind(stat) {
                FileKind::Directory => {
                    mkdirat(target, name, Mode::from_raw_mode(0o700))?;
                    dirs.push((path.clone(), *stat));
                    self.note(path.clone(), *stat);
                }
                FileKind::File => match item.open_regular() {
                    Ok(file) => self.file(file, path.clone(), target, name, false)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                },
                FileKind::Symlink => self.link(dir, name, path.clone(), target, name)?,
                FileKind::Other => self.skipped += 1,
            }
        }
        // From below: a directory may be closed to ourselves.
        for (path, stat) in dirs.into_iter().rev() {
            let fd = open_below(&targets.top, &path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            if self.is_move {
                futimens(&fd, &times_of(&stat))?;
            }
            fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o777))?;
        }
        Ok(())
    }

    fn note(&mut self, path: PathBuf, stat: Stat) {
        if self.is_move {
            self.sources.push((path, stat));
        }
    }
}

fn times_of(stat: &Stat) -> Timestamps {
    let time = |tv_sec, nanos: u64| Timespec { tv_sec, tv_nsec: nanos.cast_signed() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn roots() -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "workspace"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let roots = Roots::new(&dir.path().join("home"), &dir.path().join("workspace"));
        (dir, roots)
    }

    #[test]
    fn what_is_carried_keeps_its_times_and_modes() {
        let (dir, roots) = roots();
        let from = dir.path().join("workspace/d");
        fs::create_dir_all(from.join("e")).unwrap();
        fs::write(from.join("e/f"), "f").unwrap();
        std::os::unix::fs::symlink("e/f", from.join("link")).unwrap();
        let old = Timespec { tv_sec: 1_000_000_000, tv_nsec: 5 };
        let old = Timestamps { last_access: old, last_modification: old };
        let below = ["e/f", "link", "e", ""];
        for path in below {
            utimensat(CWD, from.join(path), &old, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        chmodat(CWD, from.join("e/f"), Mode::from_raw_mode(0o640), AtFlags::empty()).unwrap();
        chmodat(CWD, from.join("e"), Mode::from_raw_mode(0o750), AtFlags::empty()).unwrap();
        let seen = |top: &Path| {
            below.map(|path| {
                let stat = fs::symlink_metadata(top.join(path)).unwrap();
                (stat.mode(), stat.mtime(), stat.mtime_nsec())
            })
        };
        let before = seen(&from);
        carry(&roots.place("d").unwrap(), &roots.place("~/d").unwrap(), false).unwrap();
        assert_eq!(seen(&dir.path().join("home/d")), before);
        assert!(!from.exists());
    }

    #[test]
    fn what_cannot_be_carried_is_named_and_all_stays() {
        let (dir, roots) = roots();
        let from = dir.path().join("workspace/d");
        fs::create_dir_all(from.join("e")).unwrap();
        fs::write(from.join("a"), "a").unwrap();
        nix::unistd::mkfifo(&from.join("e/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let failure = carry(&roots.place("d").unwrap(), &roots.place("~/d").unwrap(), false).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotAFile);
        assert!(failure.message.contains("/d/e/fifo: "), "{failure}");
        assert!(from.join("a").exists());
        assert_eq!(fs::read_dir(dir.path().join("home")).unwrap().count(), 0);
    }

    #[test]
    fn only_what_was_copied_is_removed() {
        let (dir, roots) = roots();
        let from = dir.path().join("workspace/d");
        fs::create_dir_all(from.join("e")).unwrap();
        for name in ["a", "b", "e/c"] {
            fs::write(from.join(name), name).unwrap();
        }
        let (source, target) = (roots.place("d").unwrap(), roots.place("~/d").unwrap());
        let copied = copy_to(&source, &target, false, true).unwrap();
        fs::write(from.join("b"), "longer").unwrap();
        fs::write(from.join("e/new"), "").unwrap();
        let parent = source.open_parent().unwrap();
        assert!(!remove_copied(&parent, source.name(), &copied.sources).unwrap());
        let left = |at: &str| fs::read_dir(from.join(at)).unwrap().count();
        assert_eq!((left(""), left("e")), (2, 1));
        assert_eq!(fs::read_to_string(from.join("b")).unwrap(), "longer");
        assert!(from.join("e/new").exists());
    }
}
