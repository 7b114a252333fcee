//! What door and hands say to each other.
//!
//! The channel is a `SOCK_SEQPACKET` socketpair whose one end is hands' standard input, so nothing is ever on a command
//! line or in an environment, and a message arrives whole or not at all. Listeners travel with it (`SCM_RIGHTS`,
//! unix(7)): the door hands over the one it dials the gateway on, hands gives back those the door must serve inside
//! the sandbox's network. The end of the channel is the end of the other side. Of the same kind is the *work channel*
//! ([`work`]), on which the door asks for files, terminals and processes.

pub(crate) mod files;
pub(crate) mod work;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use reef_model::Isolation;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixDatagram};

/// The largest message, in bytes of JSON.
pub(crate) const MAX_MESSAGE: usize = 128 * 1024;
/// `SCM_MAX_FD` of Linux: with room for as many as can come, none is ever cut off and leaked.
const MAX_FDS: usize = 253;

/// From door to hands.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToHands {
    /// The first message, with the gateway's listener and hands' end of the work channel.
    Start(Box<Start>),
    /// Start the gateway; it does not run.
    RunGateway,
    /// End the gateway: a signal, and force after the grace.
    StopGateway {
        /// How long it may take by itself.
        grace_ms: u64,
    },
}

/// What hands must know. Paths are as hands sees them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    /// How hands are kept apart; some of it hands does to itself.
    pub(crate) isolation: Isolation,
    /// The tenant's home.
    pub(crate) home: PathBuf,
    /// The agent's workspace.
    pub(crate) workspace: PathBuf,
    /// Node and OpenClaw.
    pub(crate) openclaw: PathBuf,
    /// Door to gateway.
    pub(crate) gateway_token: String,
    /// Gateway to model relay; another one at every start of hands.
    pub(crate) model_token: String,
    /// Environment of the tenant's processes.
    pub(crate) env: BTreeMap<String, String>,
    /// Environment of the machine that programs need to trust its certificates; wins over `env`.
    pub(crate) trust_env: BTreeMap<String, String>,
    /// Whether the way out is the door's proxy.
    pub(crate) has_egress: bool,
    /// Processes and threads of the tenant; none: something else bounds them, or nothing can.
    pub(crate) pids: Option<u32>,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

/// From hands to door. Hostile.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToDoor {
    /// The answer to [`ToHands::Start`], with the listeners of the model relay and, if wanted, of the egress proxy.
    Hello,
    /// The gateway could not be started.
    NotStarted {
        /// Why.
        reason: String,
    },
    /// The gateway ended.
    Exited {
        /// Exit status, or 128 + signal.
        code: i32,
    },
}

/// One end of the channel. The socket type is that of [`Channel::pair`]; only readiness is asked of tokio's.
#[derive(Debug)]
pub(crate) struct Channel(UnixDatagram);

impl Channel {
    /// Makes both ends: ours, and the one to be another process's standard input.
    pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
    }

    /// Wraps an end.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixDatagram::from(fd);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixDatagram::from_std(socket)?))
    }

    /// Sends a message with descriptors.
    ///
    /// # Cancel safety
    /// Safe: a message is sent whole or not at all.
    pub(crate) async fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too large"));
        }
        self.0.async_io(Interest::WRITABLE, || send_now(self.0.as_fd(), &bytes, fds)).await
    }

    /// Receives a message; `None` at the end of the channel. Descriptors that come along are not taken.
    ///
    /// # Cancel safety
    /// Safe: a message that was not returned stays.
    pub(crate) async fn recv<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let received = self.0.async_io(Interest::READABLE, || receive_now(self.0.as_fd(), false)).await?;
        Ok(received.map(|(message, _)| message))
    }

    /// Receives a message and the descriptors that came with it.
    ///
    /// # Cancel safety
    /// As [`Channel::recv`].
    pub(crate) async fn recv_with_fds<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.0.async_io(Interest::READABLE, || receive_now(self.0.as_fd(), true)).await
    }
}

/// Receives the first message on an end that still blocks, before there is a runtime.
pub(crate) fn recv_blocking<T: DeserializeOwned>(
    fd: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_now(fd, true)
}

fn send_now(fd: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    sendmsg::<()>(fd.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

thread_local! {
    /// Where messages are received: a thread takes one at a time.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_MESSAGE].into_boxed_slice());
}

fn receive_now<T: DeserializeOwned>(
    fd: BorrowedFd<'_>,
    take_fds: bool,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    BUFFER.with_borrow_mut(|buffer| {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut fds = Vec::new();
        let (length, is_cut) = {
            let mut parts = [IoSliceMut::new(buffer)];
            // Without room for control data the kernel drops descriptors instead of installing them.
            let control = take_fds.then_some(&mut space[..]);
            let message = recvmsg::<()>(fd.as_raw_fd(), &mut parts, control, MsgFlags::MSG_CMSG_CLOEXEC)?;
            if take_fds {
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = control {
                        fds.extend(raw.into_iter().map(own));
                    }
                }
            }
            (message.bytes, message.flags.contains(MsgFlags::MSG_TRUNC))
        };
        if length == 0 {
            return Ok(None);
        }
        if is_cut {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message too large"));
        }
        let message = serde_json::from_slice(&buffer[..length])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((message, fds)))
    })
}

#[expect(
    unsafe_code,
    reason = "the kernel has just installed this descriptor for us, and nobody else knows it"
)]
fn own(fd: RawFd) -> OwnedFd {
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn carries_messages_and_listeners_and_ends() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (ours, theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let (a, b) = UnixStream::pair().unwrap();
        ours.send(&ToDoor::Hello, &[a.as_fd(), b.as_fd()]).await.unwrap();
        let (message, fds) = theirs.recv_with_fds::<ToDoor>().await.unwrap().unwrap();
        assert!(matches!(message, ToDoor::Hello));
        assert_eq!(fds.len(), 2);
        drop(ours);
        assert!(theirs.recv::<ToDoor>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn unwanted_descriptors_are_not_installed_and_rubbish_is_an_error() {
        let (ours, theirs) = Channel::pair().unwrap();
        let (ours, theirs) = (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap());
        let (a, mut b) = UnixStream::pair().unwrap();
        ours.send(&ToDoor::Exited { code: 1 }, &[a.as_fd()]).await.unwrap();
        drop(a);
        assert!(matches!(theirs.recv::<ToDoor>().await.unwrap(), Some(ToDoor::Exited { code: 1 })));
        // The copy that was in flight is gone too, so the other end reads the end.
        assert_eq!(std::io::Read::read(&mut b, &mut [0; 1]).unwrap(), 0);
        ours.send(&"rubbish", &[]).await.unwrap();
        assert_eq!(theirs.recv::<ToDoor>().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let long = "x".repeat(MAX_MESSAGE);
        assert_eq!(ours.send(&long, &[]).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
