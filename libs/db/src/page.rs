//! Keyset pages, newest first.

use uuid::Uuid;

/// A page of a list that is ordered by id, newest first; stable while rows are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only ids older than this one; `None`: from the newest.
    pub before: Option<Uuid>,
    /// At most this many rows; ask for one more than you show to learn whether there is more.
    pub limit: i64,
}

impl Page {
    /// The first page.
    pub const fn first(limit: i64) -> Self {
        Self { before: None, limit }
    }

    /// The page after the row with the id `last`.
    pub const fn after(last: Uuid, limit: i64) -> Self {
        Self { before: Some(last), limit }
    }

    /// The bound for `id < $n`: no UUIDv7 reaches the largest UUID.
    pub(crate) fn bound(self) -> Uuid {
        self.before.unwrap_or(Uuid::max())
    }
}
