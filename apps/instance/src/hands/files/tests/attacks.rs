//! Paths that want out, files that want to hang, and disks that are full.

use std::{
    os::unix::{fs::symlink, net::UnixListener},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::skipped::{can_run, is_root};
use crate::wire::files::List;

#[test]
fn nothing_leads_out() {
    let f = Fixture::new();
    let outside = f.root.path().join("outside");
    symlink(&outside, f.at("absolute")).unwrap();
    symlink("../outside", f.at("relative")).unwrap();
    symlink("../outside/secret", f.at("file")).unwrap();
    symlink("circle", f.at("circle")).unwrap();
    symlink("/proc/self/root", f.at("magic")).unwrap();
    let secret = outside.join("secret");
    for path in [
        "../outside/secret",
        "a/../../outside/secret",
        "..",
        "/",
        "/etc/passwd",
        "/workspace/../outside/secret",
        "/workspacex",
        "~/../outside/secret",
        "absolute/secret",
        "relative/secret",
        "file",
        "circle",
        "circle/x",
        "magic/etc/passwd",
        secret.to_str().unwrap(),
    ] {
        let open = f.kind_of(Call::Open { path: path.into() });
        assert_eq!(open, FailureKind::Outside, "{path}");
        let create = Create { path: format!("{path}/x"), parents: true, ..Create::default() };
        assert_eq!(f.create(create).unwrap_err().kind, FailureKind::Outside, "{path}/x");
        let (list, bytes) = f.drain(Call::List(List { path: path.into(), limit: 9, ..List::default() }));
        assert_eq!((list.unwrap_err().kind, bytes.len()), (FailureKind::Outside, 0), "{path}");
    }
    assert_eq!(f.write("file", "x").unwrap_err().kind, FailureKind::Outside);
    let delete = |path: &str| {
        f.call(Call::Delete { path: path.into(), recursive: true, condition: Condition::default() })
    };
    assert_eq!(delete("absolute/secret").unwrap_err().kind, FailureKind::Outside);
    delete("absolute").unwrap();
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(outside).unwrap().count(), 1);
}

#[test]
fn what_is_no_path_is_refused() {
    let f = Fixture::new();
    for path in ["", "a\0b", &"x".repeat(256), &"x/".repeat(3000), &"d".repeat(100_000)] {
        let kind = f.kind_of(Call::Open { path: path.into() });
        assert_eq!(kind, FailureKind::Invalid, "{}", path.len());
    }
}

#[test]
fn special_files_are_refused_at_once() {
    let f = Fixture::new();
    nix::unistd::mkfifo(&f.at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(f.at("socket")).unwrap();
    let mut paths = vec!["fifo", "socket"];
    if is_root() {
        let made = Command::new("mknod").arg(f.at("device")).args(["c", "5", "0"]).status().unwrap();
        assert!(made.success());
        paths.push("device");
    }
    let begin = Instant::now();
    for path in paths {
        let kind = f.kind_of(Call::Open { path: path.into() });
        // A device may be refused by the kernel already (nodev).
        assert!(matches!(kind, FailureKind::NotAFile | FailureKind::Denied), "{path}: {kind:?}");
        assert_eq!(f.write(path, "x").unwrap_err().kind, FailureKind::NotAFile, "{path}");
    }
    f.write("file", "needle").unwrap();
    let search = crate::wire::files::Search {
        path: ".".into(),
        query: "needle".into(),
        limit: 9,
        ..Default::default()
    };
    let (reply, bytes) = f.drain(Call::Search(search));
    assert!(matches!(reply.unwrap(), Reply::Searched { files: 1, .. }));
    assert_eq!(lines::<serde_json::Value>(&bytes).len(), 1);
    assert_eq!(f.kind_of(Call::Open { path: ".".into() }), FailureKind::IsADirectory);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// Somebody swaps a directory for a link to the outside while calls go through it.
#[test]
fn a_swap_during_the_call_never_leads_out() {
    let f = Fixture::new();
    f.write("dir/secret", "mine").unwrap();
    f.write("other/secret", "mine").unwrap();
    symlink(f.root.path().join("outside"), f.at("link")).unwrap();
    let is_over = AtomicBool::new(false);
    let (mut read, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            let (dir, link) = (f.at("dir"), f.at("link"));
            while !is_over.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &dir, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        for round in 0..3000 {
            match f.read("dir/secret") {
                Ok(text) => {
                    assert_eq!(text, "mine");
                    read += 1;
                }
                Err(failure) => {
                    assert!(
                        matches!(failure.kind, FailureKind::Outside | FailureKind::NotFound),
                        "{failure}"
                    );
                    refused += 1;
                }
            }
            if round % 10 == 0 {
                let _ = f.write("dir/written", "x");
                let _ = f.call(Call::MakeDirectory { path: "dir/made/deep".into() });
                let (_, bytes) =
                    f.drain(Call::List(List { path: ".".into(), recursive: true, limit: 99, cursor: None }));
                assert!(!String::from_utf8_lossy(&bytes).contains("outside/"));
                let _ = f.call(Call::Delete {
                    path: "dir/made".into(),
                    recursive: true,
                    condition: Condition::default(),
                });
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(read > 0 && refused > 0, "the race took place: {read} read, {refused} refused");
    let outside: Vec<_> = std::fs::read_dir(f.root.path().join("outside")).unwrap().collect();
    assert_eq!(outside.len(), 1, "nothing was written there");
    assert_eq!(std::fs::read_to_string(f.root.path().join("outside/secret")).unwrap(), "secret");
}

#[test]
fn names_that_are_no_text_are_shown() {
    use std::os::unix::ffi::OsStrExt;
    let f = Fixture::new();
    std::fs::write(f.at("").join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "x").unwrap();
    let (reply, bytes) = f.drain(Call::List(List { path: ".".into(), limit: 9, ..List::default() }));
    reply.unwrap();
    assert_eq!(lines::<Entry>(&bytes)[0].name, "\u{fffd}.txt");
}

#[test]
fn whoever_stops_to_read_ends_the_call() {
    let f = Fixture::new();
    for number in 0..600 {
        std::fs::write(f.at(&format!("{number:0200}")), "").unwrap();
    }
    for call in [
        Call::List(List { path: ".".into(), limit: 10_000, ..List::default() }),
        Call::Archive { path: ".".into(), format: reef_door::files::ArchiveFormat::TarGz },
        Call::Archive { path: ".".into(), format: reef_door::files::ArchiveFormat::Zip },
    ] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        // Whether it is told as an error or not, it returns.
        let _ = f.files.handle(call, Some(write.into()));
    }
}

#[test]
fn a_full_disk_is_said_and_nothing_is_left() {
    if !is_root() {
        return;
    }
    let f = Fixture::new();
    let disk = f.at("disk");
    std::fs::create_dir(&disk).unwrap();
    let flags = nix::mount::MsFlags::empty();
    let mounted = nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some("size=1m"));
    if !can_run(mounted.is_ok(), "the right to mount") {
        return;
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let early = Create { path: "disk/x".into(), size: Some(2 << 20), ..Create::default() };
        assert_eq!(f.create(early).unwrap_err().kind, FailureKind::NoSpace);
        let (upload, mut file) = f.create(Create { path: "disk/x".into(), ..Create::default() }).unwrap();
        let error = file.write_all(&vec![1; 2 << 20]).unwrap_err();
        assert_eq!(Failure::from(error).kind, FailureKind::NoSpace);
        drop(file);
        f.call(Call::Abort { upload }).unwrap();
        std::fs::write(f.at("big"), vec![7; 2 << 20]).unwrap();
        let copy = Call::Copy { from: "big".into(), to: "disk/big".into(), overwrite: false };
        assert_eq!(f.kind_of(copy), FailureKind::NoSpace);
        let moved = Call::Move { from: "big".into(), to: "disk/big".into(), overwrite: false };
        assert_eq!(f.kind_of(moved), FailureKind::NoSpace);
        f.call(Call::MakeDirectory { path: "tree".into() }).unwrap();
        std::fs::rename(f.at("big"), f.at("tree/big")).unwrap();
        let copy = Call::Copy { from: "tree".into(), to: "disk/tree".into(), overwrite: false };
        assert_eq!(f.kind_of(copy), FailureKind::NoSpace);
        let (_, archive) =
            f.drain(Call::Archive { path: "tree".into(), format: reef_door::files::ArchiveFormat::TarGz });
        let extract = Call::Extract { path: "disk/out".into() };
        assert_eq!(f.feed(extract, archive).unwrap_err().kind, FailureKind::NoSpace);
        assert_eq!(f.names("disk"), ["out"]);
        assert!(f.names("disk/out").is_empty());
        // And there is room again.
        f.write("disk/y", &"y".repeat(900 << 10)).unwrap();
        // Across file systems a move is a copy.
        f.call(Call::Move { from: "disk/y".into(), to: "y".into(), overwrite: false }).unwrap();
        assert_eq!(f.names("disk"), ["out"]);
    }));
    nix::mount::umount(&disk).unwrap();
    result.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a path is made of, it leads to something beneath a root or to an error.
    #[test]
    fn any_path_stays_beneath(path in r"(/|~|workspace|home|outside|secret|\.|\.\.|a|link|loop|\u{0}|é| |//){0,12}") {
        let f = Fixture::new();
        symlink("../outside", f.at("link")).unwrap();
        symlink(".", f.at("loop")).unwrap();
        f.write("a/secret", "mine").unwrap();
        for text in [path.clone(), format!("/workspace/{path}"), format!("{}{path}", f.root.path().display())] {
            if let Ok(text) = f.read(&text) {
                prop_assert_ne!(text, "secret");
            }
            if let Ok(entry) = f.stat(&text) {
                let (home, workspace) = (f.root.path().join("home"), f.at(""));
                let path = std::path::Path::new(&entry.path);
                prop_assert!(path.starts_with(home) || path.starts_with(workspace));
            }
            let _ = f.write(&format!("{text}x"), "");
        }
        prop_assert_eq!(std::fs::read_dir(f.root.path().join("outside")).unwrap().count(), 1);
        prop_assert_eq!(std::fs::read_dir(f.root.path()).unwrap().count(), 3);
    }
}
