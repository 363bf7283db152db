//! Samples of all that is counted, for whoever owns the statistics.
//!
//! A sample holds what has changed since the one before it. Its parts are bounded, so that the node
//! is held for a millisecond or two, however many queues there are; who wants the rest asks again.
//! Nothing is remembered for it before the first one was taken.

use std::{collections::BTreeMap, mem, sync::Arc};

use staunch_broker::{QueueKind, QueueSettings};
use staunch_types::{ChannelNumber, ConnectionId, Name, QueueId, Timestamp};

use crate::{
    counts::{ChannelCounts, Churn, ExchangeCounts, QueueCounts},
    node::Node,
    queues::QueueSlot,
    session::Session,
};

/// Queues in one sample.
pub const QUEUES_PER_SAMPLE_MAX: usize = 5_000;
/// Connections in one sample.
pub const CONNECTIONS_PER_SAMPLE_MAX: usize = 2_000;
/// What is remembered of things that are gone; more of them, and the next sample is a whole one.
const GONE_MAX: usize = 100_000;

/// What has changed since the sample before.
#[derive(Debug)]
pub struct Sample {
    /// The node's time.
    pub at: Timestamp,
    /// What is not named in this and the following samples, up to the one with nothing behind it,
    /// is gone: nothing is known of what was before.
    pub is_anew: bool,
    /// There is more: ask again.
    pub has_more: bool,
    /// Queues that have changed, in no order.
    pub queues: Vec<QueueSample>,
    /// Queues that are gone, with what they counted last.
    pub queues_gone: Vec<(QueueId, QueueKind, QueueCounts)>,
    /// Connections on which something happened, in no order.
    pub connections: Vec<ConnectionSample>,
    /// Connections that are gone.
    pub connections_gone: Vec<ConnectionId>,
    /// What all channels did that are closed.
    pub closed_channels: ChannelCounts,
    /// What came in to exchanges and went out of them since the sample before.
    pub exchanges: BTreeMap<(Name, Name), ExchangeCounts>,
    /// What came and went since the node was started.
    pub churn: Churn,
}

/// A queue, with what this node knows of it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four facts")]
pub struct QueueSample {
    /// Its id.
    pub id: QueueId,
    /// Its virtual host.
    pub vhost: Name,
    /// Its name.
    pub name: Name,
    /// Its type.
    pub kind: QueueKind,
    /// Whether this node hands out its messages. The numbers of others are for that one to tell.
    pub is_served_here: bool,
    /// It is a partition of a queue, whose numbers contain its own.
    pub is_partition: bool,
    /// Its messages are in the log; those of others are in memory.
    pub is_logged: bool,
    /// Its publishers are slowed (`horizon-slo`).
    pub is_slowed: bool,
    /// What its arguments and policies say together.
    pub settings: Arc<QueueSettings>,
    /// What happened.
    pub counts: QueueCounts,
    /// What it holds.
    pub held: Held,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Messages that could be delivered.
    pub ready_count: u64,
    /// Messages delivered and not settled.
    pub unacked_count: u64,
    /// All of them, with those that have died and wait to be passed on.
    pub message_count: u64,
    /// Bytes of the bodies of ready messages.
    pub ready_body_bytes: u64,
    /// Bytes of the bodies of unacked messages.
    pub unacked_body_bytes: u64,
    /// Consumers.
    pub consumer_count: u32,
    /// Memory of its index, in bytes.
    pub memory_size_bytes: u64,
}

/// A connection and its channels.
#[derive(Clone, Debug)]
pub struct ConnectionSample {
    /// Its id.
    pub id: ConnectionId,
    /// Channels that are open: number, which of those that had this number, what it did.
    pub channels: Vec<(ChannelNumber, u64, ChannelCounts)>,
}

/// What has changed since the last sample.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Somebody takes samples.
    is_kept: bool,
    /// The next sample begins anew.
    is_anew: bool,
    queues: Vec<QueueId>,
    queues_gone: Vec<(QueueId, QueueKind, QueueCounts)>,
    connections: Vec<ConnectionId>,
    connections_gone: Vec<ConnectionId>,
    closed_channels: ChannelCounts,
    pub(crate) churn: Churn,
}

impl Ledger {
    /// The queue has changed.
    pub(crate) fn queue_moves(&mut self, slot: &mut QueueSlot) {
        if self.is_kept && !slot.is_moved {
            slot.is_moved = true;
            self.queues.push(slot.id);
        }
    }

    /// A client has declared a queue, which this makes, or made before.
    pub(crate) fn queue_declared(&mut self, is_new: bool) {
        self.churn.queue_declared += 1;
        self.churn.queue_created += u64::from(is_new);
    }

    pub(crate) fn queue_goes(&mut self, slot: &QueueSlot) {
        self.churn.queue_deleted += u64::from(!slot.holds_delayed);
        if self.is_kept {
            let counts = slot.counts_now();
            self.queues_gone.push((slot.id, slot.kind, counts));
            self.bound();
        }
    }

    /// Something happened on the connection.
    #[inline]
    pub(crate) fn connection_moves(&mut self, session: &mut Session) {
        if self.is_kept && !session.is_moved {
            session.is_moved = true;
            self.connections.push(session.id);
        }
    }

    pub(crate) fn connection_goes(&mut self, session: &Session) {
        if session.client.is_some() && !session.vhost.is_empty() && session.shadow_of.is_none() {
            self.churn.connection_closed += 1;
        }
        if self.is_kept {
            self.connections_gone.push(session.id);
            self.bound();
        }
    }

    pub(crate) fn channel_closes(&mut self, session: &mut Session, counts: &ChannelCounts) {
        if session.shadow_of.is_none() {
            self.churn.channel_closed += 1;
            self.closed_channels.add(counts);
        }
        self.connection_moves(session);
    }

    /// Forgets everything rather than remember without end.
    fn bound(&mut self) {
        if self.queues_gone.len() + self.connections_gone.len() > GONE_MAX {
            *self = Self {
                closed_channels: self.closed_channels,
                churn: self.churn,
                ..Self::default()
            };
        }
    }
}

impl QueueSlot {
    /// What happened in it, as far as it is counted here.
    pub(crate) fn counts_now(&self) -> QueueCounts {
        QueueCounts {
            publish: self.queue.arrived_count(),
            publish_body_bytes: self.queue.arrived_body_bytes(),
            ..self.counts
        }
    }

    pub(crate) fn held(&self) -> Held {
        Held {
            ready_count: self.queue.ready_count(),
            unacked_count: self.queue.unacked_count(),
            message_count: self.queue.message_count(),
            ready_body_bytes: self.queue.ready_body_bytes(),
            unacked_body_bytes: self.queue.unacked_body_bytes(),
            consumer_count: self.queue.consumer_count(),
            memory_size_bytes: self.queue.memory_bytes() as u64,
        }
    }

    fn sample(&self) -> QueueSample {
        QueueSample {
            id: self.id,
            vhost: self.vhost.clone(),
            name: self.name.clone(),
            kind: self.kind,
            is_served_here: self.is_served_here(),
            is_partition: self.settings.partition.is_some(),
            is_logged: self.is_durable,
            is_slowed: self.is_slowed,
            settings: self.settings.clone(),
            counts: self.counts_now(),
            held: self.held(),
        }
    }
}

impl Node {
    /// What has changed since the last sample, or a part of it.
    pub(crate) fn sample(&mut self) -> Sample {
        if !self.ledger.is_kept {
            self.begin_ledger();
        }
        let queues = last(&mut self.ledger.queues, QUEUES_PER_SAMPLE_MAX);
        let queues = queues.into_iter().filter_map(|id| {
            let slot = self.queues.get_mut(id)?;
            slot.is_moved = false;
            (!slot.holds_delayed).then(|| slot.sample())
        });
        let queues = queues.collect();
        let connections = last(&mut self.ledger.connections, CONNECTIONS_PER_SAMPLE_MAX);
        let connections = connections.into_iter().filter_map(|id| {
            let slot = self.sessions.find(id)?;
            let session = self.sessions.get_mut(slot)?;
            session.is_moved = false;
            session.shadow_of.is_none().then(|| sample_of(session))
        });
        let connections = connections.collect();
        let ledger = &mut self.ledger;
        Sample {
            at: self.now,
            is_anew: mem::take(&mut ledger.is_anew),
            has_more: !ledger.queues.is_empty() || !ledger.connections.is_empty(),
            queues,
            queues_gone: mem::take(&mut ledger.queues_gone),
            connections,
            connections_gone: mem::take(&mut ledger.connections_gone),
            closed_channels: ledger.closed_channels,
            exchanges: self.routes.tally.take(),
            churn: ledger.churn,
        }
    }

    /// From now on it is remembered what changes; the first sample has everything.
    fn begin_ledger(&mut self) {
        let ledger = &mut self.ledger;
        (ledger.is_kept, ledger.is_anew) = (true, true);
        for slot in self.queues.iter_mut() {
            slot.is_moved = true;
            ledger.queues.push(slot.id);
        }
        for slot in self.sessions.slots() {
            if let Some(session) = self.sessions.get_mut(slot) {
                session.is_moved = true;
                ledger.connections.push(session.id);
            }
        }
    }
}

fn sample_of(session: &Session) -> ConnectionSample {
    let channels = session.channels.iter();
    ConnectionSample {
        id: session.id,
        channels: channels
            .map(|(number, open)| (*number, open.opening, open.counts))
            .collect(),
    }
}

/// Takes at most so many from the end.
fn last<T>(list: &mut Vec<T>, count_max: usize) -> Vec<T> {
    list.split_off(list.len().saturating_sub(count_max))
}
