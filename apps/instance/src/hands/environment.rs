//! What everything that hands starts for the tenant has in common: the environment, and a shepherd.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use reef_model::Isolation;

use crate::wire::Start;

/// Where machines have their programs.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Loopback ports that the gateway's configuration and the environment name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The model relay.
    pub(crate) model: u16,
    /// The way out, where it is the door's proxy.
    pub(crate) egress: Option<u16>,
}

/// Where the tenant's processes are started.
#[derive(Debug)]
pub(crate) struct Environment {
    /// What the door said.
    pub(crate) start: Start,
    /// Where the door listens inside.
    pub(crate) ports: Ports,
    /// This program, as hands sees it.
    pub(crate) program: PathBuf,
    /// Where the machine has its programs.
    pub(crate) path: &'static str,
}

impl Environment {
    /// Returns the command that runs `argv` below a shepherd, with the tenant's environment and nothing else.
    pub(crate) fn shepherd<S: AsRef<OsStr>>(
        &self,
        flags: &[&str],
        argv: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("shepherd").args(flags).arg("--").args(argv).env_clear().envs(self.variables());
        command
    }

    /// Returns the directory that a client names: `~` is the home, `/workspace` the workspace wherever that is, and what is
    /// relative is so to the workspace.
    pub(crate) fn directory(&self, path: &str) -> PathBuf {
        let path = Path::new(path);
        match path.strip_prefix("~") {
            Ok(below) => self.start.home.join(below),
            Err(_) => self.start.workspace.join(path.strip_prefix("/workspace").unwrap_or(path)),
        }
    }

    /// Where `/tmp` is out of reach.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.start.home.join(".cache/tmp")
    }

    /// The number of the desktop's display: the same everywhere, but where instances share `/tmp`.
    fn display(&self) -> Option<u32> {
        match self.start.isolation {
            Isolation::Bubblewrap | Isolation::Container | Isolation::Pod => Some(10),
            // There is no desktop without a `/tmp`.
            Isolation::Landlock => None,
            Isolation::None => {
                let home = self.start.home.as_os_str().as_encoded_bytes();
                let hash =
                    home.iter().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add((*byte).into()));
                Some(1000 + hash % 50_000)
            }
        }
    }

    fn variables(&self) -> BTreeMap<String, String> {
        let start = &self.start;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let state = start.home.join(".openclaw");
        let node = text(start.openclaw.join("node"));
        let bin = text(start.openclaw.join("node_modules/.bin"));
        let mut env: BTreeMap<String, String> = start.env.clone();
        env.retain(|name, value| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
        env.extend(start.trust_env.clone());
        let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
        set("PATH", format!("{node}:{bin}:{}", self.path));
        set("HOME", text(start.home.clone()));
        set("USER", "claw".into());
        set("LOGNAME", "claw".into());
        set("SHELL", "/bin/bash".into());
        set("LANG", "C.UTF-8".into());
        set("OPENCLAW_STATE_DIR", text(state.clone()));
        set("OPENCLAW_CONFIG_PATH", text(state.join("openclaw.json")));
        set("OPENCLAW_GATEWAY_TOKEN", start.gateway_token.clone());
        set("OPENCLAW_NO_RESPAWN", "1".into());
        set("OPENCLAW_DISABLE_BONJOUR", "1".into());
        set("OPENCLAW_NO_AUTO_UPDATE", "1".into());
        if let Some(number) = self.display() {
            // The desktop starts there when it is first used.
            set("DISPLAY", format!(":{number}"));
            set("XAUTHORITY", text(start.home.join(".cache/reef/xauthority")));
        }
        if start.isolation == Isolation::Landlock {
            set("TMPDIR", text(self.temporary()));
        }
        if let Some(port) = self.ports.egress {
            let proxy = format!("http://127.0.0.1:{port}");
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
                set(name, proxy.clone());
            }
            for name in ["NO_PROXY", "no_proxy"] {
                set(name, "127.0.0.1,localhost,::1".into());
            }
            set("NODE_USE_ENV_PROXY", "1".into());
        }
        env
    }
}
