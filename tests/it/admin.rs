//! What operators see of all accounts, and what they may do to them.

use reef_model::{ActorKind, InstanceId, Role, UserId};
use reef_testkit::{Account, Platform, both_engines, eventually};
use serde_json::{Value, json};

fn path(user: &Account) -> String {
    format!("/api/admin/users/{}", user.user)
}

async fn sign_in(platform: &Platform, user: &Account) -> reef_testkit::Answer {
    let body = json!({"email": user.email, "password": user.password});
    platform.anonymous().post("/api/auth/login", body).await
}

both_engines! {
    async fn accounts_are_listed_and_found_by_address(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let operator = platform.operator().await;
        let (ada, _) = (platform.account("ada_1").await, platform.account("adax1").await);
        let id = ada.ready_instance(&platform).await;
        let found = operator.get("/api/admin/users?email=ADA_1").await.expect(200);
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
        assert_eq!(found[0]["email"], "ada_1@example.org");
        assert_eq!(found[0]["instance_count"], 1);
        assert_eq!(found[0]["locked_at"], Value::Null);
        assert!(found[0].get("password_hash").is_none());

        let first = operator.get("/api/admin/users?email=example.org&limit=2").await;
        assert_eq!(first.expect(200).as_array().map(Vec::len), Some(2));
        let link = first.header("link").unwrap();
        let next = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
        let rest = operator.get(&next).await.expect(200);
        assert_eq!(rest[0]["email"], "operator@example.org");

        ada.delete(&format!("/api/instances/{id}?wait=20")).await.expect(200);
        let found = operator.get("/api/admin/users?email=ada_1").await.expect(200);
        assert_eq!(found[0]["instance_count"], 0);
        platform.finish().await;
    }

    async fn a_locked_account_is_out_at_once_and_back_with_its_keys(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (operator, ada) = (platform.operator().await, platform.account("ada").await);
        let id = ada.ready_instance(&platform).await;
        let cookie = sign_in(&platform, &ada).await.cookie().unwrap();
        let browser = platform.anonymous().with_cookie(&cookie);
        browser.get("/api/account").await.expect(200);
        let stream = ada.call("GET", "/api/events").events().await;

        let locked = operator.patch(&path(&ada), json!({"is_locked": true})).await.expect(200);
        assert!(locked["locked_at"].is_string(), "{locked}");
        stream.rest().await;
        eventually("the key is refused", async || {
            (ada.get("/api/instances").await.status == 401).then_some(())
        })
        .await;
        browser.get("/api/account").await.expect_error(401, "UNAUTHORIZED");
        let refused = sign_in(&platform, &ada).await.expect_error(403, "FORBIDDEN");
        assert_eq!(refused["error"]["details"]["reason"], "account_locked");
        let wrong = json!({"email": ada.email, "password": "not the password"});
        platform.anonymous().post("/api/auth/login", wrong).await.expect_error(401, "UNAUTHORIZED");

        operator.patch(&path(&ada), json!({"is_locked": false})).await.expect(200);
        let seen = ada.get(&format!("/api/instances/{id}")).await.expect(200);
        assert_eq!(seen["desired"], "running", "a lock does not touch instances");
        browser.get("/api/account").await.expect_error(401, "UNAUTHORIZED");
        sign_in(&platform, &ada).await.expect(200);

        let audit = ada.get("/api/audit?action=account").await.expect(200);
        let of = |action: &str| audit.as_array().unwrap().iter().find(|row| row["action"] == action).cloned();
        for action in ["account.lock", "account.unlock"] {
            let row = of(action).unwrap();
            assert_eq!((&row["actor_kind"], &row["ip"]), (&json!("operator"), &Value::Null), "{row}");
        }
        platform.finish().await;
    }

    async fn a_role_is_given_and_taken(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (operator, ada) = (platform.operator().await, platform.account("ada").await);
        ada.get("/api/admin/users").await.expect_error(403, "FORBIDDEN");
        let made = operator.patch(&path(&ada), json!({"role": "operator"})).await.expect(200);
        assert_eq!(made["role"], Role::Operator.as_str());
        eventually("the key is an operator's", async || {
            (ada.get("/api/admin/users").await.status == 200).then_some(())
        })
        .await;
        let never = format!("/api/admin/users/{}", UserId::generate());
        ada.patch(&never, json!({})).await.expect_error(404, "NOT_FOUND");
        ada.patch(&path(&operator), json!({"role": "user"})).await.expect(200);
        eventually("the key is no operator's", async || {
            (operator.get("/api/admin/users").await.status == 403).then_some(())
        })
        .await;
        platform.finish().await;
    }

    async fn the_last_operator_who_can_act_stays(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (operator, ada) = (platform.operator().await, platform.account("ada").await);
        for change in [json!({"role": "user"}), json!({"is_locked": true})] {
            operator.patch(&path(&operator), change).await.expect_error(409, "CONFLICT");
        }
        operator.patch(&path(&ada), json!({"role": "operator", "is_locked": true})).await.expect(200);
        // A locked one does not count.
        operator.patch(&path(&operator), json!({"role": "user"})).await.expect_error(409, "CONFLICT");
        operator.patch(&path(&ada), json!({"is_locked": false})).await.expect(200);
        let mut race = tokio::task::JoinSet::new();
        for target in [path(&operator), path(&ada)] {
            let client = operator.clone();
            race.spawn(async move { client.patch(&target, json!({"is_locked": true})).await.status });
        }
        race.join_all().await;
        let page = reef_db::Page::first(10);
        let users = platform.db().list_users_any("%", page).await.unwrap();
        let can_act = |row: &&reef_db::UserSummary| {
            row.user.role == Role::Operator && row.user.locked_at.is_none()
        };
        assert_eq!(users.iter().filter(can_act).count(), 1);
        platform.finish().await;
    }

    async fn any_instance_is_seen_stopped_and_started(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (operator, ada) = (platform.operator().await, platform.account("ada").await);
        let id = ada.ready_instance(&platform).await;
        let listed = operator.get("/api/admin/instances").await.expect(200);
        assert_eq!(listed[0]["id"], id.to_string());
        assert_eq!((&listed[0]["owner_email"], &listed[0]["status"]), (&json!(ada.email), &json!("ready")));

        for (verb, status) in [("stop", "stopped"), ("start", "ready")] {
            let done = operator.post(&format!("/api/admin/instances/{id}/{verb}?wait=20"), json!({})).await;
            assert_eq!(done.expect(200)["status"], "succeeded");
            assert_eq!(ada.get(&format!("/api/instances/{id}")).await.expect(200)["status"], status);
            let audit = ada.get(&format!("/api/audit?action=instance.{verb}")).await.expect(200);
            assert_eq!(audit[0]["actor_kind"], ActorKind::Operator.as_str());
        }
        let never = InstanceId::generate();
        operator.post(&format!("/api/admin/instances/{never}/stop"), json!({})).await.expect_error(404, "NOT_FOUND");
        platform.finish().await;
    }
}
