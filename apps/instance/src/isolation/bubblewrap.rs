//! The bubblewrap command line: an explicit list of what is visible, and every namespace unshared.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io::{Seek, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::process::Command;

use super::{Layout, Prepared};

/// User and group of the tenant inside the sandbox, whoever it is outside.
pub(crate) const UID: u32 = 10001;
/// Bytes that `/tmp` may hold; they count as memory.
const TMP_BYTES: u64 = 512 << 20;

const PASSWD: &str = "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n\
    claw:x:10001:10001:claw:/home/claw:/bin/bash\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nclaw:x:10001:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// What of `/etc` the programs of `/usr` need and no secret is in.
const ETC: &[&str] = &[
    "X11",
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "os-release",
    "pki/ca-trust",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
    "xdg",
];

/// Returns where things are inside.
pub(crate) fn layout_inside() -> Layout {
    Layout {
        program: PathBuf::from("/opt/reef/reef-instance"),
        openclaw: PathBuf::from("/opt/openclaw"),
        home: PathBuf::from("/home/claw"),
        workspace: PathBuf::from("/workspace"),
    }
}

/// Prepares `bwrap … reef-instance hands`.
pub(super) fn command(
    layout: &Layout,
    trust: &BTreeMap<String, String>,
    share_network: bool,
) -> std::io::Result<Prepared> {
    let inside = layout_inside();
    let mut args = Arguments::system();
    for (name, text) in [("passwd", PASSWD), ("group", GROUP), ("hosts", HOSTS), ("nsswitch.conf", NSSWITCH)]
    {
        args.made_up(text, &Path::new("/etc").join(name))?;
    }
    for path in trust.values().collect::<BTreeSet<_>>() {
        args.add(["--ro-bind-try".as_ref(), OsStr::new(path), OsStr::new(path)]);
    }
    args.bind("--ro-bind", &layout.program, &inside.program);
    args.bind("--ro-bind", &layout.openclaw, &inside.openclaw);
    args.bind("--bind", &layout.home, &inside.home);
    args.bind("--bind", &layout.workspace, &inside.workspace);
    if share_network {
        args.add(["--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"]);
    }
    args.isolate();
    if share_network {
        // The later word counts.
        args.add(["--share-net"]);
    }
    args.add(["--chdir".as_ref(), inside.home.as_os_str(), "--".as_ref(), inside.program.as_os_str()]);
    args.add(["hands"]);
    Ok(args.into_command())
}

/// Prepares the same sandbox around `true`, with nothing of an instance in it.
pub(super) fn trial() -> Command {
    let mut args = Arguments::system();
    args.isolate();
    args.add(["--", "/usr/bin/true"]);
    args.into_command().command
}

struct Arguments {
    list: Vec<OsString>,
    inherited: Vec<OwnedFd>,
}

impl Arguments {
    /// What every sandbox sees of the machine.
    fn system() -> Self {
        let mut args = Self { list: Vec::new(), inherited: Vec::new() };
        args.add(["--ro-bind", "/usr", "/usr"]);
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = Path::new("/").join(name);
            match std::fs::read_link(&path) {
                Ok(target) => args.add(["--symlink".as_ref(), target.as_os_str(), path.as_os_str()]),
                Err(_) if path.is_dir() => args.bind("--ro-bind", &path, &path),
                Err(_) => {}
            }
        }
        for name in ETC {
            let path = Path::new("/etc").join(name);
            args.bind("--ro-bind-try", &path, &path);
        }
        args.add(["--dev", "/dev", "--proc", "/proc", "--perms", "1777"]);
        args.add(["--size".to_owned(), TMP_BYTES.to_string(), "--tmpfs".to_owned(), "/tmp".to_owned()]);
        args.add(["--symlink", "../tmp", "/var/tmp"]);
        args
    }

    fn isolate(&mut self) {
        self.add([
            "--unshare-all",
            "--unshare-user",
            "--disable-userns",
            "--new-session",
            "--die-with-parent",
        ]);
        self.add(["--uid".to_owned(), UID.to_string(), "--gid".to_owned(), UID.to_string()]);
        self.add(["--hostname", "reef", "--clearenv", "--remount-ro", "/"]);
    }

    fn add<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) {
        self.list.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    }

    fn bind(&mut self, how: &str, from: &Path, to: &Path) {
        self.add([how.as_ref(), from.as_os_str(), to.as_os_str()]);
    }

    /// Makes a read-only file that exists nowhere on the machine.
    fn made_up(&mut self, text: &str, at: &Path) -> std::io::Result<()> {
        // Inherited on purpose: the door spawns nothing else, and closes its copy after the spawn.
        let mut file = std::fs::File::from(memfd_create("reef", MFdFlags::empty())?);
        file.write_all(text.as_bytes())?;
        file.rewind()?;
        self.add(["--perms".as_ref(), OsStr::new("0644"), "--ro-bind-data".as_ref()]);
        self.add([OsStr::new(&file.as_raw_fd().to_string()), at.as_os_str()]);
        self.inherited.push(file.into());
        Ok(())
    }

    fn into_command(self) -> Prepared {
        let mut command = Command::new("bwrap");
        // `bwrap` is looked for in the path of the child.
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        command.args(self.list).env_clear().env("PATH", path);
        Prepared { command, inherited: self.inherited }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(share_network: bool) -> Vec<String> {
        let prepared = command(&layout_inside(), &BTreeMap::new(), share_network).unwrap();
        let args = prepared.command.as_std().get_args();
        args.map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_network_is_shared_only_where_asked_and_by_the_later_word() {
        let place = |words: &[String], word: &str| words.iter().position(|other| other == word);
        let apart = words(false);
        assert!(place(&apart, "--unshare-all").is_some() && place(&apart, "--share-net").is_none());
        let shared = words(true);
        assert!(place(&shared, "--share-net") > place(&shared, "--unshare-all"));
    }
}
