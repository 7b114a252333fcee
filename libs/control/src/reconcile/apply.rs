//! Takes the planned steps and records the facts. Thin: every choice is in [`super::plan`].

use std::time::Duration;

use reef_db::{Fact, InstanceRow, OperationError};
use reef_door::ending;
use reef_model::{Desired, InstanceId, OperationStatus, Power, Status};
use reef_runtime::{InstanceSpec, Observed, RuntimeError};

use super::{
    plan::{Decision, Door, Intent, Step, plan, retry_delay},
    silence::is_of_the_door,
};
use crate::{Control, ControlError, Lease};

/// How long an instance may take to go down before it is killed: what its door gives everything in it, and a moment.
const STOP_GRACE: Duration = Duration::from_secs(ending::WHOLE.as_secs() + 2);
/// How long a door may take to answer a look.
const DOOR_TIMEOUT: Duration = Duration::from_secs(5);
/// When a step fails for a reason of ours (database, engine, lease), look again after this long.
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// More steps than any plan needs: a net under a plan that does not settle.
const MAX_STEPS: usize = 8;
/// Failed starts after which an operation that waits for `ready` is given up; the reconciler goes on trying.
const FAILURES_TO_GIVE_UP: i64 = 3;

/// Brings one instance to where its owner wants it, or as far as it goes now.
pub(super) async fn converge(control: &Control, id: InstanceId) {
    match converge_leased(control, id).await {
        Ok(Some(delay)) => control.queue().push_after(id, delay),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(instance = %id, error = &error as &dyn std::error::Error, "reconcile failed");
            control.queue().push_after(id, AFTER_ERROR);
        }
    }
}

/// Returns when to look again; `None`: there is nothing left to look at.
async fn converge_leased(control: &Control, id: InstanceId) -> Result<Option<Duration>, ControlError> {
    // An instance that is as it should be costs no lease and no write.
    match look(control, id).await? {
        Look::Gone => return Ok(None),
        Look::Row(seen) if seen.is_steady() => return Ok(Some(seen.recheck())),
        Look::Row(_) => {}
    }
    let Some(lease) = Lease::claim(control, format!("instance:{id}")).await? else {
        return Ok(Some(AFTER_ERROR));
    };
    let outcome = tokio::select! {
        outcome = take_steps(control, &lease, id) => outcome,
        // Another replica works here now; a step that is cut off is safe.
        () = lease.lost() => Ok(Some(AFTER_ERROR)),
    };
    lease.release().await;
    outcome
}

async fn take_steps(
    control: &Control,
    lease: &Lease,
    id: InstanceId,
) -> Result<Option<Duration>, ControlError> {
    for _ in 0..MAX_STEPS {
        let seen = match look(control, id).await? {
            Look::Gone => return Ok(None),
            Look::Row(seen) => seen,
        };
        match seen.decision.step {
            Step::Settled(_) => {
                record(control, lease, &seen.row, &seen.fact).await?;
                return Ok(Some(seen.recheck()));
            }
            Step::Start => start(control, lease, &seen.row, seen.fact).await?,
            Step::Stop => {
                record(control, lease, &seen.row, &seen.fact).await?;
                control.runtime().stop(id, STOP_GRACE).await?;
                control.model_access().release(id);
            }
            Step::Fail => {
                control.runtime().stop(id, STOP_GRACE).await?;
                let reason = seen.decision.reason.clone().or_else(|| how_it_died(seen.observed.as_ref()));
                fail(control, lease, &seen.row, seen.fact, reason).await?;
            }
            Step::Purge => {
                control.runtime().remove(id).await?;
                control.model_access().release(id);
                control.purge(lease, &seen.row).await?;
                return Ok(None);
            }
        }
    }
    tracing::error!(instance = %id, "the plan does not settle");
    Ok(Some(AFTER_ERROR))
}

enum Look {
    Gone,
    Row(Box<Seen>),
}

struct Seen {
    row: InstanceRow,
    observed: Option<Observed>,
    decision: Decision,
    fact: Fact,
    has_operation: bool,
}

impl Seen {
    fn is_steady(&self) -> bool {
        matches!(self.decision.step, Step::Settled(_)) && self.fact == self.row.fact() && !self.has_operation
    }

    fn recheck(&self) -> Duration {
        match self.decision.step {
            Step::Settled(delay) => delay,
            Step::Start | Step::Stop | Step::Fail | Step::Purge => AFTER_ERROR,
        }
    }
}

async fn look(control: &Control, id: InstanceId) -> Result<Look, ControlError> {
    let observed = control.runtime().inspect(id).await?;
    let Some(row) = control.db().lookup_instance_any(id).await? else {
        control.silence().end(id);
        // Without a row nobody can reach it. Its data stays: the database may be the one that lost something.
        if observed.is_some_and(|run| run.power != Power::Stopped) {
            tracing::warn!(instance = %id, "stopping an instance that the database does not know; its data is kept");
            control.runtime().stop(id, STOP_GRACE).await?;
        }
        return Ok(Look::Gone);
    };
    let is_up = row.desired == Desired::Running
        && observed
            .as_ref()
            .is_some_and(|run| run.power == Power::Running && run.generation == row.generation);
    let door = if is_up {
        // A restarted control plane has no model socket until it looks.
        control.model_access().serve(id, &control.runtime().run_dir(id).await?).await?;
        ask(control, &row).await?
    } else {
        Door::Unasked
    };
    if !matches!(door, Door::Silent { .. }) {
        control.silence().end(id);
    }
    let decision = plan(&intent_of(&row), observed.as_ref(), &door, control.now());
    if let (true, Door::Answered(status)) = (is_up, &door) {
        control.note_activity(&row, status);
        control.watch_door(&row, status.revision);
    }
    let fact = fact_of(control, &row, observed.as_ref(), &door, &decision);
    let has_operation = control.db().running_operation(id).await?.is_some();
    Ok(Look::Row(Box::new(Seen { row, observed, decision, fact, has_operation })))
}

/// Asks the door how its instance does.
///
/// # Errors
/// Why it could not be asked; that it does not answer is no error.
async fn ask(control: &Control, row: &InstanceRow) -> Result<Door, ControlError> {
    match tokio::time::timeout(DOOR_TIMEOUT, control.door_status(row, None)).await {
        Ok(Ok(status)) => Ok(Door::Answered(status)),
        Ok(Err(error)) if !is_of_the_door(&error) => Err(error),
        Ok(Err(_)) | Err(_) => Ok(Door::Silent { since: control.silence().begin(row.id, control.now()) }),
    }
}

fn intent_of(row: &InstanceRow) -> Intent {
    Intent {
        desired: row.desired,
        generation: row.generation,
        is_provisioned: row.provisioned_at.is_some(),
        failures: u32::try_from(row.failures).unwrap_or(0),
        retry_at: row.retry_at,
        purge_at: row.purge_at,
    }
}

fn fact_of(
    control: &Control,
    row: &InstanceRow,
    observed: Option<&Observed>,
    door: &Door,
    decision: &Decision,
) -> Fact {
    let mut fact = row.fact();
    fact.status = decision.status;
    fact.status_reason = decision.reason.clone();
    fact.power = observed.map_or(Power::Stopped, |run| run.power);
    fact.sandbox_id = observed.map(|run| run.handle.clone()).filter(|handle| !handle.is_empty());
    if let Some(run) = observed {
        fact.started_at = run.started_at.or(fact.started_at);
    }
    if let Door::Answered(status) = door {
        fact.isolation = Some(status.isolation);
        fact.openclaw_version = status.openclaw_version.clone().or_else(|| fact.openclaw_version.take());
    }
    if is_reached(row.desired, decision.status) {
        fact.observed_generation = row.generation;
    }
    if decision.status == Status::Ready {
        fact.provisioned_at = fact.provisioned_at.or_else(|| Some(control.now()));
        fact.failures = 0;
        fact.retry_at = None;
    }
    fact
}

async fn start(control: &Control, lease: &Lease, row: &InstanceRow, fact: Fact) -> Result<(), ControlError> {
    record(control, lease, row, &fact).await?;
    let run_dir = control.runtime().run_dir(row.id).await?;
    control.model_access().serve(row.id, &run_dir).await?;
    let tokens = control.tokens_of(row)?;
    let spec = InstanceSpec {
        id: row.id,
        tenant: row.user_id,
        generation: row.generation,
        limits: row.plan.limits(),
        image: row.image.clone(),
        env: control.env_of(row)?,
        door_token: tokens.door,
        gateway_token: tokens.gateway,
    };
    match control.runtime().ensure_started(&spec, STOP_GRACE).await {
        Ok(_) => record(control, lease, row, &Fact { retry_at: None, ..fact }).await,
        Err(error) => {
            if matches!(error, RuntimeError::Failed { .. }) {
                tracing::warn!(instance = %row.id, error = &error as &dyn std::error::Error, "start failed");
            }
            // `Display` is the step alone: the cause may name paths of this machine.
            fail(control, lease, row, fact, Some(error.to_string())).await
        }
    }
}

async fn fail(
    control: &Control,
    lease: &Lease,
    row: &InstanceRow,
    fact: Fact,
    reason: Option<String>,
) -> Result<(), ControlError> {
    let failures = row.failures.saturating_add(1);
    let delay = retry_delay(u32::try_from(failures).unwrap_or(u32::MAX));
    let fact = Fact {
        status: Status::Error,
        status_reason: reason.or(fact.status_reason),
        failures,
        retry_at: Some(control.now() + delay),
        ..fact
    };
    record(control, lease, row, &fact).await
}

fn how_it_died(observed: Option<&Observed>) -> Option<String> {
    let exit = observed?.exit?;
    Some(if exit.is_oom {
        format!("the instance ran out of memory and was killed (exit code {})", exit.code)
    } else {
        format!("the instance stopped by itself with exit code {}; see its logs", exit.code)
    })
}

/// Writes the facts and, in the same transaction, the end of the operation that they fulfil; then tells followers.
async fn record(
    control: &Control,
    lease: &Lease,
    row: &InstanceRow,
    fact: &Fact,
) -> Result<(), ControlError> {
    // A verb that came after the look waits for more than was looked at.
    let operation = control
        .db()
        .running_operation(row.id)
        .await?
        .filter(|operation| operation.target_generation <= row.generation);
    let outcome = operation.as_ref().and_then(|_| outcome(row, fact));
    if *fact == row.fact() && outcome.is_none() {
        return Ok(());
    }
    let mut tx = control.db().write().await?;
    lease.fence(&mut tx).await?;
    let Some(after) = tx.record_fact(row.id, fact, control.now()).await? else {
        return Ok(());
    };
    let told = match (operation, outcome) {
        (Some(operation), Some(outcome)) => {
            let (status, error) = match outcome {
                Ok(()) => (OperationStatus::Succeeded, None),
                Err(error) => (OperationStatus::Failed, Some(error)),
            };
            tx.finish_operation(operation.id, status, error.as_ref(), control.now()).await?
        }
        (Some(operation), None) => {
            tx.set_operation_progress(operation.id, progress(row.desired, fact)).await?
        }
        (None, _) => None,
    };
    tx.commit().await?;
    control.tell_instance(&after).await;
    if let Some(operation) = told {
        control.tell_operation(&operation).await;
    }
    Ok(())
}

/// Returns how much of the way to what the owner wants lies behind an instance, in percent: by steps taken, not by time.
fn progress(desired: Desired, fact: &Fact) -> i64 {
    match (desired, fact.status, fact.power) {
        // Two steps: it runs, and it answers.
        (Desired::Running, Status::Provisioning | Status::Starting, Power::Running) => 50,
        // Two steps: it is told to end, and it has ended.
        (Desired::Stopped | Desired::Deleted, Status::Stopping | Status::Deleting, _) => 50,
        _ => 0,
    }
}

/// Tells whether a status is what the owner wants; `ready` is only ever shown of the wanted generation.
fn is_reached(desired: Desired, status: Status) -> bool {
    match desired {
        Desired::Running => status == Status::Ready,
        Desired::Stopped => status == Status::Stopped,
        Desired::Deleted => status == Status::Deleted,
    }
}

/// Returns how the instance's running operation ends with these facts; `None`: it goes on.
fn outcome(row: &InstanceRow, fact: &Fact) -> Option<Result<(), OperationError>> {
    if is_reached(row.desired, fact.status) {
        return Some(Ok(()));
    }
    (fact.failures >= FAILURES_TO_GIVE_UP).then(|| {
        Err(OperationError {
            code: "start_failed".into(),
            message: fact.status_reason.clone().unwrap_or_else(|| "the instance does not come up".into()),
        })
    })
}
