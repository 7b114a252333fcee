//! `Idempotency-Key`: what is repeated is answered, not done again.

use std::time::Duration;

use reef_testkit::{Answer, Client, Platform, both_engines, eventually};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn named(client: &Client, name: &str, method: &str, path: &str, body: Value) -> Answer {
    client.call(method, path).header("idempotency-key", name).json(body).send().await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotent-replayed") == Some("true")
}

both_engines! {
    async fn a_repeated_create_makes_one_instance(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        ada.entitle(&platform).await;
        ada.entitle(&platform).await;
        let create = async |name: &str| named(&ada, name, "POST", "/api/instances", json!({"name": "one"})).await;
        let first = create("a").await;
        let made = first.expect(201);
        let again = create("a").await;
        assert_eq!(again.expect(201), made);
        assert!(is_replayed(&again) && !is_replayed(&first));
        for header in ["location", "etag", "content-type"] {
            assert_eq!(again.header(header), first.header(header), "{header}");
        }
        assert_eq!(ada.get("/api/instances").await.expect(200).as_array().unwrap().len(), 1);
        assert_ne!(create("b").await.expect(201)["id"], made["id"]);
        // After a day a name is new again.
        platform.advance(DAY);
        let later = create("a").await;
        later.expect_error(403, "FORBIDDEN");
        platform.finish().await;
    }

    async fn a_secret_is_shown_once(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let mint = async || named(&ada, "k", "POST", "/api/keys", json!({"name": "k"})).await;
        let first = mint().await.expect(201);
        let again = mint().await;
        let mut expected = first.clone();
        expected.as_object_mut().unwrap().remove("secret").unwrap();
        assert_eq!(again.expect(201), expected);
        assert!(is_replayed(&again));
        // The key is one, and it works.
        let key = platform.anonymous().with_key(first["secret"].as_str().unwrap());
        key.get("/api/keys/current").await.expect(200);
        platform.finish().await;
    }

    async fn another_request_under_the_same_name_is_refused(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        let mint = async |client: &Client, name: &str| named(client, "n", "POST", "/api/keys", json!({"name": name})).await;
        let made = mint(&ada, "one").await.expect(201);
        mint(&ada, "two").await.expect_error(422, "INVALID_REQUEST");
        let path = format!("/api/keys/{}", made["id"].as_str().unwrap());
        named(&ada, "n", "PATCH", &path, json!({"name": "one"})).await.expect_error(422, "INVALID_REQUEST");
        // Names are each credential's own.
        assert!(!is_replayed(&mint(&bob, "two").await));
        let other = platform.anonymous().with_key(made["secret"].as_str().unwrap());
        named(&other, "n", "POST", "/api/instances", json!({})).await.expect_error(403, "FORBIDDEN");
        // A name that is none is told so; who may not get in, is told that first.
        mint(&ada, "three").await.expect_error(422, "INVALID_REQUEST");
        let long = "x".repeat(256);
        named(&ada, &long, "POST", "/api/keys", json!({"name": "k"})).await.expect_error(400, "INVALID_REQUEST");
        named(platform.anonymous(), "n", "POST", "/api/keys", json!({})).await.expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }

    async fn who_may_not_is_told_so_before_anything_else(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        let theirs = bob.ready_instance(&platform).await;
        let large = "x".repeat(300 * 1024);
        let start = ada.call("POST", &format!("/api/instances/{theirs}/start"));
        let start = start.header("idempotency-key", "s").body("application/json", large);
        start.send().await.expect_error(404, "NOT_FOUND");

        // An answer from when a key was more is not given to it any more.
        ada.entitle(&platform).await;
        let minted = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let key = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
        let create = async || named(&key, "a", "POST", "/api/instances", json!({})).await;
        create().await.expect(201);
        assert!(is_replayed(&create().await));
        let path = format!("/api/keys/{}", minted["id"].as_str().unwrap());
        ada.patch(&path, json!({"scopes": ["chat"]})).await.expect(200);
        let refused = async || (create().await.status == 403).then_some(());
        eventually("the narrowed key is refused", refused).await;
        platform.finish().await;
    }

    async fn an_error_frees_the_name(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let create = async || named(&ada, "a", "POST", "/api/instances", json!({})).await;
        create().await.expect_error(403, "FORBIDDEN");
        ada.entitle(&platform).await;
        assert!(!is_replayed(&create().await));
        assert!(is_replayed(&create().await));
        platform.finish().await;
    }

    async fn what_runs_is_not_begun_twice_and_ends_without_its_client(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        platform.runtime().hang_starts();
        let restart = {
            let ada = ada.clone();
            async move || named(&ada, "r", "POST", &format!("/api/instances/{id}/restart?wait=60"), json!({})).await
        };
        let first = tokio::spawn({
            let restart = restart.clone();
            async move { restart().await }
        });
        let runs = async || {
            let operations = ada.get("/api/operations").await.expect(200);
            (operations[0]["kind"] == "restart").then_some(())
        };
        eventually("the restart is under way", runs).await;
        let refused = restart().await;
        refused.expect_error(409, "CONFLICT");
        assert!(refused.header("retry-after").is_some());
        // The client goes away; what it began goes on.
        first.abort();
        platform.runtime().heal();
        let answered = async || Some(restart().await).filter(|answer| answer.status != 409);
        let answer = eventually("the answer", answered).await;
        assert_eq!(answer.expect(200)["status"], "succeeded");
        assert!(is_replayed(&answer));
        assert_eq!(ada.get("/api/operations").await.expect(200).as_array().unwrap().len(), 2);
        platform.finish().await;
    }

    async fn what_a_crash_left_is_released_after_a_minute(database: TestDatabase) {
        let mut platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        platform.runtime().hang_starts();
        let client = ada.at(platform.anonymous());
        let first = tokio::spawn({
            let path = format!("/api/instances/{id}/restart?wait=60");
            async move { client.call("POST", &path).header("idempotency-key", "r").json(json!({})).dispatch().await }
        });
        let runs = async || {
            let operations = ada.get("/api/operations").await.expect(200);
            (operations[0]["kind"] == "restart").then_some(())
        };
        eventually("the restart is under way", runs).await;
        platform.kill_and_restart().await;
        assert!(first.await.unwrap().is_err());
        let ada = ada.at(platform.anonymous());
        let path = format!("/api/instances/{id}/restart?wait=60");
        let again = async || named(&ada, "r", "POST", &path, json!({})).await;
        again().await.expect_error(409, "CONFLICT");
        platform.runtime().heal();
        platform.advance(Duration::from_secs(61));
        assert!(!is_replayed(&again().await));
        platform.finish().await;
    }
}
