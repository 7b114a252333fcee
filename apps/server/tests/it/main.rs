//! The program as a person meets it: what it prints, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;

/// A directory where a server can start: a `reef-instance` that says that it can, and an OpenClaw that is there.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    // Probes run as another user.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let instance = dir.path().join("reef-instance");
    let probe = r#"{"isolation":"bubblewrap","bubblewrap":{"works":true},"landlock":{"works":false}}"#;
    std::fs::write(&instance, format!("#!/bin/sh\necho '{probe}'\n")).unwrap();
    std::fs::set_permissions(&instance, std::fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["node/node", "node_modules/openclaw/openclaw.mjs"] {
        let path = dir.path().join("openclaw").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    dir
}

fn reef(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reef"));
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("REEF_LISTEN", "127.0.0.1:0")
        .env("REEF_DATA_DIR", dir.join("data"))
        .env("REEF_INSTANCE_BIN", dir.join("reef-instance"))
        .env("REEF_OPENCLAW_DIR", dir.join("openclaw"))
        .current_dir(dir);
    command
}

/// The same, by a shell that first sets limits.
fn reef_after(limits: &str, dir: &Path, args: &[&str]) -> Command {
    let program = reef(dir, args);
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("{limits} && exec \"$0\" \"$@\""));
    command.arg(program.get_program()).args(program.get_args()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(dir);
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    reef(dir, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server that runs, and what it greeted with.
struct Served {
    child: Child,
    out: BufReader<ChildStdout>,
    greeting: String,
}

impl Served {
    fn start(dir: &Path, last_word: &str) -> Self {
        Self::spawn(reef(dir, &["serve"]), last_word)
    }

    fn spawn(mut command: Command, last_word: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains(last_word) {
            if out.read_line(&mut greeting).unwrap() == 0 {
                let mut errors = String::new();
                child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
                panic!("it ended: {greeting}{errors}");
            }
        }
        Self { child, out, greeting }
    }

    /// Asks it to stop; returns its exit status and everything that it wrote.
    fn stop(mut self) -> (i32, String) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let mut written = self.greeting;
        self.out.read_to_string(&mut written).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut written).unwrap();
        (self.child.wait().unwrap().code().unwrap(), written)
    }
}

#[test]
fn every_start_says_how_to_get_in_and_the_disk_holds_no_secret() {
    let dir = place();
    let first = Served::start(dir.path(), "chat/stream");
    let greeting = first.greeting.clone();
    assert_eq!(greeting.lines().filter(|line| line.contains("curl ")).count(), 3, "{greeting}");
    assert!(greeting.contains("password") && greeting.contains("Invite code"), "{greeting}");
    let key = greeting.split("KEY=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    assert!(key.starts_with("sk_live_"), "{greeting}");
    let (code, written) = first.stop();
    assert_eq!(code, 0, "{written}");

    // Nothing was used up meanwhile.
    let (code, written) = Served::start(dir.path(), "chat/stream").stop();
    assert_eq!(code, 0, "{written}");
    assert!(!written.contains("password "), "{written}");
    let pasted =
        |text: &str| text.lines().filter(|line| line.contains("curl ")).map(without_port).collect::<Vec<_>>();
    assert_eq!(pasted(&written), pasted(&greeting));
    // What is no longer good is replaced, and that alone.
    let invites = text(&run(dir.path(), &["admin", "invite", "list"]).stdout);
    let id = invites.split_whitespace().next().unwrap();
    assert!(run(dir.path(), &["admin", "invite", "revoke", id]).status.success());
    let (_, written) = Served::start(dir.path(), "chat/stream").stop();
    let code =
        |text: &str| text.split("Invite code").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(written.contains(&key) && code(&written) != code(&greeting), "{written}");

    // Where others can see what it writes, a later start has no secret.
    let mut command = reef(dir.path(), &["serve"]);
    command.env("REEF_PUBLIC_URL", "https://reef.example.org").env("REEF_ALLOW_UNISOLATED", "1");
    let (_, written) = Served::spawn(command, "New invite").stop();
    assert!(!written.contains("sk_live_") && !written.contains("Invite code"), "{written}");

    for file in ["data/reef.db", "data/secret.key"] {
        let bytes = std::fs::read(dir.path().join(file)).unwrap();
        assert!(!bytes.windows(key.len()).any(|part| part == key.as_bytes()), "{file}");
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Sends a request over a connection of its own; returns the whole answer.
fn ask(address: &str, line: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}",
        body.len()
    );
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn on_https_the_cookie_is_for_this_host_and_over_https_alone() {
    const PASSWORD: &str = "a-long-operator-password";
    let dir = place();
    let address = free_address();
    let mut command = reef(dir.path(), &["serve"]);
    command.env("REEF_LISTEN", &address).env("REEF_ADMIN_PASSWORD", PASSWORD);
    command.env("REEF_PUBLIC_URL", "https://reef.example.org").env("REEF_ALLOW_UNISOLATED", "1");
    let served = Served::spawn(command, "Invite code");
    let body = format!(r#"{{"email":"operator@localhost","password":"{PASSWORD}"}}"#);
    let answer = ask(&address, "POST /api/auth/login", &body);
    let cookie =
        answer.lines().find(|line| line.starts_with("set-cookie: ")).unwrap_or_else(|| panic!("{answer}"));
    assert!(cookie.starts_with("set-cookie: __Host-reef_session="), "{cookie}");
    for wanted in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.split("; ").any(|part| part == wanted), "{cookie}");
    }
    assert!(!cookie.contains("Domain="), "{cookie}");
    assert!(answer.contains("strict-transport-security: "), "{answer}");
    served.stop();
}

fn without_port(line: &str) -> String {
    let (before, after) = line.split_once("127.0.0.1:").unwrap_or((line, ""));
    format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn a_taken_port_is_one_line_that_says_what_to_do() {
    let dir = place();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = reef(dir.path(), &["serve"]).env("REEF_LISTEN", &address).output().unwrap();
    let complaint = text(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(complaint.trim_end().lines().count(), 1, "{complaint}");
    assert!(complaint.contains(&address) && complaint.contains("REEF_LISTEN="), "{complaint}");
    assert!(!dir.path().join("data").exists(), "it got no further");
}

#[test]
fn what_is_missing_is_one_line_that_says_what_to_type() {
    let dir = place();
    std::fs::remove_file(dir.path().join("openclaw/node/node")).unwrap();
    let output = run(dir.path(), &["serve"]);
    let complaint = text(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.trim_end().lines().last().unwrap().contains("infra/setup/openclaw.sh"), "{complaint}");
}

#[test]
fn a_wrong_value_stops_the_start_and_doctor_shows_it() {
    let dir = place();
    for args in [&["serve"][..], &["doctor"]] {
        let output = reef(dir.path(), args).env("REEF_RUNTIME", "podman").output().unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(!output.status.success());
        assert!(said.contains("REEF_RUNTIME"), "{said}");
    }
}

#[test]
fn doctor_prints_what_is_in_force_without_secrets() {
    let dir = place();
    let secret = "5".repeat(64);
    let output = reef(dir.path(), &["doctor"]).env("REEF_SECRET_KEY", &secret).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("REEF_DATA_DIR") && said.contains("bubblewrap"), "{said}");
    assert!(!said.contains(&secret), "{said}");
}

#[test]
fn as_many_files_may_be_open_as_the_system_allows() {
    let dir = place();
    let served =
        Served::spawn(reef_after("ulimit -Sn 500 && ulimit -Hn 5000", dir.path(), &["serve"]), "chat/stream");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", served.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["5000", "5000"]);
    served.stop();

    let said = |limits: &str| text(&reef_after(limits, dir.path(), &["doctor"]).output().unwrap().stdout);
    assert!(said("ulimit -Sn 500 && ulimit -Hn 5000").contains("5000 files may be open"));
    assert!(!said("ulimit -Sn 500 && ulimit -Hn 9000").contains("files may be open"));
}

#[test]
fn the_command_line_manages_invites_keys_and_accounts() {
    let dir = place();
    let migrated = run(dir.path(), &["migrate"]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let code = run(dir.path(), &["admin", "invite", "create", "--uses", "3", "--expires-in", "7"]);
    assert!(code.status.success(), "{}", text(&code.stderr));
    let list = text(&run(dir.path(), &["admin", "invite", "list"]).stdout);
    assert!(list.contains("used 0 of 3"), "{list}");
    let id = list.split_whitespace().next().unwrap();
    assert!(run(dir.path(), &["admin", "invite", "revoke", id]).status.success());
    assert!(text(&run(dir.path(), &["admin", "invite", "list"]).stdout).contains("withdrawn"));

    let key = text(&run(dir.path(), &["admin", "key", "create", "--scopes", "chat,files"]).stdout);
    assert!(key.starts_with("sk_live_"), "{key}");
    let reset = text(&run(dir.path(), &["admin", "user", "reset-password", "operator@localhost"]).stdout);
    assert!(reset.starts_with("operator@localhost: "), "{reset}");
    let role = run(dir.path(), &["admin", "user", "set-role", "operator@localhost", "operator"]);
    assert!(role.status.success(), "{}", text(&role.stderr));
    let nobody = run(dir.path(), &["admin", "user", "set-role", "nobody@example.org", "operator"]);
    assert!(text(&nobody.stderr).contains("there is no account"));
}

#[test]
fn the_document_needs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (format, begin) in [("yaml", "openapi: 3.1"), ("json", "{")] {
        let output = run(dir.path(), &["openapi", "--format", format]);
        assert!(text(&output.stdout).starts_with(begin));
    }
}
