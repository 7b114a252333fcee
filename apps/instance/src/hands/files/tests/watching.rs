//! Watching.

use std::io::{BufRead, BufReader};

use reef_door::files::{WatchChange, WatchEvent};

use super::*;

struct Watching {
    events: BufReader<std::io::PipeReader>,
    calling: thread::JoinHandle<Result<Reply, Failure>>,
    top: String,
}

impl Watching {
    fn start(f: &Fixture, path: &str, recursive: bool) -> Self {
        let (read, write) = std::io::pipe().unwrap();
        let (files, call) = (f.files.clone(), Call::Watch { path: path.into(), recursive });
        let calling = thread::spawn(move || files.handle(call, Some(write.into())).map(|(reply, _)| reply));
        let mut watching =
            Self { events: BufReader::new(read), calling, top: f.at("").to_str().unwrap().into() };
        assert_eq!(watching.next().change, WatchChange::Ready);
        watching
    }

    fn next(&mut self) -> WatchEvent {
        let mut line = String::new();
        self.events.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Reads events until one is about `path`, and returns its change and where it came from.
    fn until(&mut self, path: &str) -> (WatchChange, Option<String>) {
        loop {
            let event = self.next();
            if event.path.strip_prefix(&self.top) == Some(path) {
                return (event.change, event.from.map(|from| from.replace(&self.top, "")));
            }
        }
    }
}

#[test]
fn says_what_happens_and_ends_with_its_reader() {
    let f = Fixture::new();
    f.write("d/e/f", "1").unwrap();
    let mut watching = Watching::start(&f, "/workspace", true);
    std::fs::write(f.at("d/e/f"), "2").unwrap();
    assert_eq!(watching.until("d/e/f").0, WatchChange::Modified);
    f.write("new", "whole").unwrap();
    assert_eq!(watching.until("new").0, WatchChange::Created);
    std::fs::rename(f.at("new"), f.at("d/moved")).unwrap();
    assert_eq!(watching.until("d/moved"), (WatchChange::Moved, Some("new".into())));
    std::fs::rename(f.at("d"), f.at("z")).unwrap();
    assert_eq!(watching.until("z"), (WatchChange::Moved, Some("d".into())));
    std::fs::remove_file(f.at("z/e/f")).unwrap();
    assert_eq!(watching.until("z/e/f").0, WatchChange::Deleted);
    std::fs::create_dir_all(f.at("n1/n2/n3")).unwrap();
    assert_eq!(watching.until("n1/n2/n3").0, WatchChange::Created);
    std::fs::write(f.at("n1/n2/n3/deep"), "").unwrap();
    assert_eq!(watching.until("n1/n2/n3/deep").0, WatchChange::Created);
    std::fs::rename(f.at("z"), f.root.path().join("outside/z")).unwrap();
    assert_eq!(watching.until("z").0, WatchChange::Deleted);
    std::fs::write(f.root.path().join("outside/z/unseen"), "").unwrap();
    std::fs::write(f.at("seen"), "").unwrap();
    let next = watching.next();
    assert!(next.path.ends_with("/seen"), "{next:?}");
    let Watching { events, calling, .. } = watching;
    drop(events);
    assert!(matches!(calling.join().unwrap().unwrap(), Reply::Done));
}

#[test]
fn watches_one_file_and_ends_with_its_directory() {
    let f = Fixture::new();
    f.write("d/one", "1").unwrap();
    f.write("d/two", "2").unwrap();
    let mut watching = Watching::start(&f, "d/one", false);
    std::fs::write(f.at("d/two"), "22").unwrap();
    std::fs::write(f.at("d/one"), "11").unwrap();
    let event = watching.next();
    assert_eq!((event.change, event.path.ends_with("d/one")), (WatchChange::Modified, true));
    drop(watching.events);
    watching.calling.join().unwrap().unwrap();

    let mut watching = Watching::start(&f, "d", false);
    f.call(Call::Delete { path: "d".into(), recursive: true, condition: Condition::default() }).unwrap();
    while watching.next().path != f.at("d").to_str().unwrap() {}
    watching.calling.join().unwrap().unwrap();

    let (_read, write) = std::io::pipe().unwrap();
    let none = f.files.handle(Call::Watch { path: "none".into(), recursive: false }, Some(write.into()));
    assert_eq!(none.unwrap_err().kind, FailureKind::NotFound);
}
