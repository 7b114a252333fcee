//! Credentials and decisions: passwords, API keys, invite codes, tokens, tickets, encryption at rest, and [`can`].
//!
//! Nothing here knows a database or HTTP, and nothing reads the clock: instants come in as arguments. Secrets are
//! [`SecretString`]s or types whose `Debug` hides them. To add a kind of credential, give it a file with its text
//! form, a parser that never panics (a property test holds that), and a hash to be found by.

pub mod access;
pub mod api_key;
pub mod email;
pub mod file_link;
pub mod invite_code;
pub mod password;
pub mod seal;
pub mod server_key;
pub mod ticket;
pub mod token;

pub use access::{Caller, Credential, Denied, IpAllow, can};
pub use api_key::ApiKeySecret;
pub use email::Email;
pub use file_link::{FileLink, FileLinkError};
pub use invite_code::{InviteCode, ParseInviteCodeError};
pub use password::{PasswordError, Passwords};
pub use seal::{SealError, SecretBox};
pub use secrecy::{ExposeSecret, SecretString};
pub use server_key::ServerKey;
pub use ticket::{Claims, TicketError, Tickets};
pub use token::random_token;

/// Returns the SHA-256 of the parts, one behind the other.
fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::Digest;
    let mut hasher = sha2::Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}
