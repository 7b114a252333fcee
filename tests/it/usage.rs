//! What was used, what there is to have, and the records of the audit.

use reef_db::ModelUse;
use reef_model::{InstanceId, Timestamp, UserId};
use reef_testkit::{Platform, both_engines};
use serde_json::json;

async fn used(platform: &Platform, user: UserId, instance: InstanceId, hour: &str, tokens: i64) {
    let hour: Timestamp = hour.parse().unwrap();
    let used = ModelUse {
        user_id: user,
        instance_id: instance,
        hour,
        requests: 1,
        estimated_requests: 0,
        prompt_tokens: tokens,
        completion_tokens: 1,
    };
    let mut tx = platform.db().write().await.unwrap();
    tx.add_model_usage(&used).await.unwrap();
    tx.commit().await.unwrap();
}

both_engines! {
    async fn use_is_added_up_by_instance_or_day(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        let (one, two) = (InstanceId::generate(), InstanceId::generate());
        used(&platform, ada.user, one, "2026-03-01T23:00:00Z", 10).await;
        used(&platform, ada.user, one, "2026-03-02T00:00:00Z", 20).await;
        used(&platform, ada.user, two, "2026-03-02T05:00:00Z", 30).await;
        used(&platform, bob.user, InstanceId::generate(), "2026-03-02T05:00:00Z", 1_000).await;
        let get = async |query: &str| ada.get(&format!("/api/usage?{query}")).await;

        let range = "from=2026-03-01T23:30:00Z&to=2026-03-03T00:00:00Z";
        let usage = get(range).await.expect(200);
        assert_eq!(usage["from"], "2026-03-01T23:00:00.000Z", "whole hours");
        assert_eq!(
            usage["rows"],
            json!([
                {"instance_id": one, "day": null, "requests": 2, "estimated_requests": 0, "prompt_tokens": 30, "completion_tokens": 2},
                {"instance_id": two, "day": null, "requests": 1, "estimated_requests": 0, "prompt_tokens": 30, "completion_tokens": 1},
            ])
        );
        assert_eq!((&usage["total"]["requests"], &usage["total"]["prompt_tokens"]), (&json!(3), &json!(60)));
        let by_day = get(&format!("{range}&group_by=day")).await.expect(200);
        let days: Vec<_> = by_day["rows"].as_array().unwrap().iter()
            .map(|row| (row["day"].as_str().unwrap(), row["prompt_tokens"].as_i64().unwrap())).collect();
        assert_eq!(days, [("2026-03-01", 10), ("2026-03-02", 50)]);

        let call = ada.call("GET", &format!("/api/usage?{range}&group_by=day")).header("accept", "text/csv");
        let table = call.send().await;
        assert_eq!(table.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
        assert_eq!(
            table.text(),
            "day,requests,estimated_requests,prompt_tokens,completion_tokens\r\n\
             2026-03-01,1,0,10,1\r\n2026-03-02,2,0,50,2\r\n"
        );
        assert_eq!(get("").await.expect(200)["rows"], json!([]), "the last 30 days");
        for bad in ["from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z", "from=2020-01-01T00:00:00Z",
            "from=yesterday", "group_by=colour"] {
            get(bad).await.expect_error(400, "INVALID_REQUEST");
        }
        let plans = ada.get("/api/plans").await.expect(200);
        assert_eq!((plans.as_array().unwrap().len(), &plans[0]["plan"]), (4, &json!("free")));
        platform.finish().await;
    }

    async fn records_are_found_by_actor_action_target_and_time(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let key = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let id = key["id"].as_str().unwrap();
        ada.patch(&format!("/api/keys/{id}"), json!({"name": "l"})).await.expect(200);
        ada.delete(&format!("/api/keys/{id}")).await.expect(204);
        let actions = async |query: &str| {
            let rows = ada.get(&format!("/api/audit?{query}")).await.expect(200);
            let actions = rows.as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap().to_owned());
            actions.collect::<Vec<_>>()
        };
        assert_eq!(actions(&format!("target={id}")).await, ["key.revoke", "key.update", "key.create"]);
        assert_eq!(actions(&format!("target={id}&action=key.update")).await, ["key.update"]);
        assert_eq!(actions("action=account").await, ["account.sign_up"]);
        assert_eq!(actions(&format!("target={id}&actor={}", ada.user)).await, Vec::<String>::new());
        assert_eq!(actions("to=2020-01-01T00:00:00Z").await, Vec::<String>::new());

        // The link to the next page keeps what was asked for.
        let first = ada.get(&format!("/api/audit?target={id}&limit=2")).await;
        let link = first.header("link").unwrap().to_owned();
        let next = link.trim_start_matches('<').split('>').next().unwrap();
        let second = ada.get(next).await.expect(200);
        assert_eq!((second.as_array().unwrap().len(), &second[0]["action"]), (1, &json!("key.create")));
        let all = platform.operator().await.get(&format!("/api/admin/audit?target={id}")).await.expect(200);
        assert_eq!(all.as_array().unwrap().len(), 3);
        platform.finish().await;
    }
}
