//! Links to one file: what `POST …/files/url` signs, to be used without other credentials.
//!
//! A signature holds who made it and until when, sealed, so that whoever it is given to learns neither; the instance, the
//! method and the path are authenticated with it and are not in it. It ends with the credential that made it, which is
//! for the one to check who opens it: here is no database.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reef_model::{InstanceId, Timestamp};

use crate::{Claims, SecretBox};

/// Far longer than a signature is.
const MAX_CHARS: usize = 200;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLink<'l> {
    /// Whose file.
    pub instance: InstanceId,
    /// `GET` or `PUT`.
    pub method: &'l str,
    /// The file, byte for byte as it was signed.
    pub path: &'l str,
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileLinkError {
    /// Not of this deployment, or for another file or method.
    #[error("the signature is not valid for this")]
    Invalid,
    /// Too old.
    #[error("the signature has expired")]
    Expired,
}

impl FileLink<'_> {
    /// Returns a signature, 115 characters that are safe in a URL.
    pub fn sign(&self, claims: Claims, secrets: &SecretBox) -> String {
        URL_SAFE_NO_PAD.encode(secrets.seal(&claims.to_bytes(), &self.place()))
    }

    /// Returns who made a signature of this link.
    ///
    /// # Errors
    /// [`FileLinkError`], each variant with its cause.
    pub fn open(
        &self,
        signature: &str,
        secrets: &SecretBox,
        now: Timestamp,
    ) -> Result<Claims, FileLinkError> {
        let sealed = (signature.len() <= MAX_CHARS).then(|| URL_SAFE_NO_PAD.decode(signature).ok()).flatten();
        let opened = sealed.and_then(|sealed| secrets.open(&sealed, &self.place()).ok());
        let claims = opened.and_then(|bytes| Claims::read(&bytes)).ok_or(FileLinkError::Invalid)?;
        if claims.expires_at <= now { Err(FileLinkError::Expired) } else { Ok(claims) }
    }

    /// The path comes last, so that no two links read alike.
    fn place(&self) -> Vec<u8> {
        format!("file link {} {} {}", self.instance, self.method, self.path).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use reef_model::{ApiKeyId, UserId};

    use super::*;
    use crate::{Credential, ServerKey};

    #[test]
    fn for_one_file_and_one_method_until_its_end() {
        let key = ServerKey::generate();
        let (here, there) = (SecretBox::new(&key, &[]), SecretBox::new(&key, &[]));
        let now = Timestamp::from_unix_micros(1);
        let link = FileLink { instance: InstanceId::generate(), method: "GET", path: "/workspace/ä b" };
        let claims = Claims {
            user: UserId::generate(),
            credential: Credential::Key(ApiKeyId::generate()),
            expires_at: now + Duration::from_secs(9),
        };
        let signature = link.sign(claims, &here);
        assert_eq!(signature.len(), 115);
        assert_eq!(link.open(&signature, &there, now), Ok(claims));
        assert_eq!(link.open(&signature, &there, claims.expires_at), Err(FileLinkError::Expired));
        for other in [
            FileLink { path: "/workspace/ä", ..link },
            FileLink { path: "/workspace/ä b/", ..link },
            FileLink { method: "PUT", ..link },
            FileLink { instance: InstanceId::generate(), ..link },
        ] {
            assert_eq!(other.open(&signature, &there, now), Err(FileLinkError::Invalid));
        }
        let elsewhere = SecretBox::new(&ServerKey::generate(), &[]);
        assert_eq!(link.open(&signature, &elsewhere, now), Err(FileLinkError::Invalid));
    }

    proptest! {
        #[test]
        fn forgeries_are_refused(text: String, bytes: Vec<u8>) {
            let secrets = SecretBox::new(&ServerKey::generate(), &[]);
            let link = FileLink { instance: InstanceId::generate(), method: "GET", path: "/workspace/a" };
            let now = Timestamp::from_unix_micros(0);
            prop_assert_eq!(link.open(&text, &secrets, now), Err(FileLinkError::Invalid));
            prop_assert_eq!(link.open(&URL_SAFE_NO_PAD.encode(bytes), &secrets, now), Err(FileLinkError::Invalid));
        }
    }
}
