//! Rate limits: named, told in headers, with `Retry-After`.

use std::time::Duration;

use reef_testkit::{Account, Answer, Platform, Policy, Setup, both_engines};
use serde_json::json;

fn few() -> Setup {
    Setup { limits: reef_testkit::RateLimits::with(|_| (3, Duration::from_secs(60))), ..Setup::default() }
}

/// The headers of both generations say the same: of three, so many are left.
#[track_caller]
fn assert_told(answer: &Answer, policy: &str, left: u32) {
    let header = |name: &str| answer.header(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(header("ratelimit-policy"), format!("\"{policy}\";q=3;w=60"));
    assert_eq!((header("ratelimit-limit"), header("ratelimit-remaining")), ("3", &*left.to_string()));
    let reset: u64 = header("ratelimit-reset").parse().unwrap();
    assert!(reset <= 60, "{reset}");
    assert_eq!(header("ratelimit"), format!("\"{policy}\";r={left};t={reset}"));
    if answer.status == 429 {
        assert_eq!(header("retry-after"), reset.to_string());
    }
}

both_engines! {
    async fn guessing_passwords_is_slowed_down(database: TestDatabase) {
        let platform = Platform::start_with(database, few()).await;
        let ada = platform.account("ada").await;
        let guess = async || {
            let body = json!({"email": ada.email, "password": "a wrong password"});
            platform.anonymous().post("/api/auth/login", body).await
        };
        for left in [2, 1, 0] {
            let answer = guess().await;
            answer.expect_error(401, "UNAUTHORIZED");
            assert_told(&answer, "sign-in", left);
        }
        let refused = guess().await;
        let error = refused.expect_error(429, "RATE_LIMITED");
        assert_eq!(error["error"]["details"]["policy"], "sign-in");
        assert_told(&refused, "sign-in", 0);
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        // Sign-up is the same policy: neither is a way around the other.
        let body = json!({"email": "new@example.org", "password": "a rather long password"});
        platform.anonymous().post("/api/auth/signup", body).await.expect_error(429, "RATE_LIMITED");
        platform.finish().await;
    }

    async fn each_key_has_a_budget_of_its_own(database: TestDatabase) {
        let platform = Platform::start_with(database, few()).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        for left in [2, 1, 0] {
            let answer = ada.get("/api/instances").await;
            answer.expect(200);
            assert_told(&answer, "reads", left);
        }
        let refused = ada.get("/api/instances").await;
        refused.expect_error(429, "RATE_LIMITED");
        assert_told(&refused, "reads", 0);
        bob.get("/api/instances").await.expect(200);
        // Reads and writes are counted apart.
        ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        platform.finish().await;
    }

    async fn guessing_keys_is_slowed_down(database: TestDatabase) {
        let platform = Platform::start_with(database, few()).await;
        let ada = platform.account("ada").await;
        let guess = platform.anonymous().with_key("sk_live_000000000000000000000000000000000000000000000000");
        for _ in 0..3 {
            guess.get("/api/instances").await.expect_error(401, "UNAUTHORIZED");
        }
        let refused = guess.get("/api/instances").await;
        refused.expect_error(429, "RATE_LIMITED");
        assert_told(&refused, "bad-credentials", 0);
        // Whoever has a good key is not slowed down by a neighbour who guesses.
        ada.get("/api/instances").await.expect(200);
        platform.finish().await;
    }

    async fn a_flood_of_guesses_costs_no_query(database: TestDatabase) {
        let platform = Platform::start_with(database, few()).await;
        let ada = platform.account("ada").await;
        ada.get("/api/instances").await.expect(200);
        // What looks like a key must be looked up.
        let minted = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        ada.delete(&format!("/api/keys/{}", minted["id"].as_str().unwrap())).await.expect(204);
        let guess = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
        for _ in 0..7 {
            guess.get("/api/instances").await;
        }
        let refused = guess.get("/api/instances").await.expect_error(429, "RATE_LIMITED");
        assert_eq!(refused["error"]["details"]["policy"], "unknown-keys");
        // A key that is known needs none.
        ada.get("/api/instances").await.expect(200);
        platform.finish().await;
    }

    async fn guesses_from_elsewhere_do_not_lock_a_holder_out(database: TestDatabase) {
        let limits = reef_testkit::RateLimits::with(|policy| match policy {
            Policy::SignInFromAnywhere => (3, Duration::from_secs(60)),
            _ => (1_000, Duration::from_secs(60)),
        });
        let platform = Platform::start_with(database, Setup { limits, ..Setup::default() }).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        let sign_in = async |account: &Account, password: &str| {
            let body = json!({"email": account.email, "password": password});
            platform.anonymous().post("/api/auth/login", body).await.status
        };
        // Ada was here before: what strangers guess is not counted with hers.
        assert_eq!(sign_in(&ada, &ada.password).await, 200);
        for _ in 0..9 {
            assert_eq!(sign_in(&ada, "a wrong password").await, 401);
        }
        assert_eq!(sign_in(&ada, &ada.password).await, 200);
        // Bob was not: whoever guesses at his account from anywhere is stopped.
        for _ in 0..3 {
            assert_eq!(sign_in(&bob, "a wrong password").await, 401);
        }
        assert_eq!(sign_in(&bob, "a wrong password").await, 429);
        platform.finish().await;
    }
}
