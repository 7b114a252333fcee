//! Looking for text in files.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use grep_matcher::Matcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkMatch};
use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
    overrides::{Override, OverrideBuilder},
};
use reef_door::files::{FileKind, SearchMatch};
use rustix::fs::fstat;

use super::{
    READ,
    beneath::{Place, Roots, open_below},
    entry::{kind, require_regular, size},
    pipe::{Lines, Pipe},
    walk::{Item, Walk},
};
use crate::wire::{
    files::{Reply, Search},
    work::{Failure, FailureKind},
};

const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Larger files are left out.
const MAX_FILE: u64 = 64 << 20;
/// Files with longer lines are left out.
const MAX_LINE: usize = 4 << 20;
/// Characters of a line that are given back.
const MAX_TEXT: usize = 1000;
/// Bytes that a compiled expression may take.
const MAX_PATTERN: usize = 8 << 20;
/// Bytes of an ignore file that are read.
const MAX_IGNORE: u64 = 1 << 20;
/// Patterns are matched against paths below this, which stands for the searched directory.
const TOP: &str = "/";

/// Writes matches to `pipe`. Binary files, links and special files are left out.
pub(super) fn search(roots: &Roots, search: &Search, pipe: Pipe) -> Result<Reply, Failure> {
    search_until(Instant::now() + TIME_LIMIT, roots, search, pipe)
}

fn search_until(until: Instant, roots: &Roots, search: &Search, pipe: Pipe) -> Result<Reply, Failure> {
    let place = roots.place(&search.path)?;
    let matcher = matcher(search)?;
    let globs = globs(search.glob.as_deref())?;
    let file = place.open(READ).map_err(|error| place.failure(error))?;
    let stat = fstat(&file).map_err(|error| place.failure(error))?;
    let mut run = Run {
        place: &place,
        matcher,
        searcher: SearcherBuilder::new()
            .line_number(true)
            .heap_limit(Some(MAX_LINE))
            .binary_detection(BinaryDetection::quit(0))
            .build(),
        limits: Limits { until, pipe: pipe.try_clone().map_err(|error| place.failure(error))? },
        lines: Lines::new(pipe),
        left: search.limit,
        files: 0,
        is_cut: false,
    };
    match kind(&stat) {
        FileKind::Directory => {
            let ignores = Ignores { is_on: search.gitignore, levels: Vec::new() };
            run.tree(file, &globs, ignores, search.hidden).map_err(|error| place.failure(error))?;
        }
        FileKind::File => run.file(Path::new(""), file.into()).map_err(|error| place.failure(error))?,
        FileKind::Symlink | FileKind::Other => return Err(place.failure(rustix::io::Errno::NXIO)),
    }
    run.lines.flush().map_err(|error| place.failure(error))?;
    Ok(Reply::Searched { files: run.files, truncated: run.is_cut })
}

fn matcher(search: &Search) -> Result<RegexMatcher, Failure> {
    if search.query.is_empty() {
        return Err(Failure::new(FailureKind::Invalid, "the query is empty"));
    }
    RegexMatcherBuilder::new()
        .fixed_strings(!search.regex)
        .case_insensitive(search.ignore_case)
        .line_terminator(Some(b'\n'))
        .size_limit(MAX_PATTERN)
        .dfa_size_limit(MAX_PATTERN)
        .build(&search.query)
        .map_err(|error| Failure::new(FailureKind::Invalid, format!("the query cannot be used: {error}")))
}

fn globs(glob: Option<&str>) -> Result<Override, Failure> {
    let mut builder = OverrideBuilder::new(TOP);
    let built = match glob {
        None => builder.build(),
        Some(glob) => builder.add(glob).and_then(|builder| builder.build()),
    };
    built.map_err(|error| Failure::new(FailureKind::Invalid, format!("the glob cannot be used: {error}")))
}

struct Run<'a> {
    place: &'a Place<'a>,
    matcher: RegexMatcher,
    searcher: Searcher,
    lines: Lines,
    limits: Limits,
    left: u32,
    files: u64,
    is_cut: bool,
}

impl Run<'_> {
    fn tree(
        &mut self,
        top: std::os::fd::OwnedFd,
        globs: &Override,
        mut ignores: Ignores,
        with_hidden: bool,
    ) -> io::Result<()> {
        ignores.enter(&top, Path::new(""));
        let again = top.try_clone()?;
        let mut walk = Walk::new(top)?;
        while let Some(item) = walk.next() {
            // What is closed to the tenant is not searched.
            let Ok(item) = item else { continue };
            let is_dir = kind(&item.stat) == FileKind::Directory;
            let is_hidden = !with_hidden && item.name.as_encoded_bytes().starts_with(b".");
            let path = Path::new(TOP).join(&item.path);
            if is_hidden
                || ignores.has(&item.path, is_dir)
                || (!is_dir && globs.matched(&path, false).is_ignore())
            {
                walk.skip();
                continue;
            }
            if is_dir {
                ignores.enter(&again, &item.path);
            } else if kind(&item.stat) == FileKind::File && size(&item.stat) <= MAX_FILE {
                self.item(&item)?;
            }
            self.is_cut |= self.limits.is_late();
            if self.is_cut || self.limits.is_unread() {
                break;
            }
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item.open_regular() {
            Ok(file) => self.file(&item.path, file.into()),
            Err(_) => Ok(()),
        }
    }

    fn file(&mut self, path: &Path, file: File) -> io::Result<()> {
        self.files += 1;
        let shown =
            if path.as_os_str().is_empty() { self.place.path() } else { self.place.join(path).path() };
        let mut found = Found {
            path: shown.to_string_lossy().into_owned(),
            matcher: &self.matcher,
            lines: &mut self.lines,
            left: &mut self.left,
            is_cut: &mut self.is_cut,
            is_broken: None,
        };
        let mut content = Content { file, limits: &self.limits, is_late: false };
        // A line that is too long, or a file that cannot be read, is no error of the search.
        let _ = self.searcher.search_reader(&self.matcher, &mut content, &mut found);
        let is_broken = found.is_broken;
        self.is_cut |= content.is_late;
        is_broken.map_or(Ok(()), Err)
    }
}

/// When a search ends, whatever is left.
struct Limits {
    until: Instant,
    /// Where the matches go.
    pipe: Pipe,
}

impl Limits {
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    fn is_unread(&self) -> bool {
        self.pipe.is_closed()
    }
}

/// A file that cannot be read any further once the search is to end.
struct Content<'a> {
    file: File,
    limits: &'a Limits,
    is_late: bool,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.is_late = self.limits.is_late();
        if self.is_late || self.limits.is_unread() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(buf)
    }
}

struct Found<'a> {
    path: String,
    matcher: &'a RegexMatcher,
    lines: &'a mut Lines,
    left: &'a mut u32,
    is_cut: &'a mut bool,
    /// The pipe cannot be written.
    is_broken: Option<io::Error>,
}

impl Sink for Found<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        if *self.left == 0 {
            *self.is_cut = true;
            return Ok(false);
        }
        *self.left -= 1;
        let line = without_end(found.bytes());
        let at = self.matcher.find(line).ok().flatten().map_or(0, |found| found.start());
        let column = String::from_utf8_lossy(&line[..at]).chars().count() as u64 + 1;
        let text = String::from_utf8_lossy(line).chars().take(MAX_TEXT).collect();
        let line = found.line_number().unwrap_or(0);
        let result = self.lines.push(&SearchMatch { path: self.path.clone(), line, column, text });
        let is_written = result.is_ok();
        self.is_broken = result.err();
        Ok(is_written)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What the `.gitignore` files on the way to a path say.
struct Ignores {
    is_on: bool,
    /// With the directory that each is in.
    levels: Vec<(PathBuf, Gitignore)>,
}

impl Ignores {
    /// Reads the file in a directory, if there is one.
    fn enter(&mut self, top: &std::os::fd::OwnedFd, dir: &Path) {
        if !self.is_on {
            return;
        }
        self.levels.retain(|(level, _)| dir.starts_with(level) && dir != level);
        let flags = READ;
        let Ok(file) = open_below(top, &dir.join(".gitignore"), flags) else { return };
        let mut text = Vec::new();
        if require_regular(&file).is_err()
            || File::from(file).take(MAX_IGNORE).read_to_end(&mut text).is_err()
        {
            return;
        }
        let mut builder = GitignoreBuilder::new(Path::new(TOP).join(dir));
        for line in String::from_utf8_lossy(&text).lines() {
            // As in git, a line that is no pattern says nothing.
            let _ = builder.add_line(None, line);
        }
        if let Ok(ignore) = builder.build() {
            self.levels.push((dir.into(), ignore));
        }
    }

    /// Says whether a path is to be left out; the innermost file that says anything decides.
    fn has(&mut self, path: &Path, is_dir: bool) -> bool {
        if !self.is_on {
            return false;
        }
        if path.file_name().is_some_and(|name| name == ".git") {
            return true;
        }
        let full = Path::new(TOP).join(path);
        self.levels
            .iter()
            .rev()
            .filter(|(level, _)| path.starts_with(level))
            .map(|(_, ignore)| ignore.matched(&full, is_dir))
            .find(|matched| !matches!(matched, Match::None))
            .is_some_and(|matched| matched.is_ignore())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of many buffers with one match at its end.
    fn tree() -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("large"), "hay\n".repeat(1 << 20) + "needle\n").unwrap();
        let roots = Roots::new(dir.path(), dir.path());
        (dir, roots)
    }

    fn needle() -> Search {
        Search { path: "large".into(), query: "needle".into(), limit: 9, ..Search::default() }
    }

    #[test]
    fn a_file_is_not_read_past_the_time() {
        let (_dir, roots) = tree();
        for (until, expected) in [(Instant::now(), true), (Instant::now() + TIME_LIMIT, false)] {
            let (_read, write) = std::io::pipe().unwrap();
            let reply = search_until(until, &roots, &needle(), Pipe::new(write.into())).unwrap();
            let Reply::Searched { truncated, .. } = reply else { panic!("{reply:?}") };
            assert_eq!(truncated, expected);
        }
    }

    #[test]
    fn a_file_is_not_read_for_nobody() {
        let (_dir, roots) = tree();
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        // A match that was found could not be written.
        assert!(search(&roots, &needle(), Pipe::new(write.into())).is_ok());
    }
}
