//! Random tokens, and what is stored of those that are only compared.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;

use crate::sha256;

/// Makes a token of 256 random bits, 43 characters that are safe in a URL: door and gateway tokens.
pub fn random_token() -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// Returns what the session with this cookie value (128 random bits) is stored and found by.
pub fn session_hash(cookie: i128) -> [u8; 32] {
    sha256(&[b"reef session\0", &cookie.to_be_bytes()])
}

/// Returns what a mailed token is stored and found by.
pub fn mailed_token_hash(token: &str) -> [u8; 32] {
    sha256(&[b"reef mailed token\0", token.as_bytes()])
}

/// Returns what stands for a browser in a network: enough to know it again, too little to say what it was.
pub fn place_hash(user_agent: &str, network: &str) -> [u8; 32] {
    sha256(&[b"reef place\0", user_agent.as_bytes(), b"\0", network.as_bytes()])
}
