//! Protocol → node: everything a connection may ask for.
//!
//! A request marked *answered* gets exactly one [`Event::Reply`](crate::Event::Reply),
//! [`Event::Refused`](crate::Event::Refused) or the event named, in request order per
//! connection. The others are one-way; when one of them is refused, `Refused` names it. After
//! the node has refused anything on a channel it ignores that channel, without answers, until
//! `CloseChannel`.

use std::net::SocketAddr;

use crate::{
    ChannelNumber, ConsumerKey, ExchangeOptions, FieldTable, Message, MessageIndex, Name,
    PublishSeq, QueueId, QueueOptions,
};

/// What a connection asks of its node.
#[derive(Clone, Debug)]
pub enum Request {
    /// Credentials from SASL. Answered by `LoginAccepted` or `LoginRefused`.
    Login(Login),
    /// `connection.open`. Answered by `VhostOpened` or `VhostRefused`.
    OpenVhost {
        /// Name of the virtual host.
        vhost: Name,
    },
    /// `connection.update-secret`: the user's password is another one from now on. Answered by
    /// `SecretUpdated` or `SecretRefused`.
    UpdateSecret {
        /// The new secret; never printed.
        secret: Secret,
    },
    /// A channel is wanted. Answered by `ChannelOpened` or, over a limit, `ConnectionRefused`.
    OpenChannel {
        /// Its number.
        channel: ChannelNumber,
    },
    /// `basic.publish` with its content. One-way; confirmed later if it carries a number.
    Publish(Publish),
    /// `basic.ack`, `basic.nack`, `basic.reject`, `basic.recover`. One-way.
    Settle(Settle),
    /// `exchange.declare`. Answered by `Reply::ExchangeDeclared`.
    DeclareExchange(DeclareExchange),
    /// `exchange.delete`. Answered by `Reply::ExchangeDeleted`.
    DeleteExchange {
        /// Channel to answer on.
        channel: ChannelNumber,
        /// Exchange to delete; a missing one is no error.
        exchange: Name,
        /// Refuse while it has bindings.
        if_unused: bool,
    },
    /// `exchange.bind`, `queue.bind`. Answered by `Reply::Bound`.
    Bind(Box<Binding>),
    /// `exchange.unbind`, `queue.unbind`. Answered by `Reply::Unbound`.
    Unbind(Box<Binding>),
    /// `queue.declare`. Answered by `Reply::QueueDeclared`.
    DeclareQueue(DeclareQueue),
    /// `queue.purge`. Answered by `Reply::QueuePurged`.
    PurgeQueue {
        /// Channel to answer on.
        channel: ChannelNumber,
        /// Queue to purge.
        queue: Name,
    },
    /// `queue.delete`. Answered by `Reply::QueueDeleted`.
    DeleteQueue {
        /// Channel to answer on.
        channel: ChannelNumber,
        /// Queue to delete; a missing one is no error.
        queue: Name,
        /// Refuse while it has consumers.
        if_unused: bool,
        /// Refuse while it has ready messages.
        if_empty: bool,
    },
    /// `basic.consume`. Answered by `Reply::Consuming` or `Reply::ConsumingSplit`; deliveries follow
    /// it.
    Consume(Consume),
    /// `basic.consume` of `amq.rabbitmq.reply-to` (RabbitMQ, direct reply-to): replies come to
    /// this channel as settled deliveries. Answered by `Reply::Consuming`.
    ConsumeReplies {
        /// Channel to answer on.
        channel: ChannelNumber,
    },
    /// `tx.select`: from now on what the channel publishes waits for `Commit`. One-way; the
    /// connection itself holds settlements back.
    SelectTx {
        /// The channel.
        channel: ChannelNumber,
    },
    /// `tx.commit`: what was published since the last commit or rollback is enqueued, then
    /// `settles` are applied. Answered by `Reply::Committed` once all of it is persisted.
    Commit {
        /// Channel to answer on.
        channel: ChannelNumber,
        /// Settlements of the transaction, in order.
        settles: Vec<Settle>,
    },
    /// `tx.rollback`: what was published since the last commit or rollback is forgotten. One-way.
    Rollback {
        /// The channel.
        channel: ChannelNumber,
    },
    /// `basic.cancel`. Answered by `Reply::Cancelled`, after the last delivery.
    Cancel {
        /// Channel to answer on.
        channel: ChannelNumber,
        /// The consumer.
        consumer: ConsumerKey,
    },
    /// `basic.get`. Answered by `Reply::Got` or `Reply::GotNothing`.
    Get {
        /// Channel to answer on.
        channel: ChannelNumber,
        /// Queue to take from.
        queue: Name,
        /// Settled as it is sent.
        no_ack: bool,
    },
    /// `basic.qos` with `global`: a limit shared by the consumers of a channel; 0 is no limit.
    /// One-way.
    LimitChannel {
        /// The channel.
        channel: ChannelNumber,
        /// Deliveries that may be unsettled on it.
        prefetch: u16,
    },
    /// The limit of each consumer that the channel has at this moment; 0 is no limit. What one
    /// holds above it stays with it. Only for clients that take `basic.qos` without `global` to
    /// mean this. One-way.
    LimitConsumers {
        /// The channel.
        channel: ChannelNumber,
        /// Deliveries that may be unsettled on each.
        prefetch: u16,
    },
    /// Word is wanted that everything before has been looked at. Answered by `Reply::Synced`,
    /// unless something was refused.
    Sync {
        /// Channel to answer on.
        channel: ChannelNumber,
    },
    /// The channel is over: its consumers go and its unsettled deliveries return. Answered by
    /// `ChannelClosed` once the settlements sent before are persisted (contract C9).
    CloseChannel {
        /// The channel.
        channel: ChannelNumber,
    },
    /// The connection is over: as `CloseChannel` for every channel, and its exclusive queues
    /// go. Answered by `ConnectionClosed`, the last event it gets.
    CloseConnection,
    /// `size_bytes` of deliveries have left for the socket: the node may send as many more.
    /// One-way.
    Drained {
        /// Sum of [`crate::Delivery::outbound_size_bytes`] over deliveries written out.
        size_bytes: u64,
    },
}

/// Who wants to log in, and from where.
#[derive(Clone, Debug)]
pub struct Login {
    /// User name; for [`Proof::Anonymous`] empty: the node's configuration names the user.
    pub user: Name,
    /// What shows that it is that user.
    pub proof: Proof,
    /// Whether the peer's socket address is loopback.
    pub loopback: bool,
    /// What is known of the other end, for lists and events.
    pub peer: Box<Peer>,
}

/// What shows who somebody is (SASL).
#[derive(Clone, Debug)]
pub enum Proof {
    /// PLAIN, AMQPLAIN: a password.
    Password(Secret),
    /// EXTERNAL: the user name was taken from a client certificate that TLS has verified; or the
    /// administration interface has checked the password.
    Certificate,
    /// ANONYMOUS: nothing.
    Anonymous,
}

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peer {
    /// Its address, or what a PROXY header said it is.
    pub address: Option<SocketAddr>,
    /// The address it connected to.
    pub local_address: Option<SocketAddr>,
    /// TLS protocol version, such as `TLSv1.3`, if the connection is encrypted.
    pub tls: Option<&'static str>,
    /// SASL mechanism.
    pub mechanism: &'static str,
    /// `connection.start-ok`, client-properties.
    pub client_properties: FieldTable,
}

/// A publish (AMQP 0-9-1, basic.publish).
#[derive(Clone, Debug)]
pub struct Publish {
    /// Channel it came on.
    pub channel: ChannelNumber,
    /// Its number, if the channel is in confirm mode.
    pub seq: Option<PublishSeq>,
    /// Return it if no queue takes it.
    pub mandatory: bool,
    /// What was published.
    pub message: Message,
}

/// What becomes of settled deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the message leaves the queue.
    Ack,
    /// Refused: the message leaves the queue, dead-lettered if the queue says so.
    Discard,
    /// Back to its place in the queue, marked redelivered.
    Requeue,
}

/// Settles `count` deliveries with consecutive indexes of one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    /// Channel the settlement came on.
    pub channel: ChannelNumber,
    /// Consumer the deliveries went to.
    pub consumer: ConsumerKey,
    /// Queue they came from.
    pub queue: QueueId,
    /// First of them.
    pub first: MessageIndex,
    /// How many; at least 1.
    pub count: u32,
    /// What becomes of them.
    pub outcome: Outcome,
}

/// `exchange.declare`.
#[derive(Clone, Debug)]
pub struct DeclareExchange {
    /// Channel to answer on.
    pub channel: ChannelNumber,
    /// Its name.
    pub exchange: Name,
    /// Only ask whether it is there.
    pub passive: bool,
    /// What it shall be.
    pub options: ExchangeOptions,
}

/// `queue.declare`.
#[derive(Clone, Debug)]
pub struct DeclareQueue {
    /// Channel to answer on.
    pub channel: ChannelNumber,
    /// Its name; the connection has already made one up for a server-named queue.
    pub queue: Name,
    /// The name was made up by the server, so the reserved prefix is allowed.
    pub server_named: bool,
    /// Only ask whether it is there.
    pub passive: bool,
    /// What it shall be.
    pub options: QueueOptions,
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue, by name.
    Queue(Name),
    /// An exchange, by name.
    Exchange(Name),
}

/// A binding to add or remove (AMQP 0-9-1, queue.bind; RabbitMQ, exchange.bind).
#[derive(Clone, Debug)]
pub struct Binding {
    /// Channel to answer on.
    pub channel: ChannelNumber,
    /// Exchange messages come from.
    pub source: Name,
    /// Where they go.
    pub destination: Destination,
    /// Binding key.
    pub routing_key: Name,
    /// Arguments; a headers exchange matches on them.
    pub arguments: FieldTable,
}

/// `basic.consume`.
#[derive(Clone, Debug)]
pub struct Consume {
    /// Channel to answer on.
    pub channel: ChannelNumber,
    /// Queue to consume from.
    pub queue: Name,
    /// The name under which the client knows the consumer.
    pub tag: Name,
    /// Deliveries are settled as they are sent.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Deliveries that may be unsettled; 0 is no limit.
    pub prefetch: u16,
    /// `x-priority` and the like.
    pub arguments: FieldTable,
}

// A client that publishes makes and moves one request for each message: what is larger is boxed.
const _: () = assert!(size_of::<Request>() <= size_of::<Publish>() && size_of::<Publish>() <= 88);
