//! What links tell their owner.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use staunch_types::Name;
use tokio::sync::mpsc;

use crate::frame::FrameKind;

/// One connection with one peer, from `Up` to `Down`. Numbers are never used twice by a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// Something happened on a link.
///
/// For each session there is one `Up`, then `Frame`s and `Room`s, then one `Down`; the next
/// session with the same peer begins after it. What was sent and had not arrived when a session
/// ended is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The peer is connected and has shown who it is.
    Up {
        /// Its name.
        peer: Name,
        /// What frames must name that are sent with [`crate::PeerHandle::send`].
        session: Session,
        /// The peer's process: a random number, new with every start.
        incarnation: u64,
        /// Feature bits of the peer.
        features: u64,
    },
    /// The connection is gone.
    Down {
        /// Its name.
        peer: Name,
        /// The session that has ended.
        session: Session,
        /// Why.
        reason: DownReason,
    },
    /// The peer has sent something.
    Frame {
        /// Its name.
        peer: Name,
        /// The session it came in.
        session: Session,
        /// What it is.
        kind: FrameKind,
        /// A slice of the receive buffer; see [`crate::frame`].
        payload: Bytes,
    },
    /// After [`crate::SendError::Full`]: there is room again.
    Room {
        /// Its name.
        peer: Name,
        /// The session that has room.
        session: Session,
    },
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The peer stops, and has said so.
    Goodbye,
    /// The connection was closed or broke.
    Broken(String),
    /// What the peer sent is no frame, or of a kind that has no place here.
    Nonsense(String),
    /// The peer has connected anew.
    Replaced,
    /// The owner has ended it ([`crate::PeerHandle::end`]).
    Ended,
    /// The link was removed or is being stopped.
    Stopped,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goodbye => f.write_str("the peer has said goodbye"),
            Self::Broken(error) => write!(f, "the connection broke: {error}"),
            Self::Nonsense(error) => write!(f, "the peer sends nonsense: {error}"),
            Self::Replaced => f.write_str("the peer has connected anew"),
            Self::Ended => f.write_str("this node has ended the session"),
            Self::Stopped => f.write_str("the link was stopped"),
        }
    }
}

/// Where the events of all links go: bounded by its owner.
pub trait Inbox: Send + Sync + 'static {
    /// Takes the events, in order. While it waits for room, nothing is read from the link's socket.
    ///
    /// # Errors
    /// [`InboxClosed`] ends the link.
    fn deliver(
        &self,
        events: Vec<PeerEvent>,
    ) -> impl Future<Output = Result<(), InboxClosed>> + Send;
}

/// The owner takes no more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the owner of the links takes no more events")]
pub struct InboxClosed;

/// Bounded by the number of events, not by their size.
impl Inbox for mpsc::Sender<PeerEvent> {
    async fn deliver(&self, events: Vec<PeerEvent>) -> Result<(), InboxClosed> {
        for event in events {
            self.send(event).await.map_err(|_| InboxClosed)?;
        }
        Ok(())
    }
}

impl<I: Inbox> Inbox for Arc<I> {
    fn deliver(
        &self,
        events: Vec<PeerEvent>,
    ) -> impl Future<Output = Result<(), InboxClosed>> + Send {
        (**self).deliver(events)
    }
}
