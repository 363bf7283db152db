//! The request of a connection that reading waits for. Of declarations of queues there may be
//! several: who makes many and does not wait for each is not to wait for a disk each time.

use staunch_amqp_codec::methods::Method;
use staunch_types::{ChannelNumber, Name};

use crate::error::Fault;

/// Declarations of queues that may be outstanding.
pub(crate) const DECLARATIONS_MAX: usize = 256;

/// A request that was sent and how its answer is to be written.
#[derive(Debug)]
pub(crate) struct Pending {
    /// 0 for the connection itself.
    pub(crate) channel: ChannelNumber,
    pub(crate) write: WriteReply,
    pub(crate) awaited: Awaited,
}

/// Whether the client wants the answer (AMQP 0-9-1, no-wait).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteReply {
    Yes,
    No,
}

impl Pending {
    /// Whether it is a declaration of a queue on this channel.
    pub(crate) fn is_declaration_on(&self, channel: u16) -> bool {
        self.channel.0 == channel && matches!(self.awaited, Awaited::QueueDeclared { .. })
    }
}

impl WriteReply {
    pub(crate) fn unless(nowait: bool) -> Self {
        if nowait { Self::No } else { Self::Yes }
    }
}

/// Which answer is awaited, with what it needs from the question.
#[derive(Debug)]
pub(crate) enum Awaited {
    ExchangeDeclared,
    ExchangeDeleted,
    ExchangeBound,
    ExchangeUnbound,
    QueueDeclared {
        queue: Name,
    },
    QueueBound,
    QueueUnbound,
    QueuePurged,
    QueueDeleted {
        /// Tags of consumers on the channel that went meanwhile: the client hears of them after
        /// the answer (RabbitMQ).
        cancelled: Vec<Name>,
    },
    Consuming {
        tag: Name,
    },
    ConsumingReplies {
        tag: Name,
    },
    Cancelled {
        tag: Name,
    },
    Got,
    ChannelOpened,
    SecretUpdated,
    Committed,
    /// Word that nothing before was refused.
    Synced {
        answer: Box<Method<'static>>,
    },
    /// The same, before the channel is closed for a mistake found here.
    Mistake {
        fault: Fault,
    },
    /// The same, before it is closed for the client.
    Close,
}
