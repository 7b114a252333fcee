//! Encryption at rest with the server key: XChaCha20-Poly1305 (RFC 8439, extended nonce).
//!
//! Sealed form: version (1 byte, 1), key id (4), nonce (24), ciphertext and tag. What a secret belongs to (an instance
//! id, a purpose) is authenticated with it, so a row's secret cannot be moved to another row.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};

use crate::{ServerKey, sha256};

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const NONCE_LEN: usize = 24;

/// Seals with the newest of its keys, opens with any.
#[derive(Clone)]
pub struct SecretBox {
    newest: Key,
    older: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: [u8; KEY_ID_LEN],
    cipher: XChaCha20Poly1305,
}

/// Why a sealed secret cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealed with a key that is not among ours: `REEF_SECRET_KEY` was changed.
    #[error("sealed with another server key")]
    UnknownKey,
    /// Damaged, forged, or moved from somewhere else.
    #[error("damaged, or not sealed for this place")]
    Invalid,
}

impl SecretBox {
    /// Returns a box that seals with `newest` and also opens what `older` keys sealed.
    pub fn new(newest: &ServerKey, older: &[ServerKey]) -> Self {
        Self { newest: Key::new(newest), older: older.iter().map(Key::new).collect() }
    }

    /// Seals a secret for a place.
    pub fn seal(&self, secret: &[u8], place: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let payload = Payload { msg: secret, aad: place };
        let sealed =
            self.newest.cipher.encrypt(&nonce.into(), payload).expect("a token is shorter than 256 GiB");
        [&[VERSION][..], &self.newest.id, &nonce, &sealed].concat()
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// [`SealError`], each variant with its cause.
    pub fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, SealError> {
        let (head, rest) = sealed.split_at_checked(1 + KEY_ID_LEN).ok_or(SealError::Invalid)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Invalid)?;
        if head[0] != VERSION {
            return Err(SealError::Invalid);
        }
        let mut keys = std::iter::once(&self.newest).chain(&self.older);
        let key = keys.find(|key| key.id == head[1..]).ok_or(SealError::UnknownKey)?;
        let payload = Payload { msg: ciphertext, aad: place };
        key.cipher.decrypt(&(*nonce).into(), payload).map_err(|_| SealError::Invalid)
    }
}

impl Key {
    fn new(server_key: &ServerKey) -> Self {
        let key = server_key.derive("secrets at rest");
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&sha256(&[b"reef key id\0", &key])[..KEY_ID_LEN]);
        Self { id, cipher: XChaCha20Poly1305::new(&key.into()) }
    }
}

impl std::fmt::Debug for SecretBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBox(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn opens_only_where_it_was_sealed_for() {
        let (old, new) = (ServerKey::generate(), ServerKey::generate());
        let before = SecretBox::new(&old, &[]);
        let sealed = before.seal(b"token", b"inst_1");
        assert!(!sealed.windows(5).any(|bytes| bytes == b"token"));
        assert_ne!(sealed, before.seal(b"token", b"inst_1"));
        let rotated = SecretBox::new(&new, &[old]);
        assert_eq!(rotated.open(&sealed, b"inst_1").unwrap(), b"token");
        assert_eq!(rotated.open(&sealed, b"inst_2").unwrap_err(), SealError::Invalid);
        assert_eq!(SecretBox::new(&new, &[]).open(&sealed, b"inst_1").unwrap_err(), SealError::UnknownKey);
    }

    proptest! {
        #[test]
        fn damage_is_seen(at in 0usize..50, bit in 0u8..8) {
            let secrets = SecretBox::new(&ServerKey::generate(), &[]);
            let mut sealed = secrets.seal(b"token", b"p");
            sealed[at] ^= 1 << bit;
            prop_assert!(secrets.open(&sealed, b"p").is_err());
        }

        #[test]
        fn opening_never_panics(bytes: Vec<u8>) {
            let _ = SecretBox::new(&ServerKey::generate(), &[]).open(&bytes, b"p");
        }
    }
}
