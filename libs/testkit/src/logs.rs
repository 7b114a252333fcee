//! What the process logs, kept so that a test can look for secrets in it.

use std::{
    io,
    sync::{LazyLock, Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

static CAPTURED: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(Mutex::default);
static STARTED: LazyLock<()> = LazyLock::new(|| {
    // SQL statements hold no values and are many.
    let filter = EnvFilter::new("trace,sqlx=info");
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Capture).try_init();
});

/// Begins to keep everything that is logged in this process, at every level.
pub(crate) fn capture() {
    LazyLock::force(&STARTED);
}

/// Returns what was logged so far.
pub(crate) fn captured() -> String {
    String::from_utf8_lossy(&CAPTURED.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

struct Capture;

impl io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Capture {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        Self
    }
}
