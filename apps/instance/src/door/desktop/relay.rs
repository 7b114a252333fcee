//! One viewer: RFB between a WebSocket's binary frames and the X server's socket, as bytes.
//!
//! The door reads none of it, but for viewers who must only look ([`ViewOnly`]). Each direction holds one message at a
//! time, so a slow side slows the other down.

use std::{borrow::Cow, time::Duration};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use super::{socket::Socket, view_only::ViewOnly};
use crate::door::sockets::Seat;

/// The largest frame to a viewer.
const FRAME_BYTES: usize = 64 << 10;
/// What a WebSocket reads into while nothing comes.
pub(super) const READ_BUFFER: usize = 4 << 10;
/// The largest frame or message from a viewer; clipboards come in them.
pub(super) const MAX_FRAME: usize = 1 << 20;
const PING_PERIOD: Duration = Duration::from_secs(30);
/// After two pings without any answer the viewer is taken for gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);
/// How long the viewer may take to take the close frame and to send its own.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Relays until one side ends, or the seat is to be given up.
pub(super) async fn relay(web: WebSocket, desktop: Socket, filter: Option<ViewOnly>, seat: Seat) {
    let (mut sink, mut stream) = web.split();
    let close = tokio::select! {
        close = show(&mut sink, &desktop) => close,
        close = listen(&mut stream, &desktop, filter, &seat) => close,
        reason = seat.closed() => Some(frame(reason.code, reason.reason)),
    };
    let closing = async {
        if let Some(close) = close
            && sink.send(Message::Close(Some(close))).await.is_err()
        {
            return;
        }
        // To read on also sends the answer to a close frame of the viewer's.
        while let Some(Ok(_)) = stream.next().await {}
    };
    // Whoever does not answer has been told.
    let _ = timeout(CLOSE_LIMIT, closing).await;
}

/// Sends what the desktop shows; returns how to close, unless the viewer goes by itself.
async fn show(sink: &mut SplitSink<WebSocket, Message>, desktop: &Socket) -> Option<CloseFrame> {
    loop {
        let message = match timeout(PING_PERIOD, desktop.recv(FRAME_BYTES)).await {
            Err(_) => Message::Ping(Bytes::new()),
            Ok(Ok(bytes)) if !bytes.is_empty() => Message::Binary(bytes.into()),
            Ok(_) => return Some(frame(close_code::AWAY, "the desktop ended: connect again for a new one")),
        };
        sink.send(message).await.ok()?;
    }
}

/// Passes on what the viewer sends; returns how to close, unless the viewer goes by itself.
async fn listen(
    stream: &mut SplitStream<WebSocket>,
    desktop: &Socket,
    mut filter: Option<ViewOnly>,
    seat: &Seat,
) -> Option<CloseFrame> {
    let mut passed = Vec::new();
    loop {
        let Ok(message) = timeout(SILENCE_LIMIT, stream.next()).await else { return None };
        let bytes = match message? {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(_)) => {
                return Some(frame(close_code::UNSUPPORTED, "RFB comes in binary frames"));
            }
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return None,
            Err(error) => return broken(error),
        };
        // Also who only looks: a viewer asks for every picture.
        seat.used();
        let sent = match &mut filter {
            None => desktop.send(&bytes).await,
            Some(filter) => {
                passed.clear();
                if let Err(refused) = filter.feed(&bytes, &mut passed) {
                    return Some(frame(close_code::POLICY, refused.to_string()));
                }
                desktop.send(&passed).await
            }
        };
        if sent.is_err() {
            return Some(frame(close_code::AWAY, "the desktop ended: connect again for a new one"));
        }
    }
}

/// Says how to close a socket that cannot be read on; `None` where there is nobody to tell.
fn broken(error: axum::Error) -> Option<CloseFrame> {
    let inner = error.into_inner();
    match inner.downcast_ref::<tungstenite::Error>()? {
        tungstenite::Error::Capacity(_) => Some(frame(close_code::SIZE, "frames may be 1 MiB at most")),
        tungstenite::Error::Utf8(_) | tungstenite::Error::Protocol(_) => {
            Some(frame(close_code::PROTOCOL, "this is not RFC 6455"))
        }
        _ => None,
    }
}

fn frame(code: u16, reason: impl Into<Cow<'static, str>>) -> CloseFrame {
    let reason: Cow<'static, str> = reason.into();
    CloseFrame { code, reason: Utf8Bytes::from(reason.into_owned()) }
}
