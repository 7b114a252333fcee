//! A WebSocket as a client has it.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use crate::within;

/// An open WebSocket.
pub struct Socket {
    /// The subprotocol that was chosen.
    pub protocol: Option<String>,
    frames: WebSocketStream<reqwest::Upgraded>,
}

impl Socket {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        let protocol = response.headers().get("sec-websocket-protocol");
        let protocol = protocol.map(|value| value.to_str().unwrap().to_owned());
        let bytes = response.upgrade().await.unwrap();
        Self { protocol, frames: WebSocketStream::from_raw_socket(bytes, Role::Client, None).await }
    }

    /// Sends bytes and returns what the fake door sends back: the same.
    ///
    /// # Panics
    /// Where it sends something else.
    pub async fn echo(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.frames.send(Message::binary(bytes.to_vec())).await.unwrap();
        match within("the echo", self.frames.next()).await {
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            other => panic!("no echo: {other:?}"),
        }
    }

    /// Waits for the end and returns the close frame's code and reason; `None` where the connection just breaks.
    pub async fn closed(mut self) -> Option<(u16, String)> {
        loop {
            match within("the end of the socket", self.frames.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}
