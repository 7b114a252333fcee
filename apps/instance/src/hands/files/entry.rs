//! What the kernel says of a file, as clients see it.

use std::{io, os::fd::OwnedFd, path::Path};

use reef_door::files::{Entry, FileKind};
use reef_model::Timestamp;
use rustix::{
    fs::{FileType, Stat, fstat, readlinkat},
    io::Errno,
};

use super::beneath::Place;
use crate::wire::{
    files::{Condition, etag},
    work::Failure,
};

/// Describes an open descriptor.
pub(super) fn entry_of(fd: &OwnedFd, place: &Place<'_>) -> io::Result<Entry> {
    let stat = fstat(fd)?;
    let target = || readlinkat(fd, "", Vec::new()).ok();
    Ok(entry(&place.path(), &stat, target))
}

/// Describes what `stat` is of; `target` reads a link.
pub(super) fn entry(path: &Path, stat: &Stat, target: impl FnOnce() -> Option<std::ffi::CString>) -> Entry {
    let kind = kind(stat);
    Entry {
        name: path.file_name().map_or("/".into(), |name| name.to_string_lossy().into_owned()),
        path: path.to_string_lossy().into_owned(),
        kind,
        size: size(stat),
        mode: format!("{:04o}", stat.st_mode & 0o7777),
        modified_at: modified_at(stat),
        target: (kind == FileKind::Symlink)
            .then(target)
            .flatten()
            .map(|target| target.to_string_lossy().into_owned()),
        etag: (kind == FileKind::File).then(|| etag(stat)),
    }
}

pub(super) fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn modified_at(stat: &Stat) -> Timestamp {
    let micros = stat.st_mtime.saturating_mul(1_000_000);
    Timestamp::from_unix_micros(micros.saturating_add((stat.st_mtime_nsec / 1_000).cast_signed()))
}

pub(super) fn is_symlink(fd: &OwnedFd) -> io::Result<bool> {
    Ok(kind(&fstat(fd)?) == FileKind::Symlink)
}

/// Refuses all but regular files.
pub(super) fn require_regular(fd: &OwnedFd) -> Result<(), Errno> {
    match kind(&fstat(fd)?) {
        FileKind::File => Ok(()),
        FileKind::Directory => Err(Errno::ISDIR),
        FileKind::Symlink | FileKind::Other => Err(Errno::NXIO),
    }
}

/// Refuses where a precondition does not hold of what is there, if anything (RFC 9110 §13.1).
pub(super) fn require(condition: &Condition, place: &Place<'_>, now: Option<&Stat>) -> Result<(), Failure> {
    let now = now.map(|stat| (kind(stat) == FileKind::File).then(|| etag(stat)));
    let has = |tags: &[String]| match &now {
        None => false,
        Some(tag) => tags.iter().any(|wanted| wanted == "*" || Some(wanted) == tag.as_ref()),
    };
    let is_met =
        condition.if_match.as_deref().is_none_or(has) && !condition.if_none_match.as_deref().is_some_and(has);
    if is_met {
        return Ok(());
    }
    Err(place.refuse(
        crate::wire::work::FailureKind::Changed,
        "it is not what the precondition says; read it again",
    ))
}
