//! Files of the tenant: everything that needs a path.
//!
//! The kernel resolves paths beneath their root ([`beneath`]), so a symbolic link that is swapped during a call leads
//! nowhere else. What is opened is a regular file or it is refused. Bytes of files are the door's to move; listings,
//! archives and the like go through a pipe of the door's, and end when it closes its end.

mod archive;
mod beneath;
mod entry;
mod extract;
mod list;
mod pipe;
mod search;
mod staged;
mod tree;
mod upload;
mod walk;
mod watch;

use std::{os::fd::OwnedFd, path::Path};

use rustix::fs::OFlags;

use self::{
    beneath::{Place, Roots},
    entry::entry_of,
    pipe::Pipe,
    upload::Uploads,
    watch::Watches,
};
use crate::wire::{
    files::{Call, Reply},
    work::{Failure, FailureKind},
};

/// Not waiting for the other end of a pipe, and not taking a terminal as our own.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// What a call comes to: a reply, perhaps with a descriptor.
pub(crate) type Outcome = Result<(Reply, Option<OwnedFd>), Failure>;

/// Serves calls about files.
pub(crate) struct Files {
    roots: Roots,
    uploads: Uploads,
    watches: Watches,
}

impl Files {
    /// Makes one for the two directories that clients may see; absolute paths without links.
    pub(crate) fn new(home: &Path, workspace: &Path) -> Self {
        Self { roots: Roots::new(home, workspace), uploads: Uploads::default(), watches: Watches::default() }
    }

    /// Opens a file at once if that needs no disk: for the many small ones, the way to another thread is the longest
    /// part of it. Whatever else there is to say, [`Files::handle`] says.
    pub(crate) fn open_at_once(&self, call: &Call) -> Option<(Reply, OwnedFd)> {
        let Call::Open { path } = call else { return None };
        let place = self.roots.place(path).ok()?;
        let file = place.open_cached(READ)?;
        entry::require_regular(&file).ok()?;
        Some((Reply::Entry(Box::new(entry_of(&file, &place).ok()?)), file))
    }

    /// Does what `call` says; blocks. `fd` is the end of a pipe that some calls want.
    ///
    /// # Errors
    /// [`Failure`], whose message names the path as the client gave it.
    pub(crate) fn handle(&self, call: Call, fd: Option<OwnedFd>) -> Outcome {
        let pipe =
            || fd.map(Pipe::new).ok_or_else(|| Failure::new(FailureKind::Invalid, "no pipe came along"));
        let reply = match call {
            Call::Stat { path, follow } => self.stat(&path, follow)?,
            Call::Open { path } => return self.open(&path),
            Call::List(list) => list::list(&self.roots, &list, pipe()?)?,
            Call::MakeDirectory { path } => tree::make_directory(&self.roots, &path)?,
            Call::Create(create) => return self.uploads.create(&self.roots, &create),
            Call::Commit { upload } => self.uploads.commit(upload, &self.roots)?,
            Call::Abort { upload } => self.uploads.abort(upload),
            Call::Move { from, to, overwrite } => tree::rename(&self.roots, &from, &to, overwrite)?,
            Call::Copy { from, to, overwrite } => tree::copy(&self.roots, &from, &to, overwrite)?,
            Call::Chmod { path, mode } => tree::chmod(&self.roots, &path, mode)?,
            Call::Delete { path, recursive, condition } => {
                tree::delete(&self.roots, &path, recursive, &condition)?
            }
            Call::Archive { path, format } => archive::archive(&self.roots, &path, format, pipe()?)?,
            Call::Extract { path } => extract::extract(&self.roots, &path, pipe()?)?,
            Call::Search(search) => search::search(&self.roots, &search, pipe()?)?,
            Call::Watch { path, recursive } => self.watches.watch(&self.roots, &path, recursive, pipe()?)?,
        };
        Ok((reply, None))
    }

    fn stat(&self, path: &str, follow: bool) -> Result<Reply, Failure> {
        let place = self.roots.place(path)?;
        let fd = if follow { place.open(OFlags::PATH) } else { place.open_nofollow() };
        let entry = fd.and_then(|fd| entry_of(&fd, &place)).map_err(|error| place.failure(error))?;
        Ok(Reply::Entry(Box::new(entry)))
    }

    fn open(&self, path: &str) -> Outcome {
        let place = self.roots.place(path)?;
        let file = open_regular(&place)?;
        let entry = entry_of(&file, &place).map_err(|error| place.failure(error))?;
        Ok((Reply::Entry(Box::new(entry)), Some(file)))
    }
}

/// Opens a regular file to read, and nothing else: a pipe or device is not even waited for.
fn open_regular(place: &Place<'_>) -> Result<OwnedFd, Failure> {
    let file = place.open(READ).map_err(|error| place.failure(error))?;
    entry::require_regular(&file).map_err(|error| place.failure(error))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
