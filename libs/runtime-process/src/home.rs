//! An instance's directory: its paths, its record, its lock and its uid.

use std::{
    fs::{self, File},
    io,
    ops::RangeInclusive,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use reef_door::RunDir;
use reef_model::{InstanceId, Power, Timestamp};
use reef_runtime::{
    Exit, Observed,
    files::{ensure_dir, ensure_run_dir, remove_tree, write_private},
};

use crate::proc::{Process, uids_in_use};

/// Uids for tenants, when we are root: above what distributions and systemd give to users and services and, on all but
/// crowded machines, above subordinate ranges (they start at 100000); small enough for every tar format.
pub(crate) const UIDS: RangeInclusive<u32> = 700_000..=799_999;

/// The directory of all instances.
#[derive(Debug, Clone)]
pub(crate) struct Homes {
    root: PathBuf,
    is_privileged: bool,
}

/// What is remembered of an instance, in `door.json`.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    /// The tenant's uid and gid, where instances have their own.
    pub(crate) uid: Option<u32>,
    /// The present or last run.
    pub(crate) run: Option<Run>,
}

/// One run of a door.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Run {
    #[serde(flatten)]
    pub(crate) process: Process,
    pub(crate) generation: i64,
    pub(crate) started_at: Timestamp,
    /// Written before a stop and after an end that was seen; meaningless while the process runs.
    pub(crate) end: Option<End>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// We stopped it.
    Stopped,
    /// By itself, with this status or 128 + signal.
    Exited(i32),
}

impl Record {
    pub(crate) fn observe(&self, id: InstanceId) -> Observed {
        let Some(run) = &self.run else {
            return Observed {
                id,
                handle: String::new(),
                generation: 0,
                power: Power::Stopped,
                started_at: None,
                exit: None,
            };
        };
        let is_alive = run.process.is_alive();
        let exit = |code| Some(Exit { code, is_oom: false });
        Observed {
            id,
            handle: format!("{}:{}", run.process.pid, run.process.start_time),
            generation: run.generation,
            power: if is_alive { Power::Running } else { Power::Stopped },
            started_at: Some(run.started_at),
            exit: match run.end {
                _ if is_alive => None,
                Some(End::Stopped) => None,
                Some(End::Exited(code)) => exit(code),
                None => exit(-1),
            },
        }
    }
}

impl Homes {
    pub(crate) fn new(root: PathBuf, is_privileged: bool) -> Self {
        Self { root, is_privileged }
    }

    pub(crate) fn path(&self, id: InstanceId) -> PathBuf {
        self.root.join(id.to_string())
    }

    pub(crate) fn run_dir(&self, id: InstanceId) -> RunDir {
        RunDir::new(self.path(id).join("run"))
    }

    /// Instances that are being removed. A removal renames first, so that no half-removed directory looks alive.
    fn trash(&self) -> PathBuf {
        self.root.join(".trash")
    }

    /// Returns the record, without the lock: files are replaced whole. `None`: there is no such directory.
    pub(crate) fn record(&self, id: InstanceId) -> io::Result<Option<Record>> {
        let record = read_record(&self.path(id))?;
        if record.is_none() && self.trash().join(id.to_string()).exists() {
            return Ok(Some(Record::default()));
        }
        Ok(record)
    }

    /// Returns every instance that has a directory, half-removed ones too.
    pub(crate) fn ids(&self) -> io::Result<Vec<InstanceId>> {
        let mut ids = Vec::new();
        for dir in [self.root.clone(), self.trash()] {
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok()));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Locks an instance that exists, against this and every other process; blocks.
    pub(crate) fn lock(&self, id: InstanceId) -> io::Result<Option<Locked>> {
        let path = self.path(id);
        loop {
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                lock => lock?,
            };
            lock.lock()?;
            // The one who held the lock may have moved the directory away.
            match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(there) => {
                    if there.ino() == lock.metadata()?.ino() {
                        let record = read_record(&path)?.unwrap_or_default();
                        return Ok(Some(Locked { id, path, record, homes: self.clone(), _lock: lock }));
                    }
                }
            }
        }
    }

    /// Locks an instance, making its directory with all that is in it where missing; blocks.
    pub(crate) fn ensure(&self, id: InstanceId) -> io::Result<Locked> {
        fs::create_dir_all(&self.root)?;
        // Searchable, not readable: the tenant's uid must reach its home below, and see no other.
        ensure_dir(&self.root, 0o711)?;
        loop {
            ensure_dir(&self.path(id), 0o711)?;
            if let Some(mut locked) = self.lock(id)? {
                locked.ensure_content()?;
                return Ok(locked);
            }
        }
    }

    /// Removes what an earlier removal of this instance left behind its rename; blocks.
    pub(crate) fn empty_trash(&self, id: InstanceId) -> io::Result<bool> {
        remove_tree(&self.trash().join(id.to_string()))
    }

    /// Picks a uid that no instance and no process has, and lets `keep` record it while nobody else picks.
    fn allocate_uid(&self, keep: impl FnOnce(u32) -> io::Result<()>) -> io::Result<()> {
        let lock = File::open(&self.root)?;
        lock.lock()?;
        let mut taken = uids_in_use()?;
        for id in self.ids()? {
            taken.extend(read_record(&self.path(id))?.and_then(|record| record.uid));
        }
        let uid = UIDS
            .into_iter()
            .find(|uid| !taken.contains(uid))
            .ok_or_else(|| io::Error::other("no uid is left for another instance"))?;
        keep(uid)
    }
}

fn read_record(path: &Path) -> io::Result<Option<Record>> {
    match fs::read(path.join("door.json")) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) => Ok(path.is_dir().then(Record::default)),
    }
}

/// An instance's directory while nobody else may change it.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) id: InstanceId,
    pub(crate) path: PathBuf,
    pub(crate) record: Record,
    homes: Homes,
    _lock: File,
}

impl Locked {
    pub(crate) fn write_record(&self) -> io::Result<()> {
        write_private(&self.path.join("door.json"), &serde_json::to_vec(&self.record)?)
    }

    fn ensure_content(&mut self) -> io::Result<()> {
        if self.homes.is_privileged && self.record.uid.is_none() {
            let homes = self.homes.clone();
            homes.allocate_uid(|uid| {
                self.record.uid = Some(uid);
                self.write_record()
            })?;
        }
        ensure_run_dir(&self.path.join("run"))?;
        ensure_dir(&self.path.join("state"), 0o700)?;
        for tenant_dir in ["home", "workspace"] {
            let dir = self.path.join(tenant_dir);
            ensure_dir(&dir, 0o700)?;
            // Our directory holds it, so the tenant cannot have put a link in its place.
            if let Some(uid) = self.record.uid
                && fs::metadata(&dir)?.uid() != uid
            {
                chown(&dir, Some(uid), Some(uid))?;
            }
        }
        Ok(())
    }

    /// Removes the directory; nothing of it may run.
    pub(crate) fn remove(self) -> io::Result<()> {
        let trash = self.homes.trash();
        ensure_dir(&trash, 0o700)?;
        self.homes.empty_trash(self.id)?;
        fs::rename(&self.path, trash.join(self.id.to_string()))?;
        self.homes.empty_trash(self.id).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes() -> (tempfile::TempDir, Homes) {
        let dir = tempfile::tempdir().unwrap();
        let homes = Homes::new(dir.path().join("instances"), rustix::process::geteuid().is_root());
        (dir, homes)
    }

    #[test]
    fn each_instance_gets_a_uid_of_its_own_and_keeps_it() {
        let (_dir, homes) = homes();
        let (one, two) = (InstanceId::generate(), InstanceId::generate());
        let uids = [one, two, one].map(|id| homes.ensure(id).unwrap().record.uid);
        if homes.is_privileged {
            assert_ne!(uids[0], uids[1]);
            let home = fs::metadata(homes.path(one).join("home")).unwrap();
            assert_eq!((Some(home.uid()), home.mode() & 0o777), (uids[0], 0o700));
        }
        assert_eq!(uids[0], uids[2]);
    }

    #[test]
    fn a_removal_that_crashed_after_its_rename_is_seen_and_finished() {
        let (_dir, homes) = homes();
        let id = InstanceId::generate();
        drop(homes.ensure(id).unwrap());
        fs::create_dir_all(homes.trash()).unwrap();
        fs::rename(homes.path(id), homes.trash().join(id.to_string())).unwrap();
        assert_eq!(homes.ids().unwrap(), [id]);
        assert!(homes.record(id).unwrap().is_some());
        assert!(homes.lock(id).unwrap().is_none());
        assert!(homes.empty_trash(id).unwrap());
        assert!(homes.record(id).unwrap().is_none());
    }
}
