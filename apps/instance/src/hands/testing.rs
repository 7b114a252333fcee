//! A real hands' side of the work channel for tests of the door, without a sandbox or a gateway.

use std::{collections::BTreeMap, sync::Arc};

use reef_model::Isolation;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    environment::{Environment, Ports, SYSTEM_PATH},
    work::Work,
};
use crate::{
    door::work::{Attached, Work as Door},
    process,
    wire::{Channel, Start},
};

/// A home, a workspace, and the way to hands. One per process: it reaps every child.
pub(crate) struct TestHands {
    /// The door's way.
    pub(crate) work: Door,
    /// Holds `home` and `workspace`.
    pub(crate) dir: tempfile::TempDir,
    _attached: Attached,
}

impl TestHands {
    /// Starts it on a thread of its own. Shepherds are started from the built `reef-instance` beside the tests.
    pub(crate) fn start() -> Self {
        Self::with_path(SYSTEM_PATH)
    }

    /// Starts it on a machine where no program is found by its name.
    pub(crate) fn without_programs() -> Self {
        Self::with_path("")
    }

    fn with_path(path: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["home", "workspace"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let start = Start {
            isolation: Isolation::None,
            home: dir.path().join("home"),
            workspace: dir.path().join("workspace"),
            openclaw: "/nonexistent".into(),
            gateway_token: "gateway-token".into(),
            model_token: "model-token".into(),
            env: BTreeMap::new(),
            trust_env: BTreeMap::new(),
            has_egress: false,
            pids: None,
        };
        let tests = std::env::current_exe().unwrap();
        let program = tests.ancestors().nth(2).unwrap().join("reef-instance");
        assert!(program.exists(), "build {} first", program.display());
        let environment = Environment { start, ports: Ports { model: 1, egress: None }, program, path };
        process::adopt_orphans().unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut children = signal(SignalKind::child()).unwrap();
                let mut work = Work::new(Channel::new(theirs).unwrap(), Arc::new(environment));
                loop {
                    tokio::select! {
                        asked = work.recv() => match asked.unwrap() {
                            None => return,
                            Some((ask, fds)) => work.take(ask, fds).await.unwrap(),
                        },
                        _ = children.recv() => {
                            let mut ended = Vec::new();
                            process::reap(|pid, end| ended.push((pid, end)));
                            for (pid, end) in ended {
                                work.ended(pid, end).await.unwrap();
                            }
                        }
                    }
                }
            });
        });
        let work = Door::new();
        let attached = work.attach(Channel::new(ours).unwrap());
        Self { work, dir, _attached: attached }
    }
}
