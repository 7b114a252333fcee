//! Sign-up, sign-in, sessions, sign-out, tickets.

use std::time::Duration;

use reef_testkit::{Client, Platform, both_engines, within};
use serde_json::{Value, json};

const PASSWORD: &str = "a rather long password";

async fn sign_up(client: &Client, email: &str) -> Client {
    let answer = client.post("/api/auth/signup", json!({"email": email, "password": PASSWORD})).await;
    answer.expect(201);
    client.with_cookie(&answer.cookie().unwrap())
}

both_engines! {
    async fn a_new_account_is_signed_in_by_its_cookie(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        let body = json!({"email": " Ada@Example.org ", "password": PASSWORD, "name": "Ada"});
        let answer = nobody.post("/api/auth/signup", body).await;
        let user = answer.expect(201)["user"].clone();
        assert_eq!(
            (&user["email"], &user["name"], &user["role"]),
            (&json!("ada@example.org"), &json!("Ada"), &json!("user"))
        );
        let cookie = answer.header("set-cookie").unwrap().to_owned();
        for wanted in ["reef_session=", "HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(wanted), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "the origin is http: {cookie}");
        let browser = nobody.with_cookie(&answer.cookie().unwrap());
        assert_eq!(browser.get("/api/auth/session").await.expect(200)["user"], user);

        browser.call("POST", "/api/auth/logout").send().await.expect(204);
        browser.get("/api/auth/session").await.expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }

    async fn signing_in_says_not_what_was_wrong(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        sign_up(nobody, "ada@example.org").await;
        let log_in = async |email: &str, password: &str| {
            let call = nobody.call("POST", "/api/auth/login").header("x-request-id", "same");
            call.json(json!({"email": email, "password": password})).send().await
        };
        let wrong = log_in("ada@example.org", "a wrong password").await;
        let unknown = log_in("bob@example.org", PASSWORD).await;
        wrong.expect_error(401, "UNAUTHORIZED");
        assert_eq!(wrong.body, unknown.body);
        assert!(wrong.cookie().is_none() && unknown.cookie().is_none());
        let right = log_in("ADA@example.org", PASSWORD).await;
        right.expect(200);
        assert!(right.cookie().unwrap().starts_with("reef_session="));
        platform.finish().await;
    }

    async fn what_cannot_be_an_account_is_refused(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        let fields = async |body: Value| {
            let error = nobody.post("/api/auth/signup", body).await.expect_error(422, "INVALID_REQUEST");
            error["error"]["details"]["fields"][0]["field"].clone()
        };
        assert_eq!(fields(json!({"email": "no address", "password": PASSWORD})).await, "email");
        assert_eq!(fields(json!({"email": "ada@example.org", "password": "short"})).await, "password");
        assert_eq!(
            fields(json!({"email": "ada@example.org", "password": PASSWORD, "role": "operator"})).await,
            "role"
        );
        sign_up(nobody, "ada@example.org").await;
        let again = json!({"email": "ada@example.org", "password": PASSWORD});
        nobody.post("/api/auth/signup", again).await.expect_error(409, "CONFLICT");
        platform.finish().await;
    }

    async fn sessions_are_listed_and_ended(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let first = sign_up(platform.anonymous(), "ada@example.org").await;
        let body = json!({"email": "ada@example.org", "password": PASSWORD});
        let answer = platform.anonymous().post("/api/auth/login", body).await;
        let second = platform.anonymous().with_cookie(&answer.cookie().unwrap());
        let listed = first.get("/api/account/sessions").await.expect(200);
        let listed = listed.as_array().unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed.iter().filter(|session| session["current"] == true).count(), 1);
        let other = listed.iter().find(|session| session["current"] == false).unwrap();

        // Its open stream ends with it.
        let mut stream = second.call("GET", "/api/events").events().await;
        let path = format!("/api/account/sessions/{}", other["id"].as_str().unwrap());
        first.delete(&path).await.expect(204);
        within("the stream of the ended session", stream.next()).await.unwrap_err();
        second.get("/api/auth/session").await.expect_error(401, "UNAUTHORIZED");
        first.get("/api/auth/session").await.expect(200);
        first.delete(&path).await.expect_error(404, "NOT_FOUND");

        let stranger = sign_up(platform.anonymous(), "bob@example.org").await;
        let mine = listed.iter().find(|session| session["current"] == true).unwrap();
        let path = format!("/api/account/sessions/{}", mine["id"].as_str().unwrap());
        stranger.delete(&path).await.expect_error(404, "NOT_FOUND");
        platform.finish().await;
    }

    async fn another_site_can_make_a_browser_do_nothing(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let browser = sign_up(platform.anonymous(), "ada@example.org").await;
        let forged = browser.with_header("origin", "https://evil.example");
        let body = json!({"name": "stolen"});
        let refused = forged.post("/api/keys", body.clone()).await.expect_error(403, "FORBIDDEN");
        assert_eq!(refused["error"]["details"]["reason"], "origin");
        forged.call("POST", "/api/auth/logout").send().await.expect_error(403, "FORBIDDEN");
        // A sign-in is a forgery too, since it would put the victim into the attacker's account.
        let body = json!({"email": "ada@example.org", "password": PASSWORD});
        let evil = platform.anonymous().with_header("origin", "https://evil.example");
        evil.post("/api/auth/login", body.clone()).await.expect_error(403, "FORBIDDEN");
        let evil = platform.anonymous().with_header("sec-fetch-site", "cross-site");
        evil.post("/api/auth/login", body).await.expect_error(403, "FORBIDDEN");
        assert_eq!(browser.get("/api/keys").await.expect(200), json!([]));
        platform.finish().await;
    }

    async fn what_a_session_opened_ends_with_it(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        let browser = sign_up(nobody, "ada@example.org").await;
        let by_cookie = browser.call("GET", "/api/events").events().await;
        let made = browser.post("/api/auth/ticket", json!({"route": "/api/events"})).await.expect(200);
        let path = format!("/api/events?ticket={}", made["ticket"].as_str().unwrap());
        let by_ticket = nobody.call("GET", &path).events().await;
        // A change of the account that leaves the session alone does not make it last longer.
        browser.patch("/api/account", json!({"name": "Ada"})).await.expect(200);
        platform.advance(Duration::from_secs(31 * 24 * 3600));
        for stream in [by_cookie, by_ticket] {
            within("the stream ends with its session", stream.rest()).await;
        }
        browser.get("/api/auth/session").await.expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }

    async fn a_ticket_opens_one_path_once(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let browser = sign_up(platform.anonymous(), "ada@example.org").await;
        let issue = async |client: &Client, route: &str| {
            let made = client.post("/api/auth/ticket", json!({"route": route})).await.expect(200);
            made["ticket"].as_str().unwrap().to_owned()
        };
        let nobody = platform.anonymous();
        let redeem = async |path: &str, ticket: &str| nobody.get(&format!("{path}?ticket={ticket}")).await;

        let ticket = issue(&browser, "/api/keys").await;
        redeem("/api/instances", &ticket).await.expect_error(401, "UNAUTHORIZED");
        redeem("/api/keys", &ticket).await.expect(200);
        redeem("/api/keys", &ticket).await.expect_error(401, "UNAUTHORIZED");
        let forged = format!("{}A", &issue(&browser, "/api/keys").await[1..]);
        redeem("/api/keys", &forged).await.expect_error(401, "UNAUTHORIZED");

        let late = issue(&browser, "/api/keys").await;
        platform.advance(Duration::from_secs(31));
        redeem("/api/keys", &late).await.expect_error(401, "UNAUTHORIZED");

        // It is for looking only, and has no more rights than who made it.
        let unsafe_one = issue(&browser, "/api/keys").await;
        let call = nobody.call("POST", &format!("/api/keys?ticket={unsafe_one}")).json(json!({"name": "k"}));
        call.send().await.expect_error(401, "UNAUTHORIZED");
        let minted = browser.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let key = nobody.with_key(minted["secret"].as_str().unwrap());
        redeem("/api/keys", &issue(&key, "/api/keys").await).await.expect_error(403, "FORBIDDEN");
        for route in ["https://evil.example/", "/api/events?key=1", "events"] {
            browser
                .post("/api/auth/ticket", json!({"route": route}))
                .await
                .expect_error(422, "INVALID_REQUEST");
        }
        platform.finish().await;
    }

    async fn what_a_ticket_opened_ends_with_the_session(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let browser = sign_up(platform.anonymous(), "ada@example.org").await;
        let issue = async || {
            let made = browser.post("/api/auth/ticket", json!({"route": "/api/events"})).await.expect(200);
            format!("/api/events?ticket={}", made["ticket"].as_str().unwrap())
        };
        let (used, unused) = (issue().await, issue().await);
        let mut stream = platform.anonymous().call("GET", &used).events().await;
        browser.call("POST", "/api/auth/logout").send().await.expect(204);
        within("the stream ends", stream.next()).await.unwrap_err();
        platform.anonymous().get(&unused).await.expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }

    async fn what_was_done_is_in_the_audit(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        ada.call("POST", "/api/keys")
            .header("x-request-id", "audited")
            .json(json!({"name": "k"}))
            .send()
            .await
            .expect(201);
        let rows = ada.get("/api/audit?limit=1").await.expect(200);
        let newest = &rows[0];
        assert_eq!((&newest["action"], &newest["actor_kind"]), (&json!("key.create"), &json!("key")));
        assert_eq!((&newest["request_id"], &newest["ip"]), (&json!("audited"), &json!("127.0.0.1")));

        let bob = platform.account("bob").await;
        let theirs = bob.get("/api/audit").await.expect(200);
        assert!(theirs.as_array().unwrap().iter().all(|row| row["request_id"] != "audited"));
        bob.get("/api/admin/audit").await.expect_error(403, "FORBIDDEN");
        let all = platform.operator().await.get("/api/admin/audit").await.expect(200);
        assert!(all.as_array().unwrap().iter().any(|row| row["request_id"] == "audited"));
        platform.finish().await;
    }
}
