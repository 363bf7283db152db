//! What a queue may hold: every limit that binds, what it counts, and what happens at it.

use crate::flow::FLOWS;
use crate::number::{finite, real};
use crate::series::Weights;

/// What runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// The queue's own limit on messages (`x-max-length`).
    MaxLength,
    /// The queue's own limit on bytes (`x-max-length-bytes`).
    MaxLengthBytes,
    /// The memory budget of the node, shared by its queues.
    Memory,
    /// The free space of the node's disk, shared by its queues.
    Disk,
}

impl Resource {
    /// Whether other queues fill it as well.
    #[must_use]
    pub fn is_shared(self) -> bool {
        match self {
            Self::MaxLength | Self::MaxLengthBytes => false,
            Self::Memory | Self::Disk => true,
        }
    }
}

/// What happens when a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Publishers are blocked (`connection.blocked`) until there is room.
    Block,
    /// Publishes are refused (`basic.nack`).
    Refuse,
    /// The oldest messages are dropped.
    DropOldest,
    /// The oldest messages are dead-lettered.
    DeadLetter,
}

/// How much of a resource messages and bytes take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// For each message, whatever its size.
    pub per_message: f64,
    /// For each byte.
    pub per_byte: f64,
}

/// A resource, how much of it is left, and how fast it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// What runs out.
    pub resource: Resource,
    /// What happens then.
    pub outcome: Outcome,
    /// All there is, in messages or bytes.
    pub capacity: u64,
    /// What is taken already. It may be more than the capacity: then nothing is left.
    pub used: u64,
    /// What a message takes.
    pub cost: Cost,
}

/// A disk that all queues of a node share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disk {
    /// Bytes that are free now.
    pub free_bytes: u64,
    /// At so many free bytes publishers are blocked.
    pub reserve_bytes: u64,
    /// Bytes that the queues of this node hold on it.
    pub used_bytes: u64,
    /// What the log adds to each message.
    pub record_bytes: u64,
    /// Bytes written for a byte held: the log's garbage, copies. At least 1.
    pub overhead: f64,
}

impl Limit {
    /// A limit on the messages of a queue that holds `messages`.
    #[must_use]
    pub fn max_length(capacity: u64, messages: u64, outcome: Outcome) -> Self {
        Self {
            resource: Resource::MaxLength,
            outcome,
            capacity,
            used: messages,
            cost: Cost {
                per_message: 1.0,
                per_byte: 0.0,
            },
        }
    }

    /// A limit on the bytes of a queue that holds `bytes`.
    #[must_use]
    pub fn max_length_bytes(capacity: u64, bytes: u64, outcome: Outcome) -> Self {
        Self {
            resource: Resource::MaxLengthBytes,
            outcome,
            capacity,
            used: bytes,
            cost: Cost {
                per_message: 0.0,
                per_byte: 1.0,
            },
        }
    }

    /// The memory budget of a node; `per_message` bytes are kept in memory for each message and
    /// `per_byte` of each byte of it.
    #[must_use]
    pub fn memory(budget_bytes: u64, used_bytes: u64, cost: Cost) -> Self {
        Self {
            resource: Resource::Memory,
            outcome: Outcome::Block,
            capacity: budget_bytes,
            used: used_bytes,
            cost,
        }
    }

    /// The disk of a node.
    #[must_use]
    pub fn disk(disk: Disk) -> Self {
        let left_bytes = disk.free_bytes.saturating_sub(disk.reserve_bytes);
        let overhead = finite(disk.overhead).max(1.0);
        Self {
            resource: Resource::Disk,
            outcome: Outcome::Block,
            capacity: disk.used_bytes.saturating_add(left_bytes),
            used: disk.used_bytes,
            cost: Cost {
                per_message: real(disk.record_bytes) * overhead,
                per_byte: overhead,
            },
        }
    }

    /// What is left, in messages or bytes; 0 if more is used than there is.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    pub(crate) fn inflow(&self) -> Weights {
        let [per_message, per_byte] = self.costs();
        [per_message, 0.0, per_byte, 0.0]
    }

    pub(crate) fn outflow(&self) -> Weights {
        let [per_message, per_byte] = self.costs();
        [0.0, per_message, 0.0, per_byte]
    }

    pub(crate) fn net(&self) -> Weights {
        let mut net = self.inflow();
        for (kind, out) in self.outflow().into_iter().enumerate().take(FLOWS) {
            net[kind] -= out;
        }
        net
    }

    pub(crate) fn costs(&self) -> [f64; 2] {
        [self.cost.per_message, self.cost.per_byte].map(|cost| finite(cost).max(0.0))
    }
}
