//! After a full run neither the database nor the log holds anything that opens a door.

use reef_db::Page;
use reef_testkit::{Platform, both_engines, eventually};
use serde_json::json;

const PASSWORD: &str = "a password that nobody else has";
const ENVIRONMENT: &str = "a value of the environment";

both_engines! {
    async fn a_dump_and_a_log_hold_no_secret(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (operator, nobody) = (platform.operator().await, platform.anonymous());
        let mut secrets = vec![("password", PASSWORD.to_owned()), ("environment", ENVIRONMENT.to_owned())];
        let invite = operator.post("/api/admin/invites", json!({"max_uses": 2})).await.expect(201);
        let code = invite["code"].as_str().unwrap().to_owned();
        let body = json!({"email": "ada@example.org", "password": PASSWORD, "invite_code": code});
        let answer = nobody.post("/api/auth/signup", body).await;
        answer.expect(201);
        let cookie = answer.cookie().unwrap();
        let browser = nobody.with_cookie(&cookie);
        let minted = browser.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let secret = minted["secret"].as_str().unwrap().to_owned();
        let key = nobody.with_key(&secret);
        let made =
            key.post("/api/instances?wait=20", json!({"env": {"HIDDEN": ENVIRONMENT}})).await.expect(201);
        let path = format!("/api/instances/{}", made["id"].as_str().unwrap());
        key.post(&format!("{path}/chat"), json!({"message": "hi"})).await.expect(200);
        let events =
            key.call("POST", &format!("{path}/chat/stream")).json(json!({"message": "hi"})).events().await;
        events.rest().await;
        key.call("POST", &format!("{path}/restart?wait=20")).send().await.expect(200);
        let ticket = browser.post("/api/auth/ticket", json!({"route": "/api/events"})).await.expect(200);
        let rotate = format!("/api/keys/{}/rotate", minted["id"].as_str().unwrap());
        let rotated = browser.post(&rotate, json!({"overlap_seconds": 60})).await.expect(201);

        // Also what is refused is not written down.
        nobody.with_key(&format!("{secret}x")).get("/api/instances").await.expect(401);
        nobody.get(&format!("/api/instances?key={secret}")).await.expect(401);
        let wrong = json!({"email": "ada@example.org", "password": format!("{PASSWORD}!")});
        nobody.post("/api/auth/login", wrong).await.expect(401);
        key.post("/api/invites/redeem", json!({"code": code})).await.expect(403);
        platform.control().accounts().flush_uses().await.unwrap();

        // What is mailed: one token that is used, one that waits to be, one that is given up.
        let proof = platform.mailbox().next("ada@example.org", "Confirm").await.token();
        nobody.post("/api/auth/password/forgot", json!({"email": "ada@example.org"})).await.expect(202);
        let reset = platform.mailbox().next("ada@example.org", "new password").await.token();
        nobody.post("/api/auth/email/verify", json!({"token": proof})).await.expect(200);
        platform.mailbox().refuse("gone@example.org");
        let mailed = json!({"max_uses": 1, "email": "gone@example.org"});
        let mailed = operator.post("/api/admin/invites", mailed).await.expect(201);
        eventually("it is given up", async || {
            let rows = platform.db().list_mails_any(Page::first(1)).await.unwrap();
            rows.first()?.last_error.clone()
        })
        .await;
        secrets.extend([("proof of an address", proof), ("reset of a password", reset)]);
        secrets.push(("mailed invite code", mailed["code"].as_str().unwrap().to_owned()));

        secrets.push(("invite code", code));
        secrets.push(("session cookie", cookie.split_once('=').unwrap().1.to_owned()));
        secrets.push(("API key", secret));
        secrets.push(("rotated API key", rotated["secret"].as_str().unwrap().to_owned()));
        secrets.push(("ticket", ticket["ticket"].as_str().unwrap().to_owned()));
        secrets.push(("server key", platform.server_key()));
        secrets.extend(platform.runtime().tokens().into_iter().map(|token| ("door or gateway token", token)));

        let (dump, logs) = (platform.dump().await, platform.logs());
        assert!(contains(&dump, b"ada@example.org"), "the dump holds the rows");
        assert!(logs.contains(made["id"].as_str().unwrap()), "the log holds the run");
        for (name, secret) in secrets {
            assert!(secret.len() > 16, "{name}: {secret:?}");
            for form in [secret.clone(), hex(&secret)] {
                assert!(!contains(&dump, form.as_bytes()), "the database holds a {name}");
                if let Some(line) = logs.lines().find(|line| line.contains(&form)) {
                    panic!("the log holds a {name}: {line}");
                }
            }
        }
        platform.finish().await;
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
