//! What the API does besides answering: hears of revocations and of what other replicas do, writes what it noted, forgets
//! what is old.

use std::time::Duration;

use reef_control::{ControlError, EventKind};
use reef_db::Wake;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ApiState;

/// The truth behind notifications, which may be lost.
const REVOCATION_POLL: Duration = Duration::from_millis(500);
/// Without the database for so long, nobody is believed.
const TRUST: Duration = Duration::from_secs(60);
const FLUSH: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_secs(3600);
const REAP: Duration = Duration::from_secs(60);
const PAGE: i64 = 500;

impl ApiState {
    /// Works until `stop`, then writes what is noted.
    pub async fn run(&self, stop: CancellationToken) {
        let work = async {
            tokio::join!(
                self.hear_revocations(),
                self.hear_intents(),
                self.control().relay_events(),
                self.reap(),
                self.sweep()
            )
        };
        tokio::join!(stop.run_until_cancelled(work), self.flush_uses(&stop));
        self.flush_once().await;
    }

    async fn hear_revocations(&self) {
        let db = self.control().db();
        let mut wakes = db.wakes(Wake::Revocations);
        let mut heard = Instant::now();
        let mut after = None;
        loop {
            match self.hear_once(after).await {
                Ok(seq) => {
                    after = Some(seq);
                    heard = Instant::now();
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "revocations not read");
                    if heard.elapsed() > TRUST {
                        self.callers().distrust();
                    }
                }
            }
            self.callers().expire(self.control().now());
            let _ = tokio::time::timeout(REVOCATION_POLL, wakes.changed()).await;
        }
    }

    /// Applies what came after `after`; from the end where nothing was read yet, since the caches were empty then.
    async fn hear_once(&self, after: Option<i64>) -> Result<i64, ControlError> {
        let db = self.control().db();
        let Some(mut after) = after else { return Ok(db.last_revocation().await?.0) };
        loop {
            let rows = db.list_revocations(after, PAGE).await?;
            for row in &rows {
                self.callers().apply(self.control().accounts(), row).await?;
                after = row.seq;
            }
            if rows.len() < PAGE as usize {
                return Ok(after);
            }
        }
    }

    /// Ends the sockets of instances whose doors are to go down, at once: the reconciler may come to them much later.
    async fn hear_intents(&self) {
        let mut events = self.control().follow();
        let mut wakes = self.control().db().wakes(Wake::Instances);
        loop {
            let heard = tokio::select! {
                // This replica's own verbs tell the row; of others' there is but a wake, and so there is of what was missed.
                event = events.recv() => match event {
                    Ok(event) => {
                        if let EventKind::Instance(row) = &event.kind {
                            self.pipe().leave_before(row.id.as_uuid(), row.generation);
                        }
                        Ok(())
                    }
                    Err(_) => self.hear_due().await,
                },
                Ok(()) = wakes.changed() => self.hear_due().await,
            };
            if let Err(error) = heard {
                tracing::warn!(error = &error as &dyn std::error::Error, "intents not read");
            }
        }
    }

    async fn hear_due(&self) -> Result<(), ControlError> {
        for row in self.control().db().list_due_instances(self.control().now(), PAGE).await? {
            self.pipe().leave_before(row.id.as_uuid(), row.generation);
        }
        Ok(())
    }

    /// Writes until `stop`; a batch under way is written to its end.
    async fn flush_uses(&self, stop: &CancellationToken) {
        let mut ticks = interval(FLUSH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.flush_once().await;
        }
    }

    async fn flush_once(&self) {
        if let Err(error) = self.control().accounts().flush_uses().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "uses of keys not recorded");
        }
    }

    async fn reap(&self) {
        let mut ticks = interval(REAP);
        loop {
            ticks.tick().await;
            self.limits().reap();
            self.pipe().reap();
        }
    }

    async fn sweep(&self) {
        let mut ticks = interval(SWEEP);
        loop {
            ticks.tick().await;
            if let Err(error) = self.control().accounts().sweep().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "ended sessions not removed");
            }
            if let Err(error) = crate::idempotency::reap(self).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "old answers not removed");
            }
            match self.control().purge_accounts().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "deleted accounts are gone"),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "deleted accounts not removed");
                }
            }
        }
    }
}
