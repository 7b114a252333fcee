//! What can go wrong on the way, and whose end it was.

use std::{error::Error as StdError, io};

type Source = Box<dyn StdError + Send + Sync>;

/// One end of the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// The door.
    Upstream,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Downstream => "client",
            Self::Upstream => "door",
        })
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// No connection to the door; nothing was sent.
    #[error("the door cannot be reached")]
    Unreachable(#[source] Source),
    /// The request was sent and no head came in time.
    #[error("the door did not answer in time")]
    HeadTimeout,
    /// The client stopped sending its body.
    #[error("the client stopped sending")]
    UploadStalled,
    /// The client's body broke off.
    #[error("the client's body broke off")]
    Downstream(#[source] Source),
    /// The door broke off, or talks no HTTP.
    #[error("the door broke off")]
    Upstream(#[source] Source),
    /// The door's answer is not one to this request, or the request cannot be put to it.
    #[error("the door's answer makes no sense")]
    Protocol(#[source] Source),
    /// The route takes WebSocket handshakes only.
    #[error("not a WebSocket handshake")]
    NotAHandshake,
    /// The caller's rights ended.
    #[error("the caller's rights ended")]
    Revoked,
}

impl PipeError {
    pub(crate) fn from_exchange(error: hyper::Error) -> Self {
        if error.is_user() { Self::Downstream(error.into()) } else { Self::Upstream(error.into()) }
    }
}

/// Why a response body ended early; the client sees its connection break, never a whole answer.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The door broke off.
    #[error("the door broke off")]
    Upstream(#[source] hyper::Error),
    /// The door said nothing for too long.
    #[error("the door fell silent")]
    Idle,
    /// The caller's rights ended.
    #[error("the caller's rights ended")]
    Revoked,
}

/// Why a tunnel ended other than by a close.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// One end's socket failed.
    #[error("the {side}'s connection failed")]
    Io {
        /// Which.
        side: Side,
        /// How.
        #[source]
        source: io::Error,
    },
    /// One end did not take part in the upgrade.
    #[error("the {side} did not upgrade")]
    Upgrade {
        /// Which.
        side: Side,
        /// How.
        #[source]
        source: hyper::Error,
    },
    /// Nothing came from either end for too long.
    #[error("idle")]
    Idle,
    /// The caller's rights ended.
    #[error("the caller's rights ended")]
    Revoked,
    /// The instance is going down.
    #[error("the instance is going down")]
    Leaving,
    /// The server is going down.
    #[error("the server is going down")]
    Closing,
}
