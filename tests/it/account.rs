//! The account itself: profile, address, password, deletion; what is mailed on the way.

use std::time::Duration;

use reef_testkit::{Client, Platform, RateLimits, ReceivedMail, Setup, both_engines, eventually};
use serde_json::{Value, json};

const PASSWORD: &str = "a rather long password";
const OTHER: &str = "quite another password";

async fn log_in(platform: &Platform, email: &str, password: &str) -> Option<Client> {
    let body = json!({"email": email, "password": password});
    let answer = platform.anonymous().post("/api/auth/login", body).await;
    (answer.status == 200).then(|| platform.anonymous().with_cookie(&answer.cookie().unwrap()))
}

async fn sign_up(platform: &Platform, email: &str) -> Client {
    let body = json!({"email": email, "password": PASSWORD});
    let answer = platform.anonymous().post("/api/auth/signup", body).await;
    answer.expect(201);
    platform.anonymous().with_cookie(&answer.cookie().unwrap())
}

async fn prove(platform: &Platform, email: &str) {
    let token = platform.mailbox().next(email, "Confirm").await.token();
    platform.anonymous().post("/api/auth/email/verify", json!({"token": token})).await.expect(200);
}

async fn field_of(answer: &reef_testkit::Answer) -> Value {
    answer.expect_error(422, "INVALID_REQUEST")["error"]["details"]["fields"][0]["field"].clone()
}

both_engines! {
    async fn an_address_is_proven_by_its_mail(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = sign_up(&platform, "ada@example.org").await;
        let account = ada.get("/api/account").await.expect(200);
        assert_eq!((&account["email_verified"], &account["pending_email"]), (&json!(false), &json!(null)));
        assert_eq!(account["entitlements"], json!({"total": 0, "free": 0, "plans": []}));
        let mail = platform.mailbox().next("ada@example.org", "Confirm").await;
        let link = format!("{}/verify-email?token=", platform.anonymous().base());
        assert!(mail.text.contains(&link), "{}", mail.text);

        // A later mail makes an earlier one useless.
        ada.call("POST", "/api/auth/email/resend").send().await.expect(202);
        let again = platform.mailbox().next("ada@example.org", "Confirm").await;
        let nobody = platform.anonymous();
        let verify = async |mail: &ReceivedMail| {
            nobody.post("/api/auth/email/verify", json!({"token": mail.token()})).await
        };
        assert_eq!(field_of(&verify(&mail).await).await, "token");
        assert_eq!(verify(&again).await.expect(200), json!({"email": "ada@example.org"}));
        assert_eq!(field_of(&verify(&again).await).await, "token");
        assert_eq!(ada.get("/api/auth/session").await.expect(200)["user"]["email_verified"], true);
        ada.call("POST", "/api/auth/email/resend").send().await.expect_error(409, "CONFLICT");
        platform.finish().await;
    }

    async fn a_forgotten_password_is_replaced_once_within_the_hour(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = sign_up(&platform, "ada@example.org").await;
        let key = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let nobody = platform.anonymous();
        let forget = async |email: &str| {
            let call = nobody.call("POST", "/api/auth/password/forgot").header("x-request-id", "same");
            call.json(json!({"email": email})).send().await
        };
        let reset = async |token: &str, password: &str| {
            nobody.post("/api/auth/password/reset", json!({"token": token, "password": password})).await
        };
        let (known, unknown) = (forget(" Ada@Example.org").await, forget("bob@example.org").await);
        assert_eq!((known.expect(202), known.body), (unknown.expect(202), unknown.body));
        let first = platform.mailbox().next("ada@example.org", "new password").await.token();
        forget("ada@example.org").await.expect(202);
        let second = platform.mailbox().next("ada@example.org", "new password").await.token();

        assert_eq!(field_of(&reset(&first, "short").await).await, "password");
        assert_eq!(field_of(&reset("no token", OTHER).await).await, "token");
        reset(&first, OTHER).await.expect(204);
        // All that was mailed before is of no use, every session has ended, and keys from before the address was proven.
        for token in [&first, &second] {
            assert_eq!(field_of(&reset(token, PASSWORD).await).await, "token");
        }
        ada.get("/api/account").await.expect_error(401, "UNAUTHORIZED");
        let with = |key: &Value| nobody.with_key(key["secret"].as_str().unwrap());
        with(&key).get("/api/instances").await.expect_error(401, "UNAUTHORIZED");
        assert!(log_in(&platform, "ada@example.org", PASSWORD).await.is_none());
        let ada = log_in(&platform, "ada@example.org", OTHER).await.unwrap();
        assert_eq!(ada.get("/api/account").await.expect(200)["email_verified"], true, "a mail was read");
        platform.mailbox().next("ada@example.org", "was changed").await;

        // Keys of a proven address go on.
        let key = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        forget("ada@example.org").await.expect(202);
        let third = platform.mailbox().next("ada@example.org", "new password").await.token();
        reset(&third, PASSWORD).await.expect(204);
        with(&key).get("/api/instances").await.expect(200);
        let ada = log_in(&platform, "ada@example.org", PASSWORD).await.unwrap();

        forget("ada@example.org").await.expect(202);
        let late = platform.mailbox().next("ada@example.org", "new password").await.token();
        platform.advance(Duration::from_secs(3601));
        assert_eq!(field_of(&reset(&late, PASSWORD).await).await, "token");
        assert_eq!(platform.mailbox().of("bob@example.org"), []);
        let actions = ada.get("/api/audit?action=account").await.expect(200);
        for action in ["account.forget_password", "account.reset_password"] {
            assert!(actions.as_array().unwrap().iter().any(|row| row["action"] == action), "{actions}");
        }
        platform.finish().await;
    }

    async fn mail_that_somebody_asks_for_is_throttled(database: TestDatabase) {
        let limits = RateLimits::with(|policy| match policy.name() {
            "mail" => (2, Duration::from_secs(3600)),
            _ => (1_000, Duration::from_secs(60)),
        });
        let platform = Platform::start_with(database, Setup { limits, ..Setup::default() }).await;
        let forget = async |email: &str| {
            platform.anonymous().post("/api/auth/password/forgot", json!({"email": email})).await
        };
        for email in ["nobody@example.org", "NOBODY@example.org "] {
            forget(email).await.expect(202);
        }
        let error = forget("nobody@example.org").await.expect_error(429, "RATE_LIMITED");
        assert_eq!(error["error"]["details"]["policy"], "mail");
        forget("somebody@example.org").await.expect(202);
        platform.finish().await;
    }

    async fn a_new_address_takes_effect_when_its_mail_is_confirmed(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = sign_up(&platform, "ada@example.org").await;
        prove(&platform, "ada@example.org").await;
        sign_up(&platform, "bob@example.org").await;
        let change = async |body: Value| ada.patch("/api/account", body).await;
        assert_eq!(field_of(&change(json!({"email": "new@example.org"})).await).await, "current_password");
        let wrong = json!({"email": "new@example.org", "current_password": OTHER});
        assert_eq!(field_of(&change(wrong).await).await, "current_password");
        let body = json!({"name": "Ada", "email": "bob@example.org", "current_password": PASSWORD});
        change(body).await.expect_error(409, "CONFLICT");
        let body = json!({"name": "Ada", "email": "New@example.org", "current_password": PASSWORD});
        let account = change(body).await.expect(200);
        assert_eq!(
            (&account["name"], &account["email"], &account["pending_email"]),
            (&json!("Ada"), &json!("ada@example.org"), &json!("new@example.org"))
        );
        let told = platform.mailbox().next("ada@example.org", "about to change").await;
        assert!(told.text.contains("new@example.org"));
        let token = platform.mailbox().next("new@example.org", "Confirm").await.token();
        platform.anonymous().post("/api/auth/email/verify", json!({"token": token})).await.expect(200);
        let account = ada.get("/api/account").await.expect(200);
        assert_eq!(
            (&account["email"], &account["email_verified"], &account["pending_email"]),
            (&json!("new@example.org"), &json!(true), &json!(null))
        );
        assert!(log_in(&platform, "ada@example.org", PASSWORD).await.is_none());
        assert!(log_in(&platform, "new@example.org", PASSWORD).await.is_some());

        // A new password stops a change that somebody else may have begun.
        change(json!({"email": "evil@example.org", "current_password": PASSWORD})).await.expect(200);
        let token = platform.mailbox().next("evil@example.org", "Confirm").await.token();
        change(json!({"password": OTHER, "current_password": PASSWORD})).await.expect(200);
        let late = platform.anonymous().post("/api/auth/email/verify", json!({"token": token})).await;
        assert_eq!(field_of(&late).await, "token");
        assert_eq!(change(json!({"name": null})).await.expect(200)["name"], json!(null));
        platform.finish().await;
    }

    async fn a_new_password_ends_the_other_sessions(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = sign_up(&platform, "ada@example.org").await;
        let elsewhere = log_in(&platform, "ada@example.org", PASSWORD).await.unwrap();
        let body = json!({"password": OTHER, "current_password": PASSWORD});
        ada.patch("/api/account", body).await.expect(200);
        platform.mailbox().next("ada@example.org", "was changed").await;
        ada.get("/api/account").await.expect(200);
        elsewhere.get("/api/account").await.expect_error(401, "UNAUTHORIZED");
        assert!(log_in(&platform, "ada@example.org", PASSWORD).await.is_none());
        platform.finish().await;
    }

    async fn a_key_changes_the_name_and_no_more(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        assert_eq!(ada.patch("/api/account", json!({"name": "A"})).await.expect(200)["name"], "A");
        for body in [
            json!({"email": "new@example.org", "current_password": ada.password}),
            json!({"password": OTHER, "current_password": ada.password}),
        ] {
            let error = ada.patch("/api/account", body).await.expect_error(403, "FORBIDDEN");
            assert_eq!(error["error"]["details"]["reason"], "session_required");
        }
        let call = ada.call("DELETE", "/api/account").json(json!({"password": ada.password}));
        call.send().await.expect_error(403, "FORBIDDEN");
        platform.finish().await;
    }

    async fn a_sign_in_from_a_new_place_is_told_of(database: TestDatabase) {
        let platform = Platform::start(database).await;
        sign_up(&platform, "ada@example.org").await;
        // Not at an address that may be a stranger's.
        let elsewhere = platform.anonymous().with_header("user-agent", "Lynx/2.9");
        let body = json!({"email": "ada@example.org", "password": PASSWORD});
        elsewhere.post("/api/auth/login", body).await.expect(200);
        prove(&platform, "ada@example.org").await;
        assert_eq!(platform.mailbox().of("ada@example.org"), []);
        let browser = platform.anonymous().with_header("user-agent", "Mosaic/1.0 <b>");
        let body = json!({"email": "ada@example.org", "password": PASSWORD});
        log_in(&platform, "ada@example.org", PASSWORD).await.unwrap();
        browser.post("/api/auth/login", body.clone()).await.expect(200);
        let mail = platform.mailbox().next("ada@example.org", "new sign-in").await;
        assert!(mail.text.contains("127.0.0.1") && mail.text.contains("Mosaic/1.0"), "{}", mail.text);
        browser.post("/api/auth/login", body).await.expect(200);
        assert_eq!(platform.mailbox().of("ada@example.org"), [], "a known place is nothing to tell of");
        platform.finish().await;
    }

    async fn a_deleted_account_is_of_no_use_and_gone_after_the_window(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let instance = ada.ready_instance(&platform).await;
        ada.entitle(&platform).await;
        let browser = log_in(&platform, &ada.email, &ada.password).await.unwrap();
        let delete = async |password: &str| {
            browser.call("DELETE", "/api/account").json(json!({"password": password})).send().await
        };
        assert_eq!(field_of(&delete("a wrong password").await).await, "password");
        let mut stream = browser.call("GET", "/api/events").events().await;
        let deleted = delete(&ada.password).await.expect(200);
        assert_eq!(deleted["instances"], 1);
        reef_testkit::within("the stream of the deleted account", async {
            while stream.next().await.is_ok() {}
        }).await;
        browser.get("/api/account").await.expect_error(401, "UNAUTHORIZED");
        ada.get("/api/instances").await.expect_error(401, "UNAUTHORIZED");
        assert!(log_in(&platform, &ada.email, &ada.password).await.is_none());
        platform.mailbox().next(&ada.email, "was deleted").await;
        eventually("its instance is deleted", async || {
            let row = platform.db().lookup_instance(ada.user, instance).await.unwrap()?;
            (row.status.as_str() == "deleted").then_some(())
        }).await;
        // The address is free again.
        sign_up(&platform, &ada.email).await;

        assert_eq!(platform.control().purge_accounts().await.unwrap(), 0, "within the window");
        platform.advance(platform.control().policy().restore_window + Duration::from_secs(1));
        eventually("the account is gone", async || {
            (platform.control().purge_accounts().await.unwrap() == 1).then_some(())
        }).await;
        assert!(platform.db().lookup_instance(ada.user, instance).await.unwrap().is_none());
        let path = format!("/api/admin/audit?target={}", ada.user);
        let left = platform.operator().await.get(&path).await.expect(200);
        assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
        assert_eq!(left[0]["action"], "account.purge");
        platform.finish().await;
    }

    async fn the_last_operator_stays(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let operator = platform.operator().await;
        operator.post("/api/admin/invites", json!({})).await.expect(201);
        let browser = log_in(&platform, &operator.email, &operator.password).await.unwrap();
        let delete = async || {
            browser.call("DELETE", "/api/account").json(json!({"password": operator.password})).send().await
        };
        delete().await.expect_error(409, "CONFLICT");
        let heir = platform.account("heir").await;
        let mut tx = platform.db().write().await.unwrap();
        tx.set_user_role(heir.user, reef_model::Role::Operator).await.unwrap();
        tx.commit().await.unwrap();
        delete().await.expect(200);
        platform.advance(platform.control().policy().restore_window);
        assert_eq!(platform.control().purge_accounts().await.unwrap(), 1, "invites do not hold it");
        platform.finish().await;
    }

    async fn mail_that_is_refused_is_given_up_and_shown(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let operator = platform.operator().await;
        platform.mailbox().refuse("gone@example.org");
        let made = operator.post("/api/admin/invites", json!({"email": "gone@example.org"})).await.expect(201);
        let row = eventually("it is given up", async || {
            let listed = operator.get("/api/admin/mails").await;
            assert!(!listed.text().contains(made["code"].as_str().unwrap()), "never what it says");
            let row = listed.expect(200)[0].clone();
            row["last_error"].is_string().then_some(row)
        }).await;
        assert_eq!(
            (&row["kind"], &row["recipient"], &row["attempts"], &row["next_attempt_at"]),
            (&json!("invite"), &json!("gone@example.org"), &json!(1), &json!(null))
        );
        let made = operator.post("/api/admin/invites", json!({"email": "bob@example.org"})).await.expect(201);
        let mail = platform.mailbox().next("bob@example.org", "invitation").await;
        assert!(mail.text.contains(made["code"].as_str().unwrap()), "{}", mail.text);
        let error = operator.post("/api/admin/invites", json!({"email": "nobody"})).await;
        assert_eq!(field_of(&error).await, "email");
        platform.finish().await;
    }
}
