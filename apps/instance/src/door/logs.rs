//! The last lines that hands and the gateway wrote, without the tokens.
//!
//! They are kept in two files of the door's, the older one of which goes when the newer one is full, so that they are
//! there after a restart.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use reef_door::status::LogLine;
use reef_model::Clock;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Lines that are kept.
const LINES: usize = 2000;
/// Bytes of a line that are kept.
const LINE_BYTES: usize = 4096;
/// Bytes of a file after which another one is begun.
const FILE_BYTES: u64 = 4 << 20;
const HIDDEN: &[u8] = b"[hidden]";

/// A bounded log.
pub(crate) struct LogRing {
    clock: Arc<dyn Clock>,
    secrets: Mutex<Vec<String>>,
    lines: Mutex<VecDeque<LogLine>>,
    disk: Mutex<Option<Disk>>,
}

impl LogRing {
    /// Makes an empty one that is gone with the door.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, secrets: Mutex::default(), lines: Mutex::default(), disk: Mutex::default() }
    }

    /// Continues what an earlier door kept in its directory; without it where that cannot be used.
    pub(crate) fn open(clock: Arc<dyn Clock>, state_dir: &Path) -> Self {
        let log = Self::new(clock);
        match Disk::open(state_dir) {
            Ok((disk, lines)) => {
                *lock(&log.lines) = lines;
                *lock(&log.disk) = Some(disk);
            }
            Err(error) => tracing::warn!(%error, "logs are not kept over a restart of the door"),
        }
        log
    }

    /// Sets the texts that are blotted out of every later line.
    pub(crate) fn hide(&self, secrets: Vec<String>) {
        *lock(&self.secrets) = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
    }

    /// Appends lines until `source` ends.
    pub(crate) async fn follow(&self, mut source: impl AsyncBufRead + Unpin) {
        let mut line = Vec::new();
        loop {
            // A token that begins before the cut is read to its end, or it would not be known for one.
            let longest = lock(&self.secrets).iter().map(String::len).max().unwrap_or(0);
            match next_line(&mut source, &mut line, LINE_BYTES + longest).await {
                Ok(true) => self.push(&line),
                Ok(false) | Err(_) => return,
            }
        }
    }

    fn push(&self, raw: &[u8]) {
        let line = LogLine { at: self.clock.now(), line: self.shown(raw) };
        let mut disk = lock(&self.disk);
        if let Some(error) = disk.as_mut().and_then(|disk| disk.append(&line).err()) {
            tracing::warn!(%error, "logs are no longer written to the disk");
            *disk = None;
        }
        let mut lines = lock(&self.lines);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Blots the tokens out and cuts at [`LINE_BYTES`] of what was written.
    fn shown(&self, raw: &[u8]) -> String {
        let secrets = lock(&self.secrets);
        let raw = raw.trim_ascii_end();
        let (mut shown, mut at) = (Vec::with_capacity(raw.len()), 0);
        while at < raw.len().min(LINE_BYTES) {
            if let Some(secret) = secrets.iter().find(|secret| raw[at..].starts_with(secret.as_bytes())) {
                shown.extend_from_slice(HIDDEN);
                at += secret.len();
            } else {
                shown.push(raw[at]);
                at += 1;
            }
        }
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Returns the last `count` lines, oldest first.
    pub(crate) fn tail(&self, count: usize) -> Vec<LogLine> {
        let lines = lock(&self.lines);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }
}

/// The file that is written.
struct Disk {
    dir: PathBuf,
    file: File,
    bytes: u64,
}

impl Disk {
    fn open(dir: &Path) -> std::io::Result<(Self, VecDeque<LogLine>)> {
        let mut lines = VecDeque::new();
        for name in [Self::OLDER, Self::NEWER] {
            let Ok(file) = File::open(dir.join(name)) else { continue };
            // A line that a crash cut short is not shown.
            let kept = BufReader::new(file).lines().map_while(Result::ok);
            lines.extend(kept.filter_map(|line| serde_json::from_str::<LogLine>(&line).ok()));
            lines.drain(..lines.len().saturating_sub(LINES));
        }
        let file = File::options().create(true).append(true).open(dir.join(Self::NEWER))?;
        let bytes = file.metadata()?.len();
        let mut disk = Self { dir: dir.to_owned(), file, bytes };
        // What follows a line that was cut short is a line of its own.
        disk.write(b"\n")?;
        Ok((disk, lines))
    }

    const NEWER: &str = "logs.jsonl";
    const OLDER: &str = "logs.1.jsonl";

    fn append(&mut self, line: &LogLine) -> std::io::Result<()> {
        if self.bytes >= FILE_BYTES {
            let newer = self.dir.join(Self::NEWER);
            std::fs::rename(&newer, self.dir.join(Self::OLDER))?;
            self.file = File::options().create(true).append(true).open(newer)?;
            self.bytes = 0;
        }
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.write(&text)
    }

    fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// Reads one line without its end, cut at `most` bytes; `false` at the end of `source`.
async fn next_line(
    source: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    most: usize,
) -> std::io::Result<bool> {
    line.clear();
    loop {
        let chunk = source.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let text = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&text[..text.len().min(most - line.len())]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        source.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while holding it leaves whole lines at worst.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use reef_model::SystemClock;

    use super::*;

    #[tokio::test]
    async fn keeps_the_end_cuts_long_lines_and_hides_tokens() {
        let ring = LogRing::new(Arc::new(SystemClock));
        ring.hide(vec!["s3cret".into(), String::new()]);
        let mut text = (0..LINES + 10).map(|n| format!("line {n}\n")).collect::<String>();
        text.push_str(&"x".repeat(3 * LINE_BYTES));
        text.push_str("\ntoken s3cret!");
        ring.follow(text.as_bytes()).await;
        let tail = ring.tail(3);
        assert_eq!(tail[0].line, format!("line {}", LINES + 9));
        assert_eq!(tail[1].line.len(), LINE_BYTES);
        assert_eq!(tail[2].line, "token [hidden]!");
        assert_eq!(ring.tail(usize::MAX).len(), LINES);
    }

    #[tokio::test]
    async fn a_token_across_the_cut_is_hidden_and_brings_no_other_into_sight() {
        let ring = LogRing::new(Arc::new(SystemClock));
        let (one, two) = ("a1".repeat(32), "b2".repeat(32));
        ring.hide(vec![one.clone(), two.clone()]);
        for before in LINE_BYTES - 70..LINE_BYTES + 2 {
            // The first token shrinks to a mark, which must not draw what is behind the cut into the line.
            let text = format!("{one}{}{two}{two}\n", "x".repeat(before - one.len()));
            ring.follow(text.as_bytes()).await;
            let line = ring.tail(1).remove(0).line;
            assert!(!line.contains("a1") && !line.contains("b2"), "{before}: {line}");
        }
    }

    #[tokio::test]
    async fn lines_are_there_after_a_restart_and_the_files_stay_small() {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ring = LogRing::open(clock.clone(), dir.path());
        ring.hide(vec!["s3cret".into()]);
        let long = "y".repeat(LINE_BYTES - 100);
        let text: String = (0..3000).map(|n| format!("line {n} s3cret {long}\n")).collect();
        ring.follow(text.as_bytes()).await;
        drop(ring);
        // A crash in the middle of a line.
        let newer = dir.path().join("logs.jsonl");
        std::fs::File::options().append(true).open(&newer).unwrap().write_all(b"{\"at\":\"20").unwrap();
        let ring = LogRing::open(clock, dir.path());
        ring.follow("after it\n".as_bytes()).await;
        let tail = ring.tail(2);
        assert!(tail[0].line.starts_with("line 2999 [hidden]"), "{}", tail[0].line);
        assert_eq!(tail[1].line, "after it");
        assert!(ring.tail(usize::MAX).len() > 1000);
        drop(ring);
        let ring = LogRing::open(Arc::new(SystemClock), dir.path());
        assert_eq!(ring.tail(1)[0].line, "after it", "a line behind a broken one is read");
        for file in std::fs::read_dir(dir.path()).unwrap() {
            assert!(file.unwrap().metadata().unwrap().len() < FILE_BYTES + 3 * LINE_BYTES as u64);
        }
    }
}
