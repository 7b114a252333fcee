//! Watching directories by inotify(7).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    mem::{Discriminant, MaybeUninit, discriminant},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use reef_door::files::{FileKind, WatchChange, WatchEvent};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{
        OFlags, fstat,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    },
    io::Errno,
};

use super::{
    beneath::{Place, Roots, open_below, proc_path},
    entry::kind,
    pipe::{Lines, Pipe},
    upload::look,
    walk::{Walk, is_temp},
};
use crate::wire::{
    files::Reply,
    work::{Failure, FailureKind},
};

/// Watches at the same time; each holds a thread.
const MAX_WATCHES: usize = 32;
/// Directories of one watch.
const MAX_DIRECTORIES: usize = 16_384;
/// Between two batches, so that a busy file is told about a few times and not for each write.
const PACE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How long the second half of a move may take to come.
const HALF: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// How many watches there are.
#[derive(Default)]
pub(super) struct Watches(AtomicUsize);

impl Watches {
    /// Writes what happens to `pipe` until its other end is closed or the watched thing is gone.
    pub(super) fn watch(
        &self,
        roots: &Roots,
        path: &str,
        recursive: bool,
        pipe: Pipe,
    ) -> Result<Reply, Failure> {
        let count = Counted::enter(&self.0);
        if count.number >= MAX_WATCHES {
            return Err(Failure::new(FailureKind::Limit, "there are 32 watches already; end one first"));
        }
        let place = roots.place(path)?;
        let fail = |error: io::Error| place.failure(error);
        let mut watch = Watch::start(&place, recursive).map_err(fail)?;
        match watch.run(Lines::new(pipe)) {
            // Nobody wants to know any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reply::Done),
            result => result.map(|()| Reply::Done).map_err(fail),
        }
    }
}

struct Counted<'a> {
    all: &'a AtomicUsize,
    number: usize,
}

impl<'a> Counted<'a> {
    fn enter(all: &'a AtomicUsize) -> Self {
        Self { all, number: all.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Watch<'a> {
    /// The watched directory; of a file the one it is in.
    place: Place<'a>,
    /// Where only one file is watched.
    only: Option<OsString>,
    recursive: bool,
    inotify: OwnedFd,
    /// Paths below the directory, by the kernel's numbers.
    dirs: BTreeMap<i32, PathBuf>,
}

/// What the kernel said.
struct Raw {
    wd: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Option<OsString>,
}

/// The events of a batch.
#[derive(Default)]
struct Events {
    all: Vec<WatchEvent>,
    known: HashSet<(Discriminant<WatchChange>, String, Option<Discriminant<FileKind>>)>,
}

impl Events {
    fn push(&mut self, event: WatchEvent) {
        self.note(&event);
        self.all.push(event);
    }

    fn push_once(&mut self, event: WatchEvent) {
        if self.note(&event) {
            self.all.push(event);
        }
    }

    fn note(&mut self, event: &WatchEvent) -> bool {
        let kind = event.kind.as_ref().map(discriminant);
        self.known.insert((discriminant(&event.change), event.path.clone(), kind))
    }
}

impl<'a> Watch<'a> {
    fn start(place: &Place<'a>, recursive: bool) -> io::Result<Self> {
        let fd = place.open(OFlags::PATH)?;
        let (place, only) = match kind(&fstat(&fd)?) {
            FileKind::Directory => (place.clone(), None),
            _ => (place.parent().ok_or(Errno::NOTDIR)?, Some(place.name().to_owned())),
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let recursive = recursive && only.is_none();
        let mut watch = Self { place, only, recursive, inotify, dirs: BTreeMap::new() };
        watch.add(Path::new(""))?;
        if recursive {
            watch.add_below(Path::new(""), |_| {})?;
        }
        Ok(watch)
    }

    fn run(&mut self, mut lines: Lines) -> io::Result<()> {
        let ready = event(WatchChange::Ready, &self.shown(Path::new("")), None, Some(FileKind::Directory));
        lines.push(&ready)?;
        lines.flush()?;
        loop {
            let mut fds = [
                PollFd::new(&self.inotify, PollFlags::IN),
                PollFd::new(lines.pipe().file(), PollFlags::empty()),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if fds[1].revents().contains(PollFlags::ERR) {
                return Ok(());
            }
            let mut raw = self.read()?;
            let is_half = raw.last().is_some_and(|last| last.flags.contains(ReadFlags::MOVED_FROM));
            if is_half && poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&HALF)).is_ok() {
                raw.extend(self.read()?);
            }
            let (events, is_over) = self.digest(raw)?;
            for event in &events {
                lines.push(event)?;
            }
            lines.flush()?;
            if is_over {
                return Ok(());
            }
            // Waits, unless the other end is closed meanwhile.
            let _ = poll(&mut [PollFd::new(lines.pipe().file(), PollFlags::empty())], Some(&PACE));
        }
    }

    fn read(&self) -> io::Result<Vec<Raw>> {
        let mut buffer = vec![MaybeUninit::uninit(); 64 * 1024];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut all = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => all.push(Raw {
                    wd: event.wd(),
                    flags: event.events(),
                    cookie: event.cookie(),
                    name: event.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())),
                }),
                Err(Errno::AGAIN) => return Ok(all),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if all.len() >= 4096 && reader.is_buffer_empty() {
                return Ok(all);
            }
        }
    }

    /// Turns a batch into events; says whether the watched directory is gone.
    fn digest(&mut self, raw: Vec<Raw>) -> io::Result<(Vec<WatchEvent>, bool)> {
        let mut events = Events::default();
        let mut is_over = false;
        // Moved away, by cookie, until it is seen where to.
        let mut gone: HashMap<u32, (PathBuf, bool)> = HashMap::new();
        for Raw { wd, flags, cookie, name } in raw {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                events.push(event(WatchChange::Overflow, &self.shown(Path::new("")), None, None));
                if self.recursive {
                    self.add_below(Path::new(""), |_| {})?;
                }
                continue;
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.dirs.remove(&wd);
                continue;
            }
            let Some(dir) = self.dirs.get(&wd).cloned() else { continue };
            let Some(name) = name else {
                if dir.as_os_str().is_empty()
                    && flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF)
                {
                    let top = self.shown(Path::new(""));
                    events.push(event(WatchChange::Deleted, &top, None, Some(FileKind::Directory)));
                    is_over = true;
                }
                continue;
            };
            if is_temp(&name) || self.only.as_ref().is_some_and(|only| *only != name) {
                continue;
            }
            let path = dir.join(&name);
            let is_dir = flags.contains(ReadFlags::ISDIR);
            if flags.contains(ReadFlags::MOVED_FROM) {
                gone.insert(cookie, (path, is_dir));
            } else if flags.contains(ReadFlags::MOVED_TO) {
                let from = gone.remove(&cookie).map(|(from, _)| from);
                self.appeared(&path, is_dir, from, &mut events)?;
            } else if flags.contains(ReadFlags::CREATE) {
                self.appeared(&path, is_dir, None, &mut events)?;
            } else if flags.contains(ReadFlags::DELETE) {
                let kind = is_dir.then_some(FileKind::Directory);
                events.push(event(WatchChange::Deleted, &self.shown(&path), None, kind));
            } else {
                let modified = event(WatchChange::Modified, &self.shown(&path), None, self.kind_of(&path));
                events.push_once(modified);
            }
        }
        for (path, is_dir) in gone.into_values() {
            self.forget(&path);
            let kind = is_dir.then_some(FileKind::Directory);
            events.push(event(WatchChange::Deleted, &self.shown(&path), None, kind));
        }
        Ok((events.all, is_over))
    }

    /// Notes something new, or at a new place.
    fn appeared(
        &mut self,
        path: &Path,
        is_dir: bool,
        from: Option<PathBuf>,
        events: &mut Events,
    ) -> io::Result<()> {
        let change = if from.is_some() { WatchChange::Moved } else { WatchChange::Created };
        let before = from.as_deref().map(|from| self.shown(from));
        events.push(event(change, &self.shown(path), before, self.kind_of(path)));
        if !is_dir || !self.recursive {
            return Ok(());
        }
        if let Some(from) = from {
            for dir in self.dirs.values_mut() {
                if let Ok(rest) = dir.strip_prefix(&from) {
                    *dir = if rest.as_os_str().is_empty() { path.into() } else { path.join(rest) };
                }
            }
            return Ok(());
        }
        // What was put into it before we watched it.
        match self.add(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut found = Vec::new();
        self.add_below(path, |item| found.push((item.path.clone(), kind(&item.stat))))?;
        for (below, kind) in found {
            let created = event(WatchChange::Created, &self.shown(&path.join(below)), None, Some(kind));
            events.push_once(created);
        }
        Ok(())
    }

    /// Watches one directory.
    fn add(&mut self, path: &Path) -> io::Result<()> {
        self.has_room()?;
        let dir = open_below(&self.top()?, path, OFlags::PATH | OFlags::DIRECTORY)?;
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        let wd = inotify::add_watch(&self.inotify, proc_path(&dir), flags)?;
        self.dirs.insert(wd, path.into());
        Ok(())
    }

    fn has_room(&self) -> io::Result<()> {
        if self.dirs.len() < MAX_DIRECTORIES {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("there are more than {MAX_DIRECTORIES} directories to watch; watch one further down"),
        ))
    }

    /// Watches all directories below one; `see` is shown what is there.
    fn add_below(&mut self, path: &Path, mut see: impl FnMut(&super::walk::Item)) -> io::Result<()> {
        let Ok(top) = self.top() else { return Ok(()) };
        let dir = match open_below(&top, path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut walk = Walk::new(dir)?;
        while let Some(item) = walk.next() {
            // What is closed to the tenant, or gone again, cannot be watched.
            let Ok(item) = item else { continue };
            see(&item);
            if kind(&item.stat) == FileKind::Directory && self.add(&path.join(&item.path)).is_err() {
                self.has_room()?;
            }
        }
        Ok(())
    }

    /// Stops to watch what was moved away.
    fn forget(&mut self, path: &Path) {
        let inotify = &self.inotify;
        self.dirs.retain(|wd, dir| {
            let is_gone = dir.starts_with(path);
            if is_gone {
                // It may have ended by itself.
                let _ = inotify::remove_watch(inotify, *wd);
            }
            !is_gone
        });
    }

    fn kind_of(&self, path: &Path) -> Option<FileKind> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let dir = open_below(&self.top().ok()?, parent, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        look(&dir, path.file_name().unwrap_or(OsStr::from_bytes(b"."))).ok()?.as_ref().map(kind)
    }

    /// Opens the watched directory. Not kept open: its end is told once nobody has it open.
    fn top(&self) -> io::Result<OwnedFd> {
        self.place.open(OFlags::PATH | OFlags::DIRECTORY)
    }

    fn shown(&self, path: &Path) -> String {
        self.place.join(path).path().to_string_lossy().into_owned()
    }
}

fn event(change: WatchChange, path: &str, from: Option<String>, kind: Option<FileKind>) -> WatchEvent {
    WatchEvent { change, path: path.to_owned(), from, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_directories_are_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let roots = Roots::new(dir.path(), dir.path());
        let place = roots.place(".").unwrap();
        let mut watch = Watch::start(&place, false).unwrap();
        // The kernel's numbers are positive.
        let others = i32::try_from(MAX_DIRECTORIES).unwrap();
        watch.dirs.extend((-others..0).map(|number| (number, PathBuf::from("other"))));
        for result in [watch.add(Path::new("d")), watch.add_below(Path::new(""), |_| {})] {
            let failure = place.failure(result.unwrap_err());
            assert_eq!(failure.kind, FailureKind::Invalid);
            assert!(failure.message.contains("more than 16384 directories"), "{failure}");
        }
    }
}
