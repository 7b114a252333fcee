//! `/api/instances/{id}/vnc`: the desktop, passed to the door.

use reef_door::desktop::{DesktopStatus, InputDone, InputEvent};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{ApiState, caller::Desktop, forward::Way, routes::pass::passed_on};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(socket))
        .routes(routes!(screenshot))
        .routes(routes!(input))
        .routes(routes!(status))
}

passed_on! {
    right: Desktop, scope: "desktop", tag: "Desktop";

    /// Connects to the desktop (WebSocket): RFB (RFC 6143) in binary frames, as noVNC speaks it.
    ///
    /// The first use starts the desktop. The subprotocol `binary` is accepted. A browser comes with its cookie, `?ticket=`,
    /// or the subprotocols `reef.bearer.<key>, binary`.
    get "/vnc/ws" socket = "openDesktop" {
        way: Way::SOCKET, kind: "websocket", wakes: true,
        params: [
            ("view_only" = Option<bool>, Query, description = "Show it and take no input, whatever the client sends."),
            ("ticket" = Option<String>, Query, description = "Of `POST /api/auth/ticket`, made for this path."),
        ],
        responses((status = 101, description = "The socket is open.")),
    }

    /// Takes a picture of the desktop.
    get "/vnc/screenshot" screenshot = "takeScreenshot" {
        way: Way::WORK, kind: "passthrough", wakes: true,
        params: [
            ("format" = Option<String>, Query, description = "`png`."),
            ("width" = Option<u32>, Query, description = "At most so many pixels wide, in proportion; 16 or more."),
        ],
        responses((status = 200, description = "The picture; an attachment.", body = String, content_type = "image/png")),
    }

    /// Types, points and clicks.
    post "/vnc/input" input = "sendDesktopInput" {
        way: Way::WORK, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = Vec<InputEvent>, example = json!([{"type": "click", "x": 640, "y": 400}, {"type": "text", "text": "hello\n"}])),
        responses((status = 200, description = "All of it was done.", body = InputDone)),
    }

    /// Tells whether the desktop is there.
    get "/vnc/status" status = "getDesktopStatus" {
        way: Way::PROMPT, kind: "passthrough", wakes: false,
        params: [],
        responses((status = 200, description = "Its state.", body = DesktopStatus)),
    }
}
