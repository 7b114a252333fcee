//! API key secrets: `sk_live_`, 256 random bits in 43 characters of base62, a checksum in 6.
//!
//! The checksum (CRC-32 of the 43 characters) lets a typing mistake be refused without a query and lets secret
//! scanners tell a key from a random word. The secret has full entropy, so a plain SHA-256 finds it again.

use std::fmt;

use subtle::ConstantTimeEq;

use crate::sha256;

const PREFIX: &str = "sk_live_";
const BODY_LEN: usize = 43;
const CHECKSUM_LEN: usize = 6;
const LEN: usize = PREFIX.len() + BODY_LEN + CHECKSUM_LEN;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The secret of an API key; shown once, to whoever made it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeySecret(String);

impl ApiKeySecret {
    /// Makes a secret from the machine's random source.
    pub fn generate() -> Self {
        Self::from_bytes(rand::random())
    }

    fn from_bytes(random: [u8; 32]) -> Self {
        let mut text = String::with_capacity(LEN);
        text.push_str(PREFIX);
        push_base62::<BODY_LEN>(&mut text, random);
        let checksum = crc32fast::hash(&text.as_bytes()[PREFIX.len()..]);
        push_base62::<CHECKSUM_LEN>(&mut text, checksum.to_be_bytes());
        Self(text)
    }

    /// Returns the whole secret.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns what it is stored and found by.
    pub fn hash(&self) -> [u8; 32] {
        sha256(&[self.0.as_bytes()])
    }

    /// Returns its beginning, to be shown in lists: `sk_live_` and four characters.
    pub fn prefix(&self) -> &str {
        &self.0[..PREFIX.len() + 4]
    }

    /// Returns its last four characters.
    pub fn last4(&self) -> &str {
        &self.0[LEN - 4..]
    }
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeySecret({}…)", self.prefix())
    }
}

/// Returns the hash of a presented secret; `None` where it cannot be one. Allocates nothing.
pub fn hash_presented(text: &str) -> Option<[u8; 32]> {
    let body = text.strip_prefix(PREFIX)?.as_bytes();
    if body.len() != BODY_LEN + CHECKSUM_LEN {
        return None;
    }
    let (random, checksum) = body.split_at(BODY_LEN);
    let mut value = 0u64;
    for byte in checksum {
        value = value * 62 + ALPHABET.iter().position(|c| c == byte)? as u64;
    }
    let is_base62 = random.iter().all(u8::is_ascii_alphanumeric);
    (is_base62 && value == u64::from(crc32fast::hash(random))).then(|| sha256(&[text.as_bytes()]))
}

/// Compares two hashes in constant time.
pub fn hashes_match(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Tells whether a text is meant as an API key, well-formed or not.
pub fn looks_like_one(text: &str) -> bool {
    text.starts_with("sk_")
}

/// Appends a big-endian number in exactly `N` digits of base62, which must suffice for it.
fn push_base62<const N: usize>(text: &mut String, mut number: impl AsMut<[u8]>) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in number.as_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    text.extend(digits.map(char::from));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_form_is_fixed() {
        let zero = ApiKeySecret::from_bytes([0; 32]);
        assert_eq!(&zero.expose()[..51], format!("sk_live_{}", "0".repeat(43)));
        let max = ApiKeySecret::from_bytes([255; 32]);
        assert_eq!((max.expose().len(), max.prefix().len(), max.last4().len()), (57, 12, 4));
        assert!(max.expose().starts_with("sk_live_y"), "2^256 - 1 fills the first digit: {}", max.expose());
        assert!(!format!("{max:?}").contains(max.last4()));
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(random: [u8; 32]) {
            let secret = ApiKeySecret::from_bytes(random);
            prop_assert_eq!(hash_presented(secret.expose()), Some(secret.hash()));
        }

        #[test]
        fn one_wrong_character_is_refused(random: [u8; 32], at in 0..LEN, with in "[0-9A-Za-z]") {
            let secret = ApiKeySecret::from_bytes(random);
            let mut text = secret.expose().to_owned();
            text.replace_range(at..=at, &with);
            prop_assert_eq!(hash_presented(&text).is_some(), text == secret.expose());
        }

        #[test]
        fn parsing_never_panics(text: String, tail in "sk_live_\\PC{40,60}") {
            prop_assert_eq!(hash_presented(&text), None);
            prop_assert_eq!(hash_presented(&tail), None);
        }
    }
}
