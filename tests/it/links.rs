//! Links to one file, used without other credentials.

use std::time::Duration;

use reef_model::InstanceId;
use reef_testkit::{Answer, Client, Platform, Script, both_engines};
use serde_json::{Value, json};

const FILE: &str = "/workspace/a b&c=ü.txt";

async fn link(client: &Client, id: InstanceId, body: Value) -> String {
    let made = client.post(&format!("/api/instances/{id}/files/url"), body).await.expect(200);
    made["url"].as_str().unwrap().strip_prefix(client.base()).unwrap().to_owned()
}

/// Uses a link as somebody without credentials; the door has the file.
async fn follow(platform: &Platform, id: InstanceId, method: &str, link: &str) -> Answer {
    let headers = [("content-type", "text/html"), ("etag", "\"1\"")];
    platform.runtime().script(id, "/files/content", Script::answer(200, &headers, "<b>content</b>"));
    platform.anonymous().call(method, link).send().await
}

both_engines! {
    async fn a_link_opens_its_file(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let made = link(&ada, id, json!({"path": FILE})).await;
        let answer = follow(&platform, id, "GET", &made).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "<b>content</b>"));
        // Nothing that a tenant made runs on our origin.
        assert_eq!(answer.header("content-disposition"), Some("attachment"));
        assert_eq!(answer.header("content-security-policy"), Some("sandbox"));
        let received = platform.runtime().received(id).remove(0);
        assert_eq!(received.target, "/files/content?path=%2Fworkspace%2Fa+b%26c%3D%C3%BC.txt");
        assert!(received.headers["x-reef-caller"].to_str().unwrap().starts_with("key_"));
        platform.finish().await;
    }

    async fn a_link_opens_nothing_else(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let (id, other) = (ada.ready_instance(&platform).await, ada.ready_instance(&platform).await);
        let made = link(&ada, id, json!({"path": "/workspace/a"})).await;
        let refused = [
            ("PUT", made.clone()),
            ("GET", made.replace("%2Fa&", "%2Fb&")),
            ("GET", made.replace("%2Fa&", "%2Fa%2F&")),
            ("GET", format!("{made}&path=%2Fworkspace%2Fb")),
            ("GET", made.replace("?path", "?path=%2Fworkspace%2Fb&path")),
            ("GET", format!("{made}&signature=x")),
            ("GET", made.replace("signature=", "signature=A")),
            ("GET", made.replace("/content?", "/read?")),
            ("GET", made.replace("/content?", "/archive?")),
            ("GET", made.replace(&id.to_string(), &other.to_string())),
        ];
        for (method, url) in refused {
            let answer = platform.anonymous().call(method, &url).send().await;
            answer.expect_error(401, "UNAUTHORIZED");
        }
        let upload = link(&ada, id, json!({"path": "/workspace/a", "method": "PUT"})).await;
        platform.anonymous().get(&upload).await.expect_error(401, "UNAUTHORIZED");
        assert!(platform.runtime().received(id).is_empty() && platform.runtime().received(other).is_empty());
        for body in [json!({"path": "/a", "expires_seconds": 0}), json!({"path": "/a", "expires_seconds": 604_801}), json!({"path": ""})] {
            ada.post(&format!("/api/instances/{id}/files/url"), body).await.expect_error(422, "INVALID_REQUEST");
        }
        platform.finish().await;
    }

    async fn a_link_ends_with_its_time_and_with_its_key(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let minted = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let key = platform.anonymous().with_key(minted["secret"].as_str().unwrap());
        let path = format!("/api/keys/{}", minted["id"].as_str().unwrap());
        let long = link(&key, id, json!({"path": "/workspace/a", "expires_seconds": 604_800})).await;
        let short = link(&key, id, json!({"path": "/workspace/a", "expires_seconds": 60})).await;
        assert_eq!(follow(&platform, id, "GET", &long).await.status, 200);
        platform.advance(Duration::from_secs(61));
        follow(&platform, id, "GET", &short).await.expect_error(401, "UNAUTHORIZED");
        assert_eq!(follow(&platform, id, "GET", &long).await.status, 200);
        // What the key may no longer do, its links may not either.
        ada.patch(&path, json!({"scopes": ["chat"]})).await.expect(200);
        follow(&platform, id, "GET", &long).await.expect_error(403, "FORBIDDEN");
        ada.patch(&path, json!({"scopes": ["files"]})).await.expect(200);
        assert_eq!(follow(&platform, id, "GET", &long).await.status, 200);
        ada.delete(&path).await.expect(204);
        follow(&platform, id, "GET", &long).await.expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }

    async fn an_upload_of_any_size_passes_and_stays_whole(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let url = link(&ada, id, json!({"path": "/workspace/a", "method": "PUT"})).await;
        // Beyond what JSON may have.
        let bytes = vec![7u8; 30 << 20];
        let entry = json!({"name": "a", "path": "/workspace/a", "type": "file", "size": bytes.len(), "mode": "0644", "modified_at": "2026-04-04T03:10:00.000Z"});
        let script = Script::answer(201, &[("content-type", "application/json")], entry.to_string());
        platform.runtime().script(id, "/files/content", script);
        let call = platform.anonymous().call("PUT", &url).body("application/octet-stream", bytes.clone());
        call.send().await.expect(201);
        assert!(platform.runtime().received(id)[0].body == bytes);
        let write = format!("/api/instances/{id}/files/write");
        let call = ada.call("POST", &write).body("application/json", bytes);
        call.send().await.expect_error(413, "PAYLOAD_TOO_LARGE");
        platform.finish().await;
    }
}
