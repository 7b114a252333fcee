//! Input in the words of computer-use tools, as messages of RFB.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use reef_door::desktop::{InputEvent, MAX_INPUT_EVENTS, MAX_INPUT_TEXT, MAX_INPUT_WAIT_MS, MouseButton};
use xkeysym::Keysym;

/// The most keys at once.
const MAX_CHORD: usize = 8;
const MAX_CLICKS: u8 = 3;
const MAX_NOTCHES: u16 = 100;
/// Programs take it for a drag when the pointer moves on the way, and not at once.
const DRAG_STEPS: i32 = 8;
const DRAG_PAUSE: Duration = Duration::from_millis(8);
/// Buttons of RFC 6143 §7.5.5, the way X11 counts them.
const WHEEL_UP: u8 = 1 << 3;
const WHEEL_DOWN: u8 = 1 << 4;
const WHEEL_LEFT: u8 = 1 << 5;
const WHEEL_RIGHT: u8 = 1 << 6;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Send these messages.
    Send(Vec<u8>),
    /// Wait.
    Pause(Duration),
}

/// Why events cannot be done: which field of which, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) field: String,
    pub(super) message: String,
}

/// A desktop on which events are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stage {
    /// Pixels from left to right, and from top to bottom.
    pub(super) size: (u16, u16),
    /// Where the pointer is.
    pub(super) pointer: (u16, u16),
}

impl Stage {
    /// Returns the steps of all events, or what is wrong with the first that is, and moves the pointer with them.
    pub(super) fn plan(&mut self, events: &[InputEvent]) -> Result<Vec<Step>, Wrong> {
        if events.is_empty() || events.len() > MAX_INPUT_EVENTS {
            return Err(Wrong {
                field: "body".into(),
                message: format!("must hold 1 to {MAX_INPUT_EVENTS} events"),
            });
        }
        let (mut plan, mut letters, mut wait) = (Plan::default(), 0, 0u64);
        for (index, event) in events.iter().enumerate() {
            match event {
                InputEvent::Text { text } => letters += text.chars().count(),
                InputEvent::Wait { ms } => wait = wait.saturating_add(*ms),
                _ => {}
            }
            let result = match event {
                _ if letters > MAX_INPUT_TEXT => {
                    Err(("text", format!("all texts together have at most {MAX_INPUT_TEXT} characters")))
                }
                _ if wait > MAX_INPUT_WAIT_MS => {
                    Err(("ms", format!("all pauses together last at most {MAX_INPUT_WAIT_MS} ms")))
                }
                event => self.play(event, &mut plan),
            };
            result.map_err(|(field, message)| Wrong { field: format!("[{index}].{field}"), message })?;
        }
        Ok(plan.0)
    }

    fn play(&mut self, event: &InputEvent, plan: &mut Plan) -> Result<(), (&'static str, String)> {
        match event {
            InputEvent::Key { key } => {
                let chord = chord(key).map_err(|message| ("key", message))?;
                chord.iter().for_each(|key| plan.key(*key, true));
                chord.iter().rev().for_each(|key| plan.key(*key, false));
            }
            InputEvent::Text { text } => {
                for letter in text.replace("\r\n", "\n").chars() {
                    let key = typed(letter).map_err(|message| ("text", message))?;
                    plan.key(key, true);
                    plan.key(key, false);
                }
            }
            InputEvent::Move { x, y } => {
                self.go(Some(*x), Some(*y))?;
                plan.pointer(0, self.pointer);
            }
            InputEvent::Click { x, y, button, count } => {
                self.go(*x, *y)?;
                if !(1..=MAX_CLICKS).contains(count) {
                    return Err(("count", format!("must be from 1 to {MAX_CLICKS}")));
                }
                plan.pointer(0, self.pointer);
                for _ in 0..*count {
                    plan.pointer(mask(*button), self.pointer);
                    plan.pointer(0, self.pointer);
                }
            }
            InputEvent::Drag { x, y, to_x, to_y, button } => {
                self.go(Some(*x), Some(*y))?;
                let from = self.pointer;
                plan.pointer(0, from);
                plan.pointer(mask(*button), from);
                self.go(Some(*to_x), Some(*to_y))
                    .map_err(|(field, message)| (if field == "x" { "to_x" } else { "to_y" }, message))?;
                for step in 1..=DRAG_STEPS {
                    plan.0.push(Step::Pause(DRAG_PAUSE));
                    let on_the_way = |from: u16, to: u16| {
                        let (from, to) = (i32::from(from), i32::from(to));
                        // Between two numbers of 16 bits.
                        u16::try_from(from + (to - from) * step / DRAG_STEPS).unwrap_or(u16::MAX)
                    };
                    let at = (on_the_way(from.0, self.pointer.0), on_the_way(from.1, self.pointer.1));
                    plan.pointer(mask(*button), at);
                }
                plan.0.push(Step::Pause(DRAG_PAUSE));
                plan.pointer(0, self.pointer);
            }
            InputEvent::Scroll { x, y, dx, dy } => {
                self.go(*x, *y)?;
                plan.pointer(0, self.pointer);
                for (field, notches, less, more) in
                    [("dx", *dx, WHEEL_LEFT, WHEEL_RIGHT), ("dy", *dy, WHEEL_UP, WHEEL_DOWN)]
                {
                    if notches.unsigned_abs() > MAX_NOTCHES {
                        return Err((field, format!("must be from -{MAX_NOTCHES} to {MAX_NOTCHES}")));
                    }
                    for _ in 0..notches.unsigned_abs() {
                        plan.pointer(if notches < 0 { less } else { more }, self.pointer);
                        plan.pointer(0, self.pointer);
                    }
                }
            }
            InputEvent::Wait { ms } => plan.0.push(Step::Pause(Duration::from_millis(*ms))),
        }
        Ok(())
    }

    /// Puts the pointer there; with neither it stays.
    fn go(&mut self, x: Option<u16>, y: Option<u16>) -> Result<(), (&'static str, String)> {
        let (x, y) = match (x, y) {
            (None, None) => return Ok(()),
            (Some(_), None) => return Err(("y", "must be given with x".into())),
            (None, Some(_)) => return Err(("x", "must be given with y".into())),
            (Some(x), Some(y)) => (x, y),
        };
        for (field, value, limit) in [("x", x, self.size.0), ("y", y, self.size.1)] {
            if value >= limit {
                return Err((field, format!("the desktop has {limit} pixels that way, from 0")));
            }
        }
        self.pointer = (x, y);
        Ok(())
    }
}

#[derive(Default)]
struct Plan(Vec<Step>);

impl Plan {
    fn key(&mut self, key: Keysym, is_down: bool) {
        self.send(&[4, u8::from(is_down), 0, 0]);
        self.send(&key.raw().to_be_bytes());
    }

    fn pointer(&mut self, buttons: u8, (x, y): (u16, u16)) {
        let ([x0, x1], [y0, y1]) = (x.to_be_bytes(), y.to_be_bytes());
        self.send(&[5, buttons, x0, x1, y0, y1]);
    }

    fn send(&mut self, bytes: &[u8]) {
        match self.0.last_mut() {
            Some(Step::Send(messages)) => messages.extend_from_slice(bytes),
            _ => self.0.push(Step::Send(bytes.to_vec())),
        }
    }
}

fn mask(button: MouseButton) -> u8 {
    match button {
        MouseButton::Left => 1,
        MouseButton::Middle => 1 << 1,
        MouseButton::Right => 1 << 2,
    }
}

/// Returns the key that types `letter`.
fn typed(letter: char) -> Result<Keysym, String> {
    match letter {
        '\n' | '\r' => Ok(Keysym::Return),
        '\t' => Ok(Keysym::Tab),
        letter if letter.is_control() => {
            Err(format!("U+{:04X} cannot be typed; send keys for it", u32::from(letter)))
        }
        // Latin 1 is what it was before there was Unicode.
        letter @ ' '..='\u{ff}' => Ok(Keysym::new(letter.into())),
        letter => Ok(Keysym::new(0x0100_0000 + u32::from(letter))),
    }
}

/// Returns the keys of `ctrl+shift+t`, in the order in which they are pressed.
fn chord(names: &str) -> Result<Vec<Keysym>, String> {
    let keys = match names {
        "+" => vec![Keysym::plus],
        names => names.split('+').map(key).collect::<Result<Vec<_>, _>>()?,
    };
    if keys.len() > MAX_CHORD {
        return Err(format!("at most {MAX_CHORD} keys at once"));
    }
    Ok(keys)
}

fn key(name: &str) -> Result<Keysym, String> {
    let mut letters = name.chars();
    if let (Some(letter), None) = (letters.next(), letters.next()) {
        return typed(letter);
    }
    let known = NAMES.get(name).or_else(|| NAMES.get(name.to_ascii_lowercase().as_str()));
    known.copied().ok_or_else(|| match name {
        "" => "a key's name is empty; the key + is called plus".to_owned(),
        name => format!("there is no key {name:?}; keys have the names of X11, such as Return or Page_Down"),
    })
}

/// Second names of X11, and those that people and tools use beside them.
const ALIASES: &[(&str, Keysym)] = &[
    ("ctrl", Keysym::Control_L),
    ("control", Keysym::Control_L),
    ("alt", Keysym::Alt_L),
    ("option", Keysym::Alt_L),
    ("shift", Keysym::Shift_L),
    ("super", Keysym::Super_L),
    ("win", Keysym::Super_L),
    ("cmd", Keysym::Super_L),
    ("meta", Keysym::Meta_L),
    ("altgr", Keysym::ISO_Level3_Shift),
    ("enter", Keysym::Return),
    ("esc", Keysym::Escape),
    ("del", Keysym::Delete),
    ("ins", Keysym::Insert),
    ("Page_Up", Keysym::Page_Up),
    ("page_up", Keysym::Page_Up),
    ("pageup", Keysym::Page_Up),
    ("Page_Down", Keysym::Page_Down),
    ("page_down", Keysym::Page_Down),
    ("pagedown", Keysym::Page_Down),
    ("arrowleft", Keysym::Left),
    ("arrowright", Keysym::Right),
    ("arrowup", Keysym::Up),
    ("arrowdown", Keysym::Down),
    ("capslock", Keysym::Caps_Lock),
    ("printscreen", Keysym::Print),
];

/// Where keysyms with names are (X11/keysymdef.h, X11/XF86keysym.h).
const RANGES: &[std::ops::RangeInclusive<u32>] = &[0x20..=0x20ff, 0xfe00..=0xffff, 0x1008_fe00..=0x1008_ffff];

/// Keysyms by name: as X11 writes it, and where nothing else is called so, in lower case.
static NAMES: LazyLock<HashMap<String, Keysym>> = LazyLock::new(|| {
    let named = || {
        RANGES.iter().cloned().flatten().map(Keysym::new).filter_map(|key| {
            let name = key.name()?;
            let name = match (name.strip_prefix("XK_"), name.strip_prefix("XF86XK_")) {
                (Some(name), _) => name.to_owned(),
                (None, Some(name)) => format!("XF86{name}"),
                (None, None) => return None,
            };
            Some((name, key))
        })
    };
    let mut names = HashMap::new();
    for (name, key) in named() {
        names.entry(name).or_insert(key);
    }
    for (name, key) in ALIASES {
        names.entry((*name).to_owned()).or_insert(*key);
    }
    for (name, key) in named() {
        names.entry(name.to_ascii_lowercase()).or_insert(key);
    }
    names
});

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(events: Value) -> Result<(Vec<Step>, (u16, u16)), Wrong> {
        let events: Vec<InputEvent> = serde_json::from_value(events).unwrap();
        let mut stage = Stage { size: (100, 50), pointer: (50, 25) };
        stage.plan(&events).map(|steps| (steps, stage.pointer))
    }

    /// Returns the keys that are pressed (+) and let go (-).
    fn keys(events: Value) -> Vec<i64> {
        let steps = plan(events).unwrap().0;
        let [Step::Send(bytes)] = steps.as_slice() else { panic!("{steps:?}") };
        let key = |bytes: &[u8]| {
            let key = i64::from(u32::from_be_bytes(bytes[4..].try_into().unwrap()));
            if bytes[1] == 1 { key } else { -key }
        };
        bytes.chunks_exact(8).map(key).collect()
    }

    #[test]
    fn keys_have_names() {
        assert_eq!(keys(json!([{ "type": "key", "key": "ctrl+c" }])), [0xffe3, 0x63, -0x63, -0xffe3]);
        for (name, keysym) in [
            ("Return", 0xff0d),
            ("enter", 0xff0d),
            ("ESC", 0xff1b),
            ("Page_Down", 0xff56),
            ("pagedown", 0xff56),
            ("F12", 0xffc9),
            ("KP_0", 0xffb0),
            ("+", 0x2b),
            ("plus", 0x2b),
            ("C", 0x43),
            ("eacute", 0xe9),
            ("Eacute", 0xc9),
            ("XF86AudioMute", 0x1008_ff12),
            ("é", 0xe9),
            ("日", 0x0100_65e5),
        ] {
            assert_eq!(keys(json!([{ "type": "key", "key": name }])), [keysym, -keysym], "{name}");
        }
        for bad in ["", "ctrl+", "hyper drive", "a+b+c+d+e+f+g+h+i"] {
            let wrong = plan(json!([{ "type": "key", "key": bad }])).unwrap_err();
            assert_eq!(wrong.field, "[0].key", "{bad}");
        }
    }

    #[test]
    fn text_of_any_script_is_typed() {
        let typed = keys(json!([{ "type": "text", "text": "é\r\n✓\t" }]));
        let down: Vec<i64> = typed.into_iter().filter(|key| *key > 0).collect();
        assert_eq!(down, [0xe9, 0xff0d, 0x0100_2713, 0xff09]);
        assert_eq!(plan(json!([{ "type": "text", "text": "a\u{7}" }])).unwrap_err().field, "[0].text");
    }

    #[test]
    fn the_pointer_stays_where_it_was_put_and_on_the_desktop() {
        let (steps, pointer) = plan(json!([
            { "type": "move", "x": 3, "y": 4 },
            { "type": "click", "button": "right", "count": 2 },
        ]))
        .unwrap();
        let at = |buttons| [5, buttons, 0, 3, 0, 4];
        assert_eq!(steps, [Step::Send([at(0), at(0), at(4), at(0), at(4), at(0)].concat())]);
        assert_eq!(pointer, (3, 4));
        let (steps, _) = plan(json!([{ "type": "scroll", "x": 3, "y": 4, "dx": -1, "dy": 1 }])).unwrap();
        assert_eq!(steps, [Step::Send([at(0), at(32), at(0), at(16), at(0)].concat())]);
        let drag = json!([{ "type": "drag", "x": 0, "y": 0, "to_x": 99, "to_y": 49 }]);
        let (steps, pointer) = plan(drag).unwrap();
        assert_eq!(pointer, (99, 49));
        assert_eq!(steps.last(), Some(&Step::Send(vec![5, 0, 0, 99, 0, 49])));
        for (field, bad) in [
            ("x", json!({ "type": "move", "x": 100, "y": 0 })),
            ("y", json!({ "type": "click", "x": 0, "y": 50 })),
            ("y", json!({ "type": "click", "x": 0 })),
            ("to_y", json!({ "type": "drag", "x": 0, "y": 0, "to_x": 0, "to_y": 50 })),
            ("count", json!({ "type": "click", "count": 4 })),
            ("dy", json!({ "type": "scroll", "dy": -101 })),
            ("ms", json!({ "type": "wait", "ms": 10_001 })),
        ] {
            assert_eq!(plan(json!([{ "type": "click" }, bad])).unwrap_err().field, format!("[1].{field}"));
        }
        assert_eq!(plan(json!([])).unwrap_err().field, "body");
    }
}
