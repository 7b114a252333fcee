//! The last bytes of an endless stream, by their place in it.

use std::collections::VecDeque;

use bytes::Bytes;

/// Keeps the end of a stream. Memory grows with what is kept, up to the limit.
#[derive(Debug)]
pub(super) struct Ring {
    kept: VecDeque<u8>,
    limit: usize,
    end: u64,
}

impl Ring {
    /// Makes an empty one that keeps `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: VecDeque::new(), limit, end: 0 }
    }

    /// Bytes that the stream has had: the place behind the last one.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The place of the first byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.end - self.kept.len() as u64
    }

    /// The first place that does not lie within a UTF-8 sequence whose beginning is lost.
    pub(super) fn clean_start(&self) -> u64 {
        let start = self.start();
        if start == 0 {
            return 0;
        }
        let continuation = |byte: &&u8| (**byte & 0xc0) == 0x80;
        start + self.kept.iter().take(3).take_while(continuation).count() as u64
    }

    /// Appends to the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(self.limit)..];
        let surplus = (self.kept.len() + bytes.len()).saturating_sub(self.limit);
        self.kept.drain(..surplus);
        self.kept.extend(bytes);
    }

    /// Returns at most `most` bytes from `place` on; `None` where they are not kept any more.
    pub(super) fn read(&self, place: u64, most: usize) -> Option<Bytes> {
        let from = usize::try_from(place.checked_sub(self.start())?).ok()?;
        let (first, second) = self.kept.as_slices();
        // One piece at a time, so that there is one copy.
        let piece = match from.checked_sub(first.len()) {
            None => &first[from..],
            Some(from) => second.get(from..).unwrap_or_default(),
        };
        Some(Bytes::copy_from_slice(&piece[..piece.len().min(most)]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_start_within_a_character_is_moved_behind_it() {
        let mut ring = Ring::new(4);
        ring.push("aé€".as_bytes());
        // Kept: the second byte of é, and €.
        assert_eq!((ring.start(), ring.clean_start()), (2, 3));
        assert_eq!(ring.read(3, 9).unwrap(), "€".as_bytes());
        // What was never UTF-8 is not eaten up.
        ring.push(&[0x80; 4]);
        assert_eq!(ring.clean_start(), ring.start() + 3);
    }

    proptest! {
        #[test]
        fn is_the_end_of_the_stream(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            limit in 1_usize..64,
            most in 1_usize..50,
        ) {
            let mut ring = Ring::new(limit);
            let mut whole: Vec<u8> = Vec::new();
            for piece in &pieces {
                ring.push(piece);
                whole.extend(piece);
                let start = whole.len().saturating_sub(limit);
                prop_assert_eq!((ring.start(), ring.end()), (start as u64, whole.len() as u64));
                let mut place = ring.start();
                let mut read: Vec<u8> = Vec::new();
                while place < ring.end() {
                    let piece = ring.read(place, most).unwrap();
                    prop_assert!(!piece.is_empty() && piece.len() <= most);
                    place += piece.len() as u64;
                    read.extend(piece);
                }
                prop_assert_eq!(&read[..], &whole[start..]);
                prop_assert!(start == 0 || ring.read(start as u64 - 1, 1).is_none());
                prop_assert_eq!(ring.read(ring.end(), most).unwrap().len(), 0);
            }
        }
    }
}
