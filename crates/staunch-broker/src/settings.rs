//! How a queue behaves: what its arguments, its policy and its operator policy say together.

use staunch_types::Name;

/// What happens when a queue is full (`x-overflow`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest ready messages go, dead-lettered with reason `maxlen`.
    #[default]
    DropHead,
    /// New messages are refused: a publisher with confirms gets a nack.
    RejectPublish,
    /// As `RejectPublish`, and the refused message is dead-lettered with reason `maxlen`.
    RejectPublishDlx,
}

/// Where dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettering {
    /// Exchange they are published to; it need not exist.
    pub exchange: Name,
    /// Replaces their routing keys (`x-dead-letter-routing-key`).
    pub routing_key: Option<Name>,
    /// A dead letter leaves the queue only when every queue it was routed to has it
    /// (`x-dead-letter-strategy`, with `x-overflow=reject-publish`, quorum queues).
    pub at_least_once: bool,
}

/// Which message goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priorities {
    /// The oldest.
    #[default]
    None,
    /// The one with the highest priority, up to this one (`x-max-priority`); then the oldest.
    Strict(u8),
    /// Two levels, normal (0 to 4) and high (5 and above), two high ones for one normal one while
    /// there are both (quorum queues, RabbitMQ 4.0 to 4.2).
    TwoToOne,
}

/// Effective settings of a queue. Times are milliseconds, sizes bytes; none is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Longest time that a message stays ready (`x-message-ttl`).
    pub message_ttl_millis: Option<u64>,
    /// The queue goes after this long without consumers, gets and declarations (`x-expires`).
    pub expires_millis: Option<u64>,
    /// Most ready messages (`x-max-length`).
    pub max_length: Option<u64>,
    /// Most bytes of bodies of ready messages (`x-max-length-bytes`).
    pub max_length_bytes: Option<u64>,
    /// What happens at either.
    pub overflow: Overflow,
    /// None: what dies is gone.
    pub dead_lettering: Option<DeadLettering>,
    /// Which message goes first.
    pub priorities: Priorities,
    /// Only one consumer at a time gets messages (`x-single-active-consumer`).
    pub single_active_consumer: bool,
    /// A message that was given back more often than this dies with reason `delivery_limit`.
    pub delivery_limit: Option<u32>,
    /// How long a delivery may stay unsettled (`x-consumer-timeout`); none: the node's own limit.
    pub consumer_timeout_millis: Option<u64>,
    /// Returns to the queue are counted, persisted and told to consumers (`x-delivery-count`).
    pub counts_deliveries: bool,
}
