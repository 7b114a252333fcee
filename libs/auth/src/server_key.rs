//! The server key: one secret of a deployment, from which every other is derived.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// 256 random bits (`REEF_SECRET_KEY`).
#[derive(Clone)]
pub struct ServerKey([u8; 32]);

/// The text is no server key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server key must be 32 bytes, as 64 hex digits or 44 characters of base64 (make one: openssl rand -hex 32)"
)]
pub struct ParseServerKeyError;

impl ServerKey {
    /// Makes a key from the machine's random source.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads a key: 64 hex digits, or 44 characters of base64; blanks around it are ignored.
    ///
    /// # Errors
    /// [`ParseServerKeyError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ParseServerKeyError> {
        let text = text.trim();
        let bytes = match text.len() {
            64 => hex::decode(text).ok(),
            44 => STANDARD.decode(text).ok(),
            _ => None,
        };
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(ParseServerKeyError)
    }

    /// Returns the key as 64 hex digits, to be kept in a file of mode 0600.
    pub fn expose(&self) -> String {
        hex::encode(self.0)
    }

    /// Derives the key of one purpose.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        mac(&self.0, &[b"reef ", purpose.as_bytes()])
    }
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKey(…)")
    }
}

/// HMAC-SHA256 of the parts, one behind the other.
pub(crate) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hex_and_base64() {
        let key = ServerKey::generate();
        assert_eq!(ServerKey::parse(&format!("{}\n", key.expose())).unwrap().0, key.0);
        assert_eq!(ServerKey::parse(&STANDARD.encode(key.0)).unwrap().0, key.0);
        for bad in ["", "secret", &"g".repeat(64), &"é".repeat(32)] {
            assert!(ServerKey::parse(bad).is_err(), "{bad}");
        }
        assert_ne!(key.derive("a"), key.derive("b"));
    }
}
