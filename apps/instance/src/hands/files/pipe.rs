//! The end of a pipe that the door made for one call.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    os::fd::OwnedFd,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

/// One end; the other is the door's.
pub(super) struct Pipe(File);

impl Pipe {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    /// Returns another descriptor of the same end.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Says whether nobody reads the other end any more.
    pub(super) fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }

    /// Returns the file, to be waited for.
    pub(super) fn file(&self) -> &File {
        &self.0
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes values as lines of JSON.
pub(super) struct Lines(BufWriter<Pipe>);

impl Lines {
    pub(super) fn new(pipe: Pipe) -> Self {
        Self(BufWriter::with_capacity(32 * 1024, pipe))
    }

    pub(super) fn push(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    pub(super) fn pipe(&self) -> &Pipe {
        self.0.get_ref()
    }
}
