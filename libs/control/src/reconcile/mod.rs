//! The instance reconciler: compares intent (database) with fact (runtime, door) and converges, one step at a time.
//!
//! It takes no input: a wake only says where to look first, and the periodic pass over everything is the truth. It may be
//! killed at any instruction. Work on one instance is exclusive: within the process by [`Queue`], across replicas by
//! a lease row that is renewed while a step runs and whose loss cuts the step off.

mod activity;
mod apply;
pub mod plan;
mod queue;
mod silence;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::StreamExt;
use reef_db::Wake;
use reef_model::InstanceId;
use reef_runtime::Hint;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use activity::Activity;
pub use queue::Queue;
pub use silence::Silence;

use crate::Control;

/// How often everything is compared, wakes or not.
const FULL_PASS: Duration = Duration::from_secs(30);
/// Instances worked on at once; the runtime is bound by two cores' worth of starting gateways.
const PARALLEL: usize = 4;
const PAGE: i64 = 500;

/// Runs the reconciler until `shutdown`; a step under way is given up, which is safe.
pub async fn run(control: Control, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(PARALLEL));
    let queue = control.queue();
    let mut wakes = control.db().wakes(Wake::Instances);
    let mut hints = control.runtime().hints();
    let mut next_full = Instant::now();
    tasks.spawn({
        let (control, shutdown) = (control.clone(), shutdown.clone());
        async move { activity::keep(&control, &shutdown).await }
    });
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(hint) = hints.next() => match hint {
                Hint::Instance(id) => queue.push(id),
                Hint::All => next_full = Instant::now(),
            },
            Ok(()) = wakes.changed() => {
                if let Err(error) = enqueue_due(&control).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "could not list due instances");
                }
            }
            () = tokio::time::sleep_until(next_full) => {
                next_full = Instant::now() + FULL_PASS;
                if let Err(error) = control.runtime().keep().await {
                    tracing::error!(error = &error as &dyn std::error::Error, "running instances lack what keeps them apart");
                }
                if let Err(error) = enqueue_all(&control).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "could not list instances");
                }
            }
            (id, turn) = queue.take() => {
                let (control, permits, shutdown) = (control.clone(), permits.clone(), shutdown.clone());
                tasks.spawn(async move {
                    let _turn = turn;
                    let Ok(_permit) = permits.acquire().await else { return };
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = apply::converge(&control, id) => {}
                    }
                });
            }
        }
    }
    tasks.close();
    tasks.wait().await;
    if let Err(error) = activity::flush(&control).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "last uses of instances not recorded");
    }
}

/// Puts every instance that the database or the runtime knows into the queue.
async fn enqueue_all(control: &Control) -> Result<(), crate::ControlError> {
    let mut ids = BTreeSet::new();
    let mut after: Option<InstanceId> = None;
    loop {
        let page = control.db().list_instances_any(after, PAGE).await?;
        after = page.last().map(|row| row.id);
        let is_last = (page.len() as i64) < PAGE;
        ids.extend(page.into_iter().map(|row| row.id));
        if is_last {
            break;
        }
    }
    let found = control.runtime().list().await?;
    ids.extend(found.into_iter().map(|observed| observed.id));
    for id in ids {
        control.queue().push(id);
    }
    Ok(())
}

/// Puts what another replica, or this one, has just given work to do into the queue.
async fn enqueue_due(control: &Control) -> Result<(), crate::ControlError> {
    for row in control.db().list_due_instances(control.now(), PAGE).await? {
        control.queue().push(row.id);
    }
    Ok(())
}
