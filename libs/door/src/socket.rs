//! Unix sockets in directories that another party may write.
//!
//! A plain `connect(path)` follows symbolic links, so whoever owns the directory could point us at any socket of the
//! machine, the container engine's included; and a path longer than 107 bytes does not fit `sun_path` (unix(7)). Both
//! are solved by opening first and connecting to what was opened, through `/proc/self/fd`.

use std::{
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, SFlag, fstat},
};
use tokio::net::{UnixListener, UnixStream};

/// Connects to the socket at `path` itself, never to what a link there points to.
///
/// # Errors
/// `NotFound` where nothing is there, `InvalidInput` where it is not a socket, otherwise the cause of the connect.
pub async fn connect_nofollow(path: &Path) -> io::Result<UnixStream> {
    let fd = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let kind = SFlag::from_bits_truncate(fstat(&fd)?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a socket"));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", fd.as_raw_fd())).await
}

/// Listens at `path` with file mode 0600, replacing a socket that a crashed predecessor left.
///
/// # Errors
/// The cause where the directory is missing or not writable, or the path has no file name.
pub fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket needs a directory and a name"));
    };
    let dir_fd = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let short: PathBuf =
        [Path::new("/proc/self/fd"), Path::new(&dir_fd.as_raw_fd().to_string()), Path::new(name)]
            .iter()
            .collect();
    // Bind beside and rename: a client that connects at any moment finds the old socket or the new one.
    let beside = short.with_extension("sock-new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, &short)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep_dir(root: &Path) -> PathBuf {
        let dir = root.join("d".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[tokio::test]
    async fn connects_beyond_the_length_of_sun_path_and_rebinds() {
        let root = tempfile::tempdir().unwrap();
        let path = deep_dir(root.path()).join("door.sock");
        drop(bind_private(&path).unwrap());
        let listener = bind_private(&path).unwrap();
        let (client, _) = tokio::join!(connect_nofollow(&path), listener.accept());
        client.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn refuses_a_link_to_a_socket() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real.sock");
        let _listener = bind_private(&real).unwrap();
        let link = root.path().join("link.sock");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(connect_nofollow(&link).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn refuses_what_is_not_a_socket() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(connect_nofollow(&file).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            connect_nofollow(&root.path().join("none")).await.unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
