//! Files, as the tenant.

use std::{os::fd::OwnedFd, path::Path};

use crate::wire::{
    files::{Call, Reply},
    work::{Failure, FailureKind},
};

/// The roots.
pub(crate) struct Files;

impl Files {
    pub(crate) fn new(_home: &Path, _workspace: &Path) -> Self {
        Self
    }

    /// Does what was asked.
    pub(crate) fn handle(
        &self,
        _call: Call,
        _fd: Option<OwnedFd>,
    ) -> Result<(Reply, Option<OwnedFd>), Failure> {
        Err(Failure::new(FailureKind::Invalid, "not yet"))
    }
}
