//! Limits of memory and processes by the kernel's control groups, where we are root.
//!
//! One group per instance, with the door in it and all that it starts; the tenant's processes are taken first when
//! memory runs out. Both layouts are known: v2 (one tree, cgroups(7)) and v1 (a tree per controller). Everybody else
//! has no right to make groups; there hands bounds its processes by itself, and nothing bounds its memory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use reef_model::{InstanceId, Limits};

/// What the door itself may have of processes and threads, so that the tenant's cannot starve it.
const DOOR_PIDS: u32 = 128;

/// Where groups are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Groups {
    /// The directory of ours in the one tree.
    V2(PathBuf),
    /// Those in the trees of memory and of processes.
    V1 { memory: PathBuf, pids: PathBuf },
}

impl Groups {
    /// Finds where groups can be made, by making ours.
    ///
    /// # Errors
    /// Why they cannot: no right, or no controllers.
    pub(crate) fn find() -> io::Result<Self> {
        Self::below(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup")?)
    }

    fn below(mount: &Path, own: &str) -> io::Result<Self> {
        if mount.join("cgroup.controllers").exists() {
            // In the root of the tree: a group with processes of its own cannot bound groups below it.
            let ours = mount.join("reef");
            make(&ours)?;
            fs::write(ours.join("cgroup.subtree_control"), "+memory +pids")?;
            return Ok(Self::V2(ours));
        }
        let tree = |controller: &str| {
            let is_it = |line: &&str| {
                line.split(':').nth(1).is_some_and(|it| it.split(',').any(|it| it == controller))
            };
            let path = own.lines().find(is_it).and_then(|line| line.splitn(3, ':').nth(2));
            let path = path.ok_or_else(|| io::Error::other(format!("no {controller} controller")))?;
            let ours = mount.join(controller).join(path.trim_start_matches('/')).join("reef");
            make(&ours).map(|()| ours)
        };
        Ok(Self::V1 { memory: tree("memory")?, pids: tree("pids")? })
    }

    fn of(&self, id: InstanceId) -> Vec<PathBuf> {
        let trees = match self {
            Self::V2(tree) => vec![tree],
            Self::V1 { memory, pids } => vec![memory, pids],
        };
        trees.into_iter().map(|tree| tree.join(id.to_string())).collect()
    }

    /// Puts a process, which has started nothing yet, into the group of its instance.
    pub(crate) fn enter(&self, id: InstanceId, limits: &Limits, pid: i32) -> io::Result<()> {
        let dirs = self.of(id);
        for dir in &dirs {
            make(dir)?;
        }
        let memory = limits.memory_bytes.to_string();
        let pids = limits.pids.saturating_add(DOOR_PIDS).to_string();
        match self {
            Self::V2(_) => {
                fs::write(dirs[0].join("memory.max"), &memory)?;
                // Where there is no swap there is no such file.
                let _ = fs::write(dirs[0].join("memory.swap.max"), "0");
                fs::write(dirs[0].join("pids.max"), &pids)?;
            }
            Self::V1 { .. } => {
                // Memory and swap together may not be less than memory alone: where it is raised, that comes first.
                let both = dirs[0].join("memory.memsw.limit_in_bytes");
                let _ = fs::write(&both, &memory);
                fs::write(dirs[0].join("memory.limit_in_bytes"), &memory)?;
                let _ = fs::write(&both, &memory);
                fs::write(dirs[1].join("pids.max"), &pids)?;
            }
        }
        dirs.iter().try_for_each(|dir| fs::write(dir.join("cgroup.procs"), pid.to_string()))
    }

    /// Removes the group of an instance of which nothing runs; what cannot be removed now is reused or removed later.
    pub(crate) fn remove(&self, id: InstanceId) {
        for dir in self.of(id) {
            if let Err(error) = fs::remove_dir(&dir)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(%error, dir = %dir.display(), "a control group stays");
            }
        }
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { cpu_millis: 1000, memory_bytes: 1 << 30, pids: 100 }
    }

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap()
    }

    #[test]
    fn writes_what_the_one_tree_wants() {
        let mount = tempfile::tempdir().unwrap();
        fs::write(mount.path().join("cgroup.controllers"), "memory pids").unwrap();
        let groups = Groups::below(mount.path(), "0::/user.slice").unwrap();
        let id = InstanceId::generate();
        groups.enter(id, &limits(), 42).unwrap();
        assert_eq!(read(&mount.path().join("reef"), "cgroup.subtree_control"), "+memory +pids");
        let dir = mount.path().join("reef").join(id.to_string());
        for (name, value) in [
            ("memory.max", "1073741824"),
            ("memory.swap.max", "0"),
            ("pids.max", "228"),
            ("cgroup.procs", "42"),
        ] {
            assert_eq!(read(&dir, name), value);
        }
    }

    #[test]
    fn writes_what_a_tree_per_controller_wants_below_our_own_groups() {
        let mount = tempfile::tempdir().unwrap();
        for dir in ["memory/a/b", "pids"] {
            fs::create_dir_all(mount.path().join(dir)).unwrap();
        }
        let own = "9:name=systemd:/x\n8:cpu,pids:/\n4:memory:/a/b\n0::/";
        let groups = Groups::below(mount.path(), own).unwrap();
        let id = InstanceId::generate();
        groups.enter(id, &limits(), 42).unwrap();
        let memory = mount.path().join("memory/a/b/reef").join(id.to_string());
        assert_eq!(read(&memory, "memory.limit_in_bytes"), "1073741824");
        assert_eq!(read(&memory, "cgroup.procs"), "42");
        let pids = mount.path().join("pids/reef").join(id.to_string());
        assert_eq!((read(&pids, "pids.max").as_str(), read(&pids, "cgroup.procs").as_str()), ("228", "42"));
        assert!(Groups::below(mount.path(), "4:memory:/a/b").is_err());
    }
}
