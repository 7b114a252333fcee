//! The shared PostgreSQL server of a test run.
//!
//! Test processes come and go (nextest runs each test in its own), so the server belongs to none of them. It lives in
//! `reef-testdb-<uid>` below the temporary directory, listens on a Unix socket there, and is started by whoever finds
//! none, under `start.lock`. Every user holds a shared lock on `users.lock` for as long as it lives, which the kernel
//! releases also after a panic or a kill. A small watcher stops the server and removes its data once no one has used it
//! for a while.
//!
//! PostgreSQL refuses to run as root; then it runs as `postgres`, or `nobody`.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{DirBuilderExt, chown},
        net::UnixStream,
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use nix::unistd::{Uid, User};

/// A running server.
#[derive(Debug)]
pub struct Server {
    directory: PathBuf,
    _users: File,
}

impl Server {
    /// Returns the URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://reef@localhost/{database}?host={}", self.directory.display())
    }
}

/// Returns the shared server, started if need be; it runs for as long as this process does, at least.
///
/// # Panics
/// Where PostgreSQL is not installed or does not start.
pub fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER
        .get_or_init(|| ensure().unwrap_or_else(|error| panic!("cannot start PostgreSQL for tests: {error}")))
}

fn ensure() -> io::Result<Server> {
    let directory = std::env::temp_dir().join(format!("reef-testdb-{}", Uid::effective()));
    let owner = unprivileged_user()?;
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if let Some(user) = &owner {
        chown(&directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }

    let start = open(&directory.join("start.lock"))?;
    start.lock()?;
    let users = open(&directory.join("users.lock"))?;
    users.lock_shared()?;
    File::create(directory.join("used"))?;
    if UnixStream::connect(directory.join(".s.PGSQL.5432")).is_err() {
        boot(&directory, owner.as_ref())?;
    }
    watch(&directory)?;
    start.unlock()?;
    Ok(Server { directory, _users: users })
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Returns whom the server must run as, where not as ourselves.
fn unprivileged_user() -> io::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    Err(io::Error::other("running as root, and there is neither a user postgres nor nobody"))
}

fn boot(directory: &Path, owner: Option<&User>) -> io::Result<()> {
    let binaries = binaries()?;
    let data = directory.join("data");
    if data.exists() {
        fs::remove_dir_all(&data)?;
    }
    let program = |name: &str| {
        let mut command = Command::new(binaries.join(name));
        command.current_dir(directory).env("LC_ALL", "C");
        if let Some(user) = owner {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    };
    complete(
        program("initdb")
            .args(["--auth=trust", "--encoding=UTF8", "--username=reef", "--no-sync", "--pgdata"])
            .arg(&data),
    )?;
    let socket_directory = directory.to_str().filter(|path| !path.contains(['\'', ' ']));
    let options = format!(
        "-c listen_addresses= -c unix_socket_directories={} -c max_connections=300 -c fsync=off \
         -c synchronous_commit=off -c full_page_writes=off",
        socket_directory
            .ok_or_else(|| io::Error::other("the temporary directory has a blank in its name"))?
    );
    complete(
        program("pg_ctl")
            .args(["start", "--wait", "--silent", "--options", &options, "--log"])
            .arg(directory.join("log"))
            .arg("--pgdata")
            .arg(&data),
    )
}

fn complete(command: &mut Command) -> io::Result<()> {
    // Not piped: the server would inherit a pipe and keep it open.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}

/// Returns the directory of the newest PostgreSQL's programs.
fn binaries() -> io::Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, path)| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path).ok_or_else(|| {
        io::Error::other("nothing in /usr/lib/postgresql; install it: apt-get install postgresql")
    })
}

/// Stops the server once nobody holds `users.lock` and `used` is older than twenty seconds.
const WATCHER: &str = r#"
exec 7>>watcher.lock 8>>start.lock 9>>users.lock
flock -n 7 || exit 0
while sleep 5; do
    flock 8
    if [ -z "$(find used -newermt '-20 seconds')" ] && flock -n 9; then
        pid=$(head -n 1 data/postmaster.pid 2>/dev/null)
        if [ -n "$pid" ]; then
            kill -INT "$pid"
            while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        fi
        rm -rf data log
        exit 0
    fi
    flock -u 8
done
"#;

fn watch(directory: &Path) -> io::Result<()> {
    let lock = open(&directory.join("watcher.lock"))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    lock.unlock()?;
    Command::new("setsid")
        .args(["--fork", "sh", "-c", WATCHER])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(drop)
}
