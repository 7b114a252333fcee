//! The error body, whatever goes wrong.

use reef_testkit::{Platform, both_engines};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

both_engines! {
    async fn every_failure_has_the_same_body(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        ada.get("/api/nothing/here").await.expect_error(404, "NOT_FOUND");
        let wrong = ada.call("PUT", "/api/keys").send().await;
        wrong.expect_error(405, "METHOD_NOT_ALLOWED");
        let allowed = wrong.header("allow").unwrap();
        assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(300_000));
        ada.call("POST", "/api/keys")
            .body("application/json", long)
            .send()
            .await
            .expect_error(413, "PAYLOAD_TOO_LARGE");
        ada.call("POST", "/api/keys")
            .body("text/plain", "{}")
            .send()
            .await
            .expect_error(415, "INVALID_REQUEST");
        ada.call("POST", "/api/keys")
            .body("application/json", "{")
            .send()
            .await
            .expect_error(400, "INVALID_REQUEST");
        let error = ada.post("/api/keys", json!({"name": 7})).await.expect_error(422, "INVALID_REQUEST");
        assert_eq!(error["error"]["details"]["fields"][0]["field"], "name");
        ada.post("/api/keys", json!({"name": "k", "nmae": "k"})).await.expect_error(422, "INVALID_REQUEST");
        for query in ["limit=0", "limit=201", "limit=x", "cursor=x"] {
            ada.get(&format!("/api/keys?{query}")).await.expect_error(400, "INVALID_REQUEST");
        }
        let unsigned = platform.anonymous().get("/api/instances").await;
        unsigned.expect_error(401, "UNAUTHORIZED");
        assert!(unsigned.header("www-authenticate").unwrap().starts_with("Bearer"));
        platform.finish().await;
    }

    async fn a_request_id_is_echoed_or_made(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        for path in ["/api", "/api/nothing", "/healthz", "/api/keys"] {
            let echoed = nobody.call("GET", path).header("x-request-id", "mine-1").send().await;
            assert_eq!(echoed.header("x-request-id"), Some("mine-1"), "{path}");
            let made = nobody.call("GET", path).header("x-request-id", "two words").send().await;
            assert!(made.header("x-request-id").unwrap().starts_with("req_"), "{path}");
        }
        platform.finish().await;
    }

    async fn every_answer_is_inert(database: TestDatabase) {
        let platform = Platform::start(database).await;
        for path in ["/api", "/api/nothing", "/health"] {
            let answer = platform.anonymous().get(path).await;
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert!(answer.header("content-security-policy").is_some());
            assert_eq!(answer.header("access-control-allow-credentials"), None);
        }
        platform.finish().await;
    }

    async fn a_slash_more_is_the_same_path(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        assert_eq!(ada.get("/api/").await.expect(200), ada.get("/api").await.expect(200));
        ada.get("/api/instances/?limit=1").await.expect(200);
        platform.finish().await;
    }

    async fn a_body_that_is_too_large_for_a_door_never_reaches_it(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let authority = ada.base().trim_start_matches("http://");
        let mut socket = TcpStream::connect(authority).await.unwrap();
        let head = format!(
            "POST /api/instances/{id}/chat HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n",
            ada.secret
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413");
        assert!(platform.runtime().received(id).is_empty());
        drop(socket);
        platform.finish().await;
    }
}
