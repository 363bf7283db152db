//! The groups of this node's replicated queues: what drives them, and who leads.
//!
//! A queue that is served here, replicated or not, works as it does on a node that stands alone.
//! What is different for a replicated one: messages come by way of a [`Proposal`], not from
//! `enqueue`, and what the queue has decided goes there too, instead of to the log. At the end of a
//! drain each proposal becomes one entry.

use bytes::Bytes;
use staunch_broker::Origin;
use staunch_replica::{EntryMessage, Replica};
use staunch_types::{NodeId, QueueId, Timestamp};

use crate::{node::Node, queues::QueueSlot};

/// Where a queue is.
#[derive(Default)]
pub(crate) enum Place {
    /// On this node alone.
    #[default]
    Here,
    /// On this node and others.
    Replicated(Box<Member>),
    /// On others.
    Elsewhere,
}

/// This node's part in a replicated queue.
pub(crate) struct Member {
    pub(crate) replica: Replica,
}

/// What drives the groups.
pub(crate) struct Groups {
    next_tick: Timestamp,
}

/// Messages of one origin for a queue, in order.
pub(crate) struct Offer {
    pub(crate) origin: Origin,
    /// Everything below it has been answered.
    pub(crate) base: u64,
    /// Number of the first of `messages`.
    pub(crate) first: u64,
    pub(crate) messages: Vec<EntryMessage>,
}

/// What became of an [`Offer`].
#[derive(Debug, Default)]
pub(crate) struct Offered {
    /// Numbers that a full queue refuses: they were heard and did not enter.
    pub(crate) refused: Vec<u64>,
    /// Everything up to here was committed before.
    pub(crate) heard: u64,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Here => "Here",
            Self::Replicated(_) => "Replicated",
            Self::Elsewhere => "Elsewhere",
        })
    }
}

impl Groups {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { next_tick: now }
    }

    pub(crate) fn next_tick(&self) -> Timestamp {
        self.next_tick
    }
}

impl QueueSlot {
    /// Whether this node hands out the queue's messages.
    pub(crate) fn is_served_here(&self) -> bool {
        match &self.place {
            Place::Here => true,
            Place::Replicated(_) => self.queue.leads(),
            Place::Elsewhere => false,
        }
    }
}

impl Node {
    /// Takes messages for a replicated queue that is served here. They are safe when
    /// [`Node::heard`] says so.
    pub(crate) fn offer(&mut self, _queue: QueueId, _offer: Offer) -> Offered {
        Offered::default()
    }

    pub(crate) fn groups_peer_up(&mut self, _node: NodeId) {}

    pub(crate) fn take_raft(&mut self, _from: NodeId, _batch: &Bytes) {}

    pub(crate) fn tick_groups(&mut self, _now: Timestamp) {}

    pub(crate) fn advance_groups(&mut self) {}

    /// Makes entries of what this drain has gathered.
    pub(crate) fn propose_all(&mut self) {}

    pub(crate) fn suspect(&mut self, _node: NodeId) {}

    pub(crate) fn trust(&mut self, _node: NodeId) {}
}
