//! How a WebSocket of the door's lives and ends (RFC 6455 §5.5, §7): what all of them have in common.

use std::{borrow::Cow, time::Duration};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

/// Between two pings.
pub(crate) const PING_PERIOD: Duration = Duration::from_secs(30);
/// After two pings without any answer the peer is taken for gone.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(75);
/// The largest frame or message from a peer; clipboards come in them.
pub(crate) const MAX_FRAME: usize = 1 << 20;
/// What a WebSocket reads into while nothing comes.
pub(crate) const READ_BUFFER: usize = 4 << 10;
/// How long the peer may take to take the close frame and to send its own.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

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
