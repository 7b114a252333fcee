//! What a door reports of its instance. A door is hostile input: this is shown, never trusted for rights or caps.

use reef_model::{Isolation, Timestamp};

/// How far the instance has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DoorPhase {
    /// The gateway is starting or warming up.
    Starting,
    /// Chats are taken.
    Ready,
    /// The gateway keeps failing; `reason` says why. The door goes on trying.
    Failing,
    /// The door is going down; running turns are being finished or marked interrupted.
    Draining,
}

/// The body of `GET /status` on the door.
///
/// `?after=REVISION&wait=SECONDS` (at most 60) answers as soon as the revision is greater, or when the time is up.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct DoorStatus {
    /// Grows with every change of the other fields.
    pub revision: u64,
    /// The generation of the boot file that this door was started with.
    pub generation: i64,
    /// How far the instance has come.
    pub phase: DoorPhase,
    /// Why it is not ready, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How hands are kept apart.
    pub isolation: Isolation,
    /// OpenClaw's own version, once it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openclaw_version: Option<String>,
    /// How often the gateway was started again since the door came up.
    pub gateway_restarts: u32,
    /// Turns queued or running.
    pub active_turns: u32,
    /// When a turn last began or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active_at: Option<Timestamp>,
}

/// One line of `GET /logs?lines=` on the door: what the gateway wrote, without its tokens. Oldest first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// The line, at most 4 KiB.
    pub line: String,
}
