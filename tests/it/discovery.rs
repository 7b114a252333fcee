//! What needs no key.

use reef_testkit::{Platform, both_engines};
use serde_json::{Value, json};

both_engines! {
    async fn the_platform_says_how_it_does(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        let health = nobody.get("/health").await.expect(200);
        assert_eq!(
            (&health["status"], &health["hosts"], &health["connectedHosts"]),
            (&json!("ok"), &json!(0), &json!(0))
        );
        assert_eq!(nobody.get("/healthz").await.text(), "ok");
        let ready = nobody.get("/readyz").await.expect(200);
        assert_eq!((&ready["status"], &ready["dependencies"]["database"]), (&json!("ready"), &json!("ok")));
        platform.finish().await;
    }

    async fn the_index_leads_everywhere(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        let index = nobody.get("/api").await.expect(200);
        for (name, url) in index["documentation"].as_object().unwrap() {
            let path = url.as_str().unwrap().strip_prefix(nobody.base()).expect("of this origin");
            let answer = nobody.get(path).await;
            assert_eq!(answer.status, 200, "{name}: {path}");
            assert!(!answer.text().is_empty(), "{name}");
        }
        let paths = platform.contract().document()["paths"].as_object().unwrap();
        for (name, path) in index["resources"].as_object().unwrap() {
            assert!(paths.contains_key(path.as_str().unwrap()), "{name}: {path} is not in the document");
        }
        platform.finish().await;
    }

    async fn texts_for_agents_name_this_origin(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        for path in ["/llms.txt", "/llms-full.txt", "/llms-full.md", "/agent.md"] {
            let text = nobody.get(path).await.text();
            assert!(text.contains(nobody.base()), "{path}");
            for placeholder in ["{{", "$ORIGIN", "example.com/api"] {
                assert!(!text.contains(placeholder), "{path} holds {placeholder}");
            }
        }
        assert!(nobody.get("/llms.txt").await.text().starts_with("# "));
        platform.finish().await;
    }

    async fn the_document_is_served(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let nobody = platform.anonymous();
        for path in ["/openapi.json", "/api/openapi.json"] {
            let served: Value = nobody.get(path).await.expect(200);
            assert_eq!(&served, platform.contract().document());
            assert!(served["openapi"].as_str().unwrap().starts_with("3.1"));
        }
        let yaml = nobody.get("/openapi.yaml").await.text();
        assert_eq!(yaml, nobody.get("/api/openapi.yaml").await.text());
        platform.finish().await;
    }

    async fn a_page_of_another_site_may_call_with_a_key_only(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ask = platform.anonymous().call("OPTIONS", "/api/keys").header("origin", "https://other.example");
        let ask = ask.header("access-control-request-method", "POST");
        let asked = ask.header("access-control-request-headers", "authorization").dispatch().await.unwrap();
        let headers = asked.headers();
        assert_eq!(
            (asked.status().as_u16(), &headers["access-control-allow-origin"]),
            (200, &"*".parse().unwrap())
        );
        assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let ada = platform.account("ada").await.with_header("origin", "https://other.example");
        let answer = ada.get("/api/instances").await;
        answer.expect(200);
        assert!(answer.header("access-control-expose-headers").unwrap().contains("x-next-cursor"));
        platform.finish().await;
    }

    async fn every_operation_says_what_it_takes(database: TestDatabase) {
        let platform = Platform::start(database).await;
        for operation in platform.contract().operations() {
            let what = format!("{} {}", operation.method, operation.template);
            let said = &operation.description;
            for mark in ["x-reef-scope", "x-reef-wakes", "operationId", "summary", "tags"] {
                assert!(said.get(mark).is_some(), "{what} lacks {mark}");
            }
            if let Some(scope) = said["x-reef-scope"].as_str() {
                scope.parse::<reef_model::Scope>().unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
        platform.finish().await;
    }
}
