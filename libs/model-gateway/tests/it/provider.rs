//! Passing requests on to a provider.

use axum::{Json, Router, body::Body, http::HeaderMap, response::IntoResponse, routing::post};
use tokio::sync::mpsc;

use super::*;

const KEY: &str = "sk-provider-secret";

/// What the provider was asked.
struct Asked {
    headers: HeaderMap,
    body: Value,
}

type Answer = fn(&Value) -> axum::response::Response;

async fn provider(answer: Answer) -> (Setup, mpsc::UnboundedReceiver<Asked>) {
    let (asked, seen) = mpsc::unbounded_channel();
    let handler = move |headers: HeaderMap, Json(body): Json<Value>| {
        let response = answer(&body);
        asked.send(Asked { headers, body }).unwrap();
        async { response }
    };
    let routes = Router::new()
        .route("/v1/chat/completions", post(handler.clone()))
        .route("/v1/embeddings", post(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, routes).await });
    let config = ProviderConfig {
        base_url,
        api_key: Some(KEY.to_owned().into()),
        model: "big-1".to_owned(),
        embedding_model: Some("embed-1".to_owned()),
    };
    (Setup::new(Some(config)), seen)
}

fn sse(text: &'static str) -> axum::response::Response {
    // In odd pieces: events need not come whole.
    let pieces = text.as_bytes().chunks(7).map(Ok::<_, std::convert::Infallible>).collect::<Vec<_>>();
    ([("content-type", "text/event-stream")], Body::from_stream(futures_util::stream::iter(pieces)))
        .into_response()
}

const ANSWER: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}\n\n\
                      data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n";
const COUNT: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3,\"total_tokens\":15}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn counted(_: &Value) -> axum::response::Response {
    sse(Box::leak(format!("{ANSWER}{COUNT}{DONE}").into_boxed_str()))
}

#[tokio::test]
async fn a_stream_passes_untouched_and_its_count_is_recorded_and_hidden() {
    let (setup, mut seen) = provider(counted).await;
    let stream = text(setup.chat(streamed("hello")).await).await;
    assert_eq!(stream, format!("{ANSWER}{DONE}"));
    let asked = seen.recv().await.unwrap();
    assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(asked.body["model"], "big-1");
    assert_eq!(asked.body["stream_options"]["include_usage"], true);
    let expected =
        Usage { model: "big-1".to_owned(), input_tokens: 12, output_tokens: 3, is_estimated: false };
    assert_eq!(setup.ledger.entries(), [expected]);
}

#[tokio::test]
async fn a_client_that_asks_for_the_count_gets_it() {
    let (setup, _seen) = provider(counted).await;
    let mut body = streamed("hello");
    body["stream_options"] = json!({ "include_usage": true });
    assert_eq!(text(setup.chat(body).await).await, format!("{ANSWER}{COUNT}{DONE}"));
}

#[tokio::test]
async fn a_missing_count_is_estimated_and_marked() {
    let (setup, _seen) = provider(|_| sse(Box::leak(format!("{ANSWER}{DONE}").into_boxed_str()))).await;
    text(setup.chat(streamed("hello")).await).await;
    let entries = setup.ledger.entries();
    assert!(entries[0].is_estimated && entries[0].input_tokens > 0 && entries[0].output_tokens > 0);
}

#[tokio::test]
async fn a_whole_answer_passes_with_its_count() {
    let answer: Answer = |_| {
        Json(json!({ "choices": [], "usage": { "prompt_tokens": 5, "completion_tokens": 1 } }))
            .into_response()
    };
    let (setup, mut seen) = provider(answer).await;
    let body = value(setup.chat(said("hello")).await).await;
    assert_eq!(body["usage"]["prompt_tokens"], 5);
    assert_eq!(setup.ledger.entries()[0].input_tokens, 5);
    assert!(seen.recv().await.unwrap().body.get("stream_options").is_none());
}

#[tokio::test]
async fn what_shapes_the_answer_passes_byte_for_byte_and_nothing_else_does() {
    let (setup, mut seen) = provider(counted).await;
    let mut body = streamed("hello");
    body["temperature"] = json!(0.1);
    body["logit_bias"] = json!({ "z": 1, "a": [null, 12345678901234567890u64] });
    for name in ["models", "provider", "service_tier", "web_search_options", "n", "store", "metadata"] {
        body[name] = json!({ "any": "thing" });
    }
    body["stream_options"] = json!({ "include_obfuscation": false });
    text(setup.chat(body.clone()).await).await;
    let asked = seen.recv().await.unwrap().body;
    for name in ["messages", "temperature", "logit_bias"] {
        assert_eq!(asked[name], body[name]);
    }
    let mut names: Vec<_> = asked.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["logit_bias", "messages", "model", "stream", "stream_options", "temperature"]);
    assert_eq!(asked["stream_options"], json!({ "include_usage": true }));
}

#[tokio::test]
async fn errors_pass_with_their_status_and_cost_nothing() {
    let answer: Answer = |_| {
        (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")], Json(json!({ "error": "slow down" })))
            .into_response()
    };
    let (setup, _seen) = provider(answer).await;
    let response = setup.chat(streamed("hello")).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(value(response).await["error"], "slow down");
    assert!(setup.ledger.entries().is_empty());
}

#[tokio::test]
async fn what_a_provider_says_of_the_key_stays_here() {
    let answer: Answer =
        |_| (StatusCode::UNAUTHORIZED, Json(json!({ "error": format!("bad key {KEY}") }))).into_response();
    let (setup, _seen) = provider(answer).await;
    let response = setup.chat(said("hello")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(!text(response).await.contains(KEY));
}

#[tokio::test]
async fn an_unreachable_provider_and_an_unknown_model_are_said() {
    let config = ProviderConfig {
        base_url: "http://127.0.0.1:1/v1".to_owned(),
        api_key: None,
        model: "big-1".to_owned(),
        embedding_model: None,
    };
    let setup = Setup::new(Some(config));
    assert_eq!(setup.chat(said("hello")).await.status(), StatusCode::BAD_GATEWAY);
    let mut body = said("hello");
    body["model"] = "another".into();
    assert_eq!(setup.chat(body).await.status(), StatusCode::NOT_FOUND);
    assert!(setup.ledger.entries().is_empty());
}

#[tokio::test]
async fn a_broken_stream_is_not_ended_and_is_metered() {
    let answer: Answer = |_| {
        let body = Body::from_stream(async_stream::stream! {
            yield Ok(ANSWER);
            // What was said goes out before the end is known.
            tokio::task::yield_now().await;
            yield Err(std::io::Error::other("gone"));
        });
        ([("content-type", "text/event-stream")], body).into_response()
    };
    let (setup, _seen) = provider(answer).await;
    let response = setup.chat(streamed("hello")).await;
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(setup.ledger.entries().len(), 1);
}

#[tokio::test]
async fn embeddings_use_the_operators_model_and_no_other() {
    let answer: Answer =
        |body| Json(json!({ "model": body["model"], "usage": { "prompt_tokens": 2 } })).into_response();
    let (setup, _seen) = provider(answer).await;
    for model in ["embed-1", "default"] {
        let body = value(setup.post("/v1/embeddings", json!({ "model": model, "input": "x" })).await).await;
        assert_eq!(body["model"], "embed-1");
    }
    let entry = &setup.ledger.entries()[0];
    assert_eq!((entry.input_tokens, entry.model.as_str()), (2, "embed-1"));
    for model in ["big-1", "dear-1"] {
        let response = setup.post("/v1/embeddings", json!({ "model": model, "input": "x" })).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    let config = ProviderConfig {
        base_url: "http://127.0.0.1:1/v1".to_owned(),
        api_key: None,
        model: "big-1".to_owned(),
        embedding_model: None,
    };
    let setup = Setup::new(Some(config));
    let response = setup.post("/v1/embeddings", json!({ "input": "x" })).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_request_that_is_too_large_is_not_read() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let (setup, _seen) = provider(counted).await;
    let mut stream = connect_nofollow(&setup.run_dir().model_socket()).await.unwrap();
    let length = (32 << 20) + 1;
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: model\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}
