//! Uploads: a file that the door fills and that then gets its name.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::{AtFlags, Mode, Stat, fchmod, fstat, fstatvfs, statat},
    io::Errno,
};

use super::{
    Outcome,
    beneath::{Place, Roots},
    entry::{entry, kind, require},
    staged::Staged,
};
use crate::wire::{
    files::{Condition, Create, Reply},
    work::{Failure, FailureKind},
};
use reef_door::files::FileKind;

/// Uploads at the same time.
const MAX_UPLOADS: usize = 256;
const DEFAULT_MODE: u32 = 0o644;

/// Uploads in progress.
#[derive(Default)]
pub(super) struct Uploads(Mutex<State>);

#[derive(Default)]
struct State {
    open: HashMap<u64, Upload>,
}

struct Upload {
    /// As the client named it.
    shown: String,
    /// Absolute, without a last link.
    real: String,
    dir: std::os::fd::OwnedFd,
    name: OsString,
    mode: Option<u32>,
    condition: Condition,
    staged: Staged,
}

impl Uploads {
    /// Opens a nameless file beside its future place.
    pub(super) fn create(&self, roots: &Roots, create: &Create) -> Outcome {
        let named = roots.place(&create.path)?;
        let place = named.real()?;
        let fail = |error: io::Error| named.failure(error);
        let dir = if create.parents { place.make_parent()? } else { place.open_parent()? };
        let now = look(&dir, place.name()).map_err(fail)?;
        refuse_others(&named, now.as_ref())?;
        require(&create.condition, &named, now.as_ref())?;
        let staged = Staged::new(dir.try_clone().map_err(fail)?).map_err(fail)?;
        if let Some(size) = create.size {
            let disk = fstatvfs(staged.file()).map_err(|error| fail(error.into()))?;
            if size > disk.f_bavail.saturating_mul(disk.f_frsize) {
                return Err(fail(Errno::NOSPC.into()));
            }
        }
        let file = staged.reopen().map_err(fail)?;
        let upload = Upload {
            shown: create.path.clone(),
            real: place.path().to_string_lossy().into_owned(),
            dir,
            name: place.name().to_owned(),
            mode: create.mode,
            condition: create.condition.clone(),
            staged,
        };
        let mut state = self.lock();
        if state.open.len() >= MAX_UPLOADS {
            return Err(Failure::new(FailureKind::Limit, "256 uploads are in progress; finish one first"));
        }
        // Not counted: hands that are started again must not take one upload for another.
        let number = rand::random();
        state.open.insert(number, upload);
        Ok((Reply::Upload(number), Some(file.into())))
    }

    /// Gives an upload its name.
    pub(super) fn commit(&self, number: u64, roots: &Roots) -> Result<Reply, Failure> {
        // Held to the end: of two writers with the same precondition one must lose.
        let mut state = self.lock();
        let upload = state
            .open
            .remove(&number)
            .ok_or_else(|| Failure::new(FailureKind::Io, "the upload was lost in a restart; write again"))?;
        let place = roots.place(&upload.shown)?;
        let fail = |error: io::Error| place.failure(error);
        let now = look(&upload.dir, &upload.name).map_err(fail)?;
        refuse_others(&place, now.as_ref())?;
        require(&upload.condition, &place, now.as_ref())?;
        let kept = now.map(|now| now.st_mode & 0o777);
        let mode = Mode::from_raw_mode(upload.mode.or(kept).unwrap_or(DEFAULT_MODE));
        fchmod(upload.staged.file(), mode).map_err(|error| fail(error.into()))?;
        let stat = fstat(upload.staged.file()).map_err(|error| fail(error.into()))?;
        let must_be_new = upload.condition.if_none_match.iter().flatten().any(|tag| tag == "*");
        let placed = upload.staged.place(&upload.name, !must_be_new);
        let is_new = placed.map_err(|error| match error.kind() {
            // It has appeared since we looked.
            io::ErrorKind::AlreadyExists => {
                place.refuse(FailureKind::Changed, "there is something here already")
            }
            _ => fail(error),
        })?;
        let entry = entry(upload.real.as_ref(), &stat, || None);
        Ok(Reply::Written(Box::new(entry), is_new))
    }

    /// Forgets an upload.
    pub(super) fn abort(&self, number: u64) -> Reply {
        self.lock().open.remove(&number);
        Reply::Done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in between can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what is at a name, a link itself.
pub(super) fn look(dir: &std::os::fd::OwnedFd, name: &std::ffi::OsStr) -> io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A file may replace a file, and nothing else.
fn refuse_others(place: &Place<'_>, now: Option<&Stat>) -> Result<(), Failure> {
    match now.map(kind) {
        None | Some(FileKind::File) => Ok(()),
        Some(FileKind::Directory) => Err(place.failure(Errno::ISDIR)),
        Some(FileKind::Symlink | FileKind::Other) => Err(place.failure(Errno::NXIO)),
    }
}
