//! What every adapter keeps on disk beside its instances: the run directory and the boot file.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    process::Command,
};

use reef_door::{Boot, RunDir};
use secrecy::ExposeSecret;

use crate::InstanceSpec;

/// Makes a directory of this mode unless it exists; what exists gets the mode too.
///
/// # Errors
/// The cause; `NotADirectory` where a link or a file is in the way.
pub fn ensure_dir(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The mode given to mkdir(2) passes through the umask.
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, path.display().to_string()));
    }
    if found.permissions().mode() & 0o7777 != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Makes the run directory with `in/` and `out/`, all of mode 0700.
///
/// # Errors
/// The cause; the parent must exist.
pub fn ensure_run_dir(path: &Path) -> io::Result<RunDir> {
    let run = RunDir::new(path);
    for dir in [run.path(), &run.inward(), &run.outward()] {
        ensure_dir(dir, 0o700)?;
    }
    Ok(run)
}

/// Writes a file of mode 0600 whole or not at all, replacing what a crash or a predecessor left.
///
/// # Errors
/// The cause.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Writes the boot file of a start that serves `spec`.
///
/// # Errors
/// The cause.
pub fn write_boot(run: &RunDir, spec: &InstanceSpec) -> io::Result<()> {
    let boot = Boot {
        instance_id: spec.id,
        generation: spec.generation,
        door_token: spec.door_token.expose_secret().to_owned(),
        gateway_token: spec.gateway_token.expose_secret().to_owned(),
        env: spec.env.clone(),
        pids: Some(spec.limits.pids),
    };
    write_private(&run.boot_file(), &serde_json::to_vec(&boot)?)
}

/// Removes a directory and all below it, following no link; `Ok(false)`: there was nothing.
///
/// # Errors
/// The cause; what could be removed is gone.
pub fn remove_tree(path: &Path) -> io::Result<bool> {
    let outcome = match fs::remove_dir_all(path) {
        // A tenant with our own uid can leave directories that even their owner may not enter.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Command::new("chmod").args(["-R", "u+rwX", "--"]).arg(path).output()?;
            fs::remove_dir_all(path)
        }
        outcome => outcome,
    };
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn removal_follows_no_link_and_opens_closed_directories() {
        let root = tempfile::tempdir().unwrap();
        let (ours, theirs) = (root.path().join("ours"), root.path().join("theirs"));
        fs::create_dir_all(ours.join("kept")).unwrap();
        fs::create_dir_all(theirs.join("closed/below")).unwrap();
        symlink(&ours, theirs.join("link")).unwrap();
        fs::set_permissions(theirs.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        assert!(remove_tree(&theirs).unwrap());
        assert!(!remove_tree(&theirs).unwrap());
        assert!(ours.join("kept").exists());
    }

    #[test]
    fn a_link_is_no_run_directory() {
        let root = tempfile::tempdir().unwrap();
        symlink("/tmp", root.path().join("run")).unwrap();
        assert!(ensure_run_dir(&root.path().join("run")).is_err());
    }

    #[test]
    fn private_files_are_private() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
