//! The built-in model over the wire.

use super::*;

#[tokio::test]
async fn streams_word_by_word_and_is_metered() {
    let setup = Setup::new(None);
    let mut body = streamed("hello there");
    body["stream_options"] = json!({ "include_usage": true });
    let stream = text(setup.chat(body).await).await;
    assert!(stream.ends_with("data: [DONE]\n\n"));
    let events = events(&stream);
    let words: Vec<&str> =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert!(words.len() > 10, "{words:?}");
    assert!(words.concat().ends_with("You said: hello there"));
    let usage = &events.last().unwrap()["usage"];
    let recorded = setup.ledger.entries();
    assert_eq!(recorded.len(), 1);
    assert_eq!(usage["completion_tokens"], recorded[0].output_tokens);
    assert_eq!((recorded[0].model.as_str(), recorded[0].is_estimated), ("demo", false));
}

#[tokio::test]
async fn calls_a_tool_and_reports_its_result() {
    let setup = Setup::new(None);
    let mut body = streamed("[Fri 2026-11-20 11:57 UTC] /run echo hi");
    body["tools"] = json!([{ "type": "function", "function": { "name": "exec" } }]);
    let stream = text(setup.chat(body.clone()).await).await;
    let calls: Vec<Value> = events(&stream)
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0).cloned())
        .collect();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["function"]["name"], "exec");
    assert_eq!(calls[0]["function"]["arguments"], json!({ "command": "echo hi" }).to_string());
    assert!(stream.contains(r#""finish_reason":"tool_calls""#));

    body["stream"] = false.into();
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [] }));
    messages.push(json!({ "role": "tool", "content": "hi\n" }));
    let answer = value(setup.chat(body).await).await;
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.contains("```\nhi\n```"), "{content}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_client_that_leaves_is_metered_too() {
    let setup = Setup::new(None);
    let mut response = setup.chat(streamed("hello")).await;
    response.frame().await.unwrap().unwrap();
    drop(response);
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while setup.ledger.entries().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
