//! The last lines that hands and the gateway wrote, without the tokens.

use std::{collections::VecDeque, sync::Arc, sync::Mutex};

use reef_door::status::LogLine;
use reef_model::Clock;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Lines that are kept.
const LINES: usize = 2000;
/// Bytes of a line that are kept.
const LINE_BYTES: usize = 4096;

/// A bounded log.
pub(crate) struct LogRing {
    clock: Arc<dyn Clock>,
    secrets: Mutex<Vec<String>>,
    lines: Mutex<VecDeque<LogLine>>,
}

impl LogRing {
    /// Makes an empty one.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, secrets: Mutex::default(), lines: Mutex::default() }
    }

    /// Sets the texts that are blotted out of every later line.
    pub(crate) fn hide(&self, secrets: Vec<String>) {
        *lock(&self.secrets) = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
    }

    /// Appends lines until `source` ends.
    pub(crate) async fn follow(&self, mut source: impl AsyncBufRead + Unpin) {
        let mut line = Vec::new();
        while let Ok(true) = next_line(&mut source, &mut line).await {
            self.push(&String::from_utf8_lossy(&line));
        }
    }

    fn push(&self, line: &str) {
        let mut line = line.trim_end().to_owned();
        for secret in lock(&self.secrets).iter() {
            if line.contains(secret.as_str()) {
                line = line.replace(secret.as_str(), "[hidden]");
            }
        }
        let mut lines = lock(&self.lines);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(LogLine { at: self.clock.now(), line });
    }

    /// Returns the last `count` lines, oldest first.
    pub(crate) fn tail(&self, count: usize) -> Vec<LogLine> {
        let lines = lock(&self.lines);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }
}

/// Reads one line without its end, cut at [`LINE_BYTES`]; `false` at the end of `source`.
async fn next_line(source: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    loop {
        let chunk = source.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let text = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&text[..text.len().min(LINE_BYTES - line.len())]);
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
}
