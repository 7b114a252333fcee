//! Tests that need something of the machine; shared with the integration tests.

/// Tells whether a test can run. Where it cannot, that is said; where everything must be there (`CI`), it is a failure.
pub(crate) fn can_run(is_there: bool, need: &str) -> bool {
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "this test needs {need}");
        eprintln!("skipped: this test needs {need}");
    }
    is_there
}

/// Tells whether a test that needs root can run.
pub(crate) fn is_root() -> bool {
    can_run(nix::unistd::geteuid().is_root(), "root")
}
