//! Reads server-sent events (WHATWG HTML §9.2) as they arrive.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::{Contract, within};

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: u64,
    /// Its type.
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As the protocol wants it.
    Whole,
    /// The connection broke.
    Broken,
}

/// An event stream that is being read.
pub struct Events {
    /// The head of the answer.
    pub headers: HeaderMap,
    request: (String, String),
    contract: Arc<Contract>,
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Events {
    pub(crate) fn new(
        response: reqwest::Response,
        request: (String, String),
        contract: Arc<Contract>,
    ) -> Self {
        let headers = response.headers().clone();
        Self { headers, request, contract, body: response.bytes_stream().boxed(), buffer: Vec::new() }
    }

    /// Returns the next event, compared with the document, or how the stream ended.
    ///
    /// # Panics
    /// Where none comes in time.
    pub async fn next(&mut self) -> Result<Event, End> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                // A block without an event is a heartbeat.
                if let Some(event) = parse(std::str::from_utf8(&block).expect("events are UTF-8")) {
                    let data = event.data.to_string();
                    self.contract.check_event(&self.request.0, &self.request.1, data.as_bytes());
                    return Ok(event);
                }
                continue;
            }
            match within("the next event", self.body.next()).await {
                Some(Ok(bytes)) => self.buffer.extend(bytes),
                Some(Err(_)) => return Err(End::Broken),
                None => return Err(End::Whole),
            }
        }
    }

    /// Returns the next event.
    ///
    /// # Panics
    /// Where the stream ends first.
    pub async fn expect(&mut self) -> Event {
        self.next().await.unwrap_or_else(|end| panic!("the stream ended: {end:?}"))
    }

    /// Returns the first event that is wanted.
    ///
    /// # Panics
    /// Where the stream ends first.
    pub async fn find(&mut self, is_wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.expect().await;
            if is_wanted(&event) {
                return event;
            }
        }
    }

    /// Returns what is left of the stream, and how it ended.
    pub async fn rest(mut self) -> (Vec<Event>, End) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(event) => events.push(event),
                Err(end) => return (events, end),
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        block
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|v| v.trim_start().to_owned()))
    };
    Some(Event {
        name: field("event")?,
        id: field("id")?.parse().expect("ids are numbers"),
        data: serde_json::from_str(&field("data")?).expect("data is JSON"),
    })
}
