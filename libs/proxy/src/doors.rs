//! Which doors have tunnels, so that those of one can be ended together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::pool::DoorName;

/// The doors that have tunnels; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<BTreeMap<DoorName, Line>>>);

#[derive(Debug, Default)]
struct Line {
    tunnels: usize,
    leaving: CancellationToken,
}

impl Doors {
    /// Counts a tunnel to the door for as long as the returned value lives.
    pub(crate) fn enter(&self, door: DoorName) -> Entered {
        let mut lines = self.lock();
        let line = lines.entry(door).or_default();
        line.tunnels += 1;
        Entered { doors: self.clone(), door, leaving: line.leaving.clone() }
    }

    /// Ends the tunnels to the doors that were started for an earlier generation of the instance.
    pub(crate) fn leave_before(&self, id: Uuid, generation: i64) {
        for line in self.lock().range((id, i64::MIN)..(id, generation)).map(|(_, line)| line) {
            line.leaving.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<DoorName, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tunnel's place among those to its door.
#[derive(Debug)]
pub(crate) struct Entered {
    doors: Doors,
    door: DoorName,
    /// The door is going down.
    pub(crate) leaving: CancellationToken,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut lines = self.doors.lock();
        if let Some(line) = lines.get_mut(&self.door) {
            line.tunnels -= 1;
            if line.tunnels == 0 {
                lines.remove(&self.door);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_left_with_all_its_tunnels_and_no_other_is() {
        let doors = Doors::default();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let old = [doors.enter((one, 1)), doors.enter((one, 1))];
        let kept = [doors.enter((one, 2)), doors.enter((two, 1))];
        doors.leave_before(one, 2);
        assert!(old.iter().all(|tunnel| tunnel.leaving.is_cancelled()));
        assert!(!kept.iter().any(|tunnel| tunnel.leaving.is_cancelled()));
        drop((old, kept));
        assert!(doors.lock().is_empty(), "nothing is kept of what has ended");
    }
}
