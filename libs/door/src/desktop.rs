//! The desktop of an instance: its state, and input in the manner of computer-use tools.
//!
//! Coordinates are pixels of the desktop, from 0 at its upper left corner.

/// The most events that one request may bring.
pub const MAX_INPUT_EVENTS: usize = 256;
/// The most characters that the texts of one request may have together.
pub const MAX_INPUT_TEXT: usize = 10_000;
/// The longest that the pauses of one request may last together, in milliseconds.
pub const MAX_INPUT_WAIT_MS: u64 = 10_000;

/// Whether the desktop is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DesktopState {
    /// Nobody has used it since the instance started; the first use starts it.
    Stopped,
    /// It comes up, or comes up again after it ended; `reason` says why it ended.
    Starting,
    /// It can be seen and used.
    Running,
    /// It cannot run here; `reason` says why and what to do.
    Unavailable,
}

/// The body of `GET …/vnc/status`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct DesktopStatus {
    /// Whether it is there.
    pub state: DesktopState,
    /// Why it is not, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Pixels from left to right, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// Pixels from top to bottom, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// Open sockets at `…/vnc/ws`.
    pub viewers: u32,
}

/// One thing that a person would do; the body of `POST …/vnc/input` is an array of 1 to 256, done in order.
///
/// ```json
/// [{"type": "click", "x": 640, "y": 400}, {"type": "text", "text": "ls\n"}, {"type": "key", "key": "ctrl+l"}]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum InputEvent {
    /// Presses a key, or several at once, and lets go.
    Key {
        /// Names of X11 keys (`Return`, `F5`, `Page_Down`, `a`) joined with `+`: `ctrl+shift+t`. Upper and lower case
        /// count for letters only; `ctrl`, `alt`, `shift`, `super`, `enter` and `esc` are understood too.
        #[schema(example = "ctrl+c")]
        key: String,
    },
    /// Types text of any script.
    Text {
        /// All of a request together at most 10,000 characters; a line end is the Return key, and a tab the Tab key.
        #[schema(example = "hello\n")]
        text: String,
    },
    /// Moves the pointer.
    Move {
        /// From the left.
        x: u16,
        /// From the top.
        y: u16,
    },
    /// Clicks.
    Click {
        /// From the left; without `x` and `y`, where input left the pointer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        x: Option<u16>,
        /// From the top.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        y: Option<u16>,
        /// Which button.
        #[serde(default)]
        button: MouseButton,
        /// 1 to 3: a double click is 2.
        #[serde(default = "once")]
        #[schema(minimum = 1, maximum = 3, default = 1)]
        count: u8,
    },
    /// Presses a button at one place and lets go at another.
    Drag {
        /// Where to press, from the left.
        x: u16,
        /// Where to press, from the top.
        y: u16,
        /// Where to let go, from the left.
        to_x: u16,
        /// Where to let go, from the top.
        to_y: u16,
        /// Which button.
        #[serde(default)]
        button: MouseButton,
    },
    /// Turns the wheel.
    Scroll {
        /// From the left; without `x` and `y`, where input left the pointer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        x: Option<u16>,
        /// From the top.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        y: Option<u16>,
        /// Notches to the right, to the left where negative; at most 100.
        #[serde(default)]
        #[schema(minimum = -100, maximum = 100)]
        dx: i16,
        /// Notches down, up where negative; at most 100.
        #[serde(default)]
        #[schema(minimum = -100, maximum = 100)]
        dy: i16,
    },
    /// Does nothing for a while, so that a program can follow.
    Wait {
        /// Milliseconds; all of a request together at most 10,000.
        #[schema(maximum = 10_000)]
        ms: u64,
    },
}

/// A button of the mouse.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum MouseButton {
    /// The first.
    #[default]
    Left,
    /// The second, or the wheel pressed.
    Middle,
    /// The third.
    Right,
}

/// The answer to `POST …/vnc/input`: the desktop has taken all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct InputDone {
    /// How many events were done.
    pub events: usize,
}

const fn once() -> u8 {
    1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_tools_write_and_refuses_what_it_does_not_know() {
        let events: Vec<InputEvent> = serde_json::from_value(json!([
            { "type": "key", "key": "ctrl+c" },
            { "type": "click", "x": 1, "y": 2, "button": "right", "count": 2 },
            { "type": "click" },
            { "type": "scroll", "dy": -3 },
        ]))
        .unwrap();
        let click = |x, y, button, count| InputEvent::Click { x, y, button, count };
        assert_eq!(events[1], click(Some(1), Some(2), MouseButton::Right, 2));
        assert_eq!(events[2], click(None, None, MouseButton::Left, 1));
        assert_eq!(events[3], InputEvent::Scroll { x: None, y: None, dx: 0, dy: -3 });
        for bad in [
            json!({ "type": "move", "x": 1 }),
            json!({ "type": "move", "x": 1, "y": -1 }),
            json!({ "type": "key", "key": "a", "hold": true }),
            json!({ "type": "shout" }),
        ] {
            assert!(serde_json::from_value::<InputEvent>(bad.clone()).is_err(), "{bad}");
        }
    }
}
