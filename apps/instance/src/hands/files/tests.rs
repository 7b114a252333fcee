//! Calls against real directories; what attacks paths and archives.

mod archives;
mod attacks;
mod everyday;
mod watching;

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    thread,
};

use reef_door::files::Entry;
use serde::de::DeserializeOwned;

use super::Files;
use crate::wire::{
    files::{Call, Condition, Create, Reply},
    work::{Failure, FailureKind},
};

/// A workspace and a home, with something beside them that nobody may see.
struct Fixture {
    root: tempfile::TempDir,
    files: Arc<Files>,
}

impl Fixture {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["workspace", "home", "outside"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        std::fs::write(root.path().join("outside/secret"), "secret").unwrap();
        let files = Arc::new(Files::new(&root.path().join("home"), &root.path().join("workspace")));
        Self { root, files }
    }

    /// Returns a path in the workspace.
    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join("workspace").join(path)
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.at(path)).unwrap()
    }

    fn call(&self, call: Call) -> Result<Reply, Failure> {
        self.files.handle(call, None).map(|(reply, _)| reply)
    }

    fn kind_of(&self, call: Call) -> FailureKind {
        self.call(call).unwrap_err().kind
    }

    fn stat(&self, path: &str) -> Result<Entry, Failure> {
        self.call(Call::Stat { path: path.into(), follow: false }).map(entry)
    }

    fn read(&self, path: &str) -> Result<String, Failure> {
        let call = Call::Open { path: path.into() };
        // Both ways, so that both are attacked.
        let at_once = self.files.open_at_once(&call).map(|(reply, file)| (reply, Some(file)));
        let (_, fd) = match at_once {
            Some(opened) if rand::random() => opened,
            _ => self.files.handle(call, None)?,
        };
        let mut text = String::new();
        File::from(fd.expect("an open file")).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    fn create(&self, create: Create) -> Result<(u64, File), Failure> {
        let (reply, fd) = self.files.handle(Call::Create(create), None)?;
        let Reply::Upload(number) = reply else { panic!("{reply:?}") };
        Ok((number, fd.expect("an open file").into()))
    }

    fn write_if(&self, path: &str, text: &str, condition: Condition) -> Result<(Entry, bool), Failure> {
        let create = Create { path: path.into(), parents: true, condition, ..Create::default() };
        let (upload, mut file) = self.create(create)?;
        file.write_all(text.as_bytes()).unwrap();
        match self.call(Call::Commit { upload })? {
            Reply::Written(entry, is_new) => Ok((*entry, is_new)),
            other => panic!("{other:?}"),
        }
    }

    fn write(&self, path: &str, text: &str) -> Result<(Entry, bool), Failure> {
        self.write_if(path, text, Condition::default())
    }

    /// Runs a call that writes to a pipe; returns all that it wrote.
    fn drain(&self, call: Call) -> (Result<Reply, Failure>, Vec<u8>) {
        let (mut read, write) = std::io::pipe().unwrap();
        let files = self.files.clone();
        let calling = thread::spawn(move || files.handle(call, Some(OwnedFd::from(write))));
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).unwrap();
        (calling.join().unwrap().map(|(reply, _)| reply), bytes)
    }

    /// Runs a call that reads from a pipe.
    fn feed(&self, call: Call, bytes: Vec<u8>) -> Result<Reply, Failure> {
        let (read, mut write) = std::io::pipe().unwrap();
        let feeding = thread::spawn(move || write.write_all(&bytes));
        let result = self.files.handle(call, Some(OwnedFd::from(read)));
        // It may have stopped to read.
        let _ = feeding.join().unwrap();
        result.map(|(reply, _)| reply)
    }

    /// Returns the names in a directory of the workspace, hidden ones too.
    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.at(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn entry(reply: Reply) -> Entry {
    match reply {
        Reply::Entry(entry) => *entry,
        other => panic!("{other:?}"),
    }
}

fn lines<T: DeserializeOwned>(bytes: &[u8]) -> Vec<T> {
    serde_json::Deserializer::from_slice(bytes).into_iter().collect::<Result<_, _>>().unwrap()
}
