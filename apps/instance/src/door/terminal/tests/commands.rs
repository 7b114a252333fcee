use http_body_util::BodyExt;
use serde_json::json;

use super::*;

/// A daemon that has left its parent, its session and its process group, and writes its pid.
const DAEMON: &str = "(setsid nohup sh -c 'setsid sh -c \"echo \\$\\$ > pid; exec sleep 1000\" & sleep 1000' \
    </dev/null >/dev/null 2>&1 &)";

#[tokio::test(flavor = "multi_thread")]
async fn runs_and_answers() {
    let door = Door::start();
    std::fs::create_dir(door.path("sub")).unwrap();
    let (status, answer) = door
        .exec(json!({
            "command": "pwd; cat; echo $A >&2; exit 3",
            "cwd": door.path("sub"), "env": { "A": "é" }, "stdin": "typed\n",
        }))
        .await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["stdout"], format!("{}\ntyped\n", door.path("sub").display()));
    assert_eq!((&answer["stderr"], &answer["exit_code"]), (&"é\n".into(), &3.into()));
    assert_eq!((&answer["signal"], &answer["timed_out"]), (&Value::Null, &false.into()));
    assert_eq!(answer["truncated"], false);
    assert!(answer["duration_ms"].is_u64());

    let (_, answer) = door.exec(json!({ "argv": ["printf", "%s|", "a b", "$A", "\\xff"] })).await;
    assert_eq!(answer["stdout"], "a b|$A|\\xff|");
    let (_, answer) = door.exec(json!({ "command": "printf 'a\\xffb'; kill -TERM $$" })).await;
    assert_eq!((&answer["stdout"], &answer["signal"]), (&"a\u{fffd}b".into(), &"SIGTERM".into()));
    assert_eq!(answer["exit_code"], Value::Null);
    // Nothing to read is an end, and what is not read is no error.
    let (_, answer) = door.exec(json!({ "command": "cat" })).await;
    assert_eq!(answer["exit_code"], 0);
    let (_, answer) = door.exec(json!({ "command": "true", "stdin": "x".repeat(1 << 20) })).await;
    assert_eq!(answer["exit_code"], 0);
    let (_, answer) = door.exec(json!({ "argv": ["no-such-program"] })).await;
    assert_eq!(answer["exit_code"], 127);
    assert!(answer["stderr"].as_str().unwrap().starts_with("cannot run no-such-program"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_what_makes_no_sense() {
    let door = Door::start();
    for (body, field) in [
        (json!({}), "command"),
        (json!({ "command": "true", "argv": ["true"] }), "command"),
        (json!({ "command": " " }), "command"),
        (json!({ "argv": [] }), "argv"),
        (json!({ "argv": [""] }), "argv"),
        (json!({ "argv": ["a\u{0}b"] }), "argv"),
        (json!({ "command": "true", "cwd": "/no/such/place" }), "cwd"),
        (json!({ "command": "true", "cwd": "/etc/passwd" }), "cwd"),
        (json!({ "command": "true", "env": { "A=B": "" } }), "env"),
        (json!({ "command": "true", "env": { "": "" } }), "env"),
        (json!({ "command": "true", "env": { "A": "\u{0}" } }), "env"),
        (json!({ "command": "true", "env": { "A": "x".repeat(200_000) } }), "argv"),
        (json!({ "command": "true", "timeout_ms": 0 }), "timeout_ms"),
        (json!({ "command": "true", "timeout_ms": 3_600_001 }), "timeout_ms"),
    ] {
        let (status, answer) = door.exec(body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert_eq!(answer["error"]["code"], "INVALID_REQUEST");
        assert_eq!(answer["error"]["details"]["fields"][0]["field"], field, "{answer}");
    }
    let (status, _) = door.exec(json!({ "command": "true", "what": 1 })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    // One command too many.
    let permits = door.terminals.commands.clone().acquire_many_owned(MAX_COMMANDS as u32).await.unwrap();
    let (status, answer) = door.exec(json!({ "command": "true" })).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &"QUOTA_EXCEEDED".into()));
    drop(permits);
    assert_eq!(door.exec(json!({ "command": "true" })).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_output_is_cut_and_does_not_stop_the_command() {
    let door = Door::start();
    let (_, answer) = door.exec(json!({ "command": "yes aé | head -c 3000000; exit 5" })).await;
    assert_eq!((&answer["exit_code"], &answer["truncated"]), (&5.into(), &true.into()));
    let stdout = answer["stdout"].as_str().unwrap();
    assert!(stdout.len() <= 1 << 20 && stdout.len() > (1 << 20) - 4);
    assert!(stdout.chars().all(|c| matches!(c, 'a' | 'é' | '\n')));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_ends_daemons_too() {
    let door = Door::start();
    let began = std::time::Instant::now();
    let command = format!("{DAEMON}; echo begun; sleep 1000");
    let (_, answer) = door.exec(json!({ "command": command, "timeout_ms": 700 })).await;
    assert_eq!((&answer["timed_out"], &answer["signal"]), (&true.into(), &"SIGKILL".into()));
    assert_eq!((&answer["exit_code"], &answer["stdout"]), (&Value::Null, &"begun\n".into()));
    assert!(began.elapsed() < Duration::from_secs(20));
    gone(&pid_in(door.path("pid")).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_it() {
    let door = Door::start();
    for accept in ["*/*", "text/event-stream"] {
        let _ = std::fs::remove_file(door.path("pid"));
        let body = json!({ "command": format!("{DAEMON}; sleep 1000"), "timeout_ms": 600_000 });
        let running = door.exec_raw(accept, &body);
        let pid = tokio::select! {
            response = async {
                let response = running.await;
                drop(response.into_body().collect().await);
            } => panic!("it ended: {response:?}"),
            pid = pid_in(door.path("pid")) => pid,
        };
        gone(&pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_left_in_the_background_stays_and_is_not_waited_for() {
    let door = Door::start();
    let began = std::time::Instant::now();
    let command = "sh -c 'echo $$ > pid; exec sleep 1000' & until [ -s pid ]; do :; done; echo done";
    let (_, answer) = door.exec(json!({ "command": command })).await;
    assert_eq!((&answer["stdout"], &answer["exit_code"]), (&"done\n".into(), &0.into()));
    assert!(began.elapsed() < Duration::from_secs(20));
    let pid = pid_in(door.path("pid")).await;
    assert!(is_alive(&pid));
    door.exec(json!({ "argv": ["kill", "-KILL", pid] })).await;
    gone(&pid).await;
}

/// Reads a stream of events to its end.
async fn events(response: Response) -> Vec<(String, Value)> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut events = Vec::new();
    for (index, block) in
        text.split("\n\n").filter(|block| !block.starts_with(':') && !block.is_empty()).enumerate()
    {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_else(|| panic!("{name} in {block}"))
        };
        assert_eq!(field("id: "), (index + 1).to_string());
        events.push((field("event: ").to_owned(), serde_json::from_str(field("data: ")).unwrap()));
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_whole_characters_and_one_exit() {
    let door = Door::start();
    let command = "printf '\\xe2\\x82'; echo oops >&2; sleep 0.1; printf '\\xac\\xff'; sleep 0.1; printf '\\xe2'; exit 4";
    let events = events(door.exec_raw("text/event-stream", &json!({ "command": command })).await).await;
    let text = |name: &str| -> String {
        let named = events.iter().filter(|(event, _)| event == name);
        named.map(|(_, data)| data["text"].as_str().unwrap()).collect()
    };
    assert_eq!((text("stdout"), text("stderr")), ("€\u{fffd}\u{fffd}".to_owned(), "oops\n".to_owned()));
    let (name, exit) = events.last().unwrap();
    assert_eq!((name.as_str(), &exit["exit_code"], &exit["timed_out"]), ("exit", &4.into(), &false.into()));
    assert_eq!(events.iter().filter(|(name, _)| name == "exit").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_holds_the_command_up_until_its_time_is_over() {
    let door = Door::start();
    let body = json!({ "command": "echo $$ > pid; exec yes", "timeout_ms": 1000 });
    let response = door.exec_raw("text/event-stream", &body).await;
    let pid = pid_in(door.path("pid")).await;
    let written = || {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: ").map(str::to_owned));
        line.and_then(|bytes| bytes.parse::<u64>().ok())
    };
    let most = std::cell::Cell::new(0);
    until("the end of yes", || {
        most.set(written().unwrap_or(0).max(most.get()));
        !is_alive(&pid)
    })
    .await;
    // A full pipe, and no more.
    assert!((1..1 << 20).contains(&most.get()), "{most:?}");
    drop(response);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_all_that_was_said_also_where_it_is_no_text() {
    let door = Door::start();
    // As much as the pipe holds, so that it ends before anybody reads.
    let command = "head -c 65000 /dev/zero | tr '\\0' '\\377'; printf end; echo $$ > pid";
    let response = door.exec_raw("text/event-stream", &json!({ "command": command })).await;
    gone(&pid_in(door.path("pid")).await).await;
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    // Longer than the end is waited for.
    tokio::time::sleep(exec::LAST_WORDS * 2).await;
    let mut text = first.to_vec();
    while let Some(bytes) = body.next().await {
        text.extend_from_slice(&bytes.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches('\u{fffd}').count(), 65_000);
    assert!(text.contains("end\"}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_many() {
    let door = Door::start();
    let many = (0..40).map(|number| door.exec(json!({ "command": format!("exit {number}") })));
    for (number, (_, answer)) in futures_util::future::join_all(many).await.iter().enumerate() {
        assert_eq!(answer["exit_code"], number);
    }
    let ours = std::process::id().to_string();
    let children = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let lists = tasks
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
        lists.collect::<String>()
    };
    until(&format!("no children of {ours}"), || children().trim().is_empty()).await;
    assert_eq!(door.terminals.commands.available_permits(), MAX_COMMANDS);
}
