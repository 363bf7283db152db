//! What may be said only once something is on disk (contract C1, C5, C9).
//!
//! During a drain everything that waits is collected; when the drain's records are sealed into a
//! chunk it is tied to that chunk, and released, in order, when the chunk is persisted. This is
//! the only road by which a confirm or an answer to a durable declaration leaves the node.

use std::collections::{BTreeSet, VecDeque};

use staunch_log::{BackgroundJob, ChunkId};
use staunch_types::{
    ChannelNumber, ConnectionId, Event, MessageIndex, NodeId, PublishSeq, QueueId, Request, Term,
};

use crate::{
    admin::{AdminAnswer, AdminId},
    cluster::Frame,
    session::SessionSlot,
};

/// Something that waits for the disk.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Publishes to confirm.
    Confirm {
        session: SessionSlot,
        connection: ConnectionId,
        channel: ChannelNumber,
        first: PublishSeq,
        last: PublishSeq,
    },
    /// An answer to give.
    Answer {
        session: SessionSlot,
        connection: ConnectionId,
        event: Box<Event>,
    },
    /// The answer to a declaration.
    Counts(CountsDue),
    /// A request about a queue to which something was on its way.
    Again(Box<Again>),
    /// An operator's answer to give.
    Admin {
        id: AdminId,
        answer: Box<AdminAnswer>,
    },
    /// Deliveries that may go out (contract C8).
    Reserve { queue: QueueId, upto: MessageIndex },
    /// A checkpoint that speaks of chunks up to here.
    Checkpoint(Box<BackgroundJob>),
    /// An answer that something waits for, of several.
    Ticket(u64),
    /// A frame for another node.
    Frame(Box<(NodeId, Frame)>),
    /// The last event of a session, which ends with it.
    EndSession {
        session: SessionSlot,
        connection: ConnectionId,
    },
}

impl Pending {
    /// Whether it is an answer to that session.
    pub(crate) fn answers(&self, to: SessionSlot) -> bool {
        match self {
            Self::Answer { session, .. } | Self::Counts(CountsDue { session, .. }) => {
                *session == to
            }
            Self::Again(again) => again.session == to,
            Self::Frame(_)
            | Self::Confirm { .. }
            | Self::Admin { .. }
            | Self::Reserve { .. }
            | Self::Checkpoint(_)
            | Self::Ticket(_)
            | Self::EndSession { .. } => false,
        }
    }

    /// Whether it is to be said to a node, or to one of the sessions.
    pub(crate) fn is_for(&self, node: NodeId, sessions: &BTreeSet<SessionSlot>) -> bool {
        match self {
            Self::Frame(frame) => frame.0 == node,
            Self::Answer { session, .. } | Self::Counts(CountsDue { session, .. }) => {
                sessions.contains(session)
            }
            Self::Again(again) => sessions.contains(&again.session),
            Self::Confirm { .. }
            | Self::Admin { .. }
            | Self::Reserve { .. }
            | Self::Checkpoint(_)
            | Self::Ticket(_)
            | Self::EndSession { .. } => false,
        }
    }
}

/// A declaration to be answered with the counts of its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountsDue {
    pub(crate) session: SessionSlot,
    pub(crate) connection: ConnectionId,
    pub(crate) channel: ChannelNumber,
    pub(crate) queue: QueueId,
}

/// A request that is looked at once more.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) session: SessionSlot,
    pub(crate) connection: ConnectionId,
    /// The queue that it is about, and the term in which this node has served it then.
    pub(crate) served: (QueueId, Term),
    pub(crate) request: Request,
}

/// Everything that waits, by the chunk it waits for.
#[derive(Debug, Default)]
pub(crate) struct PendingList {
    /// Of this drain, not yet tied to a chunk.
    open: Vec<Pending>,
    tied: VecDeque<(ChunkId, Vec<Pending>)>,
}

impl PendingList {
    /// Adds something that waits for what this drain writes, and for all before it.
    pub(crate) fn push(&mut self, pending: Pending) {
        self.open.push(pending);
    }

    /// Adds a confirm, merged with the one before it where they adjoin.
    pub(crate) fn push_confirm(
        &mut self,
        session: SessionSlot,
        connection: ConnectionId,
        channel: ChannelNumber,
        seq: PublishSeq,
    ) {
        if let Some(Pending::Confirm {
            connection: of,
            channel: on,
            last,
            ..
        }) = self.open.last_mut()
            && *of == connection
            && *on == channel
            && last.0 + 1 == seq.0
        {
            *last = seq;
            return;
        }
        self.open.push(Pending::Confirm {
            session,
            connection,
            channel,
            first: seq,
            last: seq,
        });
    }

    /// Ties what is open to `chunk`, the last one sealed.
    pub(crate) fn tie(&mut self, chunk: ChunkId) {
        if self.open.is_empty() {
            return;
        }
        let open = std::mem::take(&mut self.open);
        if let Some((last, waiting)) = self.tied.back_mut() {
            assert!(*last <= chunk, "chunks are sealed in order");
            if *last == chunk {
                waiting.extend(open);
                return;
            }
        }
        self.tied.push_back((chunk, open));
    }

    /// What has waited long enough now that `persisted` and all chunks before it are on disk.
    pub(crate) fn release(&mut self, persisted: ChunkId) -> Option<Vec<Pending>> {
        let (chunk, _) = self.tied.front()?;
        if *chunk > persisted {
            return None;
        }
        self.tied.pop_front().map(|(_, waiting)| waiting)
    }

    /// A node is not connected any more: what was to be said to it, and to those sessions of its
    /// clients, belongs to a link that is over. They may come back under the same ids.
    pub(crate) fn forget_link(&mut self, node: NodeId, shadows: &BTreeSet<SessionSlot>) {
        self.retain(|pending| !pending.is_for(node, shadows));
    }

    /// A session waits for no answer any more.
    pub(crate) fn forget_answers(&mut self, session: SessionSlot) {
        self.retain(|pending| !pending.answers(session));
    }

    fn retain(&mut self, mut is_kept: impl FnMut(&Pending) -> bool) {
        let lists = self.tied.iter_mut().map(|(_, waiting)| waiting);
        for waiting in lists.chain([&mut self.open]) {
            waiting.retain(&mut is_kept);
        }
    }

    /// Whether something waits for what this drain has appended.
    pub(crate) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.tied.is_empty()
    }
}
