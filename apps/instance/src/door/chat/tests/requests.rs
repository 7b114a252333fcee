//! What the routes take and refuse.

use super::{fake::*, *};

async fn door(dir: &tempfile::TempDir, fake: &Arc<Fake>) -> Door {
    Door::open(dir.path(), Arc::new(Access(Arc::clone(fake))), QUICK).await
}

/// Runs a turn to its end.
async fn converse(door: &Door, fake: &Fake, text: &str, reply: &str) -> Value {
    let answering = async {
        let sent = fake.next_send().await;
        fake.finish(&sent, reply);
    };
    let ((status, turn), ()) = tokio::join!(door.json("POST", "/chat", say(text)), answering);
    assert_eq!(status, 200, "{turn}");
    turn
}

#[tokio::test]
async fn chat_waits_for_the_answer_and_goes_on_in_the_newest_session() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let first = converse(&door, &fake, "hello  there", "hi").await;
    assert_eq!((&first["reply"], &first["status"]), (&"hi".into(), &"completed".into()));
    assert_eq!(first["message"]["content"], "hi");
    let second = converse(&door, &fake, "more", "yes").await;
    assert_eq!(first["session_id"], second["session_id"]);
    let (_, sessions) = door.json("GET", "/chat/sessions", Value::Null).await;
    assert_eq!((&sessions[0]["title"], &sessions[0]["message_count"]), (&"hello there".into(), &4.into()));
    assert_eq!(sessions[0]["last_event_id"], second["event_id"]);
}

#[tokio::test]
async fn a_request_with_the_same_key_follows_the_same_turn() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let key = [("idempotency-key", "k1")];
    let mut first = events_of(door.ask("POST", "/chat/stream", &key, say("hello")).await);
    let sent = fake.next_send().await;
    fake.delta(&sent, "half");
    let mut seen = until(&mut first, "message.delta").await;
    let again = door.ask("POST", "/chat/stream", &key, say("hello")).await;
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    fake.finish(&sent, "half whole");
    seen.extend(until(&mut first, "turn.completed").await);
    assert_eq!(until(&mut events_of(again), "turn.completed").await, seen);
    let (status, turn) = whole(door.ask("POST", "/chat", &key, say("hello")).await).await;
    assert_eq!((status, &turn["reply"]), (200, &"half whole".into()));
    let (status, body) = whole(door.ask("POST", "/chat", &key, say("other")).await).await;
    assert_eq!((status, &body["error"]["code"]), (422, &"INVALID_REQUEST".into()));
    assert!(fake.no_send_waits().await);
}

#[tokio::test]
async fn callers_do_not_share_their_keys() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut turns = Vec::new();
    for caller in ["key_a", "key_b", "key_a"] {
        let headers = [("idempotency-key", "k1"), ("x-reef-caller", caller)];
        let response = door.ask("POST", "/chat/sessions", &headers, json!({ "title": "same body" })).await;
        assert_eq!(response.headers().contains_key("idempotent-replayed"), turns.len() == 2);
        turns.push(whole(response).await.1["id"].clone());
    }
    assert_ne!(turns[0], turns[1]);
    assert_eq!(turns[0], turns[2]);
    // Another body of another caller is no conflict.
    let headers = [("idempotency-key", "k1"), ("x-reef-caller", "key_c")];
    let response = door.ask("POST", "/chat/sessions", &headers, json!({ "title": "another" })).await;
    assert_eq!(response.status(), 201);
}

#[tokio::test]
async fn a_follower_comes_back_where_it_stopped() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    for end in ["a", "ab", "abc"] {
        fake.delta(&sent, end);
        until(&mut events, "message.delta").await;
    }
    drop(events);
    fake.finish(&sent, "abcd");
    let all = door.all_events(1).await;
    check_log(&all);
    for (at, event) in all.iter().enumerate().take(all.len() - 1) {
        let id = event.id.to_string();
        let last = [("last-event-id", id.as_str())];
        let mut rest = events_of(door.ask("GET", "/chat/events?deltas=true", &last, Value::Null).await);
        assert_eq!(until(&mut rest, "turn.completed").await, all[at + 1..]);
    }
    let mut kept = events_of(door.ask("GET", "/chat/events?after=0", &[], Value::Null).await);
    let kept = until(&mut kept, "turn.completed").await;
    assert_eq!(names(&kept), ["message.created", "message.completed", "turn.completed"]);
}

#[tokio::test]
async fn a_slow_follower_misses_nothing_and_holds_nobody_up() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut quick = door.stream(say("hello")).await;
    let slow = events_of(door.ask("GET", "/chat/events?deltas=true", &[], Value::Null).await);
    let sent = fake.next_send().await;
    let mut text = String::new();
    let mut seen = until(&mut quick, "message.created").await;
    for word in 0..600 {
        text.push_str(&format!("{word} "));
        fake.delta(&sent, &text);
        seen.extend(until(&mut quick, "message.delta").await);
    }
    fake.finish(&sent, &text);
    seen.extend(until(&mut quick, "turn.completed").await);
    let mut slow = slow;
    assert_eq!(until(&mut slow, "turn.completed").await, seen);
    check_log(&seen);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_only_where_it_said_so() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    for (how, status) in [("detach", "completed"), ("cancel", "cancelled")] {
        let body = json!({ "message": "hello", "on_disconnect": how });
        let mut events = door.stream(body).await;
        let turn = turn_of(&next(&mut events).await);
        let sent = fake.next_send().await;
        fake.delta(&sent, "half");
        until(&mut events, "message.delta").await;
        let runtime = door.runtime.as_ref().unwrap();
        runtime.spawn(async move { drop(events) }).await.unwrap();
        if how == "detach" {
            fake.finish(&sent, "half");
        }
        let mut all = events_of(door.ask("GET", "/chat/events", &[], Value::Null).await);
        loop {
            let event = next(&mut all).await;
            if event.body.is_terminal() && turn_of(&event) == turn {
                assert_eq!(event.name, format!("turn.{status}"));
                break;
            }
        }
    }
}

#[tokio::test]
async fn waiting_ends_in_time_and_the_turn_goes_on() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let body = json!({ "message": "hello", "timeout_seconds": 1, "on_disconnect": "cancel" });
    let (status, body) = door.json("POST", "/chat", body).await;
    assert_eq!((status, &body["error"]["code"]), (504, &"UPSTREAM_TIMEOUT".into()));
    assert_eq!(body["error"]["details"]["status"], "running");
    let sent = fake.next_send().await;
    fake.finish(&sent, "late");
    assert_eq!(door.all_events(1).await.last().unwrap().name, "turn.completed");
}

#[tokio::test]
async fn what_cannot_be_taken_is_named() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let file = |name: &str, content: &str| json!({ "message": "x", "attachments": [{ "name": name, "mime_type": "text/plain", "content": content }] });
    let unknown = "chs_01h00000000000000000000000";
    for (method, path, body, status, field) in [
        ("POST", "/chat", json!({ "message": " " }), 422, "message"),
        ("POST", "/chat", json!({ "message": "x".repeat(1024 * 1024 + 1) }), 422, "message"),
        ("POST", "/chat", json!({ "message": "x", "timeout_seconds": 0 }), 422, "timeout_seconds"),
        ("POST", "/chat", json!({ "message": "x", "colour": 1 }), 400, "colour"),
        ("POST", "/chat/stream", json!({}), 400, "message"),
        ("POST", "/chat", file("a/b", "aGk="), 422, "attachments[0].name"),
        ("POST", "/chat", file("a", "%%"), 422, "attachments[0].content"),
        ("POST", "/chat/sessions", json!({ "title": "x".repeat(201) }), 422, "title"),
        ("GET", "/chat/messages?limit=0", Value::Null, 400, "limit"),
        ("GET", "/chat/messages?limit=201", Value::Null, 400, "limit"),
        ("GET", "/chat/messages?tail=maybe", Value::Null, 400, "tail"),
        ("GET", "/chat/sessions?cursor=x", Value::Null, 400, "cursor"),
    ] {
        let (given, answer) = door.json(method, path, body).await;
        assert_eq!(given, status, "{path}: {answer}");
        assert_eq!(answer["error"]["code"], "INVALID_REQUEST");
        assert_eq!(answer["error"]["details"]["fields"][0]["field"], field, "{answer}");
        assert!(!answer["request_id"].as_str().unwrap().is_empty());
    }
    for (method, path, body) in [
        ("POST", "/chat".to_owned(), json!({ "message": "x", "session_id": unknown })),
        ("GET", format!("/chat/messages?session_id={unknown}"), Value::Null),
        ("GET", "/chat/events".to_owned(), Value::Null),
        ("GET", "/chat/turns/nonsense".to_owned(), Value::Null),
        ("POST", "/chat/turns/turn_01h00000000000000000000000/cancel".to_owned(), Value::Null),
        ("PATCH", format!("/chat/sessions/{unknown}"), json!({ "title": "x" })),
        ("DELETE", format!("/chat/sessions/{unknown}"), Value::Null),
    ] {
        let (status, answer) = door.json(method, &path, body).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &"NOT_FOUND".into()), "{method} {path}");
    }
    let large = json!({ "message": "x", "attachments": [{ "name": "a", "mime_type": "a/b", "content": "A".repeat(25 << 20) }] });
    let (status, answer) = door.json("POST", "/chat", large).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &"PAYLOAD_TOO_LARGE".into()));
    assert_eq!(door.json("GET", "/chat/messages", Value::Null).await, (200, json!([])));
}

#[tokio::test]
async fn sessions_are_listed_named_and_deleted_in_the_gateway_too() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let key = [("idempotency-key", "s1")];
    let (status, first) =
        whole(door.ask("POST", "/chat/sessions", &key, json!({ "title": "one" })).await).await;
    assert_eq!(status, 201);
    let (_, again) = whole(door.ask("POST", "/chat/sessions", &key, json!({ "title": "one" })).await).await;
    assert_eq!(first, again);
    let (_, second) = door.json("POST", "/chat/sessions", json!({})).await;
    let page = door.ask("GET", "/chat/sessions?limit=1", &[], Value::Null).await;
    let cursor = page.headers()["x-next-cursor"].to_str().unwrap().to_owned();
    assert_eq!(whole(page).await.1[0]["id"], second["id"]);
    let (_, rest) = door.json("GET", &format!("/chat/sessions?limit=1&cursor={cursor}"), Value::Null).await;
    assert_eq!(rest[0]["id"], first["id"]);
    let path = format!("/chat/sessions/{}", first["id"].as_str().unwrap());
    let (_, renamed) = door.json("PATCH", &path, json!({ "title": " new " })).await;
    assert_eq!(renamed["title"], "new");
    // A running turn is stopped first, and its follower's stream ends.
    let mut events = door.stream(json!({ "message": "x", "session_id": first["id"] })).await;
    fake.next_send().await;
    assert_eq!(door.json("DELETE", &path, Value::Null).await.0, 204);
    until(&mut events, "turn.cancelled").await;
    assert_eq!(door.json("GET", &path, Value::Null).await.0, 404);
    let forgotten = async {
        while fake.deleted().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.unwrap();
    assert_eq!(fake.deleted(), [format!("agent:main:{}", first["id"].as_str().unwrap())]);
}

#[tokio::test]
async fn what_a_client_asked_for_is_done_although_it_leaves() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let (_, session) = door.json("POST", "/chat/sessions", json!({ "title": "one" })).await;
    let path = format!("/chat/sessions/{}", session["id"].as_str().unwrap());
    let mut events = door.stream(say("first")).await;
    fake.next_send().await;
    let mut waiting = door.stream(say("second")).await;
    let turn = turn_of(&next(&mut waiting).await);
    let leave = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let mut answer = Arc::clone(door.chat()).router().oneshot(request);
        door.runtime
            .as_ref()
            .unwrap()
            .spawn(async move { futures_util::poll!(&mut answer).is_pending() })
            .await
    };
    assert!(leave("POST", &format!("/chat/turns/{turn}/cancel")).await.unwrap());
    until(&mut waiting, "turn.cancelled").await;
    assert!(leave("DELETE", &path).await.unwrap());
    until(&mut events, "turn.cancelled").await;
    assert!(events.next().await.is_none(), "the session goes, too");
}

#[tokio::test]
async fn messages_are_paged_both_ways() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    for turn in 0..3 {
        converse(&door, &fake, &format!("q{turn}"), &format!("a{turn}")).await;
    }
    let texts = async |query: &str| {
        let (_, page) = door.json("GET", &format!("/chat/messages?{query}"), Value::Null).await;
        let texts =
            page.as_array().unwrap().iter().map(|message| message["content"].as_str().unwrap().to_owned());
        texts.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(texts("").await, "q0 a0 q1 a1 q2 a2");
    assert_eq!(texts("tail=true&limit=2").await, "q2 a2");
    assert_eq!(texts("limit=2").await, "q0 a0");
    let all = door.messages().await;
    assert_eq!(texts(&format!("after={}&limit=2", all[1].event_id)).await, "q1 a1");
    assert_eq!(texts(&format!("before={}&limit=2", all[4].id)).await, "q1 a1");
}
