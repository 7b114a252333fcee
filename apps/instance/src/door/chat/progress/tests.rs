use proptest::prelude::*;
use serde_json::json;

use super::*;

fn delta(text: &str) -> SignalKind {
    SignalKind::Delta(text.into())
}

fn said(drafts: &[Draft]) -> String {
    let text = |draft: &Draft| match draft {
        Draft::Delta(text) => Some(text.clone()),
        Draft::ToolStarted(_) | Draft::ToolCompleted(_) | Draft::Heard(_) => None,
    };
    drafts.iter().filter_map(text).collect()
}

fn resumed(text: &str) -> Progress {
    Progress::resume("run".into(), text.into(), Vec::new())
}

#[test]
fn only_what_is_new_of_a_cumulative_text_is_said() {
    let (mut progress, mut drafts) = (Progress::default(), Vec::new());
    for text in ["a", "ab", "ab", "a", "abc"] {
        assert_eq!(progress.apply(delta(text), &mut drafts), Next::Go);
    }
    assert_eq!(drafts, [Draft::Delta("abc".into())]);
}

#[test]
fn a_replaced_text_is_not_said_twice_and_the_answer_is_the_last_word() {
    let (mut progress, mut drafts) = (Progress::default(), Vec::new());
    progress.apply(delta("draft one"), &mut drafts);
    progress.apply(delta("other"), &mut drafts);
    let Next::End(end) = progress.apply(SignalKind::Final(Some("other words".into())), &mut drafts) else {
        panic!("no end")
    };
    assert_eq!((said(&drafts).as_str(), end.content.as_str()), ("draft one", "other words"));
}

#[test]
fn a_door_that_comes_back_finds_the_place_of_the_present_run() {
    for (logged, whole, new) in [
        ("one", "one two", " two"),
        ("one\n\ntwo", "two three", " three"),
        ("one\n\ntwo", "one\n\ntwo three", " three"),
        ("one\n\ntwo", "else", "\n\nelse"),
        ("", "one", "one"),
        ("one two", "one", ""),
    ] {
        let mut drafts = Vec::new();
        resumed(logged).advance(whole, &mut drafts);
        assert_eq!(said(&drafts), new, "{logged:?} then {whole:?}");
    }
}

#[test]
fn a_transcript_without_what_was_said_before_tools_is_joined_on() {
    for (logged, answer, new) in [
        ("Let me look.\n\nOne", "One file.", " file."),
        ("Let me look.", "One file.", "\n\nOne file."),
        ("Let me look.\n\nOne file.", "One file. ", ""),
        ("", "One file.", "One file."),
        ("Half", "", ""),
    ] {
        let mut drafts = Vec::new();
        resumed(logged).answer_from_transcript(answer, &mut drafts);
        assert_eq!(said(&drafts), new, "{logged:?} then {answer:?}");
    }
}

#[test]
fn tools_are_told_once_also_where_the_start_was_missed() {
    let (mut progress, mut drafts) = (Progress::default(), Vec::new());
    let row: Row = serde_json::from_value(json!({ "role": "assistant", "content": [
        { "type": "toolCall", "id": "c1", "name": "exec", "arguments": { "a": 1 } }] }))
    .unwrap();
    progress.catch_up([&row, &row].into_iter(), &mut drafts);
    for id in ["c1", "c1", "c2"] {
        let output = "x".repeat(TOOL_BYTES + 1);
        let completed =
            SignalKind::ToolCompleted { id: id.into(), name: "exec".into(), output, is_error: true };
        progress.apply(completed, &mut drafts);
    }
    let kinds: Vec<_> = drafts
        .iter()
        .map(|draft| match draft {
            Draft::ToolStarted(tool) => format!("+{}", tool.id),
            Draft::ToolCompleted(tool) => format!("-{} {}", tool.id, tool.output.as_ref().unwrap().len()),
            Draft::Delta(_) | Draft::Heard(_) => "?".into(),
        })
        .collect();
    assert_eq!(kinds, ["+c1", "-c1 65536", "+c2", "-c2 65536"]);
}

#[test]
fn tokens_of_a_row_read_twice_count_once() {
    let (mut progress, mut drafts) = (Progress::default(), Vec::new());
    for id in ["r1", "r2", "r1"] {
        let row =
            json!({ "role": "assistant", "usage": { "input": 5, "output": 1 }, "__openclaw": { "id": id } });
        progress.apply(SignalKind::Row(Box::new(serde_json::from_value(row).unwrap())), &mut drafts);
    }
    let usage = progress.end(TurnStatus::Completed, None).usage;
    assert_eq!(usage, Some(Usage { input_tokens: 10, output_tokens: 2 }));
}

proptest! {
    /// Whatever is repeated, lost or seen late: what is said is the answer, in order, once.
    #[test]
    fn any_prefixes_in_any_order_say_the_answer_once(
        answer in "[ab\u{e9}\n ]{0,40}",
        cuts in prop::collection::vec(0usize..60, 0..12),
        logged in 0usize..60,
    ) {
        let cut = |at: usize| answer.floor_char_boundary(at.min(answer.len()));
        let mut progress = resumed(&answer[..cut(logged)]);
        let mut drafts = Vec::new();
        // The text of a run only grows; the inbox and the socket may drop steps and repeat them.
        let mut steps: Vec<_> = cuts.iter().map(|at| cut(*at)).filter(|at| *at >= cut(logged)).collect();
        steps.sort_unstable();
        for at in steps {
            progress.apply(delta(&answer[..at]), &mut drafts);
        }
        let Next::End(end) = progress.apply(SignalKind::Final(Some(answer.clone())), &mut drafts) else {
            return Err(TestCaseError::fail("no end"));
        };
        prop_assert_eq!(format!("{}{}", &answer[..cut(logged)], said(&drafts)), answer.clone());
        prop_assert_eq!(end.content, answer);
    }
}
