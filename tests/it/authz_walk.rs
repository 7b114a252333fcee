//! Walks the OpenAPI document: who may not, gets nowhere, on every route, before anything of the body is looked at.

use reef_model::{
    ApiKeyId, ChatSessionId, InstanceId, InviteId, OperationId, Scope, SessionId, TerminalId, TurnId, UserId,
};
use reef_testkit::{Answer, Call, Client, Operation, Platform, both_engines};
use serde_json::{Value, json};

const GARBAGE: &str = "{\"neither\": JSON";

/// Returns the operations that need a credential.
fn guarded(platform: &Platform) -> Vec<Operation> {
    let is_guarded = |operation: &Operation| {
        operation.description["security"].as_array().is_some_and(|schemes| !schemes.is_empty())
    };
    platform.contract().operations().into_iter().filter(is_guarded).collect()
}

fn is_on_instance(operation: &Operation) -> bool {
    operation.template.starts_with("/api/instances/{id}")
}

/// Fills the path in, with ids that name nothing but `instance`.
fn path(operation: &Operation, instance: &str) -> String {
    let id = if is_on_instance(operation) {
        instance.to_owned()
    } else if operation.template.contains("/instances/") {
        InstanceId::generate().to_string()
    } else if operation.template.contains("/users/") {
        UserId::generate().to_string()
    } else if operation.template.contains("/keys/") {
        ApiKeyId::generate().to_string()
    } else if operation.template.contains("/sessions/") {
        SessionId::generate().to_string()
    } else if operation.template.contains("/invites/") {
        InviteId::generate().to_string()
    } else {
        OperationId::generate().to_string()
    };
    let path = operation
        .template
        .replace("{id}", &id)
        .replace("{sid}", &ChatSessionId::generate().to_string())
        .replace("{tid}", &TerminalId::generate().to_string())
        .replace("{turn_id}", &TurnId::generate().to_string());
    assert!(!path.contains('{'), "say here what to fill in: {path}");
    path
}

/// Sends garbage, plainly and under an `Idempotency-Key`: the refusal is the same.
async fn knock(client: &Client, operation: &Operation, instance: &str) -> Answer {
    let path = path(operation, instance);
    let answer = knock_once(client.call(&operation.method, &path), operation).await;
    let named = client.call(&operation.method, &path).header("idempotency-key", "walk");
    let named = knock_once(named, operation).await;
    assert_eq!((named.status, &named.body), (answer.status, &answer.body), "{}", operation.template);
    answer
}

/// Sends it under a fixed request id, so that equal answers are equal byte for byte.
async fn knock_once(call: Call, operation: &Operation) -> Answer {
    let call = call.header("x-request-id", "walk");
    if operation.description["x-reef-kind"] == "websocket" {
        return call.open().await.err().expect("the door's socket is not for this one");
    }
    call.body("application/json", GARBAGE).send().await
}

both_engines! {
    async fn nobody_gets_401(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await.to_string();
        let walked = guarded(&platform);
        assert!(walked.len() > 30, "the walk sees the document");
        let forged = [
            platform.anonymous().clone(),
            platform.anonymous().with_key("sk_live_000000000000000000000000000000000000000000000000"),
            platform.anonymous().with_key("not a key"),
            platform.anonymous().with_cookie("reef_session=AAAAAAAAAAAAAAAAAAAAAA"),
            platform.anonymous().with_header("authorization", "Basic YWRhOmFkYQ=="),
        ];
        for operation in &walked {
            for client in &forged {
                knock(client, operation, &id).await.expect_error(401, "UNAUTHORIZED");
            }
        }
        platform.finish().await;
    }

    async fn a_stranger_cannot_tell_what_exists(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        let theirs = bob.ready_instance(&platform).await;
        let never = InstanceId::generate().to_string();
        let before = bob.get(&format!("/api/instances/{theirs}")).await.expect(200);
        for operation in guarded(&platform).iter().filter(|operation| is_on_instance(operation)) {
            let foreign = knock(&ada, operation, &theirs.to_string()).await;
            foreign.expect_error(404, "NOT_FOUND");
            for none in [never.as_str(), "nonsense"] {
                assert_eq!(knock(&ada, operation, none).await.body, foreign.body, "{}", operation.template);
            }
        }
        assert_eq!(bob.get(&format!("/api/instances/{theirs}")).await.expect(200), before);
        assert!(platform.runtime().received(theirs).is_empty());
        platform.finish().await;
    }

    async fn a_key_for_another_instance_cannot_either(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let (one, other) = (ada.ready_instance(&platform).await, ada.ready_instance(&platform).await);
        let body = json!({"name": "one", "instance_ids": [one]});
        let minted = ada.post("/api/keys", body).await.expect(201);
        let key = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
        let never = InstanceId::generate().to_string();
        for operation in guarded(&platform).iter().filter(|operation| is_on_instance(operation)) {
            let hidden = knock(&key, operation, &other.to_string()).await;
            hidden.expect_error(404, "NOT_FOUND");
            assert_eq!(knock(&key, operation, &never).await.body, hidden.body, "{}", operation.template);
        }
        assert!(platform.runtime().received(other).is_empty());
        platform.finish().await;
    }

    async fn a_key_without_the_scope_gets_403(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await.to_string();
        for scope in Scope::ALL {
            let rest: Vec<_> = Scope::ALL.iter().filter(|other| *other != scope).collect();
            let minted = ada.post("/api/keys", json!({"name": "rest", "scopes": rest})).await.expect(201);
            let key = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
            let needs = |operation: &&Operation| {
                operation.description["x-reef-scope"] == scope.as_str()
                    && operation.description.get("x-reef-operator") != Some(&Value::Bool(true))
            };
            for operation in guarded(&platform).iter().filter(needs) {
                let refused = knock(&key, operation, &id).await.expect_error(403, "FORBIDDEN");
                assert_eq!(refused["error"]["details"]["scope"], scope.as_str(), "{}", operation.template);
            }
        }
        platform.finish().await;
    }

    async fn only_operators_pass_the_operators_routes(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let is_operators = |operation: &&Operation| operation.template.starts_with("/api/admin");
        let walked = guarded(&platform);
        assert!(walked.iter().any(|operation| is_operators(&operation)));
        for operation in walked.iter().filter(is_operators) {
            assert_eq!(operation.description["x-reef-operator"], true);
            knock(&ada, operation, "").await.expect_error(403, "FORBIDDEN");
        }
        platform.finish().await;
    }

    async fn another_accounts_things_are_not_there(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        bob.ready_instance(&platform).await;
        let operation = bob.get("/api/operations").await.expect(200)[0]["id"].as_str().unwrap().to_owned();
        let key = bob.get("/api/keys").await.expect(200)[0]["id"].as_str().unwrap().to_owned();
        let same = async |method: &str, theirs: String, never: String| {
            let send = async |path: &str| {
                let call = ada.call(method, path).header("x-request-id", "walk");
                call.body("application/json", "{}").send().await
            };
            let foreign = send(&theirs).await;
            foreign.expect_error(404, "NOT_FOUND");
            assert_eq!(send(&never).await.body, foreign.body, "{method} {theirs}");
        };
        same(
            "GET",
            format!("/api/operations/{operation}"),
            format!("/api/operations/{}", OperationId::generate()),
        )
        .await;
        for (method, rest) in [("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")] {
            same(
                method,
                format!("/api/keys/{key}{rest}"),
                format!("/api/keys/{}{rest}", ApiKeyId::generate()),
            )
            .await;
        }
        for path in ["/api/instances", "/api/operations"] {
            assert_eq!(ada.get(path).await.expect(200), json!([]));
        }
        platform.finish().await;
    }
}
