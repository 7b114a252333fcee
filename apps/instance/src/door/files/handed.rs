//! Files that hands opened for us, which may be anything.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{FileType, Stat, fstat, fstatfs, statfs},
    io::Errno,
};

use super::failure::nonsense;
use crate::door::problem::Problem;

/// File systems that answer by themselves (statfs(2)): ext4, xfs, btrfs, f2fs, tmpfs, overlay. One that a tenant's
/// program serves, or another machine, could keep us waiting for ever.
const LOCAL: &[u32] = &[0x0000_ef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0x794c_7630];

/// Kinds of file systems that we read from and write to.
pub(super) struct Volumes(HashSet<u32>);

impl Volumes {
    /// Takes the local ones, and those that `roots` are on, whatever they are: the operator chose them.
    pub(super) fn new(roots: [&Path; 2]) -> Self {
        let of_roots = roots.into_iter().filter_map(|root| statfs(root).ok()).map(|at| at.f_type as u32);
        Self(LOCAL.iter().copied().chain(of_roots).collect())
    }

    /// Returns what the kernel says of a regular file on one of them.
    pub(super) fn check(&self, file: &OwnedFd) -> Result<Stat, Problem> {
        let look = || -> Result<Option<Stat>, Errno> {
            let stat = fstat(file)?;
            let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let is_ours = self.0.contains(&(fstatfs(file.as_fd())?.f_type as u32));
            Ok((is_regular && is_ours).then_some(stat))
        };
        look().ok().flatten().ok_or_else(nonsense)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_regular_files_of_known_file_systems_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let volumes = Volumes::new([file.path(), Path::new("/nonexistent")]);
        let open = |path: &Path| OwnedFd::from(std::fs::File::open(path).unwrap());
        assert!(volumes.check(&open(file.path())).is_ok());
        for bad in ["/proc/self/status", "/dev/null", "/tmp", "/sys/kernel/notes"] {
            if Path::new(bad).exists() {
                assert!(volumes.check(&open(Path::new(bad))).is_err(), "{bad}");
            }
        }
        let (read, _write) = std::io::pipe().unwrap();
        assert!(volumes.check(&read.into()).is_err());
    }
}
