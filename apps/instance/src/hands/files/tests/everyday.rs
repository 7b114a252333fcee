//! What clients do all day.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use reef_door::files::{Entry, FileKind, SearchMatch};

use super::*;
use crate::wire::files::{List, Search};

fn paths(fixture: &Fixture, bytes: &[u8]) -> Vec<String> {
    let top = format!("{}/", fixture.at("").to_str().unwrap().trim_end_matches('/'));
    lines::<Entry>(bytes).into_iter().map(|entry| entry.path.replace(&top, "")).collect()
}

#[test]
fn paths_are_relative_to_the_workspace_absolute_or_of_the_home() {
    let f = Fixture::new();
    f.write("a/b", "1").unwrap();
    f.write("~/c", "2").unwrap();
    let home = f.root.path().join("home");
    for (path, text) in [
        ("a/b", "1"),
        ("./a//b", "1"),
        ("/workspace/a/b", "1"),
        (f.at("a/b").to_str().unwrap(), "1"),
        ("~/c", "2"),
        (home.join("c").to_str().unwrap(), "2"),
    ] {
        assert_eq!(f.read(path).unwrap(), text, "{path}");
    }
    assert_eq!(f.stat("~").unwrap().path, home.to_str().unwrap());
    assert_eq!(f.stat(".").unwrap().kind, FileKind::Directory);
}

#[test]
fn lists_in_order_and_page_by_page() {
    let f = Fixture::new();
    for path in ["b/1", "b/2/x", "a", "b-c", "c/z"] {
        f.write(path, path).unwrap();
    }
    symlink("a", f.at("link")).unwrap();
    let list = |recursive, limit, cursor| {
        let list = List { path: "/workspace".into(), recursive, limit, cursor };
        let (reply, bytes) = f.drain(Call::List(list));
        let Reply::Listed(next) = reply.unwrap() else { panic!() };
        (paths(&f, &bytes), next)
    };
    assert_eq!(list(false, 99, None), (["a", "b", "b-c", "c", "link"].map(String::from).into(), None));
    let whole = ["a", "b", "b/1", "b/2", "b/2/x", "b-c", "c", "c/z", "link"].map(String::from);
    assert_eq!(list(true, 9, None), (whole.to_vec(), None));
    for limit in 1..9 {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = list(true, limit, cursor);
            assert!(page.len() <= limit as usize);
            all.extend(page);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(all, whole, "limit {limit}");
    }
    let link = f.stat("link").unwrap();
    assert_eq!((link.kind, link.target.as_deref()), (FileKind::Symlink, Some("a")));
}

#[test]
fn a_file_appears_whole_and_keeps_its_mode() {
    let f = Fixture::new();
    let (upload, mut file) = f.create(Create { path: "x".into(), ..Create::default() }).unwrap();
    file.write_all(b"half").unwrap();
    assert!(f.names("").is_empty(), "nothing is seen before the end");
    file.write_all(b" and half").unwrap();
    f.call(Call::Commit { upload }).unwrap();
    assert_eq!(f.text("x"), "half and half");
    assert_eq!(f.at("x").metadata().unwrap().permissions().mode() & 0o777, 0o644);

    f.call(Call::Chmod { path: "x".into(), mode: 0o750 }).unwrap();
    let (entry, is_new) = f.write("x", "again").unwrap();
    assert!(!is_new);
    assert_eq!((entry.mode.as_str(), f.text("x").as_str()), ("0750", "again"));
    assert_eq!(entry, f.stat("x").unwrap());

    let (upload, mut file) = f.create(Create { path: "y".into(), ..Create::default() }).unwrap();
    file.write_all(b"lost").unwrap();
    f.call(Call::Abort { upload }).unwrap();
    assert_eq!(f.kind_of(Call::Commit { upload }), FailureKind::Io);
    assert_eq!(f.names(""), ["x"]);
}

#[test]
fn preconditions_hold_at_the_beginning_and_at_the_end() {
    let f = Fixture::new();
    let tag = |tag: &str| Some(vec![tag.to_owned()]);
    let star = Condition { if_none_match: tag("*"), ..Condition::default() };
    let (first, is_new) = f.write_if("x", "1", star.clone()).unwrap();
    assert!(is_new);
    assert_eq!(f.write_if("x", "2", star.clone()).unwrap_err().kind, FailureKind::Changed);
    let same = Condition { if_match: first.etag.map(|tag| vec![tag]), ..Condition::default() };
    // Two writers who read the same: the second one loses, whoever began first.
    let create = Create { path: "x".into(), condition: same.clone(), ..Create::default() };
    let (late, _file) = f.create(create).unwrap();
    f.write_if("x", "22", same.clone()).unwrap();
    assert_eq!(f.kind_of(Call::Commit { upload: late }), FailureKind::Changed);
    assert_eq!(f.write_if("x", "3", same.clone()).unwrap_err().kind, FailureKind::Changed);
    assert_eq!(f.write_if("none", "3", same.clone()).unwrap_err().kind, FailureKind::Changed);
    let delete = Call::Delete { path: "x".into(), recursive: false, condition: same };
    assert_eq!(f.kind_of(delete), FailureKind::Changed);
    // What appears between the two.
    let (upload, _file) =
        f.create(Create { path: "new".into(), condition: star, ..Create::default() }).unwrap();
    std::fs::write(f.at("new"), "theirs").unwrap();
    assert_eq!(f.kind_of(Call::Commit { upload }), FailureKind::Changed);
    assert_eq!((f.text("x").as_str(), f.text("new").as_str()), ("22", "theirs"));
    assert_eq!(f.names(""), ["new", "x"]);
}

#[test]
fn writing_through_a_link_writes_what_it_leads_to() {
    let f = Fixture::new();
    f.write("dir/real", "1").unwrap();
    symlink("dir/real", f.at("link")).unwrap();
    symlink("nothing", f.at("dangling")).unwrap();
    symlink(f.at("dir"), f.at("absolute")).unwrap();
    f.write("link", "2").unwrap();
    assert_eq!(f.text("dir/real"), "2");
    assert!(f.at("link").is_symlink());
    f.write("absolute/real", "3").unwrap();
    assert_eq!(f.read("link").unwrap(), "3");
    assert_eq!(f.write("dangling", "4").unwrap_err().kind, FailureKind::Exists);
    assert!(f.at("dangling").is_symlink());
}

#[test]
fn moves_and_copies_files_trees_and_links() {
    let f = Fixture::new();
    f.write("d/e/f", "f").unwrap();
    f.write("x", "x").unwrap();
    f.call(Call::Chmod { path: "d/e/f".into(), mode: 0o711 }).unwrap();
    symlink("e/f", f.at("d/link")).unwrap();
    nix::unistd::mkfifo(&f.at("d/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let copy =
        |from: &str, to: &str, overwrite| f.call(Call::Copy { from: from.into(), to: to.into(), overwrite });
    let moved =
        |from: &str, to: &str, overwrite| f.call(Call::Move { from: from.into(), to: to.into(), overwrite });
    let Reply::Copied(report) = copy("d", "copy", false).unwrap() else { panic!() };
    assert_eq!((report.files, report.bytes, report.skipped), (1, 1, 1));
    assert_eq!(f.text("copy/link"), "f");
    assert_eq!(f.at("copy/e/f").metadata().unwrap().mode() & 0o777, 0o711);
    assert_eq!(copy("d", "copy", false).unwrap_err().kind, FailureKind::Exists);
    assert_eq!(copy("d", "d/e/inside", false).unwrap_err().kind, FailureKind::Invalid);
    assert_eq!(copy("d/fifo", "fifo", false).unwrap_err().kind, FailureKind::NotAFile);
    assert_eq!(copy("x", "no/where", false).unwrap_err().kind, FailureKind::NotFound);
    copy("x", "copy/e/f", true).unwrap();
    assert_eq!(f.text("copy/e/f"), "x");

    assert_eq!(moved("copy", "d", false).unwrap_err().kind, FailureKind::Exists);
    assert_eq!(moved("copy", "d", true).unwrap_err().kind, FailureKind::NotEmpty);
    assert_eq!(moved("copy", "copy/e/in", false).unwrap_err().kind, FailureKind::Invalid);
    assert_eq!(moved(".", "y", false).unwrap_err().kind, FailureKind::Invalid);
    assert_eq!(moved("none", "y", false).unwrap_err().kind, FailureKind::NotFound);
    let there = entry(moved("copy", "~/copy", false).unwrap());
    assert_eq!(there.kind, FileKind::Directory);
    assert_eq!(f.read("~/copy/link").unwrap(), "x");
    assert_eq!(f.names(""), ["d", "x"]);
    assert_eq!(f.names("d"), ["e", "fifo", "link"]);
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_refused() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (f, stop) = (Fixture::new(), AtomicBool::new(false));
    std::fs::write(f.at("log"), vec![1; 4 << 20]).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = File::options().append(true).open(f.at("log")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(&[2; 4096]).unwrap();
                if log.metadata().unwrap().len() > 64 << 20 {
                    log.set_len(4 << 20).unwrap();
                }
            }
        });
        let torn = loop {
            let copy = Call::Copy { from: "log".into(), to: "copy".into(), overwrite: true };
            if let Err(failure) = f.call(copy) {
                break failure;
            }
        };
        stop.store(true, Ordering::Relaxed);
        assert_eq!(torn.kind, FailureKind::Torn);
    });
}

#[test]
fn makes_and_deletes_directories_however_deep() {
    let f = Fixture::new();
    let make = |path: &str| match f.call(Call::MakeDirectory { path: path.into() }).unwrap() {
        Reply::Written(entry, is_new) => (entry.kind, is_new),
        other => panic!("{other:?}"),
    };
    let delete = |path: &str, recursive| {
        f.call(Call::Delete { path: path.into(), recursive, condition: Condition::default() })
    };
    assert_eq!(make("a/b/c"), (FileKind::Directory, true));
    assert_eq!(make("a/b/c"), (FileKind::Directory, false));
    f.write("a/b/file", "").unwrap();
    symlink(f.root.path().join("outside"), f.at("a/link")).unwrap();
    let into = Call::MakeDirectory { path: "a/b/file/d".into() };
    assert_eq!(f.kind_of(into), FailureKind::NotADirectory);
    assert_eq!(delete("a", false).unwrap_err().kind, FailureKind::NotEmpty);
    assert_eq!(delete("none", true).unwrap_err().kind, FailureKind::NotFound);
    assert_eq!(delete("", true).unwrap_err().kind, FailureKind::Invalid);
    assert_eq!(delete(".", true).unwrap_err().kind, FailureKind::Invalid);
    let deep = format!("a/{}", "d/".repeat(400));
    make(&deep);
    // What goes through trees names the limit.
    let list = List { path: "a".into(), recursive: true, limit: 9999, cursor: None };
    let failure = f.drain(Call::List(list)).0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert!(failure.message.contains("more than 200 directories"), "{failure}");
    delete("a", true).unwrap();
    assert!(f.names("").is_empty());
    assert!(f.root.path().join("outside/secret").exists(), "links are not followed");
}

#[test]
fn searches_as_told() {
    let f = Fixture::new();
    f.write("src/a.rs", "one\r\nfn Täst(x.y)\n").unwrap();
    f.write("src/b.txt", "test x.y\nxay").unwrap();
    f.write("target/c.rs", "x.y").unwrap();
    f.write(".hidden", "x.y").unwrap();
    f.write("bin", "x.y\0x.y").unwrap();
    f.write(".gitignore", "/target\n").unwrap();
    f.write("src/.gitignore", "b.*\n").unwrap();
    let find = |search: Search| {
        let limit = if search.limit == 0 { 100 } else { search.limit };
        let path = if search.path.is_empty() { "/workspace".into() } else { search.path.clone() };
        let (reply, bytes) = f.drain(Call::Search(Search { limit, path, ..search }));
        let Reply::Searched { truncated, .. } = reply.unwrap() else { panic!() };
        let top = f.at("").to_str().unwrap().to_owned();
        let found = lines::<SearchMatch>(&bytes).into_iter();
        let found = found.map(|m| format!("{}:{}:{}", m.path.replace(&top, ""), m.line, m.column));
        (found.collect::<Vec<_>>(), truncated)
    };
    let query = |query: &str| Search { query: query.into(), ..Search::default() };
    assert_eq!(find(query("x.y")).0, ["src/a.rs:2:9", "src/b.txt:1:6", "target/c.rs:1:1"]);
    assert_eq!(find(Search { regex: true, ..query("^x.y$") }).0, ["src/b.txt:2:1", "target/c.rs:1:1"]);
    assert_eq!(find(Search { ignore_case: true, ..query("TÄST") }).0, ["src/a.rs:2:4"]);
    assert_eq!(find(Search { gitignore: true, ..query("x.y") }).0, ["src/a.rs:2:9"]);
    assert_eq!(
        find(Search { hidden: true, gitignore: true, ..query("x.y") }).0,
        [".hidden:1:1", "src/a.rs:2:9"]
    );
    let globbed = |glob: &str| find(Search { glob: Some(glob.into()), ..query("x.y") }).0;
    assert_eq!(globbed("*.rs"), ["src/a.rs:2:9", "target/c.rs:1:1"]);
    assert_eq!(globbed("src/**"), ["src/a.rs:2:9", "src/b.txt:1:6"]);
    assert_eq!(globbed("!*.rs"), ["src/b.txt:1:6"]);
    assert_eq!(find(Search { path: "src/b.txt".into(), ..query("xay") }).0, ["src/b.txt:2:1"]);
    assert_eq!(find(Search { limit: 1, ..query("x.y") }), (vec!["src/a.rs:2:9".into()], true));
    for bad in
        [Search { regex: true, ..query("(") }, query(""), Search { glob: Some("[".into()), ..query("x") }]
    {
        let (reply, _) = f.drain(Call::Search(Search { path: ".".into(), limit: 1, ..bad }));
        assert_eq!(reply.unwrap_err().kind, FailureKind::Invalid);
    }
}
