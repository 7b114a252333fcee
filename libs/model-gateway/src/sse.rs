//! Splits a stream of server-sent events (WHATWG HTML §9.2) without touching their bytes.

use bytes::{Bytes, BytesMut};

/// An event of a completion is some hundred bytes; one that never ends must not fill the memory.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// Collects bytes and gives back whole events, their blank line included.
#[derive(Default)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    /// Up to here no event ends.
    searched: usize,
}

/// An event is longer than any completion's.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Splitter {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() - self.searched > MAX_EVENT_BYTES { Err(TooLong) } else { Ok(()) }
    }

    /// Returns the next whole event.
    pub(crate) fn next_event(&mut self) -> Option<Bytes> {
        let mut line_start = self.searched;
        while let Some(length) = self.buffer[line_start..].iter().position(|byte| *byte == b'\n') {
            let line = &self.buffer[line_start..line_start + length];
            line_start += length + 1;
            if line.is_empty() || line == b"\r" {
                self.searched = 0;
                return Some(self.buffer.split_to(line_start).freeze());
            }
        }
        self.searched = line_start;
        None
    }

    /// Returns what is left when the stream has ended.
    pub(crate) fn rest(self) -> Bytes {
        self.buffer.freeze()
    }
}

/// Returns the data of an event that has one line of it, as those of completions do.
pub(crate) fn data(event: &[u8]) -> Option<&[u8]> {
    event
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"data:"))
        .map(|data| data.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let stream = b": hello\n\ndata: {\"a\":1}\r\n\r\nevent: x\ndata: [DONE]\n\nrest";
        for size in 1..stream.len() {
            let mut splitter = Splitter::default();
            let mut events = Vec::new();
            for part in stream.chunks(size) {
                splitter.push(part).unwrap();
                while let Some(event) = splitter.next_event() {
                    events.push(event);
                }
            }
            assert_eq!(events.len(), 3, "{size}");
            assert_eq!(data(&events[0]), None);
            assert_eq!(data(&events[1]), Some(&b"{\"a\":1}"[..]));
            assert_eq!(data(&events[2]), Some(&b"[DONE]"[..]));
            let whole: Vec<u8> = events.concat();
            assert_eq!([&whole[..], &splitter.rest()].concat(), stream);
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut splitter = Splitter::default();
        let part = vec![b'a'; 1 << 20];
        assert!((0..8).any(|_| splitter.push(&part).is_err()));
    }
}
