use serde_json::{Value, json};

use super::*;

fn turn() -> TurnId {
    "turn_01h00000000000000000000000".parse().unwrap()
}

fn user(run: &str, text: &str) -> Value {
    json!({ "role": "user", "content": text, "idempotencyKey": format!("{run}:user") })
}

fn assistant(run: &str, stop: &str) -> Value {
    json!({ "role": "assistant", "content": [{ "type": "text", "text": "said" }], "stopReason": stop,
            "__openclaw": { "runId": run } })
}

fn judged(rows: &[Value], more: Value) -> Verdict {
    let mut history = json!({ "messages": rows });
    for (name, value) in more.as_object().unwrap() {
        history[name] = value.clone();
    }
    let run = turn().to_string();
    judge(&serde_json::from_value(history).unwrap(), &run, turn())
}

fn ended(verdict: &Verdict) -> Option<TurnStatus> {
    match verdict {
        Verdict::Ended { status, .. } => Some(*status),
        Verdict::NeverArrived | Verdict::Streams { .. } | Verdict::Pending | Verdict::Lost => None,
    }
}

#[test]
fn the_transcript_tells_what_became_of_a_turn() {
    let run = turn().to_string();
    let (ours, idle, active) =
        (user(&run, "hello"), json!({}), json!({ "sessionInfo": { "hasActiveRun": true } }));
    let restart = user("other", "[System] Your previous turn was interrupted by a gateway restart while …");
    let flight = |run: &str| json!({ "inFlightRun": { "runId": run, "text": "so far" } });

    assert_eq!(judged(&[], idle.clone()), Verdict::NeverArrived);
    assert_eq!(
        judged(&[user("older", "x"), assistant("older", "stop")], idle.clone()),
        Verdict::NeverArrived
    );
    assert_eq!(judged(std::slice::from_ref(&ours), idle.clone()), Verdict::Lost);
    assert_eq!(judged(&[ours.clone(), assistant(&run, "toolUse")], idle.clone()), Verdict::Lost);
    assert_eq!(judged(std::slice::from_ref(&ours), active.clone()), Verdict::Pending);
    assert_eq!(judged(&[ours.clone(), assistant(&run, "stop")], active), Verdict::Pending);
    for (rows, now, by) in [
        (vec![], flight(&run), run.as_str()),
        (vec![ours.clone()], flight(&run), &run),
        (vec![ours.clone(), restart.clone()], flight("other"), "other"),
    ] {
        assert_eq!(judged(&rows, now), Verdict::Streams { run_id: by.into(), text: "so far".into() });
    }
    for (rows, status) in [
        (vec![ours.clone(), assistant(&run, "stop")], TurnStatus::Completed),
        (vec![ours.clone(), assistant(&run, "error")], TurnStatus::Failed),
        (vec![ours.clone(), restart.clone(), assistant("other", "stop")], TurnStatus::Completed),
        (
            vec![ours.clone(), json!({ "role": "custom", "content": "This turn ended before a reply" })],
            TurnStatus::Interrupted,
        ),
    ] {
        assert_eq!(ended(&judged(&rows, json!({}))), Some(status), "{rows:?}");
    }
    let mut stopped = assistant(&run, "stop");
    stopped["openclawAbort"] = json!({ "aborted": true });
    assert_eq!(ended(&judged(&[ours.clone(), stopped], json!({}))), Some(TurnStatus::Cancelled));
    // What was answered before the restart is not the answer to what was resumed.
    assert_eq!(judged(&[ours, assistant(&run, "stop"), restart], idle), Verdict::Lost);
}
