//! The boot file and the run directory: how the control plane tells a new door who it is.
//!
//! A run directory has `in/` (the control plane's, read-only for the instance: `boot.json`, `model.sock`) and `out/`
//! (the door's: `door.sock`). The tenant's processes see neither.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use reef_model::InstanceId;

/// The content of `in/boot.json`, mode 0600.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Boot {
    /// The instance.
    pub instance_id: InstanceId,
    /// The generation of intent that this boot serves; reported back in [`crate::DoorStatus`].
    pub generation: i64,
    /// Control plane to door.
    pub door_token: String,
    /// Door to OpenClaw gateway.
    pub gateway_token: String,
    /// Environment for the tenant's processes.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Processes and threads that the tenant may have, where nothing else bounds them.
    #[serde(default)]
    pub pids: Option<u32>,
}

impl std::fmt::Debug for Boot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boot")
            .field("instance_id", &self.instance_id)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// The paths in a run directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// Wraps the directory that holds `in/` and `out/`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns `in/`: written by the control plane only.
    pub fn inward(&self) -> PathBuf {
        self.0.join("in")
    }

    /// Returns `out/`: written by the door only.
    pub fn outward(&self) -> PathBuf {
        self.0.join("out")
    }

    /// Returns the boot file.
    pub fn boot_file(&self) -> PathBuf {
        self.0.join("in/boot.json")
    }

    /// Returns the socket of the model gateway, made by the control plane.
    pub fn model_socket(&self) -> PathBuf {
        self.0.join("in/model.sock")
    }

    /// Returns the socket of the door.
    pub fn door_socket(&self) -> PathBuf {
        self.0.join("out/door.sock")
    }
}
