use nix::sys::signal::Signal;
use proptest::prelude::*;

use super::super::socket::{Control, parse};
use crate::wire::work::Size;

#[test]
fn control_frames_mean_what_they_say() {
    let size = Size { cols: 120, rows: 40 };
    assert_eq!(parse(r#"{"type":"resize","cols":120,"rows":40}"#), Ok(Control::Resize(size)));
    for name in ["INT", "SIGINT"] {
        let frame = serde_json::json!({ "type": "signal", "name": name }).to_string();
        assert_eq!(parse(&frame), Ok(Control::Signal(Signal::SIGINT)));
    }
    for (frame, why) in [
        (r#"{"type":"resize","cols":0,"rows":40}"#, "1 to 1000"),
        (r#"{"type":"resize","cols":80,"rows":1001}"#, "1 to 1000"),
        (r#"{"type":"resize","cols":80}"#, "rows"),
        (r#"{"type":"resize","cols":-1,"rows":2}"#, "cannot be taken"),
        (r#"{"type":"signal","name":"NOPE"}"#, "no signal \"NOPE\""),
        (r#"{"type":"signal","name":"9"}"#, "no signal"),
        (r#"{"type":"dance"}"#, "dance"),
        ("ls\n", "cannot be taken"),
        ("", "cannot be taken"),
    ] {
        let error = parse(frame).unwrap_err();
        assert!(error.contains(why), "{frame}: {error}");
    }
}

proptest! {
    #[test]
    fn no_frame_breaks_the_parser_or_makes_a_long_answer(text in ".{0,300}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.len() < 1000);
        }
    }

    #[test]
    fn only_sizes_that_fit_are_taken(cols: u32, rows: u32) {
        let frame = serde_json::json!({ "type": "resize", "cols": cols, "rows": rows }).to_string();
        let fits = (1..=1000).contains(&cols) && (1..=1000).contains(&rows);
        prop_assert_eq!(parse(&frame).is_ok(), fits);
    }

    #[test]
    fn names_of_any_length_are_cut(name in "[A-Z]{0,400}") {
        let frame = serde_json::json!({ "type": "signal", "name": name }).to_string();
        if let Err(error) = parse(&frame) {
            prop_assert!(error.len() < 300);
        }
    }
}
