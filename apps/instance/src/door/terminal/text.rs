//! Text from a stream of bytes that is cut anywhere.

/// Decodes a stream piece by piece: a character whose end has not come yet waits for it; bytes that are no UTF-8 become
/// U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    begun: Vec<u8>,
}

impl Decoder {
    /// Returns the text that `bytes` make complete; may be empty.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        self.begun = all.split_off(all.len() - begun(&all));
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Returns what is left at the end of the stream.
    pub(super) fn finish(self) -> String {
        String::from_utf8_lossy(&self.begun).into_owned()
    }
}

/// Returns the text of bytes that were cut at their end: a character that is not complete is left out.
pub(super) fn lossy_cut(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len() - begun(bytes)]).into_owned()
}

/// Returns how many bytes at the end are the beginning of a character.
fn begun(bytes: &[u8]) -> usize {
    let is_begun = |length: &usize| {
        let tail = &bytes[bytes.len() - length..];
        std::str::from_utf8(tail).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (1..=bytes.len().min(3)).find(is_begun).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8], cuts: &[usize]) -> String {
        let mut decoder = Decoder::default();
        let mut text = String::new();
        let mut rest = bytes;
        for cut in cuts {
            let (piece, behind) = rest.split_at(cut % (rest.len() + 1));
            text.push_str(&decoder.push(piece));
            rest = behind;
        }
        text.push_str(&decoder.push(rest));
        text + &decoder.finish()
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(text: String, cuts in prop::collection::vec(0_usize..8, 0..40)) {
            prop_assert_eq!(decode(text.as_bytes(), &cuts), text);
        }

        #[test]
        fn also_where_it_is_no_text(
            bytes in prop::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..40),
            cuts in prop::collection::vec(0_usize..8, 0..40),
        ) {
            prop_assert_eq!(decode(&bytes, &cuts), String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_cut_character_is_left_out() {
        assert_eq!(lossy_cut(&"a€".as_bytes()[..3]), "a");
        assert_eq!(lossy_cut("a€".as_bytes()), "a€");
        assert_eq!(lossy_cut(b"a\x80"), "a\u{fffd}");
    }
}
