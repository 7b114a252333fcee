//! A file as the body of an answer.

use std::{
    io::{self, IoSliceMut},
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use rustix::{
    fs::{Stat, fstat},
    io::{Errno, ReadWriteFlags, pread, preadv2},
};
use tokio::task::JoinHandle;

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// Part of a file. What the page cache has is read at once, the rest on a thread that may wait for the disk. The body
/// breaks off when the file changes, so that what arrives whole is one state of it.
pub(super) struct FileBody {
    file: Arc<OwnedFd>,
    stamp: Stamp,
    at: u64,
    left: u64,
    spare: Spare,
    reading: Option<JoinHandle<io::Result<Loan>>>,
}

/// What changes when a file does.
pub(super) type Stamp = (i64, i64, u64);

/// Buffers to be used again, those that are not on their way to the client.
type Spare = Arc<Mutex<Vec<Box<[u8]>>>>;

impl FileBody {
    /// Starts at `at`; `stat` is of `file`, which has `count` bytes from there.
    pub(super) fn new(file: OwnedFd, stat: &Stat, at: u64, count: u64) -> Self {
        Self {
            file: Arc::new(file),
            stamp: stamp(stat),
            at,
            left: count,
            spare: Spare::default(),
            reading: None,
        }
    }

    /// Returns a buffer for the next chunk.
    fn loan(&self) -> Loan {
        let wanted = usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK));
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffer = spare.unwrap_or_else(|| vec![0; wanted].into_boxed_slice());
        let length = wanted.min(buffer.len());
        Loan { buffer, length, spare: self.spare.clone() }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Loan>> {
        if self.reading.is_none() {
            let mut loan = self.loan();
            match loan.read_cached(&self.file, self.at) {
                Ok(()) => return Poll::Ready(Ok(loan)),
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            let (file, at) = (self.file.clone(), self.at);
            self.reading = Some(tokio::task::spawn_blocking(move || loan.read(&file, at).map(|()| loan)));
        }
        let Some(reading) = &mut self.reading else { return Poll::Pending };
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(read.map_err(io::Error::other).flatten())
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let loan = ready!(self.poll_chunk(cx)?);
        let count = loan.length as u64;
        let is_same = fstat(&*self.file).is_ok_and(|stat| stamp(&stat) == self.stamp);
        if count == 0 || !is_same {
            self.left = 0;
            return Poll::Ready(Some(Err(io::Error::other("the file changed while it was read"))));
        }
        self.at += count;
        self.left -= count;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(loan)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

pub(super) fn stamp(stat: &Stat) -> Stamp {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
}

/// A buffer with something in it, which goes back where it is from.
struct Loan {
    buffer: Box<[u8]>,
    length: usize,
    spare: Spare,
}

impl Loan {
    /// Reads as much as is in memory (preadv2(2), `RWF_NOWAIT`).
    fn read_cached(&mut self, file: &OwnedFd, at: u64) -> Result<(), Errno> {
        let mut parts = [IoSliceMut::new(&mut self.buffer[..self.length])];
        self.length = preadv2(file, &mut parts, at, ReadWriteFlags::NOWAIT)?;
        Ok(())
    }

    /// Reads, and waits for the disk.
    fn read(&mut self, file: &OwnedFd, at: u64) -> io::Result<()> {
        self.length = loop {
            match pread(file, &mut self.buffer[..self.length], at) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        Ok(())
    }
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}
