//! Accounts, keys, sessions, revocations, wakes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reef_db::{
    ApiKeyChange, AuditFilter, Db, DbError, KeyUse, ModelUse, NewAccountToken, NewApiKey, NewMail, NewUser,
    Page, SaveSession, Unique, Wake,
};
use reef_model::{ApiKeyId, InstanceId, MailId, Revoked, Role, Scopes, SessionId, TokenPurpose, UserId};
use reef_testdb::both_engines;

use crate::{at, insert_user, open};

fn new_key(tenant: UserId, hash: u8) -> NewApiKey {
    NewApiKey {
        id: ApiKeyId::generate(),
        user_id: tenant,
        name: "ci".into(),
        secret_hash: [hash; 32],
        prefix: "sk_live_ab".into(),
        last4: "wxyz".into(),
        scopes: Scopes::key_default(),
        instance_ids: Some(vec![InstanceId::generate()]),
        ip_allow: None,
        created_at: at(0),
        expires_at: Some(at(100)),
    }
}

both_engines! {
    async fn an_address_is_taken_once(database: TestDatabase) {
        let db = open(&database).await;
        let tasks: Vec<_> = (0..8).map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let new = NewUser { id: UserId::generate(), email: "a@x.test".into(), name: Some("A".into()),
                    password_hash: "h".into(), role: Role::Operator, created_at: at(0) };
                let mut tx = db.write().await.unwrap();
                match tx.insert_user(&new).await {
                    Ok(_) => tx.commit().await.map(|()| true),
                    Err(DbError::Conflict(Unique::UserEmail)) => Ok(false),
                    Err(error) => Err(error),
                }
            })
        }).collect();
        let mut made = 0;
        for task in tasks {
            made += usize::from(task.await.unwrap().unwrap());
        }
        assert_eq!(made, 1);
        let user = db.lookup_user_by_email("a@x.test").await.unwrap().unwrap();
        assert_eq!(db.lookup_operator().await.unwrap().map(|row| row.id), Some(user.id));
    }

    async fn a_key_lives_and_ends(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let (tenant, other) = (insert_user(&mut tx, "a@x.test").await, insert_user(&mut tx, "b@x.test").await);
        let new = new_key(tenant, 1);
        let row = tx.insert_api_key(&new).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!((row.scopes, row.role, &row.instance_ids.as_ref().unwrap().0), (new.scopes, Role::User, new.instance_ids.as_ref().unwrap()));
        assert_eq!(db.lookup_api_key_by_hash(&[1; 32]).await.unwrap().as_ref(), Some(&row));
        assert_eq!(db.lookup_api_key(other, new.id).await.unwrap(), None);

        let mut tx = db.write().await.unwrap();
        let to = ApiKeyChange { name: "n".into(), scopes: Scopes::all(), instance_ids: None,
            ip_allow: Some(vec!["10.0.0.0/8".into()]), expires_at: None };
        assert_eq!(tx.update_api_key(other, new.id, &to).await.unwrap(), None);
        let changed = tx.update_api_key(tenant, new.id, &to).await.unwrap().unwrap();
        assert_eq!((changed.scopes, changed.instance_ids, changed.expires_at), (Scopes::all(), None, None));
        assert_eq!(tx.count_api_keys(tenant, at(1)).await.unwrap(), (1,));
        let used = KeyUse { id: new.id, at: at(5), ip: Some("::1".parse().unwrap()) };
        assert_eq!(tx.record_api_key_use(used).await.unwrap(), 1);
        assert_eq!(tx.record_api_key_use(KeyUse { at: at(4), ..used }).await.unwrap(), 0);
        assert_eq!(tx.revoke_api_key(other, new.id, at(6)).await.unwrap(), None);
        assert!(tx.revoke_api_key(tenant, new.id, at(6)).await.unwrap().is_some());
        assert_eq!(tx.revoke_api_key(tenant, new.id, at(7)).await.unwrap(), None);
        assert!(tx.lookup_api_key(tenant, new.id).await.unwrap().is_none());
        tx.commit().await.unwrap();
        assert_eq!(db.lookup_api_key_by_hash(&[1; 32]).await.unwrap(), None);
        assert!(db.list_api_keys(tenant, Page::first(9)).await.unwrap().is_empty());
        let mut tx = db.write().await.unwrap();
        let error = tx.insert_api_key(&new_key(tenant, 1)).await.unwrap_err();
        assert!(matches!(error, DbError::Conflict(Unique::ApiKeySecret)), "{error:?}");
    }

    async fn a_session_ends_for_good(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        let save = SaveSession { id: SessionId::generate(), token_hash: [3; 32], user_id: None,
            data: serde_json::json!({"a": [1, "ü"]}), ip: None, user_agent: None, now: at(0), expires_at: at(10) };
        assert_eq!(tx.insert_session(&save).await.unwrap(), 1);
        assert_eq!(tx.insert_session(&SaveSession { id: SessionId::generate(), ..save.clone() }).await.unwrap(), 0);
        let signed_in = SaveSession { user_id: Some(tenant), now: at(1), ..save.clone() };
        assert_eq!(tx.update_session(&signed_in).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let row = db.lookup_session_by_token(&[3; 32], at(9)).await.unwrap().unwrap();
        assert_eq!((row.id, row.user_id, &row.data.0, row.created_at, row.last_seen_at), (save.id, Some(tenant), &save.data, at(0), at(1)));
        assert_eq!(db.lookup_session_by_token(&[3; 32], at(10)).await.unwrap(), None);
        assert_eq!(db.list_sessions(tenant, at(9), Page::first(9)).await.unwrap(), [row]);
        assert!(db.lookup_session(UserId::generate(), save.id, at(9)).await.unwrap().is_none());
        let mut tx = db.write().await.unwrap();
        assert!(tx.delete_session(tenant, save.id).await.unwrap().is_some());
        assert_eq!(tx.update_session(&signed_in).await.unwrap(), 0, "a late save does not bring it back");
        tx.commit().await.unwrap();
    }

    async fn revocations_appear_in_order(database: TestDatabase) {
        let db = open(&database).await;
        let mut wakes = db.wakes(Wake::Revocations);
        let reader = {
            let db = db.clone();
            tokio::spawn(async move {
                let mut seen: Vec<i64> = Vec::new();
                while seen.len() < 40 {
                    let after = seen.last().copied().unwrap_or(0);
                    seen.extend(db.list_revocations(after, 3).await.unwrap().iter().map(|row| row.seq));
                    tokio::task::yield_now().await;
                }
                seen
            })
        };
        let writers: Vec<_> = (0..4).map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    let mut tx = db.write().await.unwrap();
                    tx.insert_revocation(Revoked::Key, ApiKeyId::generate().as_uuid(), at(1)).await.unwrap();
                    tx.commit().await.unwrap();
                }
            })
        }).collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(reader.await.unwrap(), (1..=40).collect::<Vec<_>>());
        wakes.changed().await.unwrap();
        assert_eq!(db.last_revocation().await.unwrap(), (40,));
    }

    async fn settings_usage_and_audit_are_kept(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        assert_eq!(tx.get_or_insert_setting("k", "1").await.unwrap(), "1");
        assert_eq!(tx.get_or_insert_setting("k", "2").await.unwrap(), "1");
        tx.set_setting("k", "3").await.unwrap();
        assert_eq!(tx.get_or_insert_setting("k", "2").await.unwrap(), "3");
        let (tenant, instance) = (UserId::generate(), InstanceId::generate());
        let used = ModelUse { user_id: tenant, instance_id: instance, hour: at(0), requests: 1, estimated_requests: 0,
            prompt_tokens: 10, completion_tokens: 5 };
        tx.add_model_usage(&used).await.unwrap();
        tx.add_model_usage(&used).await.unwrap();
        let entry = reef_db::AuditEntry { id: reef_model::AuditId::generate(), tenant: Some(tenant),
            actor_kind: reef_model::ActorKind::User, actor_id: Some(tenant.to_string()), action: "key.create",
            target: None, details: serde_json::json!({}), request_id: None, ip: None, at: at(3) };
        tx.insert_audit(&entry).await.unwrap();
        tx.commit().await.unwrap();
        let usage = db.list_model_usage(tenant, at(0), at(1)).await.unwrap();
        assert_eq!((usage.len(), usage[0].requests, usage[0].prompt_tokens), (1, 2, 20));
        assert_eq!(usage[0].day, at(0).to_string()[..10]);
        let found = async |tenant: UserId, filter: AuditFilter| {
            let own = db.list_audit(tenant, &filter, Page::first(9)).await.unwrap();
            let all = db.list_audit_any(&filter, Page::first(9)).await.unwrap();
            (own.len(), all.len())
        };
        let by = |action: &str| AuditFilter { action: Some(action.into()), ..AuditFilter::default() };
        assert_eq!(found(tenant, AuditFilter::default()).await, (1, 1));
        assert_eq!(found(UserId::generate(), AuditFilter::default()).await, (0, 1));
        for (action, count) in [("key.create", 1), ("key", 1), ("ke", 0), ("key.c", 0), ("%", 0)] {
            assert_eq!(found(tenant, by(action)).await, (count, count), "{action}");
        }
        let actor = AuditFilter { actor: Some(tenant.to_string()), ..by("key") };
        assert_eq!(found(tenant, actor.clone()).await, (1, 1));
        assert_eq!(found(tenant, AuditFilter { target: Some("x".into()), ..actor.clone() }).await, (0, 0));
        assert_eq!(found(tenant, AuditFilter { from: Some(at(3)), to: Some(at(4)), ..actor.clone() }).await, (1, 1));
        assert_eq!(found(tenant, AuditFilter { to: Some(at(3)), ..actor.clone() }).await, (0, 0));
        assert_eq!(found(tenant, AuditFilter { from: Some(at(4)), ..actor }).await, (0, 0));
    }

    async fn a_mail_is_claimed_by_one_until_the_claim_is_over(database: TestDatabase) {
        let db = open(&database).await;
        let new = |second| NewMail { id: MailId::generate(), user_id: None, kind: "invite", recipient: "a@x.test".into(),
            letter_enc: vec![1, 2], created_at: at(second), deadline_at: at(100) };
        let (first, second) = (new(0), new(1));
        let mut wakes = db.wakes(Wake::Mail);
        let mut tx = db.write().await.unwrap();
        tx.insert_mail(&first).await.unwrap();
        tx.insert_mail(&second).await.unwrap();
        tx.commit().await.unwrap();
        wakes.changed().await.unwrap();

        let mut tx = db.write().await.unwrap();
        let claimed = tx.claim_mail(at(2), at(10)).await.unwrap().unwrap();
        assert_eq!((claimed.id, claimed.attempts, claimed.letter_enc), (first.id, 1, vec![1, 2]));
        assert_eq!(tx.claim_mail(at(2), at(10)).await.unwrap().unwrap().id, second.id);
        assert!(tx.claim_mail(at(2), at(10)).await.unwrap().is_none());
        // A claim that nobody finished is taken over, and its first holder can do nothing more.
        let again = tx.claim_mail(at(10), at(20)).await.unwrap().unwrap();
        assert_eq!((again.id, again.attempts), (first.id, 2));
        assert_eq!(tx.finish_mail(first.id, 1).await.unwrap(), 0);
        assert_eq!(tx.postpone_mail(first.id, 2, at(30), "busy").await.unwrap(), 1);
        assert_eq!(tx.give_up_mail(second.id, 1, "refused").await.unwrap(), 1);
        assert!(tx.claim_mail(at(29), at(40)).await.unwrap().is_none());
        assert_eq!(tx.claim_mail(at(30), at(40)).await.unwrap().unwrap().id, first.id);
        tx.commit().await.unwrap();
        let counts = db.count_mails_any().await.unwrap();
        assert_eq!((counts.waiting, counts.given_up), (1, 1));
        let mut tx = db.write().await.unwrap();
        assert_eq!(tx.finish_mail(first.id, 3).await.unwrap(), 1);
        tx.commit().await.unwrap();
        let listed = db.list_mails_any(Page::first(9)).await.unwrap();
        assert_eq!((listed.len(), listed[0].id, listed[0].next_attempt_at), (1, second.id, None));
        assert_eq!(listed[0].last_error.as_deref(), Some("refused"));
    }

    async fn a_mailed_token_is_good_once_and_for_one_purpose(database: TestDatabase) {
        let db = open(&database).await;
        let mut tx = db.write().await.unwrap();
        let tenant = insert_user(&mut tx, "a@x.test").await;
        let new = |hash: u8| NewAccountToken { token_hash: [hash; 32], user_id: tenant, email: "a@x.test".into(),
            purpose: TokenPurpose::ResetPassword, created_at: at(0), expires_at: at(10) };
        tx.insert_account_token(&new(1)).await.unwrap();
        tx.insert_account_token(&new(2)).await.unwrap();
        let (reset, verify) = (TokenPurpose::ResetPassword, TokenPurpose::VerifyEmail);
        assert!(tx.take_account_token(&[1; 32], verify, at(1)).await.unwrap().is_none());
        assert_eq!(tx.take_account_token(&[1; 32], reset, at(1)).await.unwrap().unwrap().user_id, tenant);
        assert!(tx.take_account_token(&[1; 32], reset, at(1)).await.unwrap().is_none());
        assert!(tx.take_account_token(&[2; 32], reset, at(10)).await.unwrap().is_none());
        assert_eq!(tx.reap_account_tokens(at(10)).await.unwrap(), 1);

        // The first place is nothing to tell of.
        assert!(!tx.note_place(tenant, &[1; 32], at(1)).await.unwrap());
        assert!(!tx.note_place(tenant, &[1; 32], at(2)).await.unwrap());
        assert!(tx.note_place(tenant, &[2; 32], at(3)).await.unwrap());
        assert_eq!(tx.reap_places(at(3)).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_wake_reaches_another_replica() {
    let database = reef_testdb::TestDatabase::postgres().await;
    let (here, there) = (open(&database).await, Db::connect(database.url(), 4).await.unwrap());
    let mut wakes = there.wakes(Wake::Instances);
    // The listener's first wake says that it listens.
    wakes.changed().await.unwrap();
    let mut tx = here.write().await.unwrap();
    tx.notify(Wake::Instances).await.unwrap();
    tx.commit().await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), wakes.changed()).await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_the_server_closed_are_replaced() {
    use sqlx::Connection;
    let database = reef_testdb::TestDatabase::postgres().await;
    let db = Arc::new(open(&database).await);
    let reads: Vec<_> = (0..6)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { db.ping().await })
        })
        .collect();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    let mut admin = sqlx::PgConnection::connect(database.url()).await.unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .execute(&mut admin)
        .await
        .unwrap();
    db.ping().await.unwrap();
    let mut tx = db.write().await.unwrap();
    insert_user(&mut tx, "a@x.test").await;
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn the_database_file_is_private_and_urls_are_checked() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/reef.db");
    let db = Db::connect(&format!("sqlite://{}", path.display()), 1).await.unwrap();
    db.migrate().await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let modes: BTreeMap<_, _> = std::fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().permissions().mode() & 0o077))
        .collect();
    assert!(modes.values().all(|mode| *mode == 0), "{modes:?}");
    assert!(Db::connect("mysql://x", 1).await.is_err());
}
