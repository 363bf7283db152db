//! The history by message, by delivery and by removal.

use std::collections::BTreeMap;

use crate::history::{
    ChannelKey, Commit, Emission, Fact, History, MessageId, QueueRef, Removal, RemovalKind,
    Settlement, Stamp,
};

/// The life of a message as its publisher saw it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Message<'a> {
    /// When it was sent.
    pub sent: Stamp,
    /// On which channel.
    pub channel: ChannelKey,
    /// Delivery mode 2.
    pub persistent: bool,
    /// With `mandatory`.
    pub mandatory: bool,
    /// Its own time to live, in milliseconds.
    pub ttl_millis: Option<u64>,
    /// For how long its exchange delays it, in milliseconds.
    pub delay_millis: Option<u64>,
    /// It was published in a transaction.
    pub in_tx: bool,
    /// A hash of its routing key.
    pub key_hash: u64,
    /// When the commit of that was sent.
    pub committing: Option<Stamp>,
    /// When its confirm, or the answer to its commit, came.
    pub confirmed: Option<Stamp>,
    /// It was refused.
    pub is_refused: bool,
    /// When it came back.
    pub returned: Option<Stamp>,
    /// Queues it had to reach.
    pub must: &'a [QueueRef],
    /// Queues it may have reached besides.
    pub may: &'a [QueueRef],
}

/// The life of a delivery.
#[derive(Debug)]
pub struct Delivery {
    /// When the node emitted it.
    pub emitted: Stamp,
    /// When the queue's server handed it out: what comes from another node has been under way.
    pub handed_out: Stamp,
    /// That server knew all that was defined before.
    pub known: Stamp,
    /// From which queue, by the node's id.
    pub queue_id: u64,
    /// The message.
    pub id: MessageId,
    /// Flagged by the node.
    pub redelivered: bool,
    /// Where a client received it, if one did.
    pub received: Option<(ChannelKey, QueueRef)>,
    /// When that client asked for it, or for whatever comes.
    pub asked: Option<Stamp>,
    /// When it was settled without going back, if it was.
    pub settled: Option<Stamp>,
    /// It was settled by a reject.
    pub is_rejected: bool,
}

/// A purge or delete.
#[derive(Debug)]
pub struct RemovalSpan {
    /// Of which queue.
    pub queue: QueueRef,
    /// Which.
    pub kind: RemovalKind,
    /// When it was sent.
    pub started: Stamp,
    /// When it could have no more effect.
    pub over: Option<Stamp>,
    /// It was answered with success.
    pub done: bool,
}

/// The index.
#[derive(Debug, Default)]
pub struct Index<'a> {
    /// Messages by id.
    pub messages: BTreeMap<MessageId, Message<'a>>,
    /// Deliveries in the order of their emission.
    pub deliveries: BTreeMap<Emission, Delivery>,
    /// Purges and deletes.
    pub removals: BTreeMap<Removal, RemovalSpan>,
    /// When the node crashed.
    pub crashes: Vec<Stamp>,
    /// When commits were sent, and what was published in their transactions, in order.
    pub commits: BTreeMap<Commit, (Stamp, &'a [MessageId])>,
    /// Publishes that wait for their confirm, by channel and number.
    outstanding: BTreeMap<(ChannelKey, u64), MessageId>,
}

impl<'a> Index<'a> {
    /// Reads the history once.
    pub fn build(history: &'a History) -> Self {
        let mut index = Self::default();
        for (stamp, fact) in history.iter() {
            index.add_publish_side(stamp, fact);
            index.add_commits(stamp, fact);
            index.add_consume_side(stamp, fact);
        }
        index
    }

    /// Queues by the ids under which the node knows them, as far as something came from them.
    pub fn queue_ids(&self) -> BTreeMap<u64, QueueRef> {
        let received = self.deliveries.values().filter_map(|delivery| {
            let (_, queue) = delivery.received?;
            Some((delivery.queue_id, queue))
        });
        received.collect()
    }

    /// Those of them that get the dead letters of others: a message may be in them several times.
    pub fn graves(&self, history: &History) -> BTreeMap<u64, QueueRef> {
        let mut queues = self.queue_ids();
        queues.retain(|_, queue| history.queues[queue.0].gets_dead_letters);
        queues
    }

    /// Whether an exchange has delayed the message: a crash may bring it to a queue once more.
    pub fn is_delayed(&self, id: MessageId) -> bool {
        let message = self.messages.get(&id);
        message.is_some_and(|message| message.delay_millis.is_some())
    }

    /// Whether the node crashed at or after `stamp`.
    pub fn crashed_after(&self, stamp: Stamp) -> bool {
        self.crashes.last().is_some_and(|last| *last >= stamp)
    }

    fn add_publish_side(&mut self, stamp: Stamp, fact: &'a Fact) {
        match fact {
            Fact::Published {
                id,
                channel,
                seq,
                persistent,
                mandatory,
                ttl_millis,
                delay_millis,
                in_tx,
                key_hash,
            } => {
                if let Some(seq) = seq {
                    self.outstanding.insert((*channel, *seq), *id);
                }
                let (persistent, mandatory) = (*persistent, *mandatory);
                let message = Message {
                    sent: stamp,
                    channel: *channel,
                    persistent,
                    mandatory,
                    ttl_millis: *ttl_millis,
                    delay_millis: *delay_millis,
                    in_tx: *in_tx,
                    key_hash: *key_hash,
                    committing: None,
                    confirmed: None,
                    is_refused: false,
                    returned: None,
                    must: &[],
                    may: &[],
                };
                self.messages.insert(*id, message);
            }
            Fact::Routed { id, must, may } => {
                if let Some(message) = self.messages.get_mut(id) {
                    message.must = must;
                    message.may = may;
                }
            }
            Fact::Confirmed {
                channel,
                tag,
                multiple,
            } => {
                for id in self.take_outstanding(*channel, *tag, *multiple) {
                    if let Some(message) = self.messages.get_mut(&id) {
                        message.confirmed = Some(stamp);
                    }
                }
            }
            Fact::Nacked {
                channel,
                tag,
                multiple,
            } => {
                for id in self.take_outstanding(*channel, *tag, *multiple) {
                    if let Some(message) = self.messages.get_mut(&id) {
                        message.is_refused = true;
                    }
                }
            }
            Fact::Returned { id } => {
                if let Some(message) = self.messages.get_mut(id) {
                    message.returned.get_or_insert(stamp);
                }
            }
            _ => {}
        }
    }

    fn add_commits(&mut self, stamp: Stamp, fact: &'a Fact) {
        match fact {
            Fact::Committing { commit, messages } => {
                self.commits.insert(*commit, (stamp, messages));
                for id in messages {
                    if let Some(message) = self.messages.get_mut(id) {
                        message.committing = Some(stamp);
                    }
                }
            }
            Fact::Committed { commit } => {
                for id in self.commits.get(commit).map_or(&[][..], |(_, ids)| *ids) {
                    if let Some(message) = self.messages.get_mut(id) {
                        message.confirmed = Some(stamp);
                    }
                }
            }
            _ => {}
        }
    }

    fn take_outstanding(
        &mut self,
        channel: ChannelKey,
        tag: u64,
        multiple: bool,
    ) -> Vec<MessageId> {
        let first = if multiple { 0 } else { tag };
        let covered: Vec<_> = self
            .outstanding
            .range((channel, first)..=(channel, tag))
            .map(|(key, _)| *key)
            .collect();
        covered
            .iter()
            .filter_map(|key| self.outstanding.remove(key))
            .collect()
    }

    fn add_consume_side(&mut self, stamp: Stamp, fact: &Fact) {
        match fact {
            Fact::Emitted {
                emission,
                queue_id,
                id,
                redelivered,
                handed_out,
                known,
                ..
            } => {
                let delivery = Delivery {
                    emitted: stamp,
                    handed_out: *handed_out,
                    known: *known,
                    queue_id: *queue_id,
                    id: *id,
                    redelivered: *redelivered,
                    received: None,
                    asked: None,
                    settled: None,
                    is_rejected: false,
                };
                self.deliveries.insert(*emission, delivery);
            }
            Fact::Received {
                emission,
                channel,
                queue,
                asked,
                ..
            } => {
                if let Some(delivery) = self.deliveries.get_mut(emission) {
                    delivery.received = Some((*channel, *queue));
                    delivery.asked = Some(*asked);
                }
            }
            Fact::Settled {
                emission,
                settlement: settlement @ (Settlement::Ack | Settlement::Discard),
            } => {
                if let Some(delivery) = self.deliveries.get_mut(emission) {
                    delivery.settled = Some(stamp);
                    delivery.is_rejected = *settlement == Settlement::Discard;
                }
            }
            Fact::Removing {
                removal,
                queue,
                kind,
            } => {
                let (queue, kind) = (*queue, *kind);
                let span = RemovalSpan {
                    queue,
                    kind,
                    started: stamp,
                    over: None,
                    done: false,
                };
                self.removals.insert(*removal, span);
            }
            Fact::RemovalOver { removal, done } => {
                if let Some(span) = self.removals.get_mut(removal) {
                    span.over = Some(stamp);
                    span.done = *done;
                }
            }
            Fact::Crash => self.crashes.push(stamp),
            _ => {}
        }
    }
}
