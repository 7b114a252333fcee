//! Invite codes: made and withdrawn by the operator, redeemed by accounts.

use std::time::Duration;

use reef_model::{Clock, SystemClock};
use reef_testkit::{Platform, both_engines};
use serde_json::json;

both_engines! {
    async fn a_code_gives_the_right_to_one_instance(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (operator, ada) = (platform.operator().await, platform.account("ada").await);
        let invite = operator.post("/api/admin/invites", json!({"plan": "collective"})).await.expect(201);
        let code = invite["code"].as_str().unwrap();
        let given = ada.post("/api/invites/redeem", json!({"code": code})).await.expect(201);
        assert_eq!((&given["plan"], &given["instance_id"]), (&json!("collective"), &json!(null)));
        let made = ada.post("/api/instances", json!({})).await.expect(201);
        assert_eq!(made["plan"], "collective");
        let held = ada.get("/api/account/entitlements").await.expect(200);
        assert_eq!(held[0]["instance_id"], made["id"]);
        ada.post("/api/instances", json!({})).await.expect_error(403, "FORBIDDEN");

        let listed = operator.get("/api/admin/invites").await;
        assert_eq!(listed.expect(200)[0]["uses"], 1);
        assert!(!listed.text().contains(code), "a code is shown once");
        platform.finish().await;
    }

    async fn only_the_operator_makes_codes(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        ada.post("/api/admin/invites", json!({})).await.expect_error(403, "FORBIDDEN");
        ada.get("/api/admin/invites").await.expect_error(403, "FORBIDDEN");
        let operator = platform.operator().await;
        operator
            .post("/api/admin/invites", json!({"max_uses": 0}))
            .await
            .expect_error(422, "INVALID_REQUEST");
        operator
            .post("/api/admin/invites", json!({"plan": "gold"}))
            .await
            .expect_error(422, "INVALID_REQUEST");
        platform.finish().await;
    }

    async fn a_code_that_ended_reads_as_one_that_never_was(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (operator, ada) = (platform.operator().await, platform.account("ada").await);
        let make = async |body| operator.post("/api/admin/invites", body).await.expect(201);
        let end = SystemClock.now() + Duration::from_secs(60);
        let expired = make(json!({"expires_at": end})).await;
        let (withdrawn, used) = (make(json!({})).await, make(json!({})).await);
        let path = format!("/api/admin/invites/{}", withdrawn["id"].as_str().unwrap());
        operator.delete(&path).await.expect(204);
        ada.post("/api/invites/redeem", json!({"code": used["code"]})).await.expect(201);
        platform.advance(Duration::from_secs(61));
        let mut bodies = Vec::new();
        for code in [&expired["code"], &withdrawn["code"], &used["code"], &json!("no code at all")] {
            let call = ada.call("POST", "/api/invites/redeem").header("x-request-id", "same");
            let answer = call.json(json!({"code": code})).send().await;
            let error = answer.expect_error(403, "FORBIDDEN");
            assert_eq!(error["error"]["details"]["reason"], "invite_invalid");
            bodies.push(answer.body);
        }
        assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
        platform.finish().await;
    }

    async fn of_racing_requests_with_a_code_for_one_exactly_one_wins(database: TestDatabase) {
        const RACERS: usize = 12;
        let platform = Platform::start(database).await;
        let code = platform.invite_code(1).await;
        let mut accounts = Vec::new();
        for n in 0..4 {
            accounts.push(platform.account(&format!("racer{n}")).await);
        }
        let mut race = tokio::task::JoinSet::new();
        for n in 0..RACERS {
            let (client, code) = (accounts[n % accounts.len()].clone(), code.clone());
            race.spawn(async move { client.post("/api/instances", json!({"invite_code": code})).await });
        }
        let answers = race.join_all().await;
        let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(made.len(), 1);
        for lost in answers.iter().filter(|answer| answer.status != 201) {
            lost.expect_error(403, "FORBIDDEN");
        }
        let mut instances = 0;
        for account in &accounts {
            instances += account.get("/api/instances").await.expect(200).as_array().unwrap().len();
        }
        assert_eq!(instances, 1);
        platform.finish().await;
    }

    async fn of_racing_creates_with_one_entitlement_exactly_one_wins(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        ada.entitle(&platform).await;
        let mut race = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let ada = ada.clone();
            race.spawn(async move { ada.post("/api/instances", json!({})).await.status });
        }
        let mut statuses = race.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 403, 403, 403, 403, 403, 403, 403]);
        platform.finish().await;
    }

    async fn a_code_at_sign_up_is_redeemed_or_there_is_no_account(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let code = platform.invite_code(1).await;
        let body =
            |email: &str| json!({"email": email, "password": "a rather long password", "invite_code": code});
        let nobody = platform.anonymous();
        let answer = nobody.post("/api/auth/signup", body("ada@example.org")).await;
        answer.expect(201);
        let ada = nobody.with_cookie(&answer.cookie().unwrap());
        assert_eq!(ada.get("/api/account/entitlements").await.expect(200).as_array().unwrap().len(), 1);
        nobody.post("/api/auth/signup", body("bob@example.org")).await.expect_error(403, "FORBIDDEN");
        let log_in = json!({"email": "bob@example.org", "password": "a rather long password"});
        nobody.post("/api/auth/login", log_in).await.expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }
}
