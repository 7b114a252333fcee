//! The server key: from the configuration, or made once in the data directory.

use std::{
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use reef_auth::ServerKey;
use secrecy::{ExposeSecret, SecretString};

const FILE: &str = "secret.key";

/// Returns the configured key, or that of the data directory, which is made where it is missing.
pub(crate) fn obtain(configured: Option<&SecretString>, data_dir: &Path) -> anyhow::Result<ServerKey> {
    if let Some(text) = configured {
        return ServerKey::parse(text.expose_secret()).context("REEF_SECRET_KEY");
    }
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => return ServerKey::parse(&text).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    std::fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    let key = ServerKey::generate();
    let fresh = data_dir.join(format!("{FILE}.{}", std::process::id()));
    let made = || {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(key.expose().as_bytes())?;
        file.sync_all()?;
        // A link fails where another start was first: its key is the one then.
        let linked = std::fs::hard_link(&fresh, &path);
        std::fs::remove_file(&fresh)?;
        linked
    };
    match made() {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => obtain(None, data_dir),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_made_once_for_this_user_only() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let key = obtain(None, &data).unwrap();
        assert_eq!(obtain(None, &data).unwrap().expose(), key.expose());
        let mode = std::fs::metadata(data.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "oops").unwrap();
        assert!(obtain(None, dir.path()).is_err());
    }
}
