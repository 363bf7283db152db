//! The pure broker model: what exists, where a message goes, and what state a queue is in.
//!
//! Two machines live here and never call each other. The [`Catalog`] knows virtual hosts,
//! exchanges, bindings and queues by name; it changes by [`CatalogCommand`]s and answers where a
//! message goes. A [`Queue`] knows its messages by [`MessageIndex`](staunch_types::MessageIndex)
//! and its consumers, and decides who gets what; what it must remember across a restart it says
//! in [`QueueCommand`]s. Neither knows AMQP bytes, disks, clocks or threads; both are functions
//! of their state and input.

pub mod catalog;
pub mod dead_letter;
mod encoding;
mod exchange;
pub mod password;
pub mod pattern;
pub mod queue;
mod settings;

pub use catalog::{
    Access, Applied, ApplyTo, Binding, Catalog, CatalogCommand, CatalogLimits, Change,
    LIFE_MILLIS_MAX, MEMBERS_MAX, NodeCommand, NodeEntry, NodeState, PARTITIONS, PARTITIONS_MAX,
    PARTITIONS_MIN, ParameterCommand, ParameterValue, Partitioning, PermissionCommand,
    PermissionPatterns, Placement, Policy, PolicyCommand, PolicyScope, QueueEntry, QueueKind,
    Route, TopicPatterns, User, UserCommand, UserLimits, VhostCommand, VhostLimits, VhostMetadata,
    partition_count, partition_of,
};
pub use encoding::DecodeError;
pub use exchange::{DELAY_MILLIS_MAX, Envelope, properties_after_delay};
pub use password::{HashAlgorithm, PasswordHash};
pub use queue::{
    Arrival, Assignment, CONSUMERS_PER_QUEUE_MAX, ConsumerSpec, Death, Departed, Durability, Dying,
    ENTRY_MESSAGES_MAX, EntryHead, Got, Holding, Indexes, MESSAGES_PER_QUEUE_MAX, META_SIZE_BYTES,
    NextDelivery, Origin, Queue, QueueCommand, Refused, Released, Restored, SettledClaim,
    UnknownDelivery, consumer_identity,
};
pub use settings::{
    DELIVERY_LIMIT_DEFAULT, DeadLettering, Overflow, PartitionPlace, Priorities, QueueSettings,
    duration_millis,
};
