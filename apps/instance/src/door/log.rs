//! What the door says of itself: standard error, bounded where that is a file.
//!
//! A tenant can make the door speak. So a file that has grown too large gets `.1` at the end of its name, in place of the
//! one before, and standard error goes on in a new one.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::unistd::{dup2_stderr, ftruncate};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of the file.
const MOST: u64 = 4 << 20;

/// Makes writers of one line each.
pub(super) struct Log {
    most: u64,
    one_at_a_time: Mutex<()>,
}

impl Log {
    /// Makes the one of this process.
    pub(super) fn new() -> Self {
        Self { most: MOST, one_at_a_time: Mutex::default() }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        let turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        Line { most: self.most, _turn: turn }
    }
}

/// Writes to standard error.
pub(super) struct Line<'a> {
    most: u64,
    _turn: MutexGuard<'a, ()>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let now = stderr.metadata()?;
        if now.is_file() && now.len() + bytes.len() as u64 > self.most && put_aside(&now).is_err() {
            // What is new says more than what is old.
            ftruncate(&stderr, 0)?;
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Renames the file behind standard error, of which `now` is said, and opens another one in its place.
fn put_aside(now: &fs::Metadata) -> io::Result<()> {
    let path = fs::read_link("/proc/self/fd/2")?;
    let at_path = fs::symlink_metadata(&path)?;
    if (at_path.dev(), at_path.ino()) != (now.dev(), now.ino()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut aside = OsString::from(&path);
    aside.push(".1");
    fs::rename(&path, aside)?;
    dup2_stderr(OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_small_and_ends_with_what_was_said_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door.log");
        let before = io::stderr().as_fd().try_clone_to_owned().unwrap();
        dup2_stderr(OpenOptions::new().append(true).create(true).open(&path).unwrap()).unwrap();
        let log = Log { most: 1000, one_at_a_time: Mutex::default() };
        let say = |number: u32| log.make_writer().write_all(format!("line {number}\n").as_bytes()).unwrap();
        (0..500).for_each(say);
        let read = |name| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        let (aside, now) = (read("door.log.1"), read("door.log"));
        // Where nothing can be renamed, it begins again.
        fs::remove_file(&path).unwrap();
        (0..500).for_each(say);
        let unnamed = io::stderr().as_fd().try_clone_to_owned().map(File::from).unwrap();
        let unnamed = unnamed.metadata().unwrap().len();
        dup2_stderr(before).unwrap();

        assert!(aside.len() <= 1000 && now.len() <= 1000 && !now.is_empty());
        assert!(now.ends_with("line 499\n"));
        let last = aside.lines().last().unwrap()[5..].parse::<u32>().unwrap();
        assert!(now.starts_with(&format!("line {}\n", last + 1)), "{now}");
        assert!((1..=1000).contains(&unnamed));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
