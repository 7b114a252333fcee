//! What of a client's half of an RFB connection (RFC 6143) a viewer may send who must only look.
//!
//! The filter follows the client's messages byte by byte and passes those that ask for pictures. Input of any kind is
//! swallowed; a message that it does not know ends the connection, since nobody can tell how long that is.

/// The client sent something whose length is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Its first line: RFB 3.7 and 3.8 are.
    #[error("this version of RFB cannot be watched: speak 3.8")]
    Version,
    /// It wants to prove who it is, or to encrypt.
    #[error("security type {0} cannot be watched: choose 1")]
    Security(u8),
    /// No message starts like that.
    #[error("message type {0} is not known to view-only")]
    Message(u8),
}

/// The filter of one connection. A failed one must not be fed again.
#[derive(Debug)]
pub(crate) struct ViewOnly {
    stage: Stage,
    /// The part of a head that has come, at most [`HEAD`] bytes.
    head: Vec<u8>,
}

/// Bytes of the longest head that says how long its message is.
const HEAD: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Version,
    Security,
    ClientInit,
    /// Between two messages, or in the head of one.
    Message,
    /// In the rest of one.
    Rest {
        left: u64,
        passes: bool,
    },
    /// In a list of so many encodings.
    Encodings(u16),
}

/// Pointer events grow by a byte once the server confirms this pseudo-encoding (ExtendedMouseButtons of the community
/// wiki); it is never asked for, so that they do not.
const EXTENDED_MOUSE_BUTTONS: i32 = -316;
/// Nobody's encoding, to stand where another one must not.
const NO_ENCODING: i32 = i32::MAX;

impl ViewOnly {
    /// Returns the filter for a connection that begins.
    pub(crate) fn new() -> Self {
        Self { stage: Stage::Version, head: Vec::with_capacity(HEAD) }
    }

    /// Takes the next bytes of the client, however they are cut, and appends to `out` those that the server may see.
    pub(crate) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        while !input.is_empty() {
            if let Stage::Rest { left, passes } = self.stage {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let (now, later) = input.split_at(take);
                if passes {
                    out.extend_from_slice(now);
                }
                input = later;
                self.stage = rest(left - take as u64, passes);
                continue;
            }
            self.head.push(input[0]);
            input = &input[1..];
            if let Some(next) = self.next(out)? {
                self.stage = next;
                self.head.clear();
            }
        }
        Ok(())
    }

    /// Decides about the head, if it is whole: appends what passes of it and returns what comes after.
    fn next(&self, out: &mut Vec<u8>) -> Result<Option<Stage>, Refused> {
        let head = self.head.as_slice();
        let stage = match (self.stage, head.len()) {
            (Stage::Version, 12) => {
                // In older ones the server chooses how a client proves who it is, and the client's half alone does
                // not say what its bytes mean.
                if !matches!(head, b"RFB 003.007\n" | b"RFB 003.008\n") {
                    return Err(Refused::Version);
                }
                out.extend_from_slice(head);
                Stage::Security
            }
            (Stage::Security, _) if head[0] != 1 => return Err(Refused::Security(head[0])),
            (Stage::Security, _) => {
                out.push(1);
                Stage::ClientInit
            }
            (Stage::ClientInit, _) => {
                // Shared: a viewer does not throw the others out.
                out.push(1);
                Stage::Message
            }
            (Stage::Message, _) => return message(head, out),
            (Stage::Encodings(count), 4) => {
                let encoding = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
                let asked = if encoding == EXTENDED_MOUSE_BUTTONS { NO_ENCODING } else { encoding };
                out.extend_from_slice(&asked.to_be_bytes());
                encodings(count - 1)
            }
            (Stage::Version | Stage::Encodings(_) | Stage::Rest { .. }, _) => return Ok(None),
        };
        Ok(Some(stage))
    }
}

/// Decides about a message of which `head` has come.
fn message(head: &[u8], out: &mut Vec<u8>) -> Result<Option<Stage>, Refused> {
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let length = |at: usize| i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    // How many bytes of a message say how long it is.
    let wanted = match head[0] {
        2 => 4,   // SetEncodings
        6 => 8,   // ClientCutText
        248 => 9, // ClientFence
        251 => 8, // SetDesktopSize
        253 => 4, // gii
        255 => match head.get(1) {
            None => 2,
            Some(1) => 4, // audio
            Some(_) => 2,
        },
        _ => 1,
    };
    if head.len() < wanted {
        return Ok(None);
    }
    let (left, passes) = match head[0] {
        0 => (19, true), // SetPixelFormat
        2 => {
            out.extend_from_slice(head);
            return Ok(Some(encodings(word(2))));
        }
        3 => (9, true),                                    // FramebufferUpdateRequest
        4 => (7, false),                                   // KeyEvent
        5 => (5, false),                                   // PointerEvent
        6 => (u64::from(length(4).unsigned_abs()), false), // negative: the extended clipboard
        150 => (9, true),                                  // EnableContinuousUpdates
        248 => (u64::from(head[8]), true),
        250 => (3, false), // xvp
        251 => (16 * u64::from(head[6]), false),
        // Its upper bit says in which order its numbers are.
        253 if head[1] & 0x80 == 0 => (u64::from(word(2).swap_bytes()), false),
        253 => (u64::from(word(2)), false),
        255 if head[1] == 0 => (10, false), // QEMU's key event
        255 if head[1] == 1 && word(2) == 2 => (6, false), // QEMU's audio: format
        255 if head[1] == 1 && word(2) < 2 => (0, false), // on, off
        other => return Err(Refused::Message(other)),
    };
    if passes {
        out.extend_from_slice(head);
    }
    Ok(Some(rest(left, passes)))
}

fn rest(left: u64, passes: bool) -> Stage {
    if left == 0 { Stage::Message } else { Stage::Rest { left, passes } }
}

fn encodings(left: u16) -> Stage {
    if left == 0 { Stage::Message } else { Stage::Encodings(left) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HANDSHAKE: &[u8] = b"RFB 003.008\n\x01\x00";
    const SEEN: &[u8] = b"RFB 003.008\n\x01\x01";

    fn filtered(chunks: &[&[u8]]) -> (Vec<u8>, Result<(), Refused>) {
        let (mut filter, mut out) = (ViewOnly::new(), Vec::new());
        let result = chunks.iter().try_for_each(|chunk| filter.feed(chunk, &mut out));
        (out, result)
    }

    /// Returns what of `messages` passes after a handshake.
    fn passed(messages: &[u8]) -> Vec<u8> {
        let (out, result) = filtered(&[HANDSHAKE, messages]);
        result.unwrap();
        assert!(out.starts_with(SEEN));
        out[SEEN.len()..].to_vec()
    }

    #[test]
    fn handshakes_pass_and_the_desktop_is_shared() {
        assert_eq!(filtered(&[HANDSHAKE]), (SEEN.to_vec(), Ok(())));
        for version in [b"RFB 003.003\n", b"RFB 003.889\n"] {
            assert_eq!(filtered(&[version]), (Vec::new(), Err(Refused::Version)));
        }
        assert_eq!(filtered(&[b"RFB 003.008\n\x02"]).1, Err(Refused::Security(2)));
    }

    #[test]
    fn pictures_are_asked_for_and_input_is_swallowed() {
        let update = [3, 1, 0, 0, 0, 0, 5, 0, 3, 32];
        let fence = [&[248, 0, 0, 0, 0, 0, 0, 1, 3][..], &[4, 4, 4]].concat();
        let pass: Vec<Vec<u8>> = vec![
            [&[0; 4][..], &[7; 16]].concat(),
            vec![2, 0, 0, 2, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21],
            vec![2, 0, 0, 0],
            update.to_vec(),
            vec![150, 1, 0, 0, 0, 0, 5, 0, 3, 32],
            fence,
        ];
        let swallow: Vec<Vec<u8>> = vec![
            vec![4, 1, 0, 0, 0, 0, 0, 0x61],
            vec![5, 1, 0, 3, 0, 4],
            vec![6, 0, 0, 0, 0, 0, 0, 2, 3, 3],
            vec![6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 4, 4, 4, 4],
            vec![250, 0, 1, 2],
            [&[251, 0, 5, 0, 3, 32, 1, 0][..], &[4; 16]].concat(),
            vec![253, 0x81, 0, 2, 4, 4],
            vec![253, 0x01, 2, 0, 4, 4],
            vec![255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 30],
            vec![255, 1, 0, 0],
            vec![255, 1, 0, 2, 0, 2, 0, 0, 1, 1],
        ];
        for message in &pass {
            assert_eq!(&passed(message), message);
        }
        for message in &swallow {
            // What comes after shows that it was neither too much nor too little.
            assert_eq!(passed(&[message, &update[..]].concat()), update, "{message:?}");
        }
        let all = [pass.concat(), swallow.concat(), pass.concat()].concat();
        assert_eq!(passed(&all), pass.concat().repeat(2));
    }

    #[test]
    fn longer_pointer_events_are_never_agreed_on() {
        let asked = [&[2, 0, 0, 2][..], &EXTENDED_MOUSE_BUTTONS.to_be_bytes(), &7i32.to_be_bytes()].concat();
        let seen = [&[2, 0, 0, 2][..], &NO_ENCODING.to_be_bytes(), &7i32.to_be_bytes()].concat();
        assert_eq!(passed(&asked), seen);
    }

    #[test]
    fn what_is_not_known_ends_it() {
        for first in [1, 7, 8, 9, 11, 149, 151, 249, 252, 254] {
            assert_eq!(filtered(&[HANDSHAKE, &[first]]).1, Err(Refused::Message(first)));
        }
        assert_eq!(filtered(&[HANDSHAKE, &[255, 9]]).1, Err(Refused::Message(255)));
        assert_eq!(filtered(&[HANDSHAKE, &[255, 1, 0, 3]]).1, Err(Refused::Message(255)));
    }

    /// Reads what came out as the server would: true where every message only asks for pictures.
    fn only_looks(mut seen: &[u8]) -> bool {
        let mut take = |count: usize| {
            let (now, later) = seen.split_at(count.min(seen.len()));
            seen = later;
            (now.len() == count).then_some(now)
        };
        let Some(_version) = take(12) else { return true };
        for _security_and_init in 0..2 {
            match take(1) {
                None => return true,
                Some(byte) if byte == [1] => {}
                Some(_) => return false,
            }
        }
        while let Some(kind) = take(1) {
            let rest = match kind[0] {
                0 => 19,
                3 | 150 => 9,
                2 => match take(3) {
                    Some(head) => 4 * usize::from(u16::from_be_bytes([head[1], head[2]])),
                    None => return true,
                },
                248 => match take(8) {
                    Some(head) => usize::from(head[7]),
                    None => return true,
                },
                _ => return false,
            };
            if take(rest).is_none() {
                return true;
            }
        }
        true
    }

    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let known = prop::sample::select(vec![0u8, 2, 3, 4, 5, 6, 150, 248, 250, 251, 253, 255]);
        // Small numbers keep lists short, so that many messages fit.
        let body = prop::collection::vec(prop_oneof![4 => 0u8..4, 1 => any::<u8>()], 0..24);
        let messages = prop::collection::vec((prop_oneof![9 => known, 1 => any::<u8>()], body), 0..24);
        let version =
            prop::sample::select(vec![&b"RFB 003.008\n\x01"[..], b"RFB 003.007\n\x01", b"RFB", b"\x04"]);
        (version, messages).prop_map(|(version, messages)| {
            let mut stream = version.to_vec();
            stream.push(0);
            for (kind, body) in messages {
                stream.push(kind);
                stream.extend(body);
            }
            stream
        })
    }

    proptest! {
        #[test]
        fn no_input_gets_through_however_it_is_cut(
            stream in streams(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)
        ) {
            let whole = filtered(&[&stream]);
            prop_assert!(only_looks(&whole.0), "{:?}", whole.0);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
            at.sort_unstable();
            let (mut chunks, mut from) = (Vec::new(), 0);
            for to in at.into_iter().chain([stream.len()]) {
                chunks.push(&stream[from..to]);
                from = to;
            }
            prop_assert_eq!(filtered(&chunks), whole);
        }
    }
}
