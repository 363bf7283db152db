//! Node → protocol: everything a connection may hear.

use std::time::Duration;

use crate::{
    ChannelNumber, ConsumerKey, Message, MessageIndex, Name, Operation, PublishSeq, QueueId,
    Refusal,
};

/// What the node tells a connection, in order. Nearly all are deliveries: what is larger than one
/// is boxed.
#[derive(Clone, Debug)]
pub enum Event {
    /// The credentials are good.
    LoginAccepted {
        /// Who logged in.
        user: Name,
    },
    /// The credentials are not, or not from there; the client is not told which.
    LoginRefused,
    /// The virtual host is open to this connection.
    VhostOpened,
    /// It is not (530, closes the connection).
    VhostRefused(Box<Refusal>),
    /// The user's secret is the new one.
    SecretUpdated,
    /// It is not (530, closes the connection).
    SecretRefused,
    /// Answer to `OpenChannel`.
    ChannelOpened {
        /// The channel.
        channel: ChannelNumber,
    },
    /// Something that concerns the connection as a whole was refused, as a limit was reached:
    /// it closes with `refusal`'s code.
    ConnectionRefused {
        /// What was refused.
        operation: Operation,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// Somebody ends the connection: an operator, or the going of its user or virtual host (320,
    /// closes the connection). To a client that waits for the end of its connection it means that
    /// its settlements may not hold: it is not told that all is well.
    Forced {
        /// Explanation for the client.
        reason: String,
    },
    /// Answer to a request on a channel.
    Reply {
        /// The channel.
        channel: ChannelNumber,
        /// The answer.
        reply: Reply,
    },
    /// Something on the channel was refused; the node ignores the channel from here to
    /// `CloseChannel`.
    Refused {
        /// The channel.
        channel: ChannelNumber,
        /// What was refused.
        operation: Operation,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// A message for a consumer.
    Delivery(Delivery),
    /// Publishes `first..=last` are persisted wherever they were routed (contract C1, C2).
    Confirmed {
        /// The channel.
        channel: ChannelNumber,
        /// First of the run.
        first: PublishSeq,
        /// Last of the run.
        last: PublishSeq,
    },
    /// Publishes `first..=last` were refused by a queue.
    Nacked {
        /// The channel.
        channel: ChannelNumber,
        /// First of the run.
        first: PublishSeq,
        /// Last of the run.
        last: PublishSeq,
    },
    /// A mandatory publish found no queue; comes before its confirm (contract C3).
    Returned {
        /// The channel.
        channel: ChannelNumber,
        /// Why.
        reason: ReturnReason,
        /// The message, back again.
        message: Message,
    },
    /// The consumer's queue is gone. Of a queue with partitions each has its own, and the client is
    /// to hear of the first alone.
    ConsumerCancelled {
        /// The channel.
        channel: ChannelNumber,
        /// The consumer.
        consumer: ConsumerKey,
    },
    /// Answer to `CloseChannel`: nothing more comes on this channel.
    ChannelClosed {
        /// The channel.
        channel: ChannelNumber,
    },
    /// Answer to `CloseConnection`: nothing more comes at all.
    ConnectionClosed,
    /// Which resources run low. While one does, publishes wait.
    Alarm {
        /// The memory budget is used up.
        memory: bool,
        /// Less disk is free than the limit.
        disk: bool,
    },
    /// Whether publishes wait because too much of what the connection has published is on its way to
    /// queues of other nodes. The client is not told.
    PublishesHeld {
        /// They wait from now on; false: not any more.
        is_held: bool,
    },
    /// A queue that the connection publishes to would not hold out as long as its policy asks for:
    /// publishes wait now and then, as `PublishesHeld` says.
    Slowed {
        /// What the client is told; none: it is over.
        reason: Option<Box<str>>,
    },
    /// The node is stopping (320, closes the connection).
    Shutdown,
}

/// A message for a consumer (AMQP 0-9-1, basic.deliver).
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The consumer's channel.
    pub channel: ChannelNumber,
    /// The consumer.
    pub consumer: ConsumerKey,
    /// Queue the message comes from.
    pub queue: QueueId,
    /// Its place there.
    pub index: MessageIndex,
    /// It may have been sent to someone before; false promises it was not (contract C8).
    pub redelivered: bool,
    /// Already settled: the consumer asked for no acks.
    pub settled: bool,
    /// The message.
    pub message: Message,
}

impl Delivery {
    /// What the delivery counts for against the node's limit of unsent bytes per connection.
    pub fn outbound_size_bytes(&self) -> u64 {
        // The frames around a message: deliver, content header, body frame ends.
        const FRAMES_SIZE_BYTES: u64 = 64;
        self.message.stored_size_bytes() as u64 + FRAMES_SIZE_BYTES
    }
}

/// Why a message came back (AMQP 0-9-1, basic.return).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnReason {
    /// 312: no queue was bound for it.
    NoRoute,
}

/// Answers to requests on a channel.
#[derive(Clone, Debug)]
pub enum Reply {
    /// `exchange.declare-ok`.
    ExchangeDeclared,
    /// `exchange.delete-ok`.
    ExchangeDeleted,
    /// `queue.bind-ok`, `exchange.bind-ok`.
    Bound,
    /// `queue.unbind-ok`, `exchange.unbind-ok`.
    Unbound,
    /// `queue.declare-ok`.
    QueueDeclared {
        /// Messages ready for delivery.
        ready_count: u64,
        /// Consumers.
        consumer_count: u32,
    },
    /// `queue.purge-ok`.
    QueuePurged {
        /// Messages that went.
        count: u64,
    },
    /// `queue.delete-ok`.
    QueueDeleted {
        /// Messages that went with it.
        count: u64,
    },
    /// `basic.consume-ok`.
    Consuming {
        /// Key under which deliveries come.
        consumer: ConsumerKey,
        /// How long one of its deliveries may stay unsettled, if the queue says so
        /// (`x-consumer-timeout`); else the connection's own limit applies.
        consumer_timeout: Option<Duration>,
    },
    /// `basic.consume-ok` of a queue with partitions: a consumer for each.
    ConsumingSplit {
        /// Keys under which deliveries come; by the first the consumer is cancelled.
        consumers: Box<[ConsumerKey]>,
        /// As in `Consuming`.
        consumer_timeout: Option<Duration>,
    },
    /// `basic.cancel-ok`.
    Cancelled {
        /// The consumer that is gone.
        consumer: ConsumerKey,
    },
    /// `basic.get-ok`. `delivery.consumer` is the channel's own key for gets.
    Got {
        /// The message.
        delivery: Box<Delivery>,
        /// Messages still ready.
        ready_count: u64,
    },
    /// `basic.get-empty`.
    GotNothing,
    /// `tx.commit-ok`.
    Committed,
    /// Nothing that was asked on the channel before has been refused.
    Synced,
}

// A drain makes and moves one event for each message.
const _: () = assert!(size_of::<Event>() <= size_of::<Delivery>() && size_of::<Delivery>() <= 88);
