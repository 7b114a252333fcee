//! Through the control plane to a door and back.

use std::time::{Duration, Instant};

use reef_door::{
    DoorPhase,
    chat::{EventBody, MessageDelta, TurnEnded, TurnStarted, TurnStatus},
};
use reef_model::{ChatSessionId, Clock, InstanceId, SystemClock, TurnId};
use reef_runtime::Exit;
use reef_testkit::{Account, DoorStream, End, Events, Platform, Script, both_engines, eventually, within};
use serde_json::{Value, json};

/// Opens a chat stream whose other end the test holds.
async fn open(platform: &Platform, account: &Account, id: InstanceId) -> (Events, DoorStream) {
    let (script, door) = Script::stream();
    platform.runtime().script(id, "/chat/stream", script);
    door.send(1, &started()).await;
    let call =
        account.call("POST", &format!("/api/instances/{id}/chat/stream")).json(json!({"message": "hi"}));
    let mut events = call.events().await;
    // The first event is here while the door's answer is still open.
    assert_eq!(events.expect().await.name, "turn.started");
    (events, door)
}

fn started() -> EventBody {
    EventBody::TurnStarted(TurnStarted {
        turn_id: TurnId::generate(),
        session_id: ChatSessionId::generate(),
        origin: None,
    })
}

fn delta(text: &str) -> EventBody {
    EventBody::MessageDelta(MessageDelta { turn_id: TurnId::generate(), text: text.to_owned() })
}

fn completed() -> EventBody {
    let (usage, error) = (None, None);
    EventBody::TurnEnded(TurnEnded {
        turn_id: TurnId::generate(),
        status: TurnStatus::Completed,
        usage,
        error,
    })
}

both_engines! {
    async fn every_chat_route_reaches_its_door(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = |rest: &str| format!("/api/instances/{id}/chat{rest}");
        let (sid, turn) = (ChatSessionId::generate(), TurnId::generate());
        assert_eq!(
            ada.post(&path(""), json!({"message": "hi"})).await.expect(200)["reply"],
            "hello from the fake"
        );
        let events = ada.call("POST", &path("/stream")).json(json!({"message": "hi"})).events().await;
        let (events, end) = events.rest().await;
        let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
        let whole = [
            "turn.started",
            "message.created",
            "message.delta",
            "message.delta",
            "message.completed",
            "turn.completed",
        ];
        assert_eq!((names.as_slice(), end), (whole.as_slice(), End::Whole));
        ada.get(&path("/sessions?limit=3")).await.expect(200);
        ada.post(&path("/sessions"), json!({"title": "t"})).await.expect(201);
        ada.patch(&path(&format!("/sessions/{sid}")), json!({"title": "u"})).await.expect(200);
        ada.delete(&path(&format!("/sessions/{sid}"))).await.expect(204);
        ada.get(&path(&format!("/messages?session_id={sid}&tail=true&limit=5"))).await.expect(200);
        ada.get(&path(&format!("/turns/{turn}"))).await.expect(200);
        ada.call("POST", &path(&format!("/turns/{turn}/cancel"))).send().await.expect(200);
        ada.call("GET", &path("/events?after=2&deltas=true")).events().await.rest().await;
        let targets: Vec<_> = platform
            .runtime()
            .received(id)
            .into_iter()
            .map(|r| format!("{} {}", r.method, r.target))
            .collect();
        let wanted = [
            "POST /chat".to_owned(),
            "POST /chat/stream".to_owned(),
            "GET /chat/sessions?limit=3".to_owned(),
            "POST /chat/sessions".to_owned(),
            format!("PATCH /chat/sessions/{sid}"),
            format!("DELETE /chat/sessions/{sid}"),
            format!("GET /chat/messages?session_id={sid}&tail=true&limit=5"),
            format!("GET /chat/turns/{turn}"),
            format!("POST /chat/turns/{turn}/cancel"),
            "GET /chat/events?after=2&deltas=true".to_owned(),
        ];
        assert_eq!(targets, wanted);
        platform.finish().await;
    }

    async fn what_needs_the_door_only_passes_while_the_gateway_fails(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = |rest: &str| format!("/api/instances/{id}{rest}");
        let status = async || ada.get(&path("/status")).await.expect(200);
        platform.runtime().set_phase(id, DoorPhase::Failing, Some("correct openclaw.json"));
        let shown = eventually("the failure is told", async || {
            Some(status().await).filter(|status| status["status"] == "error")
        })
        .await;
        assert_eq!(shown["probes"], json!({"door": true, "gateway": false}));
        assert_eq!(shown["door"]["reason"], "correct openclaw.json");
        ada.get(&path("/logs")).await.expect(200);
        let mut terminal = ada.call("GET", &path("/terminal/ws")).open().await.ok().unwrap();
        assert_eq!(terminal.echo(b"mend").await, b"mend");
        drop(terminal);
        let refused = ada.post(&path("/chat"), json!({"message": "hi"})).await;
        let error = refused.expect_error(409, "INSTANCE_NOT_READY");
        assert_eq!(error["error"]["details"]["status_reason"], "correct openclaw.json");

        // One that drains is no door to come to, nor is one that is gone.
        platform.runtime().set_phase(id, DoorPhase::Ready, None);
        eventually("it is mended", async || (status().await["status"] == "ready").then_some(())).await;
        platform.runtime().fail_starts("cannot make the container");
        platform.runtime().kill(id, Exit { code: 1, is_oom: false });
        eventually("it is down", async || (status().await["status"] == "error").then_some(())).await;
        ada.get(&path("/logs")).await.expect_error(409, "INSTANCE_NOT_READY");
        assert_eq!(status().await["door"], Value::Null);
        platform.finish().await;
    }

    async fn what_needs_the_door_only_is_held_until_the_door_is_there(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        platform.runtime().doors_begin(DoorPhase::Starting, None);
        platform.runtime().hang_starts();
        let id: InstanceId =
            ada.create_instance(&platform).await["id"].as_str().unwrap().parse().unwrap();
        let path = |rest: &str| format!("/api/instances/{id}{rest}");
        let (logs, chat) = (path("/logs"), path("/chat"));
        let mut logs = std::pin::pin!(ada.get(&logs));
        let mut chat = std::pin::pin!(ada.post(&chat, json!({"message": "hi"})));
        let is_asked =
            eventually("a start is under way", async || (platform.runtime().attempts() == 1).then_some(()));
        tokio::select! {
            answer = &mut logs => panic!("{answer:?}"),
            answer = &mut chat => panic!("{answer:?}"),
            () = is_asked => {}
        }
        platform.runtime().heal();
        tokio::select! {
            answer = within("the door is enough", logs) => answer.expect(200),
            answer = &mut chat => panic!("{answer:?}"),
        };
        platform.runtime().set_phase(id, DoorPhase::Ready, None);
        within("the gateway is ready", chat).await.expect(200);
        platform.finish().await;
    }

    async fn a_door_sees_who_calls_and_no_credential_of_ours(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let mut call = ada.call("POST", &format!("/api/instances/{id}/chat?ticket=stolen&a=1"));
        for (name, value) in [
            ("cookie", "reef_session=secret"),
            ("x-request-id", "mine-7"),
            ("x-reef-caller", "usr_forged"),
            ("x-forwarded-for", "192.0.2.1"),
            ("forwarded", "for=192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("x-auth-user", "root"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("idempotency-key", "once"),
            ("x-client-own", "kept"),
        ] {
            call = call.header(name, value);
        }
        call.json(json!({"message": "hi"})).send().await.expect(200);
        let received = platform.runtime().received(id).remove(0);
        assert_eq!(received.target, "/chat?a=1");
        assert_eq!(received.body, r#"{"message":"hi"}"#);
        let door_token = format!("Bearer {}", platform.runtime().tokens()[0]);
        assert_eq!(received.headers["authorization"], door_token);
        assert_eq!(received.headers["x-request-id"], "mine-7");
        assert!(received.headers["x-reef-caller"].to_str().unwrap().starts_with("key_"));
        assert_eq!(
            (&received.headers["idempotency-key"], &received.headers["x-client-own"]),
            (&"once".parse().unwrap(), &"kept".parse().unwrap())
        );
        for gone in ["cookie", "x-forwarded-for", "forwarded", "x-real-ip", "x-auth-user", "x-hop"] {
            assert!(!received.headers.contains_key(gone), "{gone}");
        }
        assert!(!format!("{received:?}").contains(&ada.secret));
        platform.finish().await;
    }

    async fn what_a_door_says_cannot_act_on_our_origin(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let hostile = [
            ("content-type", "text/html"),
            ("set-cookie", "reef_session=theirs"),
            ("clear-site-data", "\"*\""),
            ("access-control-allow-credentials", "true"),
            ("content-security-policy", "script-src *"),
            ("x-request-id", "theirs"),
            ("x-reef-caller", "usr_theirs"),
            ("refresh", "0; url=https://evil.example"),
            ("location", "/api/keys"),
            ("link", "<https://evil.example>; rel=\"next\""),
        ];
        platform.runtime().script(id, "/chat/messages", Script::answer(307, &hostile, "<script>"));
        let call =
            ada.call("GET", &format!("/api/instances/{id}/chat/messages")).header("x-request-id", "ours");
        let answer = within("the answer", call.dispatch()).await.unwrap();
        let headers = answer.headers();
        for gone in [
            "set-cookie",
            "clear-site-data",
            "access-control-allow-credentials",
            "x-reef-caller",
            "refresh",
            "location",
            "link",
        ] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["content-security-policy"], "sandbox");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["content-disposition"], "attachment");
        assert_eq!(headers["x-request-id"], "ours");
        drop(answer);
        platform.finish().await;
    }

    async fn a_stream_is_passed_on_as_it_comes(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let (mut events, door) = open(&platform, &ada, id).await;
        assert_eq!(events.headers["x-accel-buffering"], "no");
        for (n, word) in (2u64..).zip(["one", "two", "three"]) {
            door.send(n, &delta(word)).await;
            assert_eq!(events.expect().await.data["text"], word);
        }
        door.send(5, &completed()).await;
        drop(door);
        let (rest, end) = events.rest().await;
        assert_eq!((rest[0].name.as_str(), end), ("turn.completed", End::Whole));
        platform.finish().await;
    }

    async fn a_client_that_leaves_is_noticed_by_the_door(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let (events, door) = open(&platform, &ada, id).await;
        drop(events);
        within("the door sees the client leave", door.closed()).await;
        platform.finish().await;
    }

    async fn a_door_that_breaks_off_is_never_a_whole_answer(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let (events, door) = open(&platform, &ada, id).await;
        door.break_off().await;
        assert_eq!(events.rest().await.1, End::Broken);

        let (events, _door) = open(&platform, &ada, id).await;
        platform.runtime().kill(id, Exit { code: 1, is_oom: false });
        assert_eq!(events.rest().await.1, End::Broken);
        platform.finish().await;
    }

    async fn revoking_a_key_ends_its_streams_within_a_second(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let elsewhere = platform.another_replica().await;
        let id = ada.ready_instance(&platform).await;
        let minted = ada.post("/api/keys", json!({"name": "k"})).await.expect(201);
        let secret = minted["secret"].as_str().unwrap();
        let mut streams = Vec::new();
        let mut doors = Vec::new();
        for client in [platform.anonymous(), elsewhere.anonymous()] {
            let (script, door) = Script::stream();
            platform.runtime().script(id, "/chat/stream", script);
            door.send(1, &started()).await;
            let client = client.with_key(secret);
            let call = client
                .call("POST", &format!("/api/instances/{id}/chat/stream"))
                .json(json!({"message": "hi"}));
            let mut events = call.events().await;
            events.expect().await;
            streams.push(events);
            doors.push(door);
            // Streams that are ours end too.
            let mut events = client.call("GET", "/api/events").events().await;
            events.expect().await;
            streams.push(events);
        }
        let (mut kept, kept_door) = open(&platform, &ada, id).await;
        ada.delete(&format!("/api/keys/{}", minted["id"].as_str().unwrap())).await.expect(204);
        let begun = Instant::now();
        for stream in streams {
            stream.rest().await;
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        for door in &doors {
            within("the door sees it", door.closed()).await;
        }
        kept_door.send(2, &delta("still here")).await;
        assert_eq!(kept.expect().await.data["text"], "still here");
        drop((kept, kept_door));
        elsewhere.finish().await;
        platform.finish().await;
    }

    async fn a_stream_lives_no_longer_than_the_rights_it_was_opened_with(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let end = SystemClock.now() + Duration::from_secs(3600);
        let mint = async |body| ada.post("/api/keys", body).await.expect(201);
        let ending = mint(json!({"name": "ending", "expires_at": end})).await;
        let narrowed = mint(json!({"name": "narrowed"})).await;
        let follow = async |key: &Value| {
            let (script, door) = Script::stream();
            platform.runtime().script(id, "/chat/events", script);
            door.send(1, &started()).await;
            let client = platform.anonymous().with_key(key["secret"].as_str().unwrap());
            let mut events = client.call("GET", &format!("/api/instances/{id}/chat/events")).events().await;
            events.expect().await;
            (events, door)
        };
        let (events, _door) = follow(&narrowed).await;
        let path = format!("/api/keys/{}", narrowed["id"].as_str().unwrap());
        ada.patch(&path, json!({"scopes": ["instances:read"]})).await.expect(200);
        assert_eq!(events.rest().await.1, End::Broken);

        let (events, _door) = follow(&ending).await;
        platform.advance(Duration::from_secs(3601));
        assert_eq!(events.rest().await.1, End::Broken);
        platform.finish().await;
    }

    async fn errors_of_a_door_pass_as_they_are(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let body = json!({
            "message": "no such turn",
            "error": {"code": "NOT_FOUND", "message": "no such turn", "details": {}},
            "request_id": "r1",
        });
        let path = format!("/chat/turns/{}", TurnId::generate());
        let script = Script::answer(404, &[("content-type", "application/json")], body.to_string());
        platform.runtime().script(id, &path, script);
        let call = ada.call("GET", &format!("/api/instances/{id}{path}")).header("x-request-id", "r1");
        assert_eq!(call.send().await.expect(404), body);
        platform.finish().await;
    }

    async fn a_door_that_does_not_answer_is_given_up(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        platform.runtime().script(id, "/logs", Script::Stall);
        ada.get(&format!("/api/instances/{id}/logs")).await.expect_error(504, "UPSTREAM_TIMEOUT");
        platform.finish().await;
    }
}
