//! A real instance: the real `reef-instance` with the real OpenClaw, as the process runtime starts it.

use std::path::{Path, PathBuf};

use crate::{
    process::Running,
    target::{built, free_port, make_instance, start_reef},
};

/// A control plane with one instance; ends when dropped.
pub(crate) struct Workbench {
    pub(crate) reef: Running,
    /// What stands before `/files/…`.
    pub(crate) base: String,
    pub(crate) key: String,
    /// Of the door.
    pub(crate) door: i32,
    /// The instance's workspace, as the machine sees it.
    pub(crate) workspace: PathBuf,
    /// For whatever else a table needs; goes with the bench.
    pub(crate) dir: PathBuf,
}

impl Workbench {
    pub(crate) async fn start(dir: &Path) -> Self {
        let openclaw = std::env::var_os("REEF_OPENCLAW_DIR").expect("type `make bench`");
        let (port, data) = (free_port(), dir.join("data"));
        let instance = built("reef-instance", "REEF_INSTANCE_BIN");
        let (reef, greeting) = start_reef(&instance, Path::new(&openclaw), port, &data);
        let origin = format!("http://127.0.0.1:{port}");
        let (key, made) = make_instance(&origin, &greeting).await;
        let id = made["id"].as_str().unwrap();
        let workspace = data.join("instances").join(id).join("workspace");
        let door = made["sandbox_id"].as_str().unwrap().split(':').next().unwrap().parse().unwrap();
        let base = format!("{origin}/api/instances/{id}");
        Self { reef, base, key, door, workspace, dir: dir.to_owned() }
    }
}

impl Drop for Workbench {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.door), nix::sys::signal::Signal::SIGTERM);
    }
}
