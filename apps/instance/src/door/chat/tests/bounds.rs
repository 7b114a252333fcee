//! A gateway that says too much, and a log that is full or old.

use reef_door::chat::TurnStatus;

use super::{fake::*, *};
use crate::door::chat::{log::Keep, progress::REPLY_BYTES};

async fn door(dir: &tempfile::TempDir, fake: &Arc<Fake>, limits: Limits) -> Door {
    Door::open(dir.path(), Arc::new(Access(Arc::clone(fake))), limits).await
}

fn error(event: &Seen) -> String {
    match &event.body {
        EventBody::TurnEnded(end) => end.error.as_ref().map(|error| error.code.clone()).unwrap_or_default(),
        other => panic!("not an end: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_grows_without_end_is_stopped_and_kept_as_far_as_it_may_go() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake, QUICK).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, &"x".repeat(REPLY_BYTES / 2));
    fake.delta(&sent, &"x".repeat(REPLY_BYTES + 1));
    let seen = until(&mut events, "turn.failed").await;
    assert_eq!(error(seen.last().unwrap()), "reply_too_large");
    assert_eq!(streamed(&seen).len(), REPLY_BYTES);
    assert!(!fake.is_running(&sent), "the run is stopped");
    // The session goes on.
    let mut events = door.stream(say("again")).await;
    let sent = fake.next_send().await;
    fake.finish(&sent, "short");
    check_log(&until(&mut events, "turn.completed").await);
    // A message of that size is a page of its own; the next one is where the link says.
    let response = door.ask("GET", "/chat/messages", &[], Value::Null).await;
    let cursor = response.headers()["x-next-cursor"].to_str().unwrap().to_owned();
    let (_, page) = whole(response).await;
    assert_eq!(page.as_array().unwrap().len(), 2);
    let (_, rest) = door.json("GET", &format!("/chat/messages?after={cursor}"), Value::Null).await;
    assert_eq!(rest.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tools_beyond_measure_keep_their_names_only() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake, QUICK).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    let output = "y".repeat(100 * 1024);
    for number in 0..70 {
        let call = format!("c{number}");
        fake.tool(&sent, json!({ "phase": "start", "toolCallId": call, "name": "exec", "args": {} }));
        fake.tool(
            &sent,
            json!({ "phase": "result", "toolCallId": call, "name": "exec", "isError": false,
                    "result": { "content": [{ "type": "text", "text": output }] } }),
        );
    }
    fake.finish(&sent, "done");
    let seen = until(&mut events, "turn.completed").await;
    let EventBody::MessageCompleted(answer) = &seen[seen.len() - 2].body else { panic!() };
    let tools = &answer.message.tools;
    assert_eq!(tools.len(), 70);
    let kept: usize = tools.iter().map(|tool| tool.output.as_ref().unwrap().len()).sum();
    assert!(kept <= 4 << 20 && kept > 3 << 20, "{kept}");
    assert_eq!(tools[69].output.as_deref(), Some(""));
}

#[tokio::test]
async fn a_full_log_says_so_ends_its_turns_and_works_again_once_sessions_are_deleted() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake, Limits { log_bytes: 1 << 20, ..QUICK }).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, &"x".repeat(1 << 20));
    let mut seen = until(&mut events, "message.delta").await;
    fake.delta(&sent, &"x".repeat((1 << 20) + 10));
    seen.extend(until(&mut events, "turn.failed").await);
    assert_eq!(error(seen.last().unwrap()), "log_full");
    for (path, body) in [("/chat", say("more")), ("/chat/sessions", json!({}))] {
        let (status, body) = door.json("POST", path, body).await;
        assert_eq!((status, &body["error"]["code"]), (429, &"QUOTA_EXCEEDED".into()));
        assert_eq!(body["error"]["details"]["reason"], "chat_log_full");
    }
    let (_, sessions) = door.json("GET", "/chat/sessions", Value::Null).await;
    let path = format!("/chat/sessions/{}", sessions[0]["id"].as_str().unwrap());
    assert_eq!(door.json("DELETE", &path, Value::Null).await.0, 204);
    let mut events = door.stream(say("again")).await;
    fake.finish(&fake.next_send().await, "yes");
    until(&mut events, "turn.completed").await;
}

#[tokio::test]
async fn old_deltas_go_and_whoever_comes_back_sees_each_message_once() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake, QUICK).await;
    let mut seen = Vec::new();
    for turn in 0..3 {
        let mut events = door.stream(say("hello")).await;
        let sent = fake.next_send().await;
        for length in 1..8 {
            fake.delta(&sent, &"ab ".repeat(length));
            seen.extend(until(&mut events, "message.delta").await);
        }
        let tool = json!({ "phase": "start", "toolCallId": format!("c{turn}"), "name": "exec", "args": {} });
        fake.tool(&sent, tool);
        fake.finish(&sent, &"ab ".repeat(7));
        seen.extend(until(&mut events, "turn.completed").await);
    }
    let mut running = door.stream(say("still going")).await;
    let sent = fake.next_send().await;
    fake.delta(&sent, "so far");
    let open = until(&mut running, "message.delta").await;

    let log = &door.chat().log;
    let young = Keep { age: Duration::from_secs(60), turns: 0, step: 3 };
    assert!(!log.prune(young).await.unwrap(), "nothing is old enough");
    // The running turn and the last ended one are kept; the rest goes in small steps.
    let keep = Keep { age: Duration::ZERO, turns: 2, step: 3 };
    let mut steps = 0;
    while log.prune(keep).await.unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 6, "8 rows a turn, 3 a step");

    fake.finish(&sent, "so far, so good");
    until(&mut running, "turn.completed").await;
    let all = door.all_events(4).await;
    check_log(&all);
    let first_turn: Vec<_> =
        all.iter().filter(|event| turn_of(event) == turn_of(&seen[0])).cloned().collect();
    assert_eq!(
        names(&first_turn),
        ["turn.started", "message.created", "message.completed", "turn.completed"]
    );
    assert_eq!(
        streamed(&all),
        format!("{}so far, so good", "ab ".repeat(7)),
        "the last ended turn has its deltas"
    );
    // Somebody who left in the middle of the first turn comes back with the id of a delta that is gone.
    let left_at = seen.iter().find(|event| event.name == "message.delta").unwrap().id;
    let path = format!("/chat/events?deltas=true&after={left_at}");
    let mut later = events_of(door.ask("GET", &path, &[], Value::Null).await);
    let mut after = Vec::new();
    while after.iter().filter(|event: &&Seen| event.body.is_terminal()).count() < 4 {
        after.push(next(&mut later).await);
    }
    assert_eq!(after, all.iter().filter(|event| event.id > left_at).cloned().collect::<Vec<_>>());
    assert_eq!(names(&after)[..2], ["message.completed", "turn.completed"]);
    assert_eq!(open[0].name, "turn.started");
    let statuses: Vec<_> = door.messages().await.into_iter().map(|message| message.status).collect();
    assert_eq!(statuses, [TurnStatus::Completed; 8]);
}

#[tokio::test]
async fn large_events_reach_a_live_follower_in_their_order() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake, QUICK).await;
    let mut events = door.stream(say("hello")).await;
    let sent = fake.next_send().await;
    let mut seen = Vec::new();
    for length in [1, 200_000, 200_001, 500_000] {
        fake.delta(&sent, &"z".repeat(length));
        seen.extend(until(&mut events, "message.delta").await);
    }
    fake.finish(&sent, &"z".repeat(500_000));
    seen.extend(until(&mut events, "turn.completed").await);
    check_log(&seen);
    assert_eq!(streamed(&seen).len(), 500_000);
}
