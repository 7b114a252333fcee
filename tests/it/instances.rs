//! The resource: create, read, change, list, long verbs, and what a door is asked for meanwhile.

use std::{collections::BTreeSet, time::Duration};

use reef_model::InstanceId;
use reef_testkit::{Caps, Platform, Setup, both_engines, eventually};
use serde_json::{Value, json};

both_engines! {
    async fn without_an_entitlement_there_is_no_instance(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let refused = ada.post("/api/instances", json!({})).await.expect_error(403, "FORBIDDEN");
        assert_eq!(refused["error"]["details"]["reason"], "subscription_or_invite_required");
        assert!(refused["message"].as_str().unwrap().contains("invite"));
        let body = json!({"invite_code": "not-a-code"});
        ada.post("/api/instances", body).await.expect_error(403, "FORBIDDEN");
        assert_eq!(ada.get("/api/instances").await.expect(200), json!([]));
        assert_eq!(platform.runtime().attempts(), 0);
        platform.finish().await;
    }

    async fn a_new_instance_comes_up(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().hang_starts();
        ada.entitle(&platform).await;
        let wish = json!({"name": " research ", "idle_timeout_seconds": 600, "env": {"TOKEN": "abc"}});
        let answer = ada.post("/api/instances", wish).await;
        let made = answer.expect(201);
        assert_eq!(
            (&made["name"], &made["status"], &made["power"]),
            (&json!("research"), &json!("provisioning"), &json!("stopped"))
        );
        assert_eq!(
            (&made["plan"], &made["runtime"], &made["generation"]),
            (&json!("solo"), &json!("process"), &json!(1))
        );
        assert_eq!(made["idle_timeout_seconds"], 600);
        assert!(!answer.text().contains("abc"), "the environment is not shown");
        let path = answer.header("location").unwrap();
        assert_eq!(made["url"], format!("{}{path}", ada.base()));

        let operations = ada.get("/api/operations").await.expect(200);
        let operation = &operations[0];
        assert_eq!((&operation["kind"], &operation["status"]), (&json!("create"), &json!("running")));
        platform.runtime().heal();
        let path_of_operation = format!("/api/operations/{}?wait=20", operation["id"].as_str().unwrap());
        let ended = ada.get(&path_of_operation).await.expect(200);
        assert_eq!((&ended["status"], &ended["progress"]), (&json!("succeeded"), &json!(100)));
        let ready = ada.get(path).await.expect(200);
        assert_eq!((&ready["status"], &ready["power"]), (&json!("ready"), &json!("running")));
        assert_eq!(
            (&ready["isolation"], &ready["openclaw_version"]),
            (&json!("bubblewrap"), &json!("2026.9.6"))
        );
        assert!(ready["provisioned_at"].is_string() && ready["started_at"].is_string());
        assert_eq!(ready["sandbox_id"], "fake:1");
        platform.finish().await;
    }

    async fn what_cannot_be_is_refused_before_anything_is_made(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        ada.entitle(&platform).await;
        for (field, body) in [
            ("name", json!({"name": " "})),
            ("name", json!({"name": "x".repeat(65)})),
            ("idle_timeout_seconds", json!({"idle_timeout_seconds": 59})),
            ("env", json!({"env": {"PATH": "/tmp"}})),
            ("env", json!({"env": {"1A": "x"}})),
            ("image", json!({"image": "no image"})),
            ("colour", json!({"colour": "red"})),
        ] {
            let error = ada.post("/api/instances", body).await.expect_error(422, "INVALID_REQUEST");
            assert_eq!(error["error"]["details"]["fields"][0]["field"], field);
        }
        ada.post("/api/instances?wait=121", json!({})).await.expect_error(400, "INVALID_REQUEST");
        // The entitlement is still there.
        ada.call("POST", "/api/instances").send().await.expect(201);
        platform.finish().await;
    }

    async fn changes_are_made_on_what_was_read(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let path = format!("/api/instances/{}", ada.ready_instance(&platform).await);
        let etag = ada.get(&path).await.header("etag").unwrap().to_owned();
        let change = async |tag: &str, name: &str| {
            ada.call("PATCH", &path).header("if-match", tag).json(json!({"name": name})).send().await
        };
        let changed = change(&etag, "one").await;
        assert_eq!(changed.expect(200)["name"], "one");
        assert_ne!(changed.header("etag"), Some(etag.as_str()));
        change(&etag, "two").await.expect_error(409, "CONFLICT");
        change("\"nonsense\"", "two").await.expect_error(409, "CONFLICT");
        change("*", "three").await.expect(200);
        ada.patch(&path, json!({"name": ""})).await.expect_error(422, "INVALID_REQUEST");
        let now = ada.patch(&path, json!({"idle_timeout_seconds": 60})).await.expect(200);
        assert_eq!((&now["name"], &now["idle_timeout_seconds"]), (&json!("three"), &json!(60)));
        platform.finish().await;
    }

    async fn of_racing_changes_on_one_reading_exactly_one_wins(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let path = format!("/api/instances/{}", ada.ready_instance(&platform).await);
        let etag = ada.get(&path).await.header("etag").unwrap().to_owned();
        let mut race = tokio::task::JoinSet::new();
        for n in 0..6 {
            let call =
                ada.call("PATCH", &path).header("if-match", &etag).json(json!({"name": format!("n{n}")}));
            race.spawn(async move { call.send().await.status });
        }
        let mut statuses = race.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409]);
        platform.finish().await;
    }

    async fn lists_are_whole_and_stable(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let mut made = Vec::new();
        for _ in 0..5 {
            made.push(ada.create_instance(&platform).await["id"].clone());
        }
        let ids =
            |page: &Value| page.as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
        let first = ada.get("/api/instances?limit=2").await;
        let mut seen = ids(&first.expect(200));
        ada.create_instance(&platform).await;
        let mut cursor = first.header("x-next-cursor").map(str::to_owned);
        while let Some(after) = cursor {
            let page = ada.get(&format!("/api/instances?limit=2&cursor={after}")).await;
            seen.extend(ids(&page.expect(200)));
            cursor = page.header("x-next-cursor").map(str::to_owned);
        }
        made.reverse();
        assert_eq!(seen, made, "newest first, each once");
        platform.finish().await;
    }

    async fn stop_start_and_restart_are_operations(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = format!("/api/instances/{id}");
        let command = async |verb: &str| {
            let answer = ada.call("POST", &format!("{path}/{verb}?wait=20")).send().await;
            let operation = answer.expect(200);
            assert_eq!(operation["status"], "succeeded", "{verb}: {operation}");
            assert_eq!(
                answer.header("location").unwrap(),
                format!("/api/operations/{}", operation["id"].as_str().unwrap())
            );
            (operation["kind"].as_str().unwrap().to_owned(), ada.get(&path).await.expect(200))
        };
        let (kind, stopped) = command("stop").await;
        assert_eq!(
            (kind.as_str(), &stopped["status"], &stopped["power"]),
            ("stop", &json!("stopped"), &json!("stopped"))
        );
        let (kind, again) = command("shutdown").await;
        assert_eq!((kind.as_str(), &again["status"]), ("stop", &json!("stopped")));
        let (kind, started) = command("start").await;
        assert_eq!((kind.as_str(), &started["status"]), ("start", &json!("ready")));
        let starts = platform.runtime().started().len();
        command("start").await;
        assert_eq!(platform.runtime().started().len(), starts, "what runs is not replaced");
        let (kind, restarted) = command("restart").await;
        assert_eq!((kind.as_str(), &restarted["status"]), ("restart", &json!("ready")));
        assert!(restarted["generation"].as_i64() > started["generation"].as_i64());
        command("reboot").await;
        assert_eq!(platform.runtime().started().len(), starts + 2);
        platform.finish().await;
    }

    async fn what_is_under_way_is_waited_for_or_cut_in(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().hang_starts();
        let made = ada.create_instance(&platform).await;
        let path = format!("/api/instances/{}", made["id"].as_str().unwrap());
        let creating = ada.get("/api/operations").await.expect(200)[0].clone();
        let busy = ada.call("POST", &format!("{path}/restart")).send().await;
        let error = busy.expect_error(409, "CONFLICT");
        assert_eq!(error["error"]["details"]["operation_id"], creating["id"]);
        assert!(busy.header("retry-after").is_some());

        let stopping = ada.call("POST", &format!("{path}/stop")).send().await;
        assert_eq!(stopping.expect(202)["status"], "running");
        let cut = ada.get(&format!("/api/operations/{}", creating["id"].as_str().unwrap())).await.expect(200);
        assert_eq!((&cut["status"], &cut["error"]["code"]), (&json!("failed"), &json!("superseded")));
        platform.runtime().heal();
        let wait = format!("{}?wait=20", stopping.header("location").unwrap());
        assert_eq!(ada.get(&wait).await.expect(200)["status"], "succeeded");
        assert_eq!(ada.get(&path).await.expect(200)["status"], "stopped");
        platform.finish().await;
    }

    async fn a_deleted_instance_can_be_restored_until_its_window_is_over(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = format!("/api/instances/{id}");
        ada.call("POST", &format!("{path}/restore")).send().await.expect_error(409, "CONFLICT");
        ada.delete(&format!("{path}?wait=20")).await.expect(200);
        assert_eq!(ada.get("/api/instances").await.expect(200), json!([]));
        let deleted = ada.get(&path).await.expect(200);
        assert_eq!((&deleted["status"], &deleted["power"]), (&json!("deleted"), &json!("stopped")));
        assert!(deleted["deleted_at"].is_string() && deleted["restorable_until"].is_string());
        let restorable = async || {
            let listed = ada.get("/api/instances?deleted=true").await.expect(200);
            listed.as_array().unwrap().iter().map(|row| row["id"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(restorable().await, [json!(id)]);
        ada.call("POST", &format!("{path}/start")).send().await.expect_error(409, "CONFLICT");
        ada.patch(&path, json!({"name": "x"})).await.expect_error(409, "CONFLICT");

        ada.call("POST", &format!("{path}/restore?wait=20")).send().await.expect(200);
        let restored = ada.get(&path).await.expect(200);
        assert_eq!((&restored["status"], &restored["deleted_at"]), (&json!("stopped"), &json!(null)));
        assert!(restorable().await.is_empty());
        ada.call("POST", &format!("{path}/start?wait=20")).send().await.expect(200);

        // Its slot is free again; whoever fills it cannot restore.
        ada.delete(&format!("{path}?wait=20")).await.expect(200);
        ada.post("/api/instances", json!({})).await.expect(201);
        ada.call("POST", &format!("{path}/restore")).send().await.expect_error(403, "FORBIDDEN");

        assert!(platform.runtime().removed().is_empty());
        assert_eq!(restorable().await, [json!(id)]);
        platform.advance(Duration::from_secs(7 * 24 * 3600 + 1));
        assert!(restorable().await.is_empty(), "what is over is not offered");
        eventually("the data goes after the window", async || {
            platform.runtime().removed().contains(&id).then_some(())
        })
        .await;
        eventually("the row goes too", async || (ada.get(&path).await.status == 404).then_some(())).await;
        platform.finish().await;
    }

    async fn a_chat_waits_for_an_instance_that_comes_up(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().hang_starts();
        let made = ada.create_instance(&platform).await;
        let path = format!("/api/instances/{}/chat", made["id"].as_str().unwrap());
        let chat = tokio::spawn({
            let ada = ada.clone();
            async move { ada.post(&path, json!({"message": "hi"})).await }
        });
        eventually("the start is under way", async || (platform.runtime().attempts() > 0).then_some(()))
            .await;
        platform.runtime().heal();
        assert_eq!(chat.await.unwrap().expect(200)["status"], "completed");
        platform.finish().await;
    }

    async fn only_so_many_requests_wait(database: TestDatabase) {
        const HELD: usize = 64;
        let caps = Caps { streams: 1_000, ..Caps::default() };
        let platform = Platform::start_with(database, Setup { caps, ..Setup::default() }).await;
        let ada = platform.account("ada").await;
        platform.runtime().hang_starts();
        let made = ada.create_instance(&platform).await;
        let path = format!("/api/instances/{}/chat", made["id"].as_str().unwrap());
        let minted = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let mut held = tokio::task::JoinSet::new();
        for _ in 0..=HELD {
            let (client, path) =
                (platform.anonymous().with_key(minted["secret"].as_str().unwrap()), path.clone());
            held.spawn(async move { client.post(&path, json!({"message": "hi"})).await });
        }
        // One is too many; it is told so at once, the others wait.
        let refused = held.join_next().await.unwrap().unwrap();
        refused.expect_error(503, "CAPACITY");
        assert!(refused.header("retry-after").is_some());
        // Who loses the key meanwhile waits no longer.
        ada.delete(&format!("/api/keys/{}", minted["id"].as_str().unwrap())).await.expect(204);
        for answer in held.join_all().await {
            answer.expect_error(401, "UNAUTHORIZED");
        }
        assert!(platform.runtime().received(made["id"].as_str().unwrap().parse().unwrap()).is_empty());
        platform.runtime().heal();
        platform.finish().await;
    }

    async fn a_chat_does_not_wake_what_its_owner_stopped(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        ada.call("POST", &format!("/api/instances/{id}/stop?wait=20")).send().await.expect(200);
        for path in ["chat", "chat/stream"] {
            let answer = ada.post(&format!("/api/instances/{id}/{path}"), json!({"message": "hi"})).await;
            let error = answer.expect_error(409, "INSTANCE_NOT_READY");
            assert_eq!(error["error"]["details"]["status"], "stopped");
            assert!(answer.header("retry-after").is_some());
        }
        assert!(platform.runtime().received(id).is_empty());
        platform.finish().await;
    }

    async fn status_tells_what_was_seen_just_now(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = format!("/api/instances/{id}");
        let status = ada.get(&format!("{path}/status")).await.expect(200);
        assert_eq!(
            (&status["status"], &status["probes"]),
            (&json!("ready"), &json!({"door": true, "gateway": true}))
        );
        assert_eq!(status["door"]["openclaw_version"], "2026.9.6");
        assert_eq!(ada.get(&format!("{path}/health")).await.expect(200)["id"], json!(id));
        assert_eq!(ada.get(&format!("{path}/logs?lines=10")).await.expect(200)[0]["line"], "the fake is up");
        ada.call("POST", &format!("{path}/stop?wait=20")).send().await.expect(200);
        let stopped = ada.get(&format!("{path}/status")).await.expect(200);
        assert_eq!(
            (&stopped["probes"], &stopped["door"]),
            (&json!({"door": null, "gateway": null}), &json!(null))
        );
        platform.finish().await;
    }

    async fn followers_are_told_what_happens_to_theirs_only(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        let theirs = bob.ready_instance(&platform).await;
        let id = ada.ready_instance(&platform).await;
        let mut all = ada.call("GET", "/api/events").events().await;
        assert_eq!(all.headers["x-accel-buffering"], "no");
        let first = all.expect().await;
        assert_eq!((first.name.as_str(), &first.data["instance"]["id"]), ("instance.updated", &json!(id)));
        let mut one = ada.call("GET", &format!("/api/instances/{id}/events")).events().await;
        one.expect().await;

        bob.call("POST", &format!("/api/instances/{theirs}/stop?wait=20")).send().await.expect(200);
        ada.call("POST", &format!("/api/instances/{id}/stop?wait=20")).send().await.expect(200);
        for stream in [&mut all, &mut one] {
            let (mut last, mut statuses) = (0, BTreeSet::new());
            loop {
                let event = stream.expect().await;
                assert!(event.id > last, "ids grow");
                assert!(!event.data.to_string().contains(&theirs.to_string()));
                last = event.id;
                if let Some(status) = event.data["instance"]["status"].as_str() {
                    statuses.insert(status.to_owned());
                }
                if event.name == "operation.updated" && event.data["operation"]["status"] == "succeeded" {
                    break;
                }
            }
            assert!(statuses.contains("stopped"), "{statuses:?}");
        }
        platform.finish().await;
    }

    async fn followers_on_another_replica_are_told_too(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let elsewhere = platform.another_replica().await;
        let mut there = ada.at(elsewhere.anonymous()).call("GET", "/api/events").events().await;
        there.expect().await;
        let path = format!("/api/instances/{id}");
        // What verbs do here, nobody there does.
        ada.patch(&path, json!({"name": "renamed"})).await.expect(200);
        there.find(|event| event.data["instance"]["name"] == "renamed").await;
        let stopped = ada.call("POST", &format!("{path}/stop?wait=20")).send().await.expect(200);
        there
            .find(|event| {
                event.data["operation"]["id"] == stopped["id"] && event.data["operation"]["status"] == "succeeded"
            })
            .await;
        ada.call("DELETE", &format!("{path}?wait=20")).send().await.expect(200);
        platform.advance(platform.control().policy().restore_window);
        there.find(|event| event.name == "instance.purged").await;
        drop(there);
        elsewhere.finish().await;
        platform.finish().await;
    }

    async fn ids_that_are_none_read_as_none(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let never = InstanceId::generate().to_string();
        for id in [never.as_str(), "nonsense", "inst_", "usr_01jz5m3k8qf6x7v9r2c4t0w1ab", "%00", "..%2fkeys"]
        {
            ada.get(&format!("/api/instances/{id}")).await.expect_error(404, "NOT_FOUND");
            ada.get(&format!("/api/operations/{id}")).await.expect_error(404, "NOT_FOUND");
        }
        platform.finish().await;
    }
}
