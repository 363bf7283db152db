//! What clients saw and what crossed the waist, as a list of facts in one global order.
//!
//! The history is the only thing the checkers look at: they are pure functions of it and know
//! nothing of the simulator. A fact's place in the list is its time; it is all the checkers need,
//! because the simulator is one thread and sees everything. Promises that speak of time go by the
//! virtual time that is kept with it.
//!
//! Most facts are the clients' (sent, received). Three come from inside: `Emitted` (the node
//! handed a delivery to a connection, the moment contract C8 and C9 speak of; the bytes may still
//! be under way while another consumer already has the next delivery of the same message),
//! `ConfirmSent` with what was durable then, and `Crash`.

use crate::register::Operation;

/// A place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub usize);

/// Unique number of a published message; never published twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// A queue by name: its place in [`History::queues`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueRef(pub usize);

/// One life of a client's channel, from open to close; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey(pub u64);

/// One delivery leaving the node; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Emission(pub u64);

/// One purge or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Removal(pub u64);

/// One commit of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(pub u64);

/// What a client wanted with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with it.
    Ack,
    /// Reject or nack without requeue.
    Discard,
    /// Back to the queue.
    Requeue,
}

/// What removes messages at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalKind {
    /// Ready messages only.
    Purge,
    /// The queue with all it holds.
    Delete,
}

/// What a policy says of the queues that policies rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// There is none.
    #[default]
    Nothing,
    /// What dies goes to the grave.
    DeadLetters,
    /// As `DeadLetters`, and what is too much dies.
    Length,
    /// As `DeadLetters`, and messages live so long.
    TimeToLive,
    /// What is too much dies and is gone.
    LossyLength,
}

impl Rules {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Nothing,
        Self::DeadLetters,
        Self::Length,
        Self::TimeToLive,
        Self::LossyLength,
    ];

    /// Messages that a ruled queue may hold.
    pub const LENGTH_MAX: u32 = 5;
    /// How long messages live in one, in milliseconds.
    pub const TTL_MILLIS: u16 = 300;

    /// Whether dead letters are made.
    pub fn makes_dead_letters(self) -> bool {
        matches!(self, Self::DeadLetters | Self::Length | Self::TimeToLive)
    }

    /// Whether there is a limit on the length.
    pub fn limits_length(self) -> bool {
        matches!(self, Self::Length | Self::LossyLength)
    }
}

/// What the checkers must know of a queue.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct QueueFacts {
    /// Its name.
    pub name: String,
    /// It survives a crash.
    pub durable: bool,
    /// Nothing but settlements, purges, deletes and dead-lettering takes from it: no consumer
    /// without acks, no automatic deletion.
    pub lossless: bool,
    /// Fresh deliveries follow the order of publishing: no priorities, no dead letters that come
    /// in between.
    pub ordered: bool,
    /// Where its dead letters go. Messages die in it of what a client says (a reject), of time,
    /// of a limit.
    pub dead_letters_to: Option<QueueRef>,
    /// Other queues' dead letters come to it: a message can be in it several times.
    pub gets_dead_letters: bool,
    /// Its messages are in several partitions, by their routing keys.
    pub is_partitioned: bool,
    /// Policies say what becomes of its messages; its dead letters, if any, go where
    /// `dead_letters_to` says.
    pub is_ruled: bool,
    /// It refuses publishes when it is full.
    pub refuses: bool,
    /// It is kept by several nodes: whatever is in it survives, and urgent messages go first.
    pub is_replicated: bool,
    /// How long messages live in it, in milliseconds.
    pub ttl_millis: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A client sent a publish.
    Published {
        /// The message.
        id: MessageId,
        /// On this channel.
        channel: ChannelKey,
        /// Its number, on a channel in confirm mode.
        seq: Option<u64>,
        /// Delivery mode 2.
        persistent: bool,
        /// With `mandatory`.
        mandatory: bool,
        /// Its own time to live, in milliseconds.
        ttl_millis: Option<u64>,
        /// For how long its exchange delays it, in milliseconds.
        delay_millis: Option<u64>,
        /// In a transaction.
        in_tx: bool,
        /// A hash of its routing key.
        key_hash: u64,
    },
    /// A client sent `tx.commit`.
    Committing {
        /// This one.
        commit: Commit,
        /// What was published in the transaction, in order.
        messages: Vec<MessageId>,
    },
    /// A client received `tx.commit-ok`.
    Committed {
        /// Of this one.
        commit: Commit,
    },
    /// Where the message had to go and where else it may have gone, by what was known of the
    /// topology while it was under way.
    Routed {
        /// The message.
        id: MessageId,
        /// Certainly bound the whole time.
        must: Vec<QueueRef>,
        /// Perhaps bound for a part of it. Where only its dead letters get is not among them.
        may: Vec<QueueRef>,
    },
    /// The node emitted a confirm covering the message.
    ConfirmSent {
        /// The message.
        id: MessageId,
        /// It was on disk and synced, or it did not have to be.
        synced: bool,
    },
    /// A client received `basic.ack` for its publishes.
    Confirmed {
        /// On this channel.
        channel: ChannelKey,
        /// Delivery tag.
        tag: u64,
        /// All up to it.
        multiple: bool,
    },
    /// A client received `basic.nack` for its publishes.
    Nacked {
        /// On this channel.
        channel: ChannelKey,
        /// Delivery tag.
        tag: u64,
        /// All up to it.
        multiple: bool,
    },
    /// A client received `basic.return`.
    Returned {
        /// The message.
        id: MessageId,
    },
    /// The node emitted a delivery.
    Emitted {
        /// This one.
        emission: Emission,
        /// The node to which its client is connected.
        node: usize,
        /// From this queue, by the node's own id.
        queue_id: u64,
        /// From this place in it.
        index: u64,
        /// The message.
        id: MessageId,
        /// As the node flagged it.
        redelivered: bool,
        /// When the queue's server handed it out, which may be another node.
        handed_out: Stamp,
        /// That server knew all that was defined before.
        known: Stamp,
    },
    /// A client received a delivery.
    Received {
        /// The one emitted.
        emission: Emission,
        /// On this channel.
        channel: ChannelKey,
        /// From this queue, by the client's knowledge of what it consumes.
        queue: QueueRef,
        /// The message the bytes name.
        id: MessageId,
        /// As the bytes say.
        redelivered: bool,
        /// Body, properties, exchange and routing key are as published.
        intact: bool,
        /// When the client sent the get or the consume that it answers.
        asked: Stamp,
    },
    /// A client was told how many messages are ready in a queue: at most so many.
    Counted {
        /// The queue.
        queue: QueueRef,
        /// When it had asked.
        asked: Stamp,
        /// So many; none if a get was answered with `basic.get-empty`.
        ready: u64,
    },
    /// A client sent a settlement.
    Settled {
        /// Of this delivery.
        emission: Emission,
        /// What it said.
        settlement: Settlement,
    },
    /// A client received `channel.close-ok` or `connection.close-ok`: its settlements on the
    /// channel are persisted (contract C9).
    Barrier {
        /// The channel.
        channel: ChannelKey,
    },
    /// A client sent a purge or delete.
    Removing {
        /// This one.
        removal: Removal,
        /// Of this queue.
        queue: QueueRef,
        /// Which.
        kind: RemovalKind,
    },
    /// A purge or delete can have no effect after this: answered, or its session is gone.
    RemovalOver {
        /// This one.
        removal: Removal,
        /// It was answered with success.
        done: bool,
    },
    /// A client sent a change of the definitions, or heard of its success or refusal.
    Defined {
        /// Which one, by its number in the model of the definitions.
        operation: u64,
        /// Its answer.
        success: Option<bool>,
    },
    /// An operator sent a policy, or took it away.
    Ruling {
        /// What it says from then on.
        rules: Rules,
        /// Which one, by its number.
        operation: Operation,
    },
    /// That was answered with success.
    Ruled {
        /// Which one.
        operation: Operation,
    },
    /// The node lost power, or stopped.
    Crash,
    /// A bit flipped on the disk. A damaged final batch cannot be told from a torn one
    /// (contract C20), so promises about what was in it no longer hold; wrong bytes stay wrong.
    Damaged,
    /// A queue was seen empty at the end, after everything received from it was settled.
    Drained {
        /// The queue.
        queue: QueueRef,
    },
    /// Something did not happen in time although no fault stood in its way.
    Stuck {
        /// What.
        what: String,
    },
    /// A definition was not as the answers before said (contract C5).
    DefinitionWrong {
        /// What.
        what: String,
    },
    /// Members of a group disagree about what must be the same.
    ConsensusBroken {
        /// What.
        what: String,
    },
    /// A rule of the protocol was broken that needs no history to see.
    ProtocolBroken {
        /// What.
        what: String,
    },
}

/// The facts of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The queues, in the order [`QueueRef`] counts.
    pub queues: Vec<QueueFacts>,
    /// Several nodes keep the queues.
    pub is_cluster: bool,
    /// Nothing may be refused that could be taken.
    pub refuses_nothing: bool,
    /// By how much the clocks of nodes may differ, in nanoseconds.
    pub clock_slack_nanos: u64,
    /// Virtual time of what happens next, in nanoseconds.
    pub now_nanos: u64,
    facts: Vec<Fact>,
    /// When each happened.
    times: Vec<u64>,
}

impl History {
    /// An empty history over `queues`.
    pub fn new(queues: Vec<QueueFacts>) -> Self {
        Self {
            queues,
            ..Self::default()
        }
    }

    /// The queue, and those in which its dead letters may be.
    pub fn line_of_death(&self, queue: QueueRef) -> impl Iterator<Item = QueueRef> + '_ {
        std::iter::successors(Some(queue), |at| self.queues[at.0].dead_letters_to)
    }

    /// Adds a fact and says where.
    pub fn push(&mut self, fact: Fact) -> Stamp {
        self.facts.push(fact);
        self.times.push(self.now_nanos);
        Stamp(self.facts.len() - 1)
    }

    /// Virtual time of the fact there, in nanoseconds.
    pub fn time(&self, stamp: Stamp) -> u64 {
        self.times[stamp.0]
    }

    /// Where the next fact will be.
    pub fn next_stamp(&self) -> Stamp {
        Stamp(self.facts.len())
    }

    /// The facts with their places.
    pub fn iter(&self) -> impl Iterator<Item = (Stamp, &Fact)> {
        self.facts
            .iter()
            .enumerate()
            .map(|(index, fact)| (Stamp(index), fact))
    }

    /// How many facts there are.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }
}
