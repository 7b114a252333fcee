//! `GET /terminal/ws`: one WebSocket (RFC 6455) that shows a terminal.

use std::sync::Arc;

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::HeaderMap;
use nix::sys::signal::Signal;
use reef_door::{
    ErrorCode,
    terminal::{MAX_TERMINALS, TerminalInput, TerminalOutput},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    Terminals,
    session::{Session, View, Viewer},
    spawn, told, too_many,
};
use crate::{
    door::{
        problem::{Params, Problem},
        sockets::{
            Seat,
            ending::{PING_PERIOD, SILENCE_LIMIT, broken, finish, frame, handshake},
        },
    },
    wire::work::Size,
};

/// Typed bytes that wait for the process; while there are more, nothing further is read.
const MAX_PENDING: usize = 64 << 10;
/// Answers to bad control frames that wait for the peer.
const MAX_NOTES: usize = 4;
const DEFAULT_SIZE: Size = Size { cols: 80, rows: 24 };

/// Opens a terminal, or attaches to the one that is named, and shows it.
pub(super) async fn open(
    State(terminals): State<Arc<Terminals>>,
    headers: HeaderMap,
    params: Params,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = handshake(upgrade)?;
    let wanted = "a whole number from 1 to 1000";
    let (cols, rows): (Option<u16>, Option<u16>) = (params.get("cols", wanted)?, params.get("rows", wanted)?);
    let size = match (cols, rows) {
        (None, None) => None,
        (cols, rows) => {
            let (cols, rows) = (cols.unwrap_or(DEFAULT_SIZE.cols), rows.unwrap_or(DEFAULT_SIZE.rows));
            Some(
                spawn::size(cols, rows)
                    .ok_or_else(|| Problem::field("cols", "and rows must be 1 to 1000"))?,
            )
        }
    };
    let seat = terminals.sockets.enter(&headers)?;
    let viewer = match params.get::<String>("session", "the id of a terminal")? {
        Some(id) => {
            let session = terminals.find(&id)?;
            if let Some(size) = size {
                session.resize(size);
            }
            session.attach()
        }
        None => {
            let command = params.get::<String>("command", "a command line")?;
            let session = terminals.start(command, size.unwrap_or(DEFAULT_SIZE)).await?;
            session.attach()
        }
    };
    Ok(upgrade.on_upgrade(|socket| show(socket, viewer, seat)))
}

impl Terminals {
    /// Starts a terminal that goes on until it ends by itself, is ended, or has been idle for too long.
    async fn start(self: &Arc<Self>, command: Option<String>, size: Size) -> Result<Arc<Session>, Problem> {
        let spawn = spawn::of_terminal(command.as_deref(), size)?;
        let permit = self.terminals.clone().try_acquire_owned();
        let permit = permit.map_err(|_| too_many("open terminals", MAX_TERMINALS))?;
        let (process, master) = self.work.spawn(spawn, Vec::new()).await.map_err(spawn::problem)?;
        let no_terminal = |error| {
            tracing::error!(%error, "a terminal cannot be used");
            Problem::new(ErrorCode::UpstreamError, "The instance could not open a terminal.")
        };
        let master = master.ok_or_else(|| no_terminal(std::io::ErrorKind::NotFound.into()))?;
        let session =
            Session::start(command, size, process, master, self.clock.clone(), self.idle_limit, permit)
                .map_err(no_terminal)?;
        self.add(session.clone());
        let (terminals, ended) = (self.clone(), session.clone());
        tokio::spawn(async move {
            ended.ended().await;
            tokio::time::sleep(super::LINGER).await;
            terminals.remove(ended.id);
        });
        Ok(session)
    }
}

/// Shows a terminal until it ends, the peer goes, or the socket is to be closed.
async fn show(socket: WebSocket, viewer: Viewer, seat: Seat) {
    let (mut sink, mut stream) = socket.split();
    let (notes, outbox) = mpsc::channel(MAX_NOTES);
    let session = viewer.session.clone();
    let close = tokio::select! {
        close = talk(&mut sink, viewer, outbox) => close,
        close = listen(&mut stream, &session, &seat, notes) => close,
        reason = seat.closed() => Some(frame(reason.code, reason.reason)),
    };
    finish(sink, stream, close).await;
}

/// Sends what the viewer sees and pings in between; returns how to close, unless the peer is gone.
async fn talk(
    sink: &mut SplitSink<WebSocket, Message>,
    mut viewer: Viewer,
    mut outbox: mpsc::Receiver<TerminalOutput>,
) -> Option<CloseFrame> {
    let Size { cols, rows } = viewer.size;
    let (offset, replay) = (viewer.place, viewer.replay);
    let hello = TerminalOutput::Session { id: viewer.session.id, cols, rows, offset, replay };
    sink.send(text(&hello)).await.ok()?;
    let mut pings = interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            view = viewer.next() => match view {
                View::Output(bytes) => {
                    let count = bytes.len();
                    sink.send(Message::Binary(bytes)).await.ok()?;
                    viewer.took(count);
                }
                View::Resized(Size { cols, rows }) => {
                    sink.send(text(&TerminalOutput::Resize { cols, rows })).await.ok()?;
                }
                View::Ended(end) => {
                    let (code, signal) = told(end);
                    sink.send(text(&TerminalOutput::Exit { code, signal })).await.ok()?;
                    return Some(frame(close_code::NORMAL, "the terminal ended"));
                }
                View::TooSlow => {
                    let reason = "too slow for this terminal's output: attach again with session=";
                    return Some(frame(close_code::AGAIN, reason));
                }
            },
            Some(note) = outbox.recv() => sink.send(text(&note)).await.ok()?,
            _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await.ok()?,
        }
    }
}

/// Takes what the peer types and its control frames; returns how to close, unless the peer is gone.
async fn listen(
    stream: &mut SplitStream<WebSocket>,
    session: &Session,
    seat: &Seat,
    notes: mpsc::Sender<TerminalOutput>,
) -> Option<CloseFrame> {
    let mut pending = BytesMut::new();
    let mut heard = Instant::now();
    loop {
        let is_listening = pending.len() < MAX_PENDING;
        tokio::select! {
            message = stream.next(), if is_listening => {
                heard = Instant::now();
                match message? {
                    Ok(Message::Binary(bytes)) => {
                        seat.used();
                        pending.extend_from_slice(&bytes);
                    }
                    Ok(Message::Text(frame)) => {
                        seat.used();
                        if let Err(message) = control(&frame, session).await {
                            // While the peer does not take the answers to earlier ones, it is not heard.
                            notes.send(TerminalOutput::Error { message }).await.ok()?;
                        }
                    }
                    Ok(Message::Ping(_) | Message::Pong(_)) => {}
                    Ok(Message::Close(_)) => return None,
                    Err(error) => return broken(error),
                }
            }
            written = session.write(&pending), if !pending.is_empty() => {
                heard = Instant::now();
                match written {
                    Ok(count) => pending.advance(count),
                    // It ended; the viewer tells.
                    Err(_) => pending.clear(),
                }
                if pending.is_empty() {
                    // An idle socket keeps nothing.
                    pending = BytesMut::new();
                }
            }
            () = sleep_until(heard + SILENCE_LIMIT), if is_listening => return None,
        }
    }
}

/// Does what a control frame says; an error is for its sender.
pub(super) async fn control(frame: &str, session: &Session) -> Result<(), String> {
    match parse(frame)? {
        Control::Resize(size) => {
            session.resize(size);
            Ok(())
        }
        Control::Signal(signal) => session.signal(signal as i32).await,
    }
}

/// What a control frame says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Control {
    Resize(Size),
    Signal(Signal),
}

/// Reads a control frame.
pub(super) fn parse(frame: &str) -> Result<Control, String> {
    let input = serde_json::from_str(frame).map_err(|error| {
        // It may quote the frame.
        let why: String = error.to_string().chars().take(200).collect();
        format!("this control frame cannot be taken: {why}")
    })?;
    match input {
        TerminalInput::Resize { cols, rows } => spawn::size(cols, rows)
            .map(Control::Resize)
            .ok_or_else(|| "cols and rows must be 1 to 1000".to_owned()),
        TerminalInput::Signal { name } => {
            let known = Signal::iterator().find(|signal| {
                let full = signal.as_str();
                full == name || full.strip_prefix("SIG") == Some(&name)
            });
            known.map(Control::Signal).ok_or_else(|| {
                let name: String = name.chars().take(32).collect();
                format!("there is no signal {name:?}: INT, TERM, QUIT, HUP, KILL and the others of signal(7) are known")
            })
        }
    }
}

fn text(output: &TerminalOutput) -> Message {
    Message::Text(serde_json::to_string(output).expect("texts and numbers can be written as JSON").into())
}
