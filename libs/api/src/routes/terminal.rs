//! `/api/instances/{id}/terminal`: commands and shells, passed to the door.

use reef_door::terminal::{ExecOutput, ExecRequest, ExecResult, TerminalSession};
use reef_model::TerminalId;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    ApiState,
    caller::{Exec, Terminal},
    forward::Way,
    routes::pass::passed_on,
};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(exec))
        .routes(routes!(socket))
        .routes(routes!(list_sessions))
        .routes(routes!(end_session))
}

passed_on! {
    right: Exec, scope: "terminal", tag: "Terminal";

    /// Runs a command and waits for its end.
    ///
    /// With `Accept: text/event-stream` its output is streamed: events `stdout` and `stderr` (`data` is an ExecOutput), at
    /// last `exit` (an ExecExit). At the timeout, and when the client goes away, the command dies with all that it started.
    post "/terminal/exec" exec = "exec" {
        way: Way::WORK, kind: "passthrough", wakes: true,
        params: [],
        request_body(content = ExecRequest, example = json!({"command": "ls -l /workspace"})),
        responses(
            (status = 200, description = "How it went.", content(
                (ExecResult = "application/json"),
                (ExecOutput = "text/event-stream"),
            )),
        ),
    }
}

passed_on! {
    right: Terminal, scope: "terminal", tag: "Terminal";

    /// Opens a terminal, or shows one that is open (WebSocket).
    ///
    /// Binary frames are bytes of the PTY, both ways. Text frames are JSON: TerminalInput from the client, TerminalOutput
    /// from the instance. The shell outlives the socket: with `session=` the last 256 KiB are replayed, and it goes on. A
    /// browser, which can send no headers, comes with its cookie, `?ticket=`, or the subprotocols `reef.bearer.<key>, reef`.
    get "/terminal/ws" socket = "openTerminal" {
        way: Way::SOCKET, kind: "websocket", wakes: true,
        params: [
            ("session" = Option<TerminalId>, Query, description = "Show this one; left out: open a new one."),
            ("cols" = Option<u16>, Query, description = "Columns.", minimum = 1, maximum = 1000),
            ("rows" = Option<u16>, Query, description = "Rows.", minimum = 1, maximum = 1000),
            ("command" = Option<String>, Query, description = "A command line to run in place of the shell."),
            ("ticket" = Option<String>, Query, description = "Of `POST /api/auth/ticket`, made for this path."),
        ],
        responses((status = 101, description = "The socket is open.")),
    }

    /// Lists open terminals.
    get "/terminal/sessions" list_sessions = "listTerminals" {
        way: Way::PROMPT, kind: "passthrough", wakes: false,
        params: [],
        responses((status = 200, description = "Terminals, oldest first.", body = Vec<TerminalSession>)),
    }

    /// Ends a terminal with all that runs in it.
    delete "/terminal/sessions/{tid}" end_session = "endTerminal" {
        way: Way::PROMPT, kind: "destructive", wakes: false,
        params: [("tid" = TerminalId, Path)],
        responses((status = 204, description = "It is gone.")),
    }
}
