//! How a WebSocket of the door's lives and ends (RFC 6455 §5.5, §7): what all of them have in common.

use std::{borrow::Cow, time::Duration};

use axum::extract::{
    WebSocketUpgrade,
    ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use reef_door::ErrorCode;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::door::problem::Problem;

/// Between two pings.
pub(crate) const PING_PERIOD: Duration = Duration::from_secs(30);
/// After two pings without any answer the peer is taken for gone.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(75);
/// The largest frame or message from a peer; clipboards come in them.
const MAX_FRAME: usize = 1 << 20;
/// What a WebSocket reads into while nothing comes.
const READ_BUFFER: usize = 4 << 10;
/// How long the peer may take to take the close frame and to send its own.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Takes a handshake, with buffers as small as a socket that is mostly idle wants them.
///
/// # Errors
/// Where the request is none.
pub(crate) fn handshake(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<WebSocketUpgrade, Problem> {
    let upgrade = upgrade.map_err(|_| {
        Problem::new(ErrorCode::InvalidRequest, "This route wants a WebSocket handshake (RFC 6455).")
    })?;
    Ok(upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(MAX_FRAME)
        .max_frame_size(MAX_FRAME))
}

/// Closes with `close`, or answers the close frame of the peer where there is none to send.
pub(crate) async fn finish(
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    close: Option<CloseFrame>,
) {
    let closing = async {
        if let Some(close) = close
            && sink.send(Message::Close(Some(close))).await.is_err()
        {
            return;
        }
        // To read on also sends the answer to the peer's.
        while let Some(Ok(_)) = stream.next().await {}
    };
    // Whoever does not answer has been told.
    let _ = timeout(CLOSE_LIMIT, closing).await;
}

/// Says how to close a socket that cannot be read on; `None` where there is nobody to tell.
pub(crate) fn broken(error: axum::Error) -> Option<CloseFrame> {
    let inner = error.into_inner();
    match inner.downcast_ref::<tungstenite::Error>()? {
        tungstenite::Error::Capacity(_) => Some(frame(close_code::SIZE, "frames may be 1 MiB at most")),
        tungstenite::Error::Utf8(_) => Some(frame(close_code::INVALID, "text frames must be UTF-8")),
        tungstenite::Error::Protocol(_) => Some(frame(close_code::PROTOCOL, "this is not RFC 6455")),
        _ => None,
    }
}

/// Makes a close frame.
pub(crate) fn frame(code: u16, reason: impl Into<Cow<'static, str>>) -> CloseFrame {
    let reason: Cow<'static, str> = reason.into();
    CloseFrame { code, reason: Utf8Bytes::from(reason.into_owned()) }
}
