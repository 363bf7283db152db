//! Links between the nodes of a cluster, and the certificates that protect them.
//!
//! [`Peers`] keeps one connection with every other member and tells its owner what happens on them
//! as [`PeerEvent`]s; frames are sent through a [`PeerHandle`], and questions are asked and answered
//! beside them ([`Question`]). Connections are mutual TLS 1.3 with
//! certificates of the cluster's own [`Authority`]; without TLS they stay on this machine unless
//! the operator asks for the opposite by name. What the frames mean is their owner's business, and
//! so are heartbeats: a link only knows whether its connection is there.

pub mod authority;
mod backoff;
mod event;
pub mod frame;
mod handshake;
mod hello;
pub mod join;
mod link;
mod listener;
mod outgoing;
mod peers;
mod question;
mod stream;
mod tls;
pub mod token;

pub use authority::Authority;
pub use event::{DownReason, Inbox, InboxClosed, PeerEvent, Session};
pub use frame::{Frame, FrameKind, FrameTooLarge};
pub use hello::VERSION;
pub use outgoing::{LinkCounters, QueueLimits, SendError};
pub use peers::{
    Member, PeerHandle, PeerLimits, PeerStatus, Peers, PeersConfig, PlaintextScope, Security,
    StartError, is_loopback,
};
pub use question::{
    ANSWER_SIZE_BYTES_MAX, OUTSTANDING_MAX, Patience, QUESTION_SIZE_BYTES_MAX, Question, Reply,
    Unanswered,
};
pub use tls::{Identity, IdentityError, IdentityFiles};
