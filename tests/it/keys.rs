//! API keys: mint, list, limit, rotate, revoke.

use std::time::Duration;

use reef_model::{Clock, SystemClock};
use reef_testkit::{Platform, both_engines, eventually};
use serde_json::json;
use tokio_util::sync::CancellationToken;

both_engines! {
    async fn a_key_works_and_its_secret_is_shown_once(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let minted = ada.post("/api/keys", json!({"name": "nightly"})).await.expect(201);
        let secret = minted["secret"].as_str().unwrap();
        assert!(secret.starts_with("sk_live_") && secret.ends_with(minted["last4"].as_str().unwrap()));
        assert!(!minted["scopes"].as_array().unwrap().contains(&json!("account")), "{minted}");

        let key = platform.anonymous().with_key(secret);
        let current = key.get("/api/keys/current").await;
        assert_eq!(current.expect(200)["id"], minted["id"]);
        assert!(!current.text().contains(secret));
        assert!(!ada.get("/api/keys").await.text().contains(secret));
        key.get("/api/instances").await.expect(200);
        key.get("/api/keys").await.expect_error(403, "FORBIDDEN");
        platform.finish().await;
    }

    async fn keys_are_listed_by_pages(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        for n in 0..5 {
            ada.post("/api/keys", json!({"name": format!("k{n}")})).await.expect(201);
        }
        let mut names = Vec::new();
        let mut path = "/api/keys?limit=2".to_owned();
        loop {
            let page = ada.get(&path).await;
            let body = page.expect(200);
            assert!(body.as_array().unwrap().len() <= 2);
            names.extend(body.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap().to_owned()));
            // One that is made between two pages shows up on neither of the later ones.
            ada.post("/api/keys", json!({"name": "between"})).await.expect(201);
            let Some(cursor) = page.header("x-next-cursor") else { break };
            assert!(page.header("link").unwrap().ends_with("rel=\"next\""));
            path = format!("/api/keys?limit=2&cursor={cursor}");
        }
        assert_eq!(names, ["k4", "k3", "k2", "k1", "k0", "test"]);
        platform.finish().await;
    }

    async fn scopes_bound_what_a_key_may_do_and_give(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let body = json!({"name": "reader", "scopes": ["instances:read", "account"]});
        let minted = ada.post("/api/keys", body).await.expect(201);
        let reader = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
        reader.get("/api/instances").await.expect(200);
        let refused = reader.post("/api/instances", json!({})).await.expect_error(403, "FORBIDDEN");
        assert_eq!(refused["error"]["details"]["scope"], "instances:write");
        // Nobody gives what they have not: neither to a new key nor to an old one.
        let more = json!({"name": "more", "scopes": ["chat"]});
        reader.post("/api/keys", more).await.expect_error(422, "INVALID_REQUEST");
        let own = format!("/api/keys/{}", minted["id"].as_str().unwrap());
        reader.patch(&own, json!({"scopes": ["instances:write"]})).await.expect_error(422, "INVALID_REQUEST");

        let narrowed = ada.patch(&own, json!({"scopes": ["account"]})).await.expect(200);
        assert_eq!(narrowed["scopes"], json!(["account"]));
        eventually("the narrowed key is refused", async || {
            (reader.get("/api/instances").await.status == 403).then_some(())
        })
        .await;
        platform.finish().await;
    }

    async fn limits_of_address_and_time_hold(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let mint =
            async |body| ada.post("/api/keys", body).await.expect(201)["secret"].as_str().unwrap().to_owned();
        let elsewhere = mint(json!({"name": "elsewhere", "ip_allow": ["192.0.2.0/24"]})).await;
        let refused = platform
            .anonymous()
            .with_key(&elsewhere)
            .get("/api/instances")
            .await
            .expect_error(403, "FORBIDDEN");
        assert_eq!(refused["error"]["details"]["reason"], "address");
        let here = mint(json!({"name": "here", "ip_allow": ["127.0.0.1"]})).await;
        platform.anonymous().with_key(&here).get("/api/instances").await.expect(200);

        let end = SystemClock.now() + Duration::from_secs(3600);
        let short = mint(json!({"name": "short", "expires_at": end})).await;
        let key = platform.anonymous().with_key(&short);
        key.get("/api/instances").await.expect(200);
        platform.advance(Duration::from_secs(3601));
        key.get("/api/instances").await.expect_error(401, "UNAUTHORIZED");
        let past = json!({"name": "past", "expires_at": SystemClock.now() - Duration::from_secs(1)});
        ada.post("/api/keys", past).await.expect_error(422, "INVALID_REQUEST");
        platform.finish().await;
    }

    async fn a_key_for_one_instance_knows_no_other(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let (one, other) = (ada.ready_instance(&platform).await, ada.ready_instance(&platform).await);
        let minted = ada.post("/api/keys", json!({"name": "one", "instance_ids": [one]})).await.expect(201);
        let key = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
        key.get(&format!("/api/instances/{one}")).await.expect(200);
        key.get(&format!("/api/instances/{other}")).await.expect_error(404, "NOT_FOUND");
        key.post(&format!("/api/instances/{other}/stop"), json!({})).await.expect_error(404, "NOT_FOUND");
        let listed = key.get("/api/instances").await.expect(200);
        assert_eq!(listed.as_array().unwrap().len(), 1);
        let operations = key.get("/api/operations").await.expect(200);
        assert!(
            operations.as_array().unwrap().iter().all(|operation| operation["instance_id"] == json!(one))
        );
        key.post("/api/instances", json!({})).await.expect_error(403, "FORBIDDEN");

        let bob = platform.account("bob").await;
        let body = json!({"name": "theirs", "instance_ids": [one]});
        bob.post("/api/keys", body).await.expect_error(422, "INVALID_REQUEST");
        platform.finish().await;
    }

    async fn a_rotated_key_lives_through_its_overlap(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let minted =
            ada.post("/api/keys", json!({"name": "k", "scopes": ["instances:read"]})).await.expect(201);
        let old = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
        old.get("/api/instances").await.expect(200);
        let path = format!("/api/keys/{}/rotate", minted["id"].as_str().unwrap());
        let rotated = ada.post(&path, json!({"overlap_seconds": 3600})).await.expect(201);
        assert_eq!(rotated["scopes"], minted["scopes"]);
        let new = platform.anonymous().with_key(rotated["secret"].as_str().unwrap());
        old.get("/api/instances").await.expect(200);
        new.get("/api/instances").await.expect(200);
        // The earlier end is heard of within a second; then only time decides.
        eventually("the old key ends with its overlap", async || {
            platform.advance(Duration::from_secs(3601));
            (old.get("/api/instances").await.status == 401).then_some(())
        })
        .await;
        new.get("/api/instances").await.expect(200);

        let path = format!("/api/keys/{}/rotate", rotated["id"].as_str().unwrap());
        ada.post(&path, json!({"overlap_seconds": 604_801})).await.expect_error(422, "INVALID_REQUEST");
        ada.call("POST", &path).send().await.expect(201);
        eventually("without overlap it ends at once", async || {
            (new.get("/api/instances").await.status == 401).then_some(())
        })
        .await;
        platform.finish().await;
    }

    async fn a_revoked_key_ends_here_and_elsewhere(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let elsewhere = platform.another_replica().await;
        let minted = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let secret = minted["secret"].as_str().unwrap();
        let clients = [platform.anonymous().with_key(secret), elsewhere.anonymous().with_key(secret)];
        for client in &clients {
            client.get("/api/instances").await.expect(200);
        }
        let path = format!("/api/keys/{}", minted["id"].as_str().unwrap());
        platform.account("bob").await.delete(&path).await.expect_error(404, "NOT_FOUND");
        ada.delete(&path).await.expect(204);
        for client in &clients {
            eventually("the revoked key is refused", async || {
                (client.get("/api/instances").await.status == 401).then_some(())
            })
            .await;
        }
        ada.delete(&path).await.expect_error(404, "NOT_FOUND");
        elsewhere.finish().await;
        platform.finish().await;
    }

    async fn the_last_use_is_noted(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        ada.get("/api/instances").await.expect(200);
        platform.control().accounts().flush_uses().await.unwrap();
        let current = ada.get("/api/keys/current").await.expect(200);
        assert_eq!(current["last_used_ip"], "127.0.0.1");
        assert!(current["last_used_at"].is_string());
        platform.finish().await;
    }

    async fn a_stop_loses_no_use(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.get("/api/keys/current").await.expect(200)["id"].as_str().unwrap().parse().unwrap();
        let stop = CancellationToken::new();
        let mut working = Box::pin(platform.api().run(stop.clone()));
        {
            // Nothing is written as long as this is open; the first look at the work takes what was noted.
            let _writer = platform.db().write().await.unwrap();
            tokio::select! {
                biased;
                () = &mut working => panic!("it works until it is stopped"),
                () = std::future::ready(()) => stop.cancel(),
            }
        }
        working.await;
        eventually("the use is recorded", async || {
            platform.db().lookup_api_key(ada.user, id).await.unwrap()?.last_used_at
        })
        .await;
        platform.finish().await;
    }

    async fn a_key_in_a_url_is_refused(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let path = format!("/api/instances?key={}", ada.secret);
        let refused = ada.get(&path).await.expect_error(401, "UNAUTHORIZED");
        assert_eq!(refused["error"]["details"]["reason"], "key_in_query");
        // One that is mistyped is told so without a look into the database.
        let other = if ada.secret.ends_with('x') { 'y' } else { 'x' };
        let mistyped = format!("{}{other}", &ada.secret[..ada.secret.len() - 1]);
        platform
            .anonymous()
            .with_key(&mistyped)
            .get("/api/instances")
            .await
            .expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }
}
