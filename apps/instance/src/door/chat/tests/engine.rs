//! Each way a turn can go.

use reef_door::chat::TurnStatus;

use super::{fake::*, *};

async fn door(dir: &tempfile::TempDir, fake: &Arc<Fake>) -> Door {
    Door::open(dir.path(), Arc::new(Access(Arc::clone(fake))), QUICK).await
}

fn ended(event: &Seen) -> (TurnStatus, Option<String>) {
    match &event.body {
        EventBody::TurnEnded(end) => (end.status, end.error.as_ref().map(|error| error.code.clone())),
        other => panic!("not an end: {other:?}"),
    }
}

fn answer(event: &Seen) -> ChatMessage {
    match &event.body {
        EventBody::MessageCompleted(event) => event.message.clone(),
        other => panic!("not an answer: {other:?}"),
    }
}

#[tokio::test]
async fn a_turn_streams_its_text_and_tools_once() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    assert_eq!(sent.params["message"], "hello");
    fake.delta(&sent, "Let me");
    fake.delta(&sent, "Let me");
    fake.delta(&sent, "Let me look.");
    fake.tool(
        &sent,
        json!({ "phase": "start", "toolCallId": "c1", "name": "exec", "args": { "command": "ls" } }),
    );
    fake.tool(
        &sent,
        json!({ "phase": "result", "toolCallId": "c1", "name": "exec", "isError": false,
                "result": { "content": [{ "type": "text", "text": "a.txt" }] } }),
    );
    fake.delta(&sent, "Let me look.\n\nOne file.");
    fake.finish(&sent, "Let me look.\n\nOne file.");
    let seen = until(&mut events, "turn.completed").await;
    assert!(events.next().await.is_none(), "the stream ends with the turn");
    assert_eq!(names(&seen)[..2], ["turn.started", "message.created"]);
    assert_eq!(streamed(&seen), "Let me look.\n\nOne file.");
    let tools: Vec<_> = names(&seen).into_iter().filter(|name| name.starts_with("tool.")).collect();
    assert_eq!(tools, ["tool.started", "tool.completed"]);
    let message = answer(&seen[seen.len() - 2]);
    assert_eq!(message.content, "Let me look.\n\nOne file.");
    assert_eq!(message.tools[0].output.as_deref(), Some("a.txt"));
    assert_eq!(message.usage.unwrap().output_tokens, 2);
    assert_eq!(door.all_events(1).await, seen, "a late follower sees the same");
    assert_eq!(door.turn(turn_of(&seen[0])).await.status, TurnStatus::Completed);
    assert_eq!(door.chat().activity().borrow().active_turns, 0);
}

#[tokio::test]
async fn turns_of_a_session_wait_for_each_other_and_sessions_do_not() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut first = door.stream(say("one")).await;
    let mut second = door.stream(say("two")).await;
    let (_, other) = door.json("POST", "/chat/sessions", json!({})).await;
    let one = fake.next_send().await;
    let _third = door.stream(json!({ "message": "three", "session_id": other["id"] })).await;
    let three = fake.next_send().await;
    assert_eq!((&one.params["message"], &three.params["message"]), (&"one".into(), &"three".into()));
    assert_ne!(one.key, three.key);
    assert!(fake.no_send_waits().await);
    fake.finish(&one, "first");
    until(&mut first, "turn.completed").await;
    let two = fake.next_send().await;
    assert_eq!(two.params["message"], "two");
    fake.finish(&two, "second");
    fake.finish(&three, "third");
    check_log(&until(&mut second, "turn.completed").await);
}

#[tokio::test]
async fn a_lost_socket_in_mid_stream_repeats_nothing_and_loses_nothing() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "one two");
    let mut seen = until(&mut events, "message.delta").await;
    fake.delta(&sent, "one two three");
    fake.cut();
    seen.extend(until(&mut events, "message.delta").await);
    // Over the new connection, the old text comes again.
    while streamed(&seen) != "one two three four" {
        fake.delta(&sent, "one two three four");
        seen.extend(until(&mut events, "message.delta").await);
    }
    fake.finish(&sent, "one two three four five");
    seen.extend(until(&mut events, "turn.completed").await);
    assert_eq!(streamed(&seen), "one two three four five");
    check_log(&seen);
}

#[tokio::test]
async fn an_answer_that_came_while_nobody_listened_is_fetched_whole() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "01");
    let mut seen = until(&mut events, "message.delta").await;
    fake.finish_cut(&sent, "0123…", "0123456789");
    fake.cut();
    seen.extend(until(&mut events, "turn.completed").await);
    assert_eq!(streamed(&seen), "0123456789");
    let message = answer(&seen[seen.len() - 2]);
    assert_eq!((message.content.as_str(), message.usage.unwrap().input_tokens), ("0123456789", 10));
}

#[tokio::test]
async fn a_long_answer_is_completed_from_the_transcript() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    let whole = "x".repeat(500_010);
    fake.finish_cut(&sent, &whole[..8000], &whole);
    let message = json!({ "content": [{ "type": "text", "text": &whole[..500_000] }] });
    fake.chat(&sent, json!({ "state": "final", "message": message }));
    let seen = until(&mut events, "turn.completed").await;
    assert_eq!(streamed(&seen).len(), 500_010);
    assert_eq!(answer(&seen[seen.len() - 2]).content.len(), 500_010);
}

#[tokio::test]
async fn a_message_that_never_arrived_is_sent_again() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    fake.lose_next_send();
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.finish(&sent, "hi");
    check_log(&until(&mut events, "turn.completed").await);
    assert!(fake.no_send_waits().await);
}

#[tokio::test]
async fn a_killed_gateway_goes_on_with_the_turn_under_another_run() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "one two");
    let mut seen = until(&mut events, "message.delta").await;
    fake.kill();
    fake.start();
    let resumed = fake.resume(&sent);
    fake.delta(&resumed, "one");
    fake.delta(&resumed, "one two three");
    seen.extend(until(&mut events, "message.delta").await);
    fake.finish(&resumed, "one two three");
    seen.extend(until(&mut events, "turn.completed").await);
    assert_eq!(streamed(&seen), "one two three");
    assert!(fake.no_send_waits().await, "it is not sent a second time");
}

#[tokio::test]
async fn a_resumed_answer_in_other_words_follows_what_was_said() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "one two");
    let mut seen = until(&mut events, "message.delta").await;
    fake.kill();
    fake.start();
    let resumed = fake.resume(&sent);
    fake.delta(&resumed, "Sorry, again");
    seen.extend(until(&mut events, "message.delta").await);
    fake.finish(&resumed, "Sorry, again: three");
    seen.extend(until(&mut events, "turn.completed").await);
    assert_eq!(streamed(&seen), "one two\n\nSorry, again: three");
    assert_eq!(answer(&seen[seen.len() - 2]).content, "one two\n\nSorry, again: three");
}

#[tokio::test]
async fn a_turn_that_the_gateway_does_not_resume_is_interrupted() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "one two");
    let mut seen = until(&mut events, "message.delta").await;
    fake.kill();
    fake.forget_resuming();
    fake.start();
    seen.extend(until(&mut events, "turn.interrupted").await);
    assert_eq!(ended(seen.last().unwrap()), (TurnStatus::Interrupted, Some("gateway_lost".into())));
    let partial = answer(&seen[seen.len() - 2]);
    assert_eq!((partial.content.as_str(), partial.status), ("one two", TurnStatus::Interrupted));
}

#[tokio::test]
async fn a_gateway_that_does_not_come_back_interrupts_what_was_sent_and_fails_what_was_not() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let limits = Limits { reconnect: Duration::from_millis(200), ..QUICK };
    let door = Door::open(dir.path(), Arc::new(Access(Arc::clone(&fake))), limits).await;
    let mut first = door.stream(say("one")).await;
    let mut second = door.stream(say("two")).await;
    fake.next_send().await;
    fake.kill();
    let first = until(&mut first, "turn.interrupted").await;
    assert_eq!(ended(first.last().unwrap()).1.as_deref(), Some("gateway_lost"));
    let second = until(&mut second, "turn.failed").await;
    assert_eq!(ended(second.last().unwrap()).1.as_deref(), Some("gateway_unavailable"));
}

#[tokio::test]
async fn a_killed_door_finishes_its_turns_after_the_next_start() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let first = door(&dir, &fake).await;
    let mut events = first.stream(say("one")).await;
    let _second = first.stream(say("two")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "so far");
    let seen = until(&mut events, "message.delta").await;
    first.kill();
    fake.finish_unheard(&sent, "so far and further");
    let door = door(&dir, &fake).await;
    let two = fake.next_send().await;
    assert_eq!(two.params["message"], "two");
    fake.finish(&two, "answer two");
    let all = door.all_events(2).await;
    check_log(&all);
    assert_eq!(all[..2], seen[..2], "what was seen stays");
    let texts: Vec<_> = door.messages().await.into_iter().map(|message| message.content).collect();
    assert_eq!(texts, ["one", "two", "so far and further", "answer two"]);
    let ours: Vec<_> = all.into_iter().filter(|event| turn_of(event) == turn_of(&seen[0])).collect();
    assert_eq!(streamed(&ours), "so far and further");
    assert_eq!(door.chat().activity().borrow().active_turns, 0);
}

#[tokio::test]
async fn a_steered_message_is_never_a_completed_turn() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.chat(&sent, json!({ "state": "final" }));
    let seen = until(&mut events, "turn.failed").await;
    assert_eq!(ended(seen.last().unwrap()).1.as_deref(), Some("steered"));
}

#[tokio::test]
async fn a_model_failure_is_told_in_the_gateways_words() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "half");
    fake.chat(&sent, json!({ "state": "error", "errorMessage": "the provider is down" }));
    fake.chat(&sent, json!({ "state": "error", "errorMessage": "said twice" }));
    let seen = until(&mut events, "turn.failed").await;
    let EventBody::TurnEnded(end) = &seen.last().unwrap().body else { panic!() };
    assert_eq!(end.error.as_ref().unwrap().message, "the provider is down");
    assert_eq!(answer(&seen[seen.len() - 2]).status, TurnStatus::Failed);
    let (status, body) = {
        let waiting = door.json("POST", "/chat", say("again"));
        let failing = async {
            let sent = fake.next_send().await;
            fake.chat(&sent, json!({ "state": "error", "errorMessage": "down" }));
        };
        tokio::join!(waiting, failing).0
    };
    assert_eq!((status, &body["error"]["details"]["status"]), (502, &"failed".into()));
    check_log(&door.all_events(2).await);
}

#[tokio::test]
async fn a_refused_message_fails_with_the_reason() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    fake.refuse_sends(json!({ "code": "INVALID_REQUEST", "message": "no such thing" }));
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let seen = until(&mut events, "turn.failed").await;
    assert_eq!(ended(seen.last().unwrap()).1.as_deref(), Some("rejected"));
}

#[tokio::test]
async fn a_cancelled_turn_keeps_its_partial_text_and_a_waiting_one_never_starts() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let mut waiting = door.stream(say("wait")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "half");
    let seen = until(&mut events, "message.delta").await;
    let queued = turn_of(&next(&mut waiting).await);
    let (status, turn) = door.json("POST", &format!("/chat/turns/{queued}/cancel"), Value::Null).await;
    assert_eq!((status, &turn["status"]), (200, &"cancelled".into()));
    let path = format!("/chat/turns/{}/cancel", turn_of(&seen[0]));
    assert_eq!(door.json("POST", &path, Value::Null).await.0, 200);
    let end = until(&mut events, "turn.cancelled").await;
    assert_eq!(answer(&end[0]).content, "half");
    assert_eq!(door.json("POST", &path, Value::Null).await.1["status"], "cancelled");
    check_log(&door.all_events(2).await);
    assert!(fake.no_send_waits().await);
}

#[tokio::test]
async fn draining_waits_and_then_interrupts() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "half");
    until(&mut events, "message.delta").await;
    let chat = Arc::clone(door.chat());
    let drained = tokio::spawn(async move {
        chat.drain(tokio::time::Instant::now() + Duration::from_millis(50)).await;
    });
    let seen = until(&mut events, "turn.interrupted").await;
    assert_eq!(ended(seen.last().unwrap()).1.as_deref(), Some("stopping"));
    drained.await.unwrap();
    let (status, body) = door.json("POST", "/chat", say("more")).await;
    assert_eq!((status, &body["error"]["code"]), (409, &"INSTANCE_NOT_READY".into()));
}

#[tokio::test]
async fn a_warm_up_leaves_no_trace() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let chat = Arc::clone(door.chat());
    let warming = tokio::spawn(async move { chat.warm_up().await });
    let sent = fake.next_send().await;
    assert_eq!(sent.params["message"], WARM_UP_MESSAGE);
    fake.finish(&sent, "ready");
    warming.await.unwrap().unwrap();
    assert_eq!(fake.deleted(), ["agent:main:reef-warmup"]);
    assert_eq!(door.json("GET", "/chat/sessions", Value::Null).await.1, json!([]));
}

#[tokio::test]
async fn a_full_disk_fails_the_turn_and_loses_nothing_that_was_seen() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "so far ");
    let mut seen = until(&mut events, "message.delta").await;
    door.chat().log.set_full(true).await;
    fake.delta(&sent, &format!("so far {}", "x".repeat(200_000)));
    // The stream ends without an end of the turn, since none could be written.
    while let Some(event) = events.next().await {
        seen.push(event);
    }
    assert!(seen.iter().all(|event| !event.body.is_terminal()));
    let (status, body) = door.json("POST", "/chat", say(&"y".repeat(200_000))).await;
    assert_eq!((status, &body["error"]["details"]["reason"]), (500, &"storage_failed".into()));
    door.chat().log.set_full(false).await;
    let all = door.all_events(1).await;
    check_log(&all);
    assert_eq!(all[..seen.len()], seen);
    assert_eq!(ended(all.last().unwrap()), (TurnStatus::Failed, Some("storage_failed".into())));
    assert!(fake.no_send_waits().await);
}

#[tokio::test]
async fn a_turn_cancelled_while_the_gateway_is_down_is_stopped_when_it_is_resumed() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let limits = Limits { resume: Duration::from_secs(10), ..QUICK };
    let door = Door::open(dir.path(), Arc::new(Access(Arc::clone(&fake))), limits).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "half");
    let seen = until(&mut events, "message.delta").await;
    fake.kill();
    let path = format!("/chat/turns/{}/cancel", turn_of(&seen[0]));
    assert_eq!(door.json("POST", &path, Value::Null).await.0, 200);
    fake.start();
    fake.resume(&sent);
    let end = until(&mut events, "turn.cancelled").await;
    assert_eq!(answer(&end[end.len() - 2]).content, "half");
    assert!(!fake.is_running(&sent));
}
