//! Newtypes for every id and counter.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One client connection, for the life of a node process; never reused.
    ConnectionId(u64)
}
id! {
    /// A channel within its connection, 1..=`channel_max` (AMQP 0-9-1, section 4.2.3).
    ChannelNumber(u16)
}
id! {
    /// A queue, for ever: a queue declared again under the same name gets a new id. Also the id
    /// of the queue's stream in the log; 0 is the catalog's stream.
    QueueId(u64)
}
id! {
    /// A message's place in its queue's total order. Starts at 0, never reused.
    MessageIndex(u64)
}
id! {
    /// A consumer (or the `basic.get` side of a channel) within a node; reused only after every
    /// delivery under it has been settled.
    ConsumerKey(u32)
}
id! {
    /// Number of a publish on its channel since `confirm.select`; starts at 1.
    PublishSeq(u64)
}
id! {
    /// Where the log keeps a message's bytes. Opaque to everyone but the log, which may move a
    /// message and hand out a new reference.
    BodyRef(u64)
}
id! {
    /// A node of the cluster, for ever: a node that lost its disk comes back under a new id.
    /// Starts at 1.
    NodeId(u64)
}
id! {
    /// A Raft group: the id of the queue it replicates; 0 is the catalog's.
    GroupId(u64)
}
id! {
    /// A Raft term. Starts at 1; 0 is before any election.
    Term(u64)
}
id! {
    /// An entry's place in its group's log. Starts at 1; 0 is before the first.
    LogIndex(u64)
}

impl GroupId {
    /// The group of the catalog.
    pub const CATALOG: Self = Self(0);
}

impl From<QueueId> for GroupId {
    fn from(queue: QueueId) -> Self {
        Self(queue.0)
    }
}

impl LogIndex {
    /// The place right after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl MessageIndex {
    /// The place right after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
