//! What a declaration asks for.

use std::fmt;

use crate::{FieldTable, Name};

/// How an exchange chooses where a message goes (AMQP 0-9-1, section 3.1.3; the others are
/// RabbitMQ's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Binding key is a pattern of words, `*` and `#`.
    Topic,
    /// Binding arguments are compared with the message's headers.
    Headers,
    /// One binding, chosen by a hash so that few messages move when bindings change; the binding
    /// key is a weight.
    ConsistentHash,
    /// One binding, chosen by a hash modulo the number of bindings.
    ModulusHash,
    /// One binding, chosen at random.
    Random,
    /// As `Random`, among queues on this node.
    LocalRandom,
}

impl ExchangeKind {
    /// The kind a client asked for by name; none if there is no such kind.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"direct" => Some(Self::Direct),
            b"fanout" => Some(Self::Fanout),
            b"topic" => Some(Self::Topic),
            b"headers" => Some(Self::Headers),
            b"x-consistent-hash" => Some(Self::ConsistentHash),
            b"x-modulus-hash" => Some(Self::ModulusHash),
            b"x-random" => Some(Self::Random),
            b"x-local-random" => Some(Self::LocalRandom),
            _ => None,
        }
    }

    /// The name clients use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Properties of an exchange, compared when it is declared again (AMQP 0-9-1,
/// exchange.declare).
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeOptions {
    /// The kind by name, not yet checked: an unknown one is refused by the catalog.
    pub kind: Name,
    /// Survives a restart.
    pub durable: bool,
    /// Goes when its last binding goes.
    pub auto_delete: bool,
    /// Refuses publishes from clients; reached through other exchanges only.
    pub internal: bool,
    /// `x-` arguments, `alternate-exchange` among them.
    pub arguments: FieldTable,
}

/// Properties of a queue, compared when it is declared again (AMQP 0-9-1, queue.declare).
#[derive(Clone, Debug, PartialEq)]
pub struct QueueOptions {
    /// Survives a restart. An exclusive queue never does, whatever this says.
    pub durable: bool,
    /// Belongs to the declaring connection and goes with it.
    pub exclusive: bool,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// `x-` arguments.
    pub arguments: FieldTable,
}
