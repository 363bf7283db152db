//! The queue state machine: a total order of messages, and who holds which.
//!
//! A message is *ready*, *unacked* (a consumer holds it), or gone. Messages are handed out in
//! the order of their indexes. One that is given back keeps its index and so its place: since
//! whatever was never handed out has a higher index, "returned ones first, by index" is the
//! original order, and needs no list beside the ready bits. The lowest index never handed out
//! (`fresh`) separates the two regions; a hint remembers where the returned ones begin.
//!
//! Nothing here waits or calls: the owner enqueues, asks [`Queue::assign_next`] while it can
//! deliver, settles, and writes to the log what [`QueueCommand`] says. See [`watermark`] for why
//! a durable queue sometimes has a message and a consumer and yet assigns nothing.

mod arrival;
mod command;
mod consumers;
mod departed;
mod entries;
mod recovery;
mod unacked;
mod watermark;

#[cfg(test)]
mod tests;

use staunch_types::{BodyRef, ConsumerKey, MessageIndex, Outcome, UnixMillis};

pub use arrival::{Arrival, META_SIZE_BYTES};
pub use command::QueueCommand;
pub use consumers::CONSUMERS_PER_QUEUE_MAX;
pub use departed::{Death, Departed, Dying};
pub use recovery::{MESSAGES_PER_QUEUE_MAX, Restored};

use consumers::{Consumers, Slot};
use entries::{Entries, Holder, Position, Totals};
use recovery::Recovery;
use watermark::Watermark;

use crate::settings::QueueSettings;

/// A message that left the queue: its index, where its body is, and its size in bytes.
pub type Released = (MessageIndex, BodyRef, u32);

/// Whether a queue outlives its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It does not: no watermark, nothing to persist.
    Transient,
    /// It does: a message is handed out only below the reserved watermark (contract C8).
    Durable,
}

/// A consumer to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Its key, not in use on this queue.
    pub key: ConsumerKey,
    /// Deliveries are settled as they are handed out, and `prefetch` does not count.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Deliveries that may be unsettled; 0 is no limit.
    pub prefetch: u16,
    /// Higher ones are served first (`x-priority`).
    pub priority: i32,
}

/// Why a consumer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Someone consumes exclusively, or exclusiveness was asked of a queue in use (403).
    #[error("queue in exclusive use")]
    ExclusiveUse,
    /// The queue has [`CONSUMERS_PER_QUEUE_MAX`] consumers.
    #[error("too many consumers on one queue")]
    TooManyConsumers,
}

/// A message handed to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who gets it.
    pub consumer: ConsumerKey,
    /// Its place in the queue.
    pub index: MessageIndex,
    /// Where its body is.
    pub body: BodyRef,
    /// Its size in bytes.
    pub size_bytes: u32,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// How often it was given back, where returns are counted; else 0.
    pub delivery_count: u32,
    /// It has left the queue: `no_ack`. A durable queue's caller persists that it is settled.
    pub settled: bool,
}

/// Answer to [`Queue::get`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// A message.
    Message(Assignment),
    /// None is ready.
    Empty,
    /// The next message lies above the reserved watermark. Persist
    /// [`Queue::needs_reservation`], then ask again.
    AwaitsReservation,
}

/// A settlement named deliveries that the consumer does not hold; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("consumer {consumer} does not hold message {index}")]
pub struct UnknownDelivery {
    /// The consumer.
    pub consumer: ConsumerKey,
    /// First index it does not hold.
    pub index: MessageIndex,
}

/// A queue.
#[derive(Debug)]
pub struct Queue {
    entries: Entries,
    /// Lowest index that this process has not handed out and nobody has purged.
    fresh: u64,
    /// Ready messages below `fresh`.
    returned_count: u64,
    /// No returned message lies below this index.
    returned_from: u64,
    ready: Totals,
    unacked: Totals,
    watermark: Watermark,
    /// Absent while nobody consumes or holds anything.
    consumers: Option<Box<Consumers>>,
    /// Present between a restart and the end of recovery.
    recovery: Option<Box<Recovery>>,
}

impl Queue {
    /// A new, empty queue.
    pub fn new(durability: Durability, _settings: &QueueSettings) -> Self {
        Self {
            entries: Entries::default(),
            fresh: 0,
            returned_count: 0,
            returned_from: 0,
            ready: Totals::default(),
            unacked: Totals::default(),
            watermark: Watermark::new(durability, 0),
            consumers: None,
            recovery: None,
        }
    }

    /// Adds a message at the end.
    pub fn enqueue(&mut self, arrival: Arrival) -> MessageIndex {
        debug_assert!(
            self.recovery.is_none(),
            "nothing is published to a queue in recovery"
        );
        self.ready.add(arrival.sizes());
        self.entries.push(&arrival)
    }

    /// The index the next message gets.
    pub fn next_index(&self) -> MessageIndex {
        MessageIndex(self.entries.next_index())
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// [`Refused`] if somebody else is in the way.
    ///
    /// # Panics
    /// If the key still holds deliveries of this queue.
    pub fn add_consumer(&mut self, spec: ConsumerSpec) -> Result<(), Refused> {
        self.consumers.get_or_insert_default().add(spec)
    }

    /// Ends a consumer. What it holds stays its own until it settles or
    /// [`Queue::requeue_all`]. False if there is no such consumer.
    pub fn remove_consumer(&mut self, key: ConsumerKey) -> bool {
        let removed = self
            .consumers
            .as_mut()
            .is_some_and(|consumers| consumers.remove(key));
        self.drop_consumers_if_empty();
        removed
    }

    /// While blocked (its channel has no credit, its connection is congested) a consumer is
    /// skipped.
    pub fn set_consumer_blocked(&mut self, key: ConsumerKey, blocked: bool) {
        if let Some(consumers) = &mut self.consumers {
            consumers.set_blocked(key, blocked);
        }
    }

    /// Keys of the consumers, ascending.
    pub fn consumer_keys(&self) -> impl Iterator<Item = ConsumerKey> {
        self.consumers.iter().flat_map(|consumers| consumers.keys())
    }

    /// The next message to hand out, to whomever and whether or not a reservation covers it.
    pub fn peek_next(&self) -> Option<Released> {
        self.next_ready().map(|position| self.entries.at(position))
    }

    /// Ready messages in the order in which they would be handed out.
    pub fn upcoming(&self) -> impl Iterator<Item = Released> {
        self.entries.ready_from(self.search_from())
    }

    /// The live message at `index`: where its body is now.
    pub fn message(&self, index: MessageIndex) -> Option<Released> {
        self.entries.message(index.0).map(|(message, _)| message)
    }

    /// What is kept beside the message in the log, as [`Arrival::meta`] said when it came; zeros
    /// if it is gone. A queue without priorities has forgotten the message's own.
    pub fn meta_of(&self, index: MessageIndex) -> [u8; META_SIZE_BYTES] {
        let Some(((_, body, size_bytes), sizes)) = self.entries.message(index.0) else {
            return [0; META_SIZE_BYTES];
        };
        let arrival = Arrival {
            body,
            size_bytes,
            body_size_bytes: sizes.body,
            expires_at: None,
            priority: 0,
        };
        arrival.meta()
    }

    /// Whether [`Queue::assign_next`] would assign something.
    pub fn can_dispatch(&self) -> bool {
        self.ready.count > 0
            && self
                .consumers
                .as_ref()
                .is_some_and(|consumers| consumers.can_take())
            && self
                .next_ready()
                .is_some_and(|next| self.watermark.permits(next.index.0))
    }

    /// Hands the next message to the consumer whose turn it is among those of the highest
    /// priority that can take one. None if there is no message, nobody to take it, or it lies
    /// above the reserved watermark.
    pub fn assign_next(&mut self) -> Option<Assignment> {
        if self.ready.count == 0 {
            return None;
        }
        let consumers = self.consumers.as_mut()?;
        if !consumers.can_take() {
            return None;
        }
        let position = self.next_ready()?;
        if !self.watermark.permits(position.index.0) {
            return None;
        }
        let consumers = self.consumers.as_mut()?;
        let slot = consumers.next()?;
        let no_ack = consumers.get(slot).is_no_ack();
        let assignment = self.hand_out(position, slot, no_ack);
        self.consumers_mut().served(slot);
        Some(assignment)
    }

    /// Hands the next message to `getter` (AMQP 0-9-1, basic.get).
    pub fn get(&mut self, getter: ConsumerKey, no_ack: bool) -> Got {
        let Some(position) = self.next_ready() else {
            return Got::Empty;
        };
        if !self.watermark.permits(position.index.0) {
            self.watermark.get_waits();
            return Got::AwaitsReservation;
        }
        let slot = self.consumers.get_or_insert_default().holder(getter);
        let assignment = self.hand_out(position, slot, no_ack);
        self.consumers_mut().drop_if_idle(slot);
        self.drop_consumers_if_empty();
        Got::Message(assignment)
    }

    /// Settles `count` deliveries with consecutive indexes. Those that leave their place are
    /// appended to `departed`. Returns how many were settled, which is `count`.
    ///
    /// # Errors
    /// [`UnknownDelivery`] if the consumer does not hold all of them; then nothing changes.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn settle(
        &mut self,
        consumer: ConsumerKey,
        first: MessageIndex,
        count: u32,
        outcome: Outcome,
        departed: &mut Departed,
    ) -> Result<u32, UnknownDelivery> {
        let unknown = |index| UnknownDelivery { consumer, index };
        let end = first
            .0
            .checked_add(u64::from(count))
            .ok_or(unknown(first))?;
        let slot = self
            .consumers
            .as_ref()
            .and_then(|consumers| consumers.find(consumer));
        let slot = slot.ok_or(unknown(first))?;
        self.entries
            .check_held(first.0, end, consumer)
            .map_err(unknown)?;
        match outcome {
            Outcome::Ack | Outcome::Discard => {
                let unacked = &mut self.unacked;
                self.entries.remove(first.0, end, |message, sizes, _| {
                    unacked.subtract(sizes);
                    departed.released.push(message);
                });
            }
            Outcome::Requeue => {
                for index in first.0..end {
                    self.give_back(index);
                }
            }
        }
        let entries = &self.entries;
        let consumers = self.consumers.as_mut().expect("the slot was found there");
        let is_held = |index: &u64| entries.is_held_by(*index, consumer);
        consumers.get_mut(slot).unacked.settled(count, is_held);
        consumers.refresh(slot);
        consumers.drop_if_idle(slot);
        self.drop_consumers_if_empty();
        Ok(count)
    }

    /// Gives back everything a consumer holds, each message to its place, redelivered. What was
    /// given back too often is appended to `departed`.
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn requeue_all(&mut self, consumer: ConsumerKey, _departed: &mut Departed) -> u32 {
        let Some(consumers) = &mut self.consumers else {
            return 0;
        };
        let Some(slot) = consumers.find(consumer) else {
            return 0;
        };
        let entries = &self.entries;
        let is_held = |index: &u64| entries.is_held_by(*index, consumer);
        let held = consumers.get_mut(slot).unacked.take_all(is_held);
        let count = u32::try_from(held.len()).expect("a consumer counts what it holds in 32 bits");
        for index in held {
            self.give_back(index);
        }
        let consumers = self.consumers_mut();
        consumers.refresh(slot);
        consumers.drop_if_idle(slot);
        self.drop_consumers_if_empty();
        count
    }

    /// Removes every ready message (AMQP 0-9-1, queue.purge) and appends them to `released`.
    pub fn purge(&mut self, released: &mut Vec<Released>) -> u64 {
        let count = self.ready.count;
        self.entries.remove_ready(|message| released.push(message));
        self.fresh = self.entries.next_index();
        (self.returned_count, self.ready) = (0, Totals::default());
        count
    }

    /// Takes on what a changed policy says. Expiries already given to messages stay; priorities
    /// and the single active consumer are fixed when the queue is made.
    pub fn configure(&mut self, _settings: &QueueSettings) {}

    /// Whether a queue that refuses publishes when it is full (`x-overflow`) would refuse one
    /// with a body of this size. Ready messages that consumers could take at once do not count.
    pub fn is_full_for(&self, _body_size_bytes: u32) -> bool {
        false
    }

    /// When the first of the ready messages expires.
    pub fn next_expiry(&mut self) -> Option<UnixMillis> {
        None
    }

    /// At most `limit` ready messages whose time is up die. Returns how many did.
    pub fn expire(&mut self, _now: UnixMillis, _limit: usize, _departed: &mut Departed) -> usize {
        0
    }

    /// Ready messages die, in the order of delivery, until the queue is within its limits, if
    /// that is what it does when it is full (`x-overflow`). Returns how many did.
    pub fn drop_head(&mut self, _departed: &mut Departed) -> u64 {
        0
    }

    /// A dying message was moved on: it leaves the queue.
    ///
    /// # Panics
    /// If no message is dying at `index`.
    pub fn bury(&mut self, index: MessageIndex) -> Released {
        panic!("message {index} is not dying");
    }

    /// Messages that died and have not been buried: neither ready nor unacked.
    pub fn dying_count(&self) -> u64 {
        0
    }

    /// Counts of returns that were raised since this was last asked, to be logged as
    /// [`QueueCommand::Returned`]. Only of durable queues that count them.
    pub fn take_returned(&mut self) -> Vec<(MessageIndex, u32)> {
        Vec::new()
    }

    /// The consumer that gets the messages, where only one at a time does.
    pub fn active_consumer(&self) -> Option<ConsumerKey> {
        None
    }

    /// The log moved a body. False if the message is gone or has another body, so that the new
    /// copy is garbage.
    pub fn relocate(&mut self, index: MessageIndex, from: BodyRef, to: BodyRef) -> bool {
        self.entries.relocate(index.0, from, to)
    }

    /// Ready and unacked messages from `first` on, in order. In recovery: those restored.
    pub fn live_from(&self, first: MessageIndex) -> impl Iterator<Item = Released> {
        self.entries.live_from(first.0, self.recovery.is_some())
    }

    /// Messages ready for delivery; 0 in recovery.
    pub fn ready_count(&self) -> u64 {
        self.ready.count
    }

    /// Messages that a consumer holds.
    pub fn unacked_count(&self) -> u64 {
        self.unacked.count
    }

    /// All live messages: ready, unacked and dying; 0 in recovery.
    pub fn message_count(&self) -> u64 {
        self.ready_count() + self.unacked_count() + self.dying_count()
    }

    /// Consumers; those who only get do not count.
    pub fn consumer_count(&self) -> u32 {
        self.consumers
            .as_ref()
            .map_or(0, |consumers| consumers.count())
    }

    /// Sum of the sizes of the bodies of ready messages, in bytes.
    pub fn ready_body_bytes(&self) -> u64 {
        self.ready.body_bytes
    }

    /// Sum of the sizes of the bodies of unacked messages, in bytes.
    pub fn unacked_body_bytes(&self) -> u64 {
        self.unacked.body_bytes
    }

    /// Sum of the sizes of ready messages as stored, in bytes.
    pub fn ready_bytes(&self) -> u64 {
        self.ready.stored_bytes
    }

    /// Memory that this queue takes, in bytes, allocations included; walks the chunks.
    pub fn memory_bytes(&self) -> usize {
        let consumers = self
            .consumers
            .as_ref()
            .map_or(0, |consumers| consumers.memory_bytes());
        size_of::<Self>() + self.entries.memory_bytes() + consumers
    }

    /// Gives back memory that is kept for speed; for queues that have been idle for a while.
    pub fn trim(&mut self) {
        self.entries.trim();
    }

    /// A new watermark to persist as [`QueueCommand::Reserved`]; each is returned once. When it
    /// is persisted, call [`Queue::reserve`].
    pub fn needs_reservation(&mut self) -> Option<MessageIndex> {
        let has_consumers = self.consumer_count() > 0;
        // What counts is how far the next message is from the watermark: after a restart all
        // between the last one handed out and it may be gone.
        let next = self.entries.next_ready(self.fresh);
        let fresh = next.map_or(self.fresh, |next| next.index.0);
        self.watermark
            .request(fresh, has_consumers)
            .map(MessageIndex)
    }

    /// The watermark is persisted: messages below it may be handed out.
    pub fn reserve(&mut self, upto: MessageIndex) {
        self.watermark.reserve(upto.0);
    }

    /// Lowers the watermark to what was handed out in truth, and returns it. Only for a clean
    /// stop, before the last snapshot, with nothing after it.
    pub fn release_reservation(&mut self) -> MessageIndex {
        MessageIndex(self.watermark.release(self.fresh))
    }

    /// Checks every relation between the parts; walks everything.
    ///
    /// # Panics
    /// If one does not hold: a bug in this module.
    pub fn check_invariants(&self) {
        self.entries.check_invariants(self.recovery.is_some());
        if self.recovery.is_some() {
            return;
        }
        let (ready, unacked) = self.entries.count_all();
        assert_eq!(ready, self.ready, "ready messages are counted");
        assert_eq!(unacked, self.unacked, "unacked messages are counted");
        let (mut held, mut returned) = (0, 0);
        for consumer in self.consumers.iter().flat_map(|consumers| consumers.iter()) {
            held += u64::from(consumer.unacked.count());
            let is_held = |index: &u64| self.entries.is_held_by(*index, consumer.key);
            consumer.unacked.check_invariants(is_held);
        }
        assert_eq!(
            held, self.unacked.count,
            "every unacked message has a holder"
        );
        for (index, _, _) in self.entries.live_from(0, false) {
            let ready = self.entries.state(index.0).1;
            assert!(
                ready || index.0 < self.fresh,
                "what was handed out is not fresh"
            );
            if ready && index.0 < self.fresh {
                returned += 1;
                assert!(index.0 >= self.returned_from, "the hint is a lower bound");
            }
        }
        assert_eq!(
            returned, self.returned_count,
            "returned messages are counted"
        );
        if let Some(consumers) = &self.consumers {
            consumers.check_invariants();
        }
    }

    /// Whether it survives its process.
    pub fn durability(&self) -> Durability {
        self.watermark.durability()
    }

    fn next_ready(&self) -> Option<Position> {
        if self.ready.count == 0 {
            return None;
        }
        let next = self.entries.next_ready(self.search_from());
        debug_assert!(
            next.is_some(),
            "a ready message lies at or after where search begins"
        );
        next
    }

    /// No ready message lies below this index.
    fn search_from(&self) -> u64 {
        if self.returned_count > 0 {
            self.returned_from
        } else {
            self.fresh
        }
    }

    fn hand_out(&mut self, position: Position, slot: Slot, no_ack: bool) -> Assignment {
        let index = position.index;
        let consumer = self
            .consumers
            .as_mut()
            .expect("the caller has a slot")
            .get_mut(slot);
        let key = consumer.key;
        let holder = if no_ack {
            Holder::Nobody
        } else {
            consumer.unacked.push(index.0);
            Holder::Consumer(key)
        };
        let taken = self.entries.take(position, holder);
        if !no_ack {
            self.unacked.add(taken.sizes);
        }
        if index.0 < self.fresh {
            self.returned_count -= 1;
            self.returned_from = index.0 + 1;
        } else {
            self.fresh = index.0 + 1;
        }
        self.ready.subtract(taken.sizes);
        Assignment {
            consumer: key,
            index,
            body: taken.body,
            size_bytes: taken.sizes.stored,
            redelivered: taken.redelivered,
            delivery_count: 0,
            settled: no_ack,
        }
    }

    fn give_back(&mut self, index: u64) {
        let sizes = self.entries.give_back(index);
        self.unacked.subtract(sizes);
        self.ready.add(sizes);
        self.returned_from = if self.returned_count == 0 {
            index
        } else {
            self.returned_from.min(index)
        };
        self.returned_count += 1;
    }

    fn consumers_mut(&mut self) -> &mut Consumers {
        self.consumers
            .as_mut()
            .expect("the caller has a slot in it")
    }

    fn drop_consumers_if_empty(&mut self) {
        if self
            .consumers
            .as_ref()
            .is_some_and(|consumers| consumers.is_empty())
        {
            self.consumers = None;
        }
    }
}
