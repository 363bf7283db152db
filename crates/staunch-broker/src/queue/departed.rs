//! Messages that leave their place in a queue, and why.
//!
//! A message that is done with is *released*: the caller frees its body and logs that it is
//! settled. One that dies in a queue with dead lettering is *dying* first: neither ready nor
//! unacked, but still live, so the log keeps it until whoever moves it on buries it
//! ([`Queue::bury`](super::Queue::bury)). A crash in between brings it back as a ready message: a dead letter is
//! published twice rather than never.

use staunch_types::{BodyRef, MessageIndex};

use super::Released;

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Death {
    /// Its time was up.
    Expired,
    /// The queue was full.
    MaxLength,
    /// A consumer refused it without requeue.
    Rejected,
    /// It was given back more often than the queue allows.
    DeliveryLimit,
}

impl Death {
    /// The reason as `x-death` and its companions tell it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::Rejected => "rejected",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message to be dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dying {
    /// Its place in the queue, for [`Queue::bury`](super::Queue::bury).
    pub index: MessageIndex,
    /// Where its body is now. The log may move it: [`Queue::message`](super::Queue::message) knows where to.
    pub body: BodyRef,
    /// Its size in bytes.
    pub size_bytes: u32,
    /// Why it died.
    pub reason: Death,
}

/// What several calls of [`Queue`](super::Queue) append to, for the caller to drain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departed {
    /// Messages that left the queue for good.
    pub released: Vec<Released>,
    /// Messages that wait to be dead-lettered.
    pub dying: Vec<Dying>,
}

impl Departed {
    /// Nothing left its place.
    pub fn is_empty(&self) -> bool {
        self.released.is_empty() && self.dying.is_empty()
    }
}
