//! Paths: which root they are beneath, and how the kernel is told to stay there.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2},
    io::Errno,
};

use crate::wire::work::{Failure, FailureKind};

/// What clients may call the workspace wherever it is.
const WORKSPACE: &str = "/workspace";
/// `PATH_MAX` without the end (limits.h).
const MAX_PATH: usize = 4095;
/// A resolution that races with renames is tried again (openat2(2), `EAGAIN`).
const TRIES: usize = 64;

/// The directories that clients may see.
pub(super) struct Roots {
    workspace: PathBuf,
    home: PathBuf,
}

/// A path beneath a root, not looked up yet.
#[derive(Clone)]
pub(super) struct Place<'a> {
    roots: &'a Roots,
    root: &'a Path,
    /// Below the root, without `.` and `..`; empty: the root itself.
    below: PathBuf,
}

impl Roots {
    pub(super) fn new(home: &Path, workspace: &Path) -> Self {
        Self { workspace: workspace.into(), home: home.into() }
    }

    /// Finds the root that a client's path is beneath.
    ///
    /// # Errors
    /// `Outside` where there is none or a part is `..`; `Invalid` where it cannot be a path.
    pub(super) fn place(&self, text: &str) -> Result<Place<'_>, Failure> {
        let invalid = |what| Failure::new(FailureKind::Invalid, format!("{}: {what}", shorten(text)));
        if text.is_empty() {
            return Err(Failure::new(FailureKind::Invalid, "the path is empty"));
        }
        if text.contains('\0') {
            return Err(invalid("a path has no NUL in it"));
        }
        if text.len() > MAX_PATH {
            return Err(invalid("the path is longer than 4095 bytes"));
        }
        let path = Path::new(text);
        if path.components().any(|part| part == Component::ParentDir) {
            let message = format!("{}: the path may not have .. in it", shorten(text));
            return Err(Failure::new(FailureKind::Outside, message));
        }
        let found = if let Ok(rest) = path.strip_prefix("~") {
            Some((self.home.as_path(), rest))
        } else if path.is_absolute() {
            self.beneath(path)
                .or_else(|| Some((self.workspace.as_path(), path.strip_prefix(WORKSPACE).ok()?)))
        } else {
            Some((self.workspace.as_path(), path))
        };
        let (root, rest) = found.ok_or_else(|| {
            let message = format!(
                "{}: the path is outside of {} and {}",
                shorten(text),
                self.workspace.display(),
                self.home.display()
            );
            Failure::new(FailureKind::Outside, message)
        })?;
        // Collected from its components, so that `.` and doubled slashes are gone.
        let below = rest.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        Ok(Place { roots: self, root, below })
    }

    /// Returns the root that an absolute path is beneath, and the rest; of two the inner one.
    fn beneath<'p>(&self, path: &'p Path) -> Option<(&Path, &'p Path)> {
        [&self.workspace, &self.home]
            .into_iter()
            .filter_map(|root| Some((root.as_path(), path.strip_prefix(root).ok()?)))
            .min_by_key(|(_, rest)| rest.as_os_str().len())
    }
}

impl<'a> Place<'a> {
    /// Returns the absolute path, as the instance sees it.
    pub(super) fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.root.into() } else { self.root.join(&self.below) }
    }

    /// Returns the place of something below this one.
    pub(super) fn join(&self, below: &Path) -> Self {
        // Joined with nothing a path would end in a slash.
        let below = if below.as_os_str().is_empty() { self.below.clone() } else { self.below.join(below) };
        Self { below, ..self.clone() }
    }

    /// Returns the last part of the path; that of the root's own path for a root.
    pub(super) fn name(&self) -> &OsStr {
        self.below.file_name().or(self.root.file_name()).unwrap_or(OsStr::new("/"))
    }

    /// Says about this place what went wrong.
    pub(super) fn failure(&self, error: impl Into<io::Error>) -> Failure {
        let failure = Failure::from(error.into());
        let what = match failure.kind {
            FailureKind::NotFound => "there is nothing here",
            FailureKind::Exists => "there is something here already",
            FailureKind::Denied => "the instance's user may not do that here",
            FailureKind::NotADirectory => "a part of this path is not a directory",
            FailureKind::IsADirectory => "this is a directory",
            FailureKind::NotEmpty => "the directory is not empty",
            FailureKind::Outside => "a symbolic link leads out of the workspace and the home, or in a circle",
            FailureKind::NotAFile => "this is neither a file nor a directory",
            FailureKind::NoSpace => "the disk is full",
            FailureKind::Quota => "the disk quota is used up",
            FailureKind::Changed => "the precondition does not hold: the file is another one",
            FailureKind::Torn => "it changed while it was read; try again",
            FailureKind::Invalid | FailureKind::Limit | FailureKind::TooLarge | FailureKind::Io => {
                &failure.message
            }
        };
        Failure::new(failure.kind, format!("{}: {what}", shorten(&self.path().to_string_lossy())))
    }

    /// The same for what is decided here.
    pub(super) fn refuse(&self, kind: FailureKind, what: &str) -> Failure {
        Failure::new(kind, format!("{}: {what}", shorten(&self.path().to_string_lossy())))
    }

    /// Opens it; links on the way and at the end are followed as long as they stay beneath a root.
    pub(super) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        match beneath(self.root, &self.below, flags, ResolveFlags::empty()) {
            // An absolute link leads out of the root for the kernel, also where it leads back in. So it is asked
            // again with the path that is meant, and without any link.
            Err(Errno::XDEV) => {
                let real = std::fs::canonicalize(self.path()).map_err(|_| Errno::XDEV)?;
                let (root, below) = self.roots.beneath(&real).ok_or(Errno::XDEV)?;
                Ok(beneath(root, below, flags, ResolveFlags::NO_SYMLINKS)?)
            }
            result => Ok(result?),
        }
    }

    /// Opens it if that needs no disk (openat2(2), `RESOLVE_CACHED`); any trouble is nothing.
    pub(super) fn open_cached(&self, flags: OFlags) -> Option<OwnedFd> {
        beneath(self.root, &self.below, flags, ResolveFlags::CACHED).ok()
    }

    /// Opens what is there as `O_PATH`, a last link itself.
    pub(super) fn open_nofollow(&self) -> io::Result<OwnedFd> {
        let Some(parent) = self.parent() else { return self.open(OFlags::PATH) };
        let parent = parent.open(OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(openat(&parent, self.name(), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens the directory in which it is, or is to be.
    ///
    /// # Errors
    /// `Invalid` for a root.
    pub(super) fn open_parent(&self) -> Result<OwnedFd, Failure> {
        let parent = self.parent_or_refuse()?;
        parent.open(OFlags::PATH | OFlags::DIRECTORY).map_err(|error| parent.failure(error))
    }

    /// Makes the directory in which it is to be, and those above, and opens it.
    ///
    /// # Errors
    /// `Invalid` for a root.
    pub(super) fn make_parent(&self) -> Result<OwnedFd, Failure> {
        Ok(self.parent_or_refuse()?.make_directory()?.0)
    }

    /// Makes this directory and those above it, and opens it; says whether it is new.
    pub(super) fn make_directory(&self) -> Result<(OwnedFd, bool), Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut missing = Vec::new();
        let mut at = self.clone();
        let mut dir = loop {
            match at.open(flags) {
                Ok(dir) => break dir,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at.failure(error)),
            }
            let Some(parent) = at.parent() else { return Err(at.failure(Errno::NOENT)) };
            missing.push(std::mem::replace(&mut at, parent));
        };
        let mut is_new = false;
        while let Some(place) = missing.pop() {
            is_new = match mkdirat(&dir, place.name(), Mode::from_raw_mode(0o777)) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(place.failure(error)),
            };
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = openat(&dir, place.name(), flags, Mode::empty()).map_err(|error| place.failure(error))?;
        }
        Ok((dir, is_new))
    }

    /// Returns the place that a file there really has: links at the end are followed. What is not there keeps its place.
    pub(super) fn real(&self) -> Result<Self, Failure> {
        let fd = match self.open_nofollow() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.clone()),
            result => result.map_err(|error| self.failure(error))?,
        };
        if !super::entry::is_symlink(&fd).map_err(|error| self.failure(error))? {
            return Ok(self.clone());
        }
        let target = self.open(OFlags::PATH).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                self.refuse(FailureKind::Exists, "a link to nothing is here; delete it first")
            }
            _ => self.failure(error),
        })?;
        let real = path_of(&target).map_err(|error| self.failure(error))?;
        let (root, below) = self.roots.beneath(&real).ok_or_else(|| self.failure(Errno::XDEV))?;
        Ok(Self { roots: self.roots, root, below: below.into() })
    }

    pub(super) fn parent(&self) -> Option<Self> {
        let below = self.below.parent()?.to_path_buf();
        Some(Self { below, ..self.clone() })
    }

    fn parent_or_refuse(&self) -> Result<Self, Failure> {
        self.parent()
            .ok_or_else(|| self.refuse(FailureKind::Invalid, "this directory itself must stay as it is"))
    }
}

/// Opens `path` beneath the directory `top` without following any link.
pub(super) fn open_below(top: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    resolve(top, path, flags, ResolveFlags::NO_SYMLINKS)
}

/// Returns where an open descriptor is, as this process sees it.
pub(super) fn path_of(fd: &OwnedFd) -> io::Result<PathBuf> {
    std::fs::read_link(proc_path(fd))
}

/// Returns the name by which the kernel finds an open descriptor again (proc_pid_fd(5)).
pub(super) fn proc_path(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn beneath(root: &Path, below: &Path, flags: OFlags, resolve_flags: ResolveFlags) -> Result<OwnedFd, Errno> {
    // Opened anew each time: it may have been replaced, and nobody but the operator can put a link above it.
    let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, root, top, Mode::empty())?;
    resolve(&root, below, flags, resolve_flags)
}

fn resolve(top: &OwnedFd, path: &Path, flags: OFlags, resolve_flags: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = resolve_flags | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = openat2(top, path, flags | OFlags::CLOEXEC, Mode::empty(), how);
        let is_raced = matches!(result, Err(Errno::AGAIN | Errno::INTR));
        if !is_raced || how.contains(ResolveFlags::CACHED) {
            break;
        }
    }
    result
}

/// A message is for a person: it need not hold all of a path.
fn shorten(path: &str) -> std::borrow::Cow<'_, str> {
    const LIMIT: usize = 300;
    if path.len() <= LIMIT {
        return path.into();
    }
    let end = path.floor_char_boundary(LIMIT);
    format!("{}…", &path[..end]).into()
}
