//! Passwords: Argon2id (RFC 9106) with 19 MiB, two passes, one lane; off the async threads and bounded.

use std::sync::{Arc, LazyLock};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version, password_hash::phc::PasswordHash,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

/// The least characters of a new password.
pub const MIN_CHARS: usize = 10;
/// The most characters of a password.
pub const MAX_CHARS: usize = 1024;
/// How many wait per one that is worked on; at some 30 ms each, the last waits about a second.
const WAITING_PER_CORE: usize = 32;

/// Hashes and verifies passwords, at most one per core at a time. Clones share the bound.
#[derive(Debug, Clone)]
pub struct Passwords {
    working: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

/// Why a password was not hashed or not verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// A new password has fewer than [`MIN_CHARS`] or more than [`MAX_CHARS`] characters.
    #[error("a password has between {MIN_CHARS} and {MAX_CHARS} characters")]
    Length,
    /// Too many wait already; try again.
    #[error("too many sign-ins at once")]
    Busy,
}

/// Makes a password of 100 random bits that can be typed: four groups of five characters.
pub fn generate() -> SecretString {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let random: [u8; 20] = rand::random();
    let characters = random.map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    let groups: Vec<String> = characters.chunks(5).map(|group| group.iter().collect()).collect();
    groups.join("-").into()
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

impl Passwords {
    /// Returns a hasher that works on at most `concurrency` passwords at a time.
    pub fn new(concurrency: usize) -> Self {
        Self {
            working: Arc::new(Semaphore::new(concurrency)),
            admitted: Arc::new(Semaphore::new(concurrency * (1 + WAITING_PER_CORE))),
        }
    }

    /// Hashes a new password, into a PHC string.
    ///
    /// # Errors
    /// [`PasswordError`], each variant with its cause.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        if !(MIN_CHARS..=MAX_CHARS).contains(&password.expose_secret().chars().count()) {
            return Err(PasswordError::Length);
        }
        self.run(move || hash(password.expose_secret().as_bytes())).await
    }

    /// Tells whether the password belongs to the hash. Without a hash (no such account) it says no, in the same time.
    ///
    /// # Errors
    /// [`PasswordError::Busy`].
    pub async fn verify(&self, password: SecretString, hash: Option<String>) -> Result<bool, PasswordError> {
        self.run(move || {
            let is_known = hash.is_some();
            let parsed = PasswordHash::new(hash.as_deref().unwrap_or(&DUMMY));
            // A stored hash that cannot be read is a damaged row; nobody can sign in with it.
            let is_match = parsed.is_ok_and(|parsed| {
                let password = password.expose_secret();
                let is_short = password.chars().count() <= MAX_CHARS;
                let bounded = if is_short { password.as_bytes() } else { &[] };
                argon2().verify_password(bounded, &parsed).is_ok() && is_short
            });
            is_known && is_match
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let working = self.working.clone().acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        // The permits go with the work: a caller who hangs up does not make room for more than there are cores.
        let task = tokio::task::spawn_blocking(move || {
            let _permits = (admitted, working);
            work()
        });
        task.await.map_err(|_| PasswordError::Busy)
    }
}

/// What a password of an unknown address is verified against.
static DUMMY: LazyLock<String> = LazyLock::new(|| hash(&rand::random::<[u8; 32]>()));

fn argon2() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).expect("constants within the algorithm's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(password: &[u8]) -> String {
    argon2()
        .hash_password(password)
        .expect("a password below 4 GiB and a salt of 16 bytes can be hashed")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn right_and_wrong() {
        let passwords = Passwords::new(2);
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct horse".into(), None).await.unwrap());
        assert!(!passwords.verify("correct horse".into(), Some("damaged".into())).await.unwrap());
        assert!(!passwords.verify("x".repeat(1025).into(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn the_length_is_bounded_in_characters() {
        let passwords = Passwords::new(1);
        assert_eq!(passwords.hash("ü".repeat(9).into()).await, Err(PasswordError::Length));
        assert_eq!(passwords.hash("ü".repeat(1025).into()).await, Err(PasswordError::Length));
        assert!(passwords.hash("ü".repeat(10).into()).await.is_ok());
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let passwords = Passwords::new(1);
        let all = passwords.admitted.clone().acquire_many_owned(1 + WAITING_PER_CORE as u32).await.unwrap();
        assert_eq!(passwords.verify("x".into(), None).await, Err(PasswordError::Busy));
        drop(all);
        assert_eq!(passwords.verify("x".into(), None).await, Ok(false));
        assert_eq!(passwords.working.available_permits(), 1);
    }
}
