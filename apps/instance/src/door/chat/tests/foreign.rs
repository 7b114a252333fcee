//! Runs that did not begin at the chat routes.

use reef_door::chat::{Origin, TurnStatus};

use super::{fake::*, *};

async fn door(dir: &tempfile::TempDir, fake: &Arc<Fake>) -> Door {
    Door::open(dir.path(), Arc::new(Access(Arc::clone(fake))), QUICK).await
}

fn theirs(key: &str, run: &str) -> Sent {
    Sent { key: key.to_owned(), run: run.to_owned(), params: Value::Null }
}

/// As HTTP and channels do: the row names no run.
fn user_row(fake: &Fake, sent: &Sent, text: &str) {
    fake.row(sent, "user", text.into(), json!({ "idempotencyKey": null }));
}

/// Says it again until the door, which may still be connecting, has heard it; returns the sessions.
async fn heard(door: &Door, count: usize, say: impl Fn()) -> Vec<Value> {
    loop {
        say();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let (_, sessions) = door.json("GET", "/chat/sessions", Value::Null).await;
        let sessions = sessions.as_array().unwrap();
        if sessions.len() == count {
            return sessions.clone();
        }
    }
}

async fn events(door: &Door, session: &Value) -> impl Stream<Item = Seen> + Unpin + use<> {
    let path = format!("/chat/events?deltas=true&session_id={}", session["id"].as_str().unwrap());
    events_of(door.ask("GET", &path, &[], Value::Null).await)
}

#[tokio::test]
async fn conversations_of_others_are_listed_followed_and_not_written_to() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let group = theirs("agent:main:telegram:group:-100", "run-1");
    let sessions = heard(&door, 1, || {
        user_row(&fake, &group, "from a group");
        fake.delta(&group, "an");
    })
    .await;
    assert_eq!(sessions[0]["origin"], "channel");
    assert_eq!(sessions[0]["title"], "telegram: group -100");
    let mut following = events(&door, &sessions[0]).await;
    fake.delta(&group, "an answer");
    fake.finish(&group, "an answer");
    let seen = until(&mut following, "turn.completed").await;
    assert_eq!(names(&seen)[..2], ["turn.started", "message.created"]);
    let EventBody::TurnStarted(started) = &seen[0].body else { panic!() };
    assert_eq!(started.origin, Some(Origin::Channel));
    assert_eq!(streamed(&seen), "an answer");
    assert_eq!(door.turn(turn_of(&seen[0])).await.origin, Some(Origin::Channel));

    // A second message is a second turn of the same session; rows that came late are its message.
    let again = theirs(&group.key, "run-2");
    fake.chat(&again, json!({ "state": "status", "phase": "preparing_context" }));
    user_row(&fake, &again, "more");
    fake.finish(&again, "another answer");
    let seen = until(&mut following, "turn.completed").await;
    assert_eq!(names(&seen)[..2], ["turn.started", "message.created"]);
    assert_eq!(door.json("GET", "/chat/sessions", Value::Null).await.1.as_array().unwrap().len(), 1);
    let id = sessions[0]["id"].as_str().unwrap();
    let (_, messages) = door.json("GET", &format!("/chat/messages?session_id={id}"), Value::Null).await;
    let texts: Vec<_> = messages.as_array().unwrap().iter().map(|message| &message["content"]).collect();
    assert_eq!(texts, ["from a group", "an answer", "more", "another answer"]);

    // It is read only, and never the session that a message without one goes to.
    for (method, path, body) in [
        ("POST", "/chat".to_owned(), json!({ "message": "hi", "session_id": id })),
        ("PATCH", format!("/chat/sessions/{id}"), json!({ "title": "mine" })),
    ] {
        let (status, body) = door.json(method, &path, body).await;
        assert_eq!((status, &body["error"]["details"]["reason"]), (409, &"foreign_session".into()));
    }
    let mut ours = door.stream(say("ours")).await;
    let sent = fake.next_send().await;
    assert_ne!(sent.key, group.key);
    fake.finish(&sent, "yes");
    until(&mut ours, "turn.completed").await;
    assert_eq!(door.json("DELETE", &format!("/chat/sessions/{id}"), Value::Null).await.0, 204);
    while fake.deleted() != [group.key.as_str()] {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn somebody_elses_run_in_our_session_holds_it() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let (_, session) = door.json("POST", "/chat/sessions", json!({})).await;
    let foreign = theirs(&format!("agent:main:{}", session["id"].as_str().unwrap()), "their-run");
    let mut following = events(&door, &session).await;
    let mut seen = loop {
        fake.row(&foreign, "user", "from elsewhere".into(), json!({}));
        fake.delta(&foreign, "an");
        let created = until(&mut following, "message.delta");
        if let Ok(seen) = tokio::time::timeout(Duration::from_millis(200), created).await {
            break seen;
        }
    };
    fake.delta(&foreign, "an answer");
    seen.extend(until(&mut following, "message.delta").await);
    let _ours = door.stream(say("mine")).await;
    assert!(fake.no_send_waits().await);
    fake.finish(&foreign, "an answer");
    let mine = fake.next_send().await;
    fake.finish(&mine, "yours");
    until(&mut following, "turn.completed").await;
    until(&mut following, "turn.completed").await;
    let texts: Vec<_> = door.messages().await.into_iter().map(|message| message.content).collect();
    assert_eq!(texts, ["from elsewhere", "mine", "an answer", "yours"]);
    let turn = door.turn(turn_of(&seen[0])).await;
    assert_eq!(turn.origin, Some(Origin::Gateway));
}

#[tokio::test]
async fn all_runs_of_a_job_are_one_session_and_one_that_began_too_early_is_not_lost() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let first = theirs("agent:main:cron:job:run:1", "run-1");
    let sessions = heard(&door, 1, || fake.delta(&first, "done")).await;
    assert_eq!((&sessions[0]["origin"], &sessions[0]["title"]), (&"schedule".into(), &"Schedule job".into()));
    let mut following = events(&door, &sessions[0]).await;
    // The next run is heard of before the end of this one.
    let second = theirs("agent:main:cron:job:run:2", "run-2");
    fake.delta(&second, "done again");
    fake.finish(&first, "done");
    let seen = until(&mut following, "turn.completed").await;
    assert_eq!(streamed(&seen), "done");
    fake.finish(&second, "done again");
    let seen = until(&mut following, "turn.completed").await;
    assert_eq!(streamed(&seen), "done again");
    assert_eq!(door.json("GET", "/chat/sessions", Value::Null).await.1.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_of_others_can_be_cancelled_and_outlives_the_door() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let first = door(&dir, &fake).await;
    let api = theirs("agent:main:openai-user:conv:1", "chatcmpl_1");
    let sessions = heard(&first, 1, || {
        user_row(&fake, &api, "hello");
        fake.delta(&api, "half");
    })
    .await;
    let mut following = events(&first, &sessions[0]).await;
    until(&mut following, "message.delta").await;
    first.kill();
    // It ends while there is no door: the transcript tells.
    fake.finish_unheard(&api, "half and half");
    let door = door(&dir, &fake).await;
    let mut following = events(&door, &sessions[0]).await;
    let seen = until(&mut following, "turn.completed").await;
    assert_eq!(streamed(&seen), "half and half");

    let endless = theirs(&api.key, "chatcmpl_2");
    let seen = loop {
        fake.delta(&endless, "on and on");
        let heard = until(&mut following, "message.delta");
        if let Ok(seen) = tokio::time::timeout(Duration::from_millis(200), heard).await {
            break seen;
        }
    };
    let turn = turn_of(seen.last().unwrap());
    assert_eq!(door.json("POST", &format!("/chat/turns/{turn}/cancel"), Value::Null).await.0, 200);
    until(&mut following, "turn.cancelled").await;
    assert!(!fake.is_running(&endless));
    assert_eq!(door.turn(turn).await.status, TurnStatus::Cancelled);
}

#[tokio::test]
async fn a_message_that_was_steered_elsewhere_begins_no_turn() {
    let (dir, fake) = (tempfile::tempdir().unwrap(), Fake::new());
    let door = door(&dir, &fake).await;
    let main = theirs("agent:main:main", "r1");
    let sessions = heard(&door, 1, || {
        fake.row(&main, "user", "first".into(), json!({}));
        fake.delta(&main, "w1");
    })
    .await;
    assert_eq!(sessions[0]["title"], "Main session");
    let mut following = events(&door, &sessions[0]).await;
    let steered = theirs(&main.key, "r2");
    fake.chat(&steered, json!({ "state": "final" }));
    fake.row(&steered, "user", "steer me".into(), json!({}));
    fake.finish(&main, "w1 and steered");
    let seen = until(&mut following, "turn.completed").await;
    assert_eq!(names(&seen).iter().filter(|name| **name == "turn.started").count(), 1);
    assert!(names(&seen).iter().filter(|name| **name == "message.created").count() >= 2);
}
