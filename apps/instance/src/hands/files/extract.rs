//! Unpacking an archive into a directory, trusting nothing in it.
//!
//! No path and no link leads out, nothing but files, directories and links is made, no special permission is given, and
//! what it unpacks to is bounded. Each file appears whole; files that were there are replaced one by one.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read, Seek, Write},
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use flate2::read::MultiGzDecoder;
use reef_door::files::ExtractReport;
use rustix::{
    fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat, symlinkat},
    io::Errno,
};
use zip::ZipArchive;

use super::{
    beneath::{Place, Roots, open_below},
    entry::require_regular,
    pipe::Pipe,
    staged::{Staged, Temp},
    tree::Targets,
};
use crate::wire::{
    files::Reply,
    work::{Failure, FailureKind},
};

const MAX_ENTRIES: u64 = 500_000;
/// How many bytes may come of one byte, once there are more than [`FREE_BYTES`].
const MAX_RATIO: u64 = 100;
const FREE_BYTES: u64 = 128 << 20;
/// What may stand between two entries of a tar: long names and attributes are read into memory.
const MAX_TAR_META: u64 = 4 << 20;
const MAX_LINK: u64 = 4095;

/// Unpacks what comes from `pipe`, tar.gz or zip by its first bytes.
pub(super) fn extract(roots: &Roots, path: &str, mut pipe: Pipe) -> Result<Reply, Failure> {
    let place = roots.place(path)?;
    let (top, _) = place.make_directory()?;
    let mut magic = Vec::new();
    Read::by_ref(&mut pipe).take(4).read_to_end(&mut magic).map_err(|error| place.failure(error))?;
    let mut unpacker = Unpacker::new(&place, top);
    let packed = io::Cursor::new(magic.clone()).chain(pipe);
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => unpacker.tar(packed)?,
        b"PK\x03\x04" | b"PK\x05\x06" => unpacker.zip(packed)?,
        _ => {
            return Err(Failure::new(FailureKind::Invalid, "the body is neither a tar.gz nor a zip archive"));
        }
    }
    Ok(Reply::Extracted(unpacker.finish()?))
}

struct Unpacker<'a> {
    place: &'a Place<'a>,
    targets: Targets,
    /// Of directories, set at the end: one may be closed to ourselves.
    modes: Vec<(PathBuf, u32)>,
    entries: u64,
    report: ExtractReport,
    /// Bytes of the archive so far.
    packed: Rc<Cell<u64>>,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    fn new(place: &'a Place<'a>, top: std::os::fd::OwnedFd) -> Self {
        Self {
            place,
            targets: Targets::new(top),
            modes: Vec::new(),
            entries: 0,
            report: ExtractReport::default(),
            packed: Rc::default(),
            buffer: vec![0; 128 * 1024],
        }
    }

    fn tar(&mut self, packed: impl Read) -> Result<(), Failure> {
        let counted = Counted { inner: packed, count: self.packed.clone() };
        let budget = Rc::new(Cell::new(MAX_TAR_META));
        let plain = Bounded { inner: MultiGzDecoder::new(counted), budget: budget.clone() };
        let mut archive = tar::Archive::new(plain);
        let mut entries = archive.entries().map_err(broken)?;
        loop {
            budget.set(MAX_TAR_META);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(broken)?;
            budget.set(u64::MAX);
            let header = entry.header();
            let kind = header.entry_type();
            if kind == tar::EntryType::XGlobalHeader {
                continue;
            }
            let (mode, mtime) = (header.mode().unwrap_or(0o644), header.mtime().ok());
            let path = self.clean(&entry.path().map_err(broken)?)?;
            let target = entry.link_name().map_err(broken)?.map(std::borrow::Cow::into_owned);
            match (kind, target) {
                (tar::EntryType::Directory, _) => self.directory(path, mode)?,
                (tar::EntryType::Symlink, Some(target)) => self.link(&path, &target)?,
                (tar::EntryType::Link, Some(target)) => {
                    let target = self.clean(&target)?;
                    self.hard_link(&path, &target)?;
                }
                (tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse, _) => {
                    self.file(&path, mode, mtime, &mut entry)?
                }
                _ => return Err(special(&path)),
            }
        }
        // The checksum is behind the end of the tar and its padding.
        budget.set(MAX_TAR_META);
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
        Ok(())
    }

    fn zip(&mut self, mut packed: impl Read) -> Result<(), Failure> {
        // The directory of a zip is at its end.
        let fail = |error: io::Error| self.place.failure(error);
        let spool = Staged::new(self.targets.top.try_clone().map_err(fail)?).map_err(fail)?;
        let mut file = spool.reopen().map_err(fail)?;
        let count = io::copy(&mut packed, &mut file).map_err(fail)?;
        self.packed.set(count);
        file.rewind().map_err(fail)?;
        let declared = zip::unstable::read::ZipIterable::try_new(&mut file, zip::read::Config::default());
        if declared.map_err(|error| broken(error.into()))?.len() as u64 > MAX_ENTRIES {
            return Err(too_much("it has more than 500,000 entries"));
        }
        let mut archive = ZipArchive::new(file).map_err(|error| broken(error.into()))?;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(|error| broken(error.into()))?;
            let name = entry.name().map_err(|error| broken(error.into()))?.into_owned();
            let path = self.clean(Path::new(&name))?;
            let mode = entry.unix_mode().unwrap_or(if entry.is_dir() { 0o755 } else { 0o644 });
            match mode & 0o170_000 {
                _ if entry.is_dir() => self.directory(path, mode)?,
                0o120_000 => {
                    let mut target = Vec::new();
                    entry.take(MAX_LINK).read_to_end(&mut target).map_err(broken)?;
                    let target: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(target);
                    self.link(&path, Path::new(&target))?;
                }
                0 | 0o100_000 => self.file(&path, mode, None, &mut entry)?,
                _ => return Err(special(&path)),
            }
        }
        Ok(())
    }

    /// Returns a path of the archive as one below the directory.
    fn clean(&mut self, path: &Path) -> Result<PathBuf, Failure> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(too_much("it has more than 500,000 entries"));
        }
        clean(path).ok_or_else(|| outside(path))
    }

    fn directory(&mut self, path: PathBuf, mode: u32) -> Result<(), Failure> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let fail = failing(self.place, &path);
        let parent = self.targets.make_parent_of(&path).map_err(&fail)?;
        let name = path.file_name().unwrap_or_default();
        match mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => self.modes.push((path, mode)),
            // One that is there keeps its permissions; anything else there is refused.
            Err(Errno::EXIST) => {
                open_below(&self.targets.top, &path, OFlags::PATH | OFlags::DIRECTORY).map_err(&fail)?;
            }
            Err(error) => return Err(fail(error)),
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        mode: u32,
        mtime: Option<u64>,
        content: &mut impl Read,
    ) -> Result<(), Failure> {
        let fail = failing(self.place, path);
        let (Some(name), parent) = (path.file_name(), self.targets.make_parent_of(path).map_err(&fail)?)
        else {
            return Err(outside(path));
        };
        let io_fail = |error: io::Error| self.place.join(path).failure(error);
        let staged = parent.try_clone().and_then(Staged::new).map_err(io_fail)?;
        let mut file: File = staged.reopen().map_err(io_fail)?;
        loop {
            let count = content.read(&mut self.buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            self.require_sane(count as u64)?;
            file.write_all(&self.buffer[..count]).map_err(io_fail)?;
        }
        fchmod(staged.file(), Mode::from_raw_mode(mode & 0o777)).map_err(&fail)?;
        if let Some(seconds) = mtime.and_then(|mtime| i64::try_from(mtime).ok()) {
            let at = Timespec { tv_sec: seconds, tv_nsec: 0 };
            futimens(staged.file(), &Timestamps { last_access: at, last_modification: at }).map_err(&fail)?;
        }
        staged.place(name, true).map_err(io_fail)?;
        self.report.files += 1;
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), Failure> {
        if !stays_within(path, target) {
            return Err(outside(path));
        }
        self.placed(path, |temp, dir| symlinkat(target, dir, &temp.name))
    }

    fn hard_link(&mut self, path: &Path, target: &Path) -> Result<(), Failure> {
        let fail = failing(self.place, target);
        let source = open_below(&self.targets.top, target, OFlags::PATH).map_err(&fail)?;
        require_regular(&source).map_err(&fail)?;
        let source = super::beneath::proc_path(&source);
        self.placed(path, |temp, dir| {
            linkat(rustix::fs::CWD, &source, dir, &temp.name, AtFlags::SYMLINK_FOLLOW)
        })
    }

    /// Makes something under a hidden name and gives it its own.
    fn placed(
        &mut self,
        path: &Path,
        make: impl FnOnce(&Temp, &std::os::fd::OwnedFd) -> Result<(), Errno>,
    ) -> Result<(), Failure> {
        let fail = failing(self.place, path);
        let parent = self.targets.make_parent_of(path).map_err(&fail)?;
        let name = path.file_name().ok_or_else(|| outside(path))?;
        let io_fail = |error: io::Error| self.place.join(path).failure(error);
        let temp = Temp::new(parent).map_err(io_fail)?;
        make(&temp, parent).map_err(&fail)?;
        temp.place(name, true).map_err(io_fail)?;
        self.report.files += 1;
        Ok(())
    }

    /// Counts bytes, and refuses what grows out of all proportion.
    fn require_sane(&mut self, count: u64) -> Result<(), Failure> {
        self.report.bytes += count;
        let is_bomb =
            self.report.bytes > FREE_BYTES && self.report.bytes / MAX_RATIO > self.packed.get().max(1);
        if is_bomb { Err(too_much("it unpacks to more than 100 times its size")) } else { Ok(()) }
    }

    fn finish(self) -> Result<ExtractReport, Failure> {
        for (path, mode) in self.modes.into_iter().rev() {
            let fail = failing(self.place, &path);
            let fd =
                open_below(&self.targets.top, &path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(&fail)?;
            fchmod(fd, Mode::from_raw_mode(mode & 0o777)).map_err(&fail)?;
        }
        Ok(self.report)
    }
}

/// Returns the path without `.`; none if it is absolute or has `..`.
pub(super) fn clean(path: &Path) -> Option<PathBuf> {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| matches!(part, Component::Normal(_)).then_some(part))
        .collect()
}

/// Says whether a link at `path` can lead to nothing but what is below the top, whatever other such links there are:
/// `..` only in front, and not more of them than there are directories above.
pub(super) fn stays_within(path: &Path, target: &Path) -> bool {
    let depth = path.components().count().saturating_sub(1);
    let mut parts = target.components().filter(|part| *part != Component::CurDir).peekable();
    let mut up = 0;
    while parts.next_if_eq(&Component::ParentDir).is_some() {
        up += 1;
    }
    up <= depth && !target.as_os_str().is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

/// Fails when more is read than the budget says.
struct Bounded<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        let left = self.budget.get().checked_sub(count as u64);
        self.budget.set(left.ok_or(io::ErrorKind::FileTooLarge)?);
        Ok(count)
    }
}

fn failing<'a>(place: &'a Place<'a>, path: &Path) -> impl Fn(Errno) -> Failure + use<'a> {
    let place = place.join(path);
    move |error| match error {
        Errno::LOOP => place.refuse(FailureKind::Outside, "a symbolic link is in the way; unpack elsewhere"),
        _ => place.failure(error),
    }
}

fn broken(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return too_much("a name or attribute in it is too long");
    }
    Failure::new(FailureKind::Invalid, format!("the archive is damaged or cut off: {error}"))
}

fn outside(path: &Path) -> Failure {
    let message = format!("the archive has a path or link that leads out of the directory: {}", shown(path));
    Failure::new(FailureKind::Outside, message)
}

fn special(path: &Path) -> Failure {
    let message = format!("the archive has something that is no file, directory or link: {}", shown(path));
    Failure::new(FailureKind::NotAFile, message)
}

/// A path of an archive as far as a message quotes it.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().take(200).collect()
}

fn too_much(what: &str) -> Failure {
    Failure::new(FailureKind::TooLarge, format!("the archive is not unpacked: {what}"))
}
