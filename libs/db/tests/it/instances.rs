//! Instances, operations, entitlements, leases.

use std::{collections::BTreeSet, time::Duration};

use reef_db::{
    DbError, Fact, InstanceChange, IntentChange, NewEntitlement, NewInvite, NewOperation, OperationError,
    Page, Unique, Wake,
};
use reef_model::{
    Desired, EntitlementId, EntitlementSource, InstanceId, InviteId, InviteKind, OperationId, OperationKind,
    OperationStatus, Plan, Status, Timestamp, UserId,
};
use reef_testdb::both_engines;

use crate::{at, insert_user, new_instance, open};

fn entitlement(tenant: UserId, expires_at: Option<Timestamp>) -> NewEntitlement {
    NewEntitlement {
        id: EntitlementId::generate(),
        user_id: tenant,
        plan: Plan::Solo,
        source: EntitlementSource::Invite,
        source_id: None,
        created_at: at(0),
        expires_at,
    }
}

fn operation(tenant: UserId, instance: InstanceId) -> NewOperation {
    NewOperation {
        id: OperationId::generate(),
        user_id: tenant,
        instance_id: instance,
        kind: OperationKind::Create,
        target_generation: 1,
        created_at: at(0),
    }
}

both_engines! {
    async fn an_instance_keeps_what_it_was_given(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let (tenant, other) = (insert_user(&mut tx, "a@x.test").await, insert_user(&mut tx, "b@x.test").await);
        let new = new_instance(tenant);
        let row = tx.insert_instance(&new).await.unwrap();
        tx.commit().await.unwrap();

        assert_eq!(db.lookup_instance(tenant, new.id).await.unwrap().as_ref(), Some(&row));
        assert_eq!((&row.env_enc, row.created_at, row.generation), (&new.env_enc, at(0), 1));
        assert_eq!(row.door_token_enc, [0, 1, 255]);
        assert_eq!(db.lookup_instance(other, new.id).await.unwrap(), None);

        let mut tx = db.write().await.unwrap();
        assert_eq!(tx.set_intent(other, new.id, IntentChange::to(Desired::Stopped), at(1)).await.unwrap(), None);
        let change = InstanceChange { name: Some("b".into()), idle_timeout_seconds: Some(None), ..Default::default() };
        assert_eq!(tx.update_instance(other, new.id, &change, at(1)).await.unwrap(), None);
        let stale = InstanceChange { expected_updated_at: Some(at(7)), ..change.clone() };
        assert_eq!(tx.update_instance(tenant, new.id, &stale, at(1)).await.unwrap(), None);
        let fresh = InstanceChange { expected_updated_at: Some(at(0)), ..change };
        let changed = tx.update_instance(tenant, new.id, &fresh, at(1)).await.unwrap().unwrap();
        assert_eq!((changed.name.as_str(), changed.idle_timeout_seconds, changed.updated_at), ("b", None, at(1)));
        assert_eq!(changed.env_enc, new.env_enc);
        let fact = Fact { status: Status::Ready, observed_generation: 1, started_at: Some(at(1)), ..changed.fact() };
        let ready = tx.record_fact(new.id, &fact, at(2)).await.unwrap().unwrap();
        assert_eq!((ready.fact(), ready.updated_at), (fact, at(2)));
        tx.commit().await.unwrap();
    }

    async fn a_dropped_transaction_leaves_nothing(database: TestDatabase) {
        let db = open(&database).await;
        let mut wakes = db.wakes(Wake::Instances);
        wakes.mark_unchanged();
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        tx.insert_instance(&new_instance(tenant)).await.unwrap();
        drop(tx);
        assert_eq!(db.lookup_user(tenant).await.unwrap().map(|user| user.id), None);
    }

    async fn due_is_what_the_reconciler_must_see(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        let mut rows = Vec::new();
        for _ in 0..6 {
            rows.push(tx.insert_instance(&new_instance(tenant)).await.unwrap());
        }
        let settled = |row: &reef_db::InstanceRow, status| Fact { status, observed_generation: 1, ..row.fact() };
        // 0: fresh. 1: ready. 2: waits after a failure. 3: error for good. 4: restore window. 5: restarted.
        tx.record_fact(rows[1].id, &settled(&rows[1], Status::Ready), at(1)).await.unwrap();
        let waits = Fact { retry_at: Some(at(50)), failures: 1, ..rows[2].fact() };
        tx.record_fact(rows[2].id, &waits, at(1)).await.unwrap();
        tx.record_fact(rows[3].id, &settled(&rows[3], Status::Error), at(1)).await.unwrap();
        let deleted = IntentChange { deleted_at: Some(at(1)), purge_at: Some(at(100)), bump_generation: false, ..IntentChange::to(Desired::Deleted) };
        tx.set_intent(tenant, rows[4].id, deleted, at(1)).await.unwrap();
        tx.record_fact(rows[4].id, &settled(&rows[4], Status::Deleted), at(2)).await.unwrap();
        tx.record_fact(rows[5].id, &settled(&rows[5], Status::Ready), at(1)).await.unwrap();
        tx.set_intent(tenant, rows[5].id, IntentChange::to(Desired::Running), at(3)).await.unwrap();
        tx.commit().await.unwrap();

        let due = async |seconds| -> BTreeSet<usize> {
            let found = db.list_due_instances(at(seconds), 100).await.unwrap();
            found.iter().map(|row| rows.iter().position(|r| r.id == row.id).unwrap()).collect()
        };
        assert_eq!(due(10).await, [0, 5].into());
        assert_eq!(due(50).await, [0, 2, 5].into());
        assert_eq!(due(100).await, [0, 2, 4, 5].into());

        // Intent makes a waiting one due at once.
        let mut tx = db.write().await.unwrap();
        tx.set_intent(tenant, rows[2].id, IntentChange::to(Desired::Running), at(4)).await.unwrap();
        assert_eq!(tx.purge_instance(rows[1].id).await.unwrap(), 0, "only deleted ones are purged");
        assert_eq!(tx.purge_instance(rows[4].id).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert!(due(10).await.contains(&2));
        let all = db.list_instances_any(None, 100).await.unwrap();
        assert_eq!(all.iter().map(|row| row.id).collect::<Vec<_>>(), [0, 1, 2, 3, 5].map(|i: usize| rows[i].id));
    }

    async fn pages_are_stable(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(tx.insert_instance(&new_instance(tenant)).await.unwrap().id);
        }
        tx.commit().await.unwrap();
        ids.reverse();
        let list = async |page| -> Vec<InstanceId> {
            db.list_instances(tenant, page).await.unwrap().into_iter().map(|row| row.id).collect()
        };
        let first = list(Page::first(2)).await;
        let mut tx = db.write().await.unwrap();
        tx.insert_instance(&new_instance(tenant)).await.unwrap();
        tx.commit().await.unwrap();
        let rest = list(Page::after(first[1].as_uuid(), 10)).await;
        assert_eq!([first, rest].concat(), ids);
    }

    async fn one_operation_runs_per_instance(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        let instance = tx.insert_instance(&new_instance(tenant)).await.unwrap().id;
        let first = tx.insert_operation(&operation(tenant, instance)).await.unwrap();
        tx.commit().await.unwrap();

        let mut tx = db.write().await.unwrap();
        let error = tx.insert_operation(&operation(tenant, instance)).await.unwrap_err();
        assert!(matches!(error, DbError::Conflict(Unique::RunningOperation)), "{error:?}");
        drop(tx);

        let mut tx = db.write().await.unwrap();
        assert_eq!(tx.running_operation(instance).await.unwrap().unwrap().id, first.id);
        assert_eq!(tx.set_operation_progress(first.id, 40).await.unwrap().unwrap().progress, 40);
        assert_eq!(tx.set_operation_progress(first.id, 30).await.unwrap(), None, "never backwards");
        let failure = OperationError { code: "CAPACITY".into(), message: "no room".into() };
        let ended = tx.finish_operation(first.id, OperationStatus::Failed, Some(&failure), at(5)).await.unwrap().unwrap();
        assert_eq!((ended.progress, ended.error.map(|e| e.0), ended.finished_at), (40, Some(failure), Some(at(5))));
        assert_eq!(tx.finish_operation(first.id, OperationStatus::Succeeded, None, at(6)).await.unwrap(), None);
        tx.insert_operation(&operation(tenant, instance)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(db.list_operations(tenant, Page::first(9)).await.unwrap().len(), 2);
    }

    async fn racing_redemptions_of_a_one_use_code_give_one(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        let invite = NewInvite {
            id: InviteId::generate(), code_hash: [7; 32], code_hint: "WXYZ".into(), kind: InviteKind::Instance,
            plan: Plan::Solo, max_uses: 1, created_by: tenant, created_at: at(0), expires_at: Some(at(10)),
        };
        tx.insert_invite(&invite).await.unwrap();
        assert!(tx.redeem_invite(&[7; 32], at(10)).await.unwrap().is_none(), "expired at its end");
        assert!(tx.redeem_invite(&[8; 32], at(1)).await.unwrap().is_none(), "no such code");
        tx.commit().await.unwrap();

        let tasks: Vec<_> = (0..16).map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut tx = db.write().await.unwrap();
                let won = tx.redeem_invite(&[7; 32], at(1)).await.unwrap().is_some();
                if won {
                    tx.insert_entitlement(&entitlement(tenant, None)).await.unwrap();
                }
                tx.commit().await.unwrap();
                won
            })
        }).collect();
        let mut wins = 0;
        for task in tasks {
            wins += usize::from(task.await.unwrap());
        }
        assert_eq!(wins, 1);
        assert_eq!(db.list_entitlements(tenant, Page::first(9)).await.unwrap().len(), 1);
        assert_eq!(db.list_invites(Page::first(9)).await.unwrap()[0].uses, 1);
    }

    async fn a_slot_is_held_by_one_instance(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let (tenant, other) = (insert_user(&mut tx, "a@x.test").await, insert_user(&mut tx, "b@x.test").await);
        let mut instances = Vec::new();
        for _ in 0..8 {
            instances.push(tx.insert_instance(&new_instance(tenant)).await.unwrap().id);
        }
        for expires_at in [None, Some(at(10)), Some(at(20))] {
            tx.insert_entitlement(&entitlement(tenant, expires_at)).await.unwrap();
        }
        tx.insert_entitlement(&entitlement(other, None)).await.unwrap();
        tx.commit().await.unwrap();

        let tasks: Vec<_> = instances.iter().copied().map(|instance| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut tx = db.write().await.unwrap();
                let claimed = tx.claim_entitlement(tenant, instance, Some(Plan::Solo), at(10)).await.unwrap();
                tx.commit().await.unwrap();
                claimed
            })
        }).collect();
        let mut held = Vec::new();
        for task in tasks {
            held.extend(task.await.unwrap());
        }
        assert_eq!(held.len(), 2, "one of three has expired");
        assert_eq!(held.iter().map(|e| e.id).collect::<BTreeSet<_>>().len(), 2);

        let mut tx = db.write().await.unwrap();
        let holder = held[0].instance_id.unwrap();
        let error = tx.claim_entitlement(other, holder, None, at(10)).await.unwrap_err();
        assert!(matches!(error, DbError::Conflict(Unique::EntitlementInstance)), "{error:?}");
        drop(tx);
        let mut tx = db.write().await.unwrap();
        assert_eq!(tx.release_entitlement(other, holder).await.unwrap(), 0);
        assert_eq!(tx.release_entitlement(tenant, holder).await.unwrap(), 1);
        assert!(tx.claim_entitlement(tenant, holder, Some(Plan::Label), at(10)).await.unwrap().is_none());
        assert!(tx.claim_entitlement(tenant, holder, None, at(10)).await.unwrap().is_some());
        tx.commit().await.unwrap();
    }

    async fn a_lease_has_one_owner_until_it_ends(database: TestDatabase) {
        const TTL: Duration = Duration::from_secs(10);
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        assert_eq!(tx.claim_lease("l", "a", at(0), TTL).await.unwrap(), Some(1));
        assert_eq!(tx.claim_lease("l", "b", at(9), TTL).await.unwrap(), None);
        assert_eq!(tx.claim_lease("l", "a", at(9), TTL).await.unwrap(), Some(1), "renewed");
        assert!(tx.check_lease("l", "a", 1, at(18)).await.unwrap().is_some());
        assert!(tx.check_lease("l", "a", 1, at(19)).await.unwrap().is_none());
        assert_eq!(tx.claim_lease("l", "b", at(19), TTL).await.unwrap(), Some(2));
        assert_eq!(tx.release_lease("l", "a", at(20)).await.unwrap(), 0);
        assert_eq!(tx.release_lease("l", "b", at(20)).await.unwrap(), 1);
        assert_eq!(tx.claim_lease("l", "b", at(21), TTL).await.unwrap(), Some(3), "given up in between");
        assert_eq!(tx.claim_lease("m", "a", at(21), TTL).await.unwrap(), Some(1));
        tx.commit().await.unwrap();
    }

    async fn checks_refuse_nonsense(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        let instance = tx.insert_instance(&new_instance(tenant)).await.unwrap().id;
        tx.commit().await.unwrap();
        let mut tx = db.write().await.unwrap();
        let half = IntentChange { deleted_at: Some(at(1)), ..IntentChange::to(Desired::Running) };
        assert!(matches!(tx.set_intent(tenant, instance, half, at(1)).await, Err(DbError::Other(_))));
        drop(tx);
        let mut tx = db.write().await.unwrap();
        let nameless = reef_db::NewInstance { name: String::new(), ..new_instance(tenant) };
        assert!(matches!(tx.insert_instance(&nameless).await, Err(DbError::Other(_))));
        drop(tx);
        let mut tx = db.write().await.unwrap();
        assert!(matches!(tx.insert_instance(&new_instance(UserId::generate())).await, Err(DbError::Other(_))));
    }
}
