//! Listings.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustix::fs::{OFlags, readlinkat};

use super::{
    beneath::Roots,
    entry::entry,
    pipe::{Lines, Pipe},
    walk::Walk,
};
use crate::wire::{
    files::{List, Reply},
    work::{Failure, FailureKind},
};

/// Entries between two looks whether somebody still reads.
const LOOK: usize = 256;

/// Writes one page of entries to `pipe`.
pub(super) fn list(roots: &Roots, list: &List, pipe: Pipe) -> Result<Reply, Failure> {
    let place = roots.place(&list.path)?;
    let fail = |error: std::io::Error| place.failure(error);
    let cursor = list.cursor.as_deref().map(parse_cursor).transpose()?;
    let mut lines = Lines::new(pipe);
    let top = place.open(OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK).map_err(fail)?;
    let mut walk = Walk::new(top).map_err(fail)?;
    let (mut count, mut seen, mut last) = (0, 0_usize, PathBuf::new());
    while let Some(item) = walk.next() {
        let item = match item {
            Ok(item) => item,
            // A directory that is closed to the tenant is an entry without content.
            Err(error) if list.recursive && error.kind() == std::io::ErrorKind::PermissionDenied => continue,
            Err(error) => return Err(fail(error)),
        };
        seen += 1;
        if seen.is_multiple_of(LOOK) && lines.pipe().is_closed() {
            break;
        }
        let is_before = cursor.as_ref().is_some_and(|cursor| item.path <= *cursor);
        if !list.recursive || (is_before && !leads_to(&item.path, cursor.as_deref())) {
            walk.skip();
        }
        if is_before {
            continue;
        }
        if count == list.limit {
            lines.flush().map_err(fail)?;
            return Ok(Reply::Listed(Some(cursor_of(&last))));
        }
        let target = || readlinkat(&*item.dir, &item.name, Vec::new()).ok();
        lines.push(&entry(&place.join(&item.path).path(), &item.stat, target)).map_err(fail)?;
        count += 1;
        last = item.path;
    }
    lines.flush().map_err(fail)?;
    Ok(Reply::Listed(None))
}

/// Says whether something after the cursor may be in this directory.
fn leads_to(path: &Path, cursor: Option<&Path>) -> bool {
    cursor.is_some_and(|cursor| cursor.starts_with(path))
}

/// Writes a path below the listed directory as a cursor; names need not be UTF-8.
fn cursor_of(path: &Path) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(path.as_os_str().as_bytes())
}

fn parse_cursor(text: &str) -> Result<PathBuf, Failure> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Failure::new(FailureKind::Invalid, "the cursor is not one of an earlier page"))?;
    Ok(OsString::from_vec(bytes).into())
}
