//! From intent to fact: failures and their backoff, doors that die, verbs that overtake one another, replicas that die.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use reef_control::{Event as Change, EventKind};
use reef_db::InstanceRow;
use reef_door::DoorPhase;
use reef_model::{InstanceId, OperationStatus, Status};
use reef_runtime::Exit;
use reef_testkit::{Account, Errno, Platform, Script, Start, both_engines, eventually, within};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;

type Changes = Receiver<Arc<Change>>;

/// Returns the next recorded state of an instance that is wanted.
async fn next(changes: &mut Changes, what: &str, is_wanted: impl Fn(&InstanceRow) -> bool) -> InstanceRow {
    within(what, async {
        loop {
            if let EventKind::Instance(row) = &changes.recv().await.unwrap().kind
                && is_wanted(row)
            {
                return (**row).clone();
            }
        }
    })
    .await
}

async fn get(account: &Account, id: InstanceId) -> Value {
    account.get(&format!("/api/instances/{id}")).await.expect(200)
}

fn id_of(instance: &Value) -> InstanceId {
    instance["id"].as_str().unwrap().parse().unwrap()
}

both_engines! {
    async fn three_failed_starts_end_the_operation_but_not_the_trying(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().fail_starts("cannot make the container");
        let mut changes = platform.control().follow();
        let id = id_of(&ada.create_instance(&platform).await);
        let operation = ada.get("/api/operations").await.expect(200)[0]["id"].as_str().unwrap().to_owned();
        for (failures, wait) in [(1, 2), (2, 4), (3, 8)] {
            let row = next(&mut changes, "a counted failure", |row| row.failures == failures).await;
            assert_eq!(
                (row.status, row.status_reason.as_deref()),
                (Status::Error, Some("cannot make the container"))
            );
            let wait = Duration::from_secs(wait);
            let pause = row.retry_at.unwrap().saturating_since(row.updated_at);
            assert!(pause <= wait && pause + Duration::from_secs(1) > wait, "{failures}: {pause:?}");
            if failures < 3 {
                platform.advance(wait);
            }
        }
        let failed = ada.get(&format!("/api/operations/{operation}?wait=20")).await.expect(200);
        assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("start_failed")));
        let text = failed.to_string() + &get(&ada, id).await.to_string();
        assert!(!text.contains("/secret/place"), "causes are for the log: {text}");

        platform.runtime().heal();
        platform.advance(Duration::from_secs(8));
        let row = next(&mut changes, "it comes up at last", |row| row.status == Status::Ready).await;
        assert_eq!((row.failures, row.retry_at), (0, None));
        platform.finish().await;
    }

    async fn a_refused_spec_says_what_to_change(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().refuse_starts("there is no such image: choose another one");
        let mut changes = platform.control().follow();
        ada.create_instance(&platform).await;
        let row = next(&mut changes, "the refusal", |row| row.status == Status::Error).await;
        assert_eq!(row.status_reason.as_deref(), Some("there is no such image: choose another one"));
        platform.finish().await;
    }

    async fn an_instance_that_dies_is_started_again(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let mut changes = platform.control().follow();
        platform.runtime().kill(id, Exit { code: 137, is_oom: true });
        let row = next(&mut changes, "the death is told", |row| row.status == Status::Error).await;
        assert!(row.status_reason.unwrap().contains("out of memory"));
        platform.advance(Duration::from_secs(2));
        next(&mut changes, "it is up again", |row| row.status == Status::Ready).await;
        let start = Start { id, generation: 1 };
        assert_eq!(platform.runtime().started(), [start, start]);
        platform.finish().await;
    }

    async fn a_door_that_falls_silent_is_replaced(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        // Its run is much older than a door may be silent.
        platform.advance(Duration::from_secs(3_600));
        let mut changes = platform.control().follow();
        platform.runtime().close_door(id);
        let row = next(&mut changes, "it is not ready any more", |row| row.status != Status::Ready).await;
        assert_eq!((row.status, row.failures), (Status::Starting, 0));
        platform.advance(Duration::from_secs(91));
        let row =
            next(&mut changes, "its silence counts as a failure", |row| row.status == Status::Error).await;
        assert!(row.status_reason.unwrap().contains("does not answer"));
        platform.advance(Duration::from_secs(2));
        next(&mut changes, "it is up again", |row| row.status == Status::Ready).await;
        platform.finish().await;
    }

    async fn a_look_that_was_missed_restarts_nothing(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        platform.advance(Duration::from_secs(3_600));
        let mut changes = platform.control().follow();
        platform.runtime().fail_dials(Some(Errno::CONNREFUSED));
        platform.runtime().nudge();
        next(&mut changes, "the miss is told", |row| row.status == Status::Starting).await;
        platform.runtime().fail_dials(None);
        next(&mut changes, "it answers again", |row| row.status == Status::Ready).await;
        // And the next miss, however much later, is again the first.
        platform.advance(Duration::from_secs(3_600));
        platform.runtime().fail_dials(Some(Errno::CONNREFUSED));
        platform.runtime().nudge();
        next(&mut changes, "the miss is told", |row| row.status != Status::Ready).await;
        platform.runtime().fail_dials(None);
        let row = next(&mut changes, "it answers again", |row| row.status == Status::Ready).await;
        assert_eq!((row.id, row.failures), (id, 0));
        assert_eq!(platform.runtime().started().len(), 1);
        platform.finish().await;
    }

    async fn want_of_descriptors_here_is_no_silence_there(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let mut changes = platform.control().follow();
        platform.runtime().fail_dials(Some(Errno::MFILE));
        for looks in [2, 4] {
            eventually("nobody can look", async || {
                platform.runtime().nudge();
                (platform.runtime().failed_dials() >= looks).then_some(())
            })
            .await;
            platform.advance(Duration::from_secs(91));
        }
        platform.runtime().fail_dials(None);
        assert_eq!(get(&ada, id).await["status"], "ready");
        assert!(changes.try_recv().is_err(), "nothing was told");
        assert_eq!(platform.runtime().started().len(), 1);
        platform.finish().await;
    }

    async fn a_failing_gateway_is_shown_with_its_reason(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let mut changes = platform.control().follow();
        platform.runtime().set_phase(id, DoorPhase::Failing, Some("openclaw.json is not valid"));
        let row = next(&mut changes, "the reason", |row| row.status == Status::Error).await;
        assert_eq!(row.status_reason.as_deref(), Some("openclaw.json is not valid"));
        platform.runtime().set_phase(id, DoorPhase::Ready, None);
        let row = next(&mut changes, "its recovery", |row| row.status == Status::Ready).await;
        assert_eq!(row.status_reason, None);
        assert_eq!(platform.runtime().started().len(), 1, "the door heals its gateway by itself");
        platform.finish().await;
    }

    async fn a_gateway_that_warms_up_is_not_ready(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().doors_begin(DoorPhase::Starting, Some("warming up"));
        let mut changes = platform.control().follow();
        let id = id_of(&ada.create_instance(&platform).await);
        let is_warming = |row: &InstanceRow| row.status_reason.as_deref() == Some("warming up");
        let row = next(&mut changes, "the warm-up is told", is_warming).await;
        assert_eq!(row.status, Status::Provisioning);
        platform.runtime().set_phase(id, DoorPhase::Ready, None);
        next(&mut changes, "ready", |row| row.status == Status::Ready).await;
        platform.finish().await;
    }

    async fn an_operation_ends_by_its_own_goal_only(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().hang_starts();
        let id = id_of(&ada.create_instance(&platform).await);
        // The reconciler looks while the instance is still wanted; the look's answer comes after the stop.
        let (script, door) = Script::stream();
        platform.runtime().script(id, "/status", script);
        platform.runtime().heal();
        eventually("the look is under way", async || {
            platform.runtime().received(id).iter().any(|request| request.target == "/status").then_some(())
        })
        .await;
        let mut changes = platform.control().follow();
        ada.call("POST", &format!("/api/instances/{id}/stop")).send().await.expect(202);
        let ready = json!({
            "revision": 1, "generation": 1, "phase": "ready", "isolation": "bubblewrap", "gateway_restarts": 0,
            "active_turns": 0,
        });
        door.write(&ready.to_string()).await;
        drop(door);
        let mut status = None;
        within("the stop ends", async {
            loop {
                match &changes.recv().await.unwrap().kind {
                    EventKind::Instance(row) => status = Some(row.status),
                    EventKind::Operation(operation) if operation.status != OperationStatus::Running => {
                        if operation.kind == reef_model::OperationKind::Stop {
                            assert_eq!(operation.status, OperationStatus::Succeeded);
                            break;
                        }
                    }
                    EventKind::Operation(_) | EventKind::Purged => {}
                }
            }
        })
        .await;
        assert_eq!(status, Some(Status::Stopped), "the stop was told to have ended before it had");
        platform.finish().await;
    }

    async fn the_last_of_many_verbs_wins(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = format!("/api/instances/{id}");
        let mut operations = BTreeSet::new();
        for verb in ["stop", "start", "stop", "restart", "stop", "start", "restart", "stop"] {
            let answer = ada.call("POST", &format!("{path}/{verb}")).send().await;
            if matches!(answer.status, 200 | 202) {
                operations.insert(answer.expect(answer.status)["id"].as_str().unwrap().to_owned());
            } else {
                answer.expect_error(409, "CONFLICT");
            }
        }
        for operation in operations {
            let ended = ada.get(&format!("/api/operations/{operation}?wait=20")).await.expect(200);
            let is_told = ended["status"] == "succeeded" || ended["error"]["code"] == "superseded";
            assert!(is_told, "{ended}");
        }
        assert_eq!(get(&ada, id).await["status"], "stopped");
        platform.finish().await;
    }

    async fn what_the_database_does_not_know_is_stopped_and_kept(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let stranger = InstanceId::generate();
        platform.runtime().strand(stranger);
        platform.runtime().nudge();
        eventually("it is stopped", async || (!platform.runtime().runs(stranger)).then_some(())).await;
        assert!(platform.runtime().removed().is_empty());
        platform.finish().await;
    }

    async fn a_replica_that_dies_in_the_middle_is_replaced(database: TestDatabase) {
        let mut platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().hang_starts();
        let id = id_of(&ada.create_instance(&platform).await);
        eventually("a start is under way", async || (platform.runtime().attempts() == 1).then_some(())).await;
        platform.kill_and_restart().await;
        eventually("nobody works any more", async || platform.runtime().is_idle().then_some(())).await;
        // The dead one's lease runs out; nothing is lost and nobody is asked to repeat.
        platform.runtime().heal();
        platform.advance(Duration::from_secs(31));
        let ada = ada.at(platform.anonymous());
        eventually("another replica brings it up", async || {
            let row = ada.get(&format!("/api/instances/{id}")).await.expect(200);
            (row["status"] == "ready").then_some(())
        })
        .await;
        let operation = &ada.get("/api/operations").await.expect(200)[0];
        assert_eq!(operation["status"], "succeeded");
        assert_eq!(platform.runtime().started(), [Start { id, generation: 1 }]);
        platform.finish().await;
    }

    async fn two_replicas_do_nothing_twice(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let other = platform.another_replica().await;
        let ada = platform.account("ada").await;
        let mut ids = Vec::new();
        for n in 0..6 {
            ada.entitle(&platform).await;
            let client = if n % 2 == 0 { ada.at(platform.anonymous()) } else { ada.at(other.anonymous()) };
            ids.push(id_of(&client.post("/api/instances", json!({})).await.expect(201)));
            // Both are told to look at everything, at the same moment.
            platform.runtime().nudge();
        }
        let settle = async |status: &str| {
            for id in &ids {
                eventually("it settles", async || {
                    platform.runtime().nudge();
                    (get(&ada, *id).await["status"] == status).then_some(())
                })
                .await;
            }
        };
        settle("ready").await;
        let started: BTreeSet<_> =
            platform.runtime().started().iter().map(|start| (start.id, start.generation)).collect();
        assert_eq!(started.len(), 6);
        assert_eq!(platform.runtime().started().len(), 6, "each once");
        for (n, id) in ids.iter().enumerate() {
            let client = if n % 2 == 0 { ada.at(other.anonymous()) } else { ada.at(platform.anonymous()) };
            client.call("POST", &format!("/api/instances/{id}/stop")).send().await.expect(202);
        }
        settle("stopped").await;
        other.finish().await;
        platform.finish().await;
    }

    async fn a_restarted_replica_finds_everything_as_it_was(database: TestDatabase) {
        let mut platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        platform.kill_and_restart().await;
        let ada = ada.at(platform.anonymous());
        let status = ada.get(&format!("/api/instances/{id}/status")).await.expect(200);
        assert_eq!((&status["status"], &status["probes"]["door"]), (&json!("ready"), &json!(true)));
        ada.post(&format!("/api/instances/{id}/chat"), json!({"message": "hi"})).await.expect(200);
        assert_eq!(platform.runtime().started().len(), 1, "what runs is adopted");
        platform.finish().await;
    }

    async fn last_use_is_written_and_never_in_the_future(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let seen = async || {
            let row = platform.db().lookup_instance(ada.user, id).await.unwrap().unwrap();
            row.last_active_at
        };
        let now = platform.control().now();
        platform.runtime().set_last_active(id, now - Duration::from_secs(60));
        let first = eventually("the last use", seen).await;
        assert_eq!(first.unix_millis(), (now - Duration::from_secs(60)).unix_millis());
        platform.runtime().set_last_active(id, now + Duration::from_secs(3600));
        let later = async || seen().await.filter(|at| *at > first);
        let at = eventually("a later use", later).await;
        assert!(at <= platform.control().now(), "{at}");
        platform.finish().await;
    }
}
