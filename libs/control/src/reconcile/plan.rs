//! The decision, pure: from intent and observation to the next step and the facts to record.

use std::time::Duration;

use reef_door::{DoorPhase, DoorStatus};
use reef_model::{Desired, Power, Status, Timestamp};
use reef_runtime::Observed;

/// How long a door may be silent, look after look, before its run counts as failed.
pub const DOOR_SILENCE: Duration = Duration::from_secs(90);
/// How often a steady instance is looked at when nothing hints at a change.
pub const RECHECK: Duration = Duration::from_secs(60);
/// How often a starting instance is looked at.
pub const RECHECK_STARTING: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Intent and the facts recorded so far, as the database has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// What the owner wants.
    pub desired: Desired,
    /// Which intent; the runtime's objects carry the one they serve.
    pub generation: i64,
    /// Whether it was ever brought up.
    pub is_provisioned: bool,
    /// Failed starts in a row.
    pub failures: u32,
    /// Not to be started before.
    pub retry_at: Option<Timestamp>,
    /// When a deleted instance's data goes.
    pub purge_at: Option<Timestamp>,
}

/// What the door said, if it was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Door {
    /// It answered.
    Answered(DoorStatus),
    /// It could not be reached, nor at any look since.
    Silent {
        /// When the first look in a row was that it did not answer.
        since: Timestamp,
    },
    /// It was not asked: nothing should be up.
    Unasked,
}

/// What the reconciler must do next. Every step is idempotent and may be cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing; look again after this long, or when something hints.
    Settled(Duration),
    /// Bring it up with the present generation.
    Start,
    /// Take its processes down; data stays.
    Stop,
    /// Its run failed: take it down, count the failure, try again later.
    Fail,
    /// Remove it with its data, then its row.
    Purge,
}

/// A decision: the step, and the status to show before it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub step: Step,
    /// What to show.
    pub status: Status,
    /// Why, where that is not plain.
    pub reason: Option<String>,
}

fn decide(step: Step, status: Status) -> Decision {
    Decision { step, status, reason: None }
}

/// Decides the next step of one instance.
///
/// `door` is only consulted for a run that should be up; `now` only for waiting.
pub fn plan(intent: &Intent, observed: Option<&Observed>, door: &Door, now: Timestamp) -> Decision {
    let power = observed.map_or(Power::Stopped, |observed| observed.power);
    match intent.desired {
        Desired::Running => plan_running(intent, observed, door, now),
        Desired::Stopped if power == Power::Stopped => decide(Step::Settled(RECHECK), Status::Stopped),
        Desired::Stopped => decide(Step::Stop, Status::Stopping),
        Desired::Deleted if power != Power::Stopped => decide(Step::Stop, Status::Deleting),
        Desired::Deleted => match intent.purge_at {
            Some(at) if at > now => {
                decide(Step::Settled(at.saturating_since(now).min(RECHECK)), Status::Deleted)
            }
            _ => decide(Step::Purge, Status::Deleting),
        },
    }
}

fn plan_running(intent: &Intent, observed: Option<&Observed>, door: &Door, now: Timestamp) -> Decision {
    let coming_up = if intent.is_provisioned { Status::Starting } else { Status::Provisioning };
    let Some(run) = observed.filter(|run| run.power != Power::Stopped) else {
        return plan_start(intent, observed, coming_up, now);
    };
    // Whoever paused it, its owner wants it to run; the runtime wakes it.
    if run.generation != intent.generation || run.power == Power::Paused {
        return decide(Step::Start, coming_up);
    }
    match door {
        Door::Answered(door) => match door.phase {
            DoorPhase::Ready => decide(Step::Settled(RECHECK), Status::Ready),
            DoorPhase::Starting | DoorPhase::Draining => Decision {
                step: Step::Settled(RECHECK_STARTING),
                status: coming_up,
                reason: door.reason.clone(),
            },
            DoorPhase::Failing => Decision {
                step: Step::Settled(RECHECK_STARTING),
                status: Status::Error,
                reason: door
                    .reason
                    .clone()
                    .or_else(|| Some("OpenClaw does not come up; see the logs".into())),
            },
        },
        Door::Unasked => decide(Step::Settled(RECHECK_STARTING), coming_up),
        Door::Silent { since } => {
            // What an earlier run did not answer is none of this one's.
            let since = run.started_at.map_or(*since, |started_at| started_at.max(*since));
            if now.saturating_since(since) < DOOR_SILENCE {
                decide(Step::Settled(RECHECK_STARTING), coming_up)
            } else {
                Decision {
                    step: Step::Fail,
                    status: Status::Error,
                    reason: Some("the instance runs but does not answer; it is being started again".into()),
                }
            }
        }
    }
}

fn plan_start(intent: &Intent, observed: Option<&Observed>, coming_up: Status, now: Timestamp) -> Decision {
    if let Some(at) = intent.retry_at
        && at > now
    {
        let wait = at.saturating_since(now);
        let died = observed.and_then(|run| run.exit);
        let reason = match died {
            Some(exit) if exit.is_oom => format!(
                "the instance ran out of memory and was killed (exit {}); next try in {} s",
                exit.code,
                wait.as_secs().max(1)
            ),
            Some(exit) => {
                format!(
                    "the instance stopped with exit code {}; next try in {} s",
                    exit.code,
                    wait.as_secs().max(1)
                )
            }
            None => format!("the last start failed; next try in {} s", wait.as_secs().max(1)),
        };
        return Decision { step: Step::Settled(wait), status: Status::Error, reason: Some(reason) };
    }
    // A run of this very generation that ended by itself is a failure to be counted before the next try.
    match observed {
        Some(run)
            if run.exit.is_some() && run.generation == intent.generation && intent.retry_at.is_none() =>
        {
            decide(Step::Fail, Status::Error)
        }
        _ => decide(Step::Start, coming_up),
    }
}

/// Returns how long to wait after the `failures`-th failure in a row: 2 s doubling up to 5 min.
pub fn retry_delay(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reef_model::{InstanceId, Isolation};
    use reef_runtime::Exit;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000)
    }

    fn intent(desired: Desired) -> Intent {
        Intent { desired, generation: 1, is_provisioned: false, failures: 0, retry_at: None, purge_at: None }
    }

    fn run(power: Power, generation: i64) -> Observed {
        Observed {
            id: InstanceId::generate(),
            handle: "h".into(),
            generation,
            power,
            started_at: Some(at(0)),
            exit: None,
        }
    }

    fn door(phase: DoorPhase) -> Door {
        Door::Answered(DoorStatus {
            revision: 1,
            generation: 1,
            phase,
            reason: None,
            isolation: Isolation::Bubblewrap,
            openclaw_version: None,
            gateway_restarts: 0,
            active_turns: 0,
            last_active_at: None,
        })
    }

    #[test]
    fn comes_up_and_settles() {
        let want = intent(Desired::Running);
        assert_eq!(plan(&want, None, &Door::Unasked, at(0)), decide(Step::Start, Status::Provisioning));
        let up = run(Power::Running, 1);
        let silent = Door::Silent { since: at(0) };
        assert_eq!(plan(&want, Some(&up), &silent, at(5)).status, Status::Provisioning);
        let ready = plan(&want, Some(&up), &door(DoorPhase::Ready), at(9));
        assert_eq!(ready, decide(Step::Settled(RECHECK), Status::Ready));
    }

    #[test]
    fn another_generation_is_started_anew() {
        let want = Intent { generation: 2, is_provisioned: true, ..intent(Desired::Running) };
        let up = run(Power::Running, 1);
        assert_eq!(
            plan(&want, Some(&up), &door(DoorPhase::Ready), at(1)),
            decide(Step::Start, Status::Starting)
        );
    }

    #[test]
    fn what_is_paused_is_woken() {
        let paused = run(Power::Paused, 1);
        let decision = plan(&intent(Desired::Running), Some(&paused), &Door::Unasked, at(1));
        assert_eq!(decision, decide(Step::Start, Status::Provisioning));
    }

    #[test]
    fn a_silent_door_fails_after_the_bound_however_old_its_run() {
        let up = run(Power::Running, 1);
        let silent = |since, now| {
            let decision =
                plan(&intent(Desired::Running), Some(&up), &Door::Silent { since: at(since) }, at(now));
            (decision.step, decision.status)
        };
        let waits = (Step::Settled(RECHECK_STARTING), Status::Provisioning);
        let fails = (Step::Fail, Status::Error);
        assert_eq!(silent(0, 89), waits);
        assert_eq!(silent(0, 90), fails);
        assert_eq!(silent(100_000, 100_000), waits, "one look missed");
        assert_eq!(silent(100_000, 100_090), fails);
        assert_eq!(silent(-1_000, 89), waits, "silence of the run before");
    }

    #[test]
    fn a_death_is_counted_once_and_then_waited_out() {
        let mut dead = run(Power::Stopped, 1);
        dead.exit = Some(Exit { code: 137, is_oom: true });
        let want = intent(Desired::Running);
        assert_eq!(plan(&want, Some(&dead), &Door::Unasked, at(1)).step, Step::Fail);
        let counted = Intent { failures: 1, retry_at: Some(at(3)), ..want };
        let waiting = plan(&counted, Some(&dead), &Door::Unasked, at(1));
        assert_eq!(waiting.step, Step::Settled(Duration::from_secs(2)));
        assert!(waiting.reason.unwrap().contains("memory"));
        assert_eq!(plan(&counted, Some(&dead), &Door::Unasked, at(3)).step, Step::Start);
    }

    #[test]
    fn a_deleted_instance_keeps_its_data_until_the_window_has_passed() {
        let want = Intent { purge_at: Some(at(100)), ..intent(Desired::Deleted) };
        assert_eq!(plan(&want, Some(&run(Power::Running, 1)), &Door::Unasked, at(200)).step, Step::Stop);
        assert_eq!(
            plan(&want, Some(&run(Power::Stopped, 1)), &Door::Unasked, at(99)).status,
            Status::Deleted
        );
        assert_eq!(plan(&want, None, &Door::Unasked, at(100)).step, Step::Purge);
    }

    #[test]
    fn retries_back_off_to_a_bound() {
        assert_eq!(retry_delay(1), Duration::from_secs(2));
        assert_eq!(retry_delay(4), Duration::from_secs(16));
        assert_eq!(retry_delay(u32::MAX), LONGEST_RETRY);
    }

    /// Takes a step in a perfect world.
    fn take(step: Step, intent: &mut Intent, world: &mut Option<Observed>, now: Timestamp) -> bool {
        match step {
            Step::Settled(_) => return false,
            Step::Start => {
                *world = Some(run(Power::Running, intent.generation));
                intent.retry_at = None;
            }
            Step::Stop => *world = Some(run(Power::Stopped, intent.generation)),
            Step::Fail => {
                *world = Some(run(Power::Stopped, intent.generation));
                intent.failures += 1;
                intent.retry_at = Some(now + retry_delay(intent.failures));
            }
            Step::Purge => {
                *world = None;
                return false;
            }
        }
        true
    }

    proptest! {
        #[test]
        fn every_start_converges(
            desired in prop::sample::select(Desired::ALL),
            generation in 1i64..4,
            power in prop::option::of(prop::sample::select(Power::ALL)),
            died: bool,
            failures in 0u32..40,
            retry_in in prop::option::of(-5i64..50),
            purge_in in prop::option::of(-5i64..50),
            now in 0i64..1_000,
        ) {
            let mut world = power.map(|power| {
                let mut run = run(power, 1);
                run.exit = (died && power == Power::Stopped).then_some(Exit { code: 1, is_oom: false });
                run
            });
            let mut want = Intent {
                desired, generation, is_provisioned: false, failures,
                retry_at: retry_in.map(|s| at(now + s)), purge_at: purge_in.map(|s| at(now + s)),
            };
            // In a perfect world four steps are enough from anywhere, and a settled one stays settled.
            for _ in 0..4 {
                let decision = plan(&want, world.as_ref(), &door(DoorPhase::Ready), at(now));
                if !take(decision.step, &mut want, &mut world, at(now)) {
                    let again = plan(&want, world.as_ref(), &door(DoorPhase::Ready), at(now));
                    prop_assert_eq!(again, decision);
                    return Ok(());
                }
            }
            prop_assert!(false, "did not settle: {want:?} {world:?}");
        }

        #[test]
        fn only_silence_for_the_whole_bound_replaces_a_run(
            started in 0i64..1_000_000,
            silent_after in -200i64..1_000_000,
            lasts in 0i64..200,
        ) {
            let mut up = run(Power::Running, 1);
            up.started_at = Some(at(started));
            let since = started + silent_after;
            let now = since.max(started) + lasts;
            let decision = plan(&intent(Desired::Running), Some(&up), &Door::Silent { since: at(since) }, at(now));
            let is_replaced = decision.step == Step::Fail;
            prop_assert_eq!(is_replaced, lasts >= DOOR_SILENCE.as_secs() as i64);
        }
    }
}
