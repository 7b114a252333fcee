//! Since when doors do not answer: kept in memory, so a control plane that was started anew counts from its own first look.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use reef_model::{InstanceId, Timestamp};
use rustix::io::Errno;

use crate::ControlError;

/// Of each instance whose door did not answer the last look, when the first such look in a row was.
///
/// Looks may lie a minute apart and more, so the last answer would say too little: one look missed is no silence.
#[derive(Debug, Default)]
pub struct Silence(Mutex<BTreeMap<InstanceId, Timestamp>>);

impl Silence {
    /// Notes a look that was not answered; returns since when none was.
    pub(super) fn begin(&self, id: InstanceId, now: Timestamp) -> Timestamp {
        *self.lock().entry(id).or_insert(now)
    }

    /// Notes that the door answered, or that no answer is to be expected.
    pub(super) fn end(&self, id: InstanceId) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether a failed look says something of the door: where this machine has no descriptor or memory left, or a token
/// cannot be read, the door was not asked.
pub(super) fn is_of_the_door(error: &ControlError) -> bool {
    let ControlError::Io(error) = error else { return false };
    !matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn want_of_this_machine_is_no_silence() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(!is_of_the_door(&ControlError::Io(errno.into())), "{errno}");
        }
        assert!(!is_of_the_door(&ControlError::Secret));
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused, io::ErrorKind::Other] {
            assert!(is_of_the_door(&ControlError::Io(kind.into())), "{kind}");
        }
    }
}
