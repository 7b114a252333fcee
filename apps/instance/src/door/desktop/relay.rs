//! One viewer: RFB between a WebSocket's binary frames and the X server's socket, as bytes.
//!
//! The door reads none of it, but for viewers who must only look ([`ViewOnly`]). Each direction holds one message at a
//! time, so a slow side slows the other down.

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{socket::Socket, view_only::ViewOnly};
use crate::door::sockets::{
    Seat,
    ending::{PING_PERIOD, SILENCE_LIMIT, broken, finish, frame},
};

/// The largest frame to a viewer.
const FRAME_BYTES: usize = 64 << 10;

/// Relays until one side ends, or the seat is to be given up.
pub(super) async fn relay(web: WebSocket, desktop: Socket, filter: Option<ViewOnly>, seat: Seat) {
    let (mut sink, mut stream) = web.split();
    let close = tokio::select! {
        close = show(&mut sink, &desktop) => close,
        close = listen(&mut stream, &desktop, filter, &seat) => close,
        reason = seat.closed() => Some(frame(reason.code, reason.reason)),
    };
    finish(sink, stream, close).await;
}

/// Sends what the desktop shows; returns how to close, unless the viewer goes by itself.
async fn show(sink: &mut SplitSink<WebSocket, Message>, desktop: &Socket) -> Option<CloseFrame> {
    // Also while the desktop always shows something: who is heard of only by its pongs must be asked for them.
    let mut pings = interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            _ = pings.tick() => Message::Ping(Bytes::new()),
            shown = desktop.recv(FRAME_BYTES) => match shown {
                Ok(bytes) if !bytes.is_empty() => Message::Binary(bytes.into()),
                _ => return Some(frame(close_code::AWAY, "the desktop ended: connect again for a new one")),
            },
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
