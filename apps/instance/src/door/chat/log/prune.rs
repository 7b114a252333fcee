//! Removes what nobody needs any more, a little at a time.
//!
//! Once a turn has ended, its `message.completed` holds all that its deltas and tool events said. Those of old turns go;
//! ids are never used again, and every message and every end stays.

use std::time::Duration;

use reef_model::TurnId;

use super::{Log, LogError};

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Keep {
    /// Turns that ended less than this ago keep their deltas.
    pub(in super::super) age: Duration,
    /// The last so many turns keep theirs, too.
    pub(in super::super) turns: u32,
    /// Rows removed in one transaction.
    pub(in super::super) step: u32,
}

/// As ordinary clients come back: within a day, or to the last turns.
pub(in super::super) const KEEP: Keep = Keep { age: Duration::from_secs(24 * 3600), turns: 50, step: 500 };

/// Where the log is half full: what a client that lost its connection a moment ago needs.
pub(in super::super) const KEEP_LESS: Keep = Keep { age: Duration::from_secs(600), turns: 0, ..KEEP };

impl Log {
    /// Removes deltas and tool events of one old turn, at most [`Keep::step`] rows; `false` when there was nothing to do.
    pub(in super::super) async fn prune(&self, keep: Keep) -> Result<bool, LogError> {
        let oldest: Option<TurnId> = sqlx::query_scalar(
            "SELECT id FROM turns WHERE is_pruned = 0 AND ended_at IS NOT NULL AND ended_at < $1
             AND seq <= (SELECT MAX(seq) FROM turns) - $2 ORDER BY seq LIMIT 1",
        )
        .bind(self.clock.now() - keep.age)
        .bind(keep.turns)
        .fetch_optional(&self.reader)
        .await?;
        let Some(turn) = oldest else { return Ok(false) };
        let mut batch = self.begin().await?;
        let gone = sqlx::query(
            "DELETE FROM events WHERE id IN (
                 SELECT id FROM events WHERE turn_id = $1
                 AND name IN ('message.delta', 'tool.started', 'tool.completed')
                 AND EXISTS (SELECT 1 FROM events WHERE turn_id = $1 AND name = 'message.completed')
                 ORDER BY id LIMIT $2)",
        )
        .bind(turn)
        .bind(keep.step)
        .execute(batch.conn())
        .await?;
        if gone.rows_affected() < u64::from(keep.step) {
            sqlx::query("UPDATE turns SET is_pruned = 1 WHERE id = $1")
                .bind(turn)
                .execute(batch.conn())
                .await?;
        }
        self.commit(batch).await?;
        Ok(true)
    }

    /// Gives a little of the free space back to the disk; `false` when there is none.
    pub(in super::super) async fn shrink(&self) -> Result<bool, LogError> {
        const PAGES: i64 = 1000;
        let mut writer = self.writer.lock().await;
        let free: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut writer.conn).await?;
        if free < PAGES || writer.is_open {
            return Ok(false);
        }
        sqlx::raw_sql("PRAGMA incremental_vacuum(1000)").execute(&mut writer.conn).await?;
        let left: i64 = sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut writer.conn).await?;
        Ok(left < free)
    }
}
