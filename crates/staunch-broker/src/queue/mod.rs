//! The queue state machine: a total order of messages, and who holds which.
//!
//! A message is *ready*, *unacked* (a consumer holds it), *dying*, or gone. Messages are handed out in
//! the order of their indexes. One that is given back keeps its index and so its place: since
//! whatever was never handed out has a higher index, "returned ones first, by index" is the
//! original order, and needs no list beside the ready bits. The lowest index never handed out
//! (`fresh`) separates the two regions; a hint remembers where the returned ones begin. With
//! priorities this holds for the lowest level only ([`priority`]).
//!
//! A message leaves when it is settled, purged, or dies: because it expired ([`expiry`]), the
//! queue is full ([`limits`]), a consumer refused it or it was given back too often ([`returns`]).
//! What dies in a queue with dead lettering is *dying* until it is buried ([`departed`]).
//!
//! Nothing here waits or calls: the owner enqueues, asks [`Queue::assign_next`] while it can
//! deliver, settles, and writes to the log what [`QueueCommand`] says. See [`watermark`] for why
//! a durable queue sometimes has a message and a consumer and yet assigns nothing, and [`replica`]
//! for queues that several nodes keep.

mod arrival;
mod chunk;
mod claims;
mod command;
mod consumers;
mod departed;
mod entries;
mod entry;
mod expiry;
mod indexes;
mod invariants;
mod limits;
mod priority;
mod recovery;
mod replica;
mod returns;
mod settle;
mod spread;
mod unacked;
mod watermark;

#[cfg(test)]
mod tests;

use staunch_types::{BodyRef, ConsumerKey, MessageIndex};

pub use arrival::{Arrival, META_SIZE_BYTES};
pub use claims::{Holding, SettledClaim};
pub use command::QueueCommand;
pub use consumers::CONSUMERS_PER_QUEUE_MAX;
pub use departed::{Death, Departed, Dying};
pub use entry::{ENTRY_MESSAGES_MAX, EntryHead};
pub use indexes::Indexes;
pub use recovery::{MESSAGES_PER_QUEUE_MAX, Restored};
pub use replica::Origin;

use chunk::{Holder, Totals};
use consumers::{Consumers, Turns};
use entries::{Entries, Position};
use limits::Limits;
use priority::Levels;
use recovery::Recovery;
use replica::Origins;
use returns::Returns;
pub use spread::consumer_identity;
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
    /// Several nodes keep it: besides, nothing leaves it for good before that is committed
    /// ([`replica`]).
    Replicated,
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
    /// Who it is, the same for the partitions of one queue, wherever they are; any number for
    /// other queues.
    pub identity: u64,
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

/// The message that a consumer gets next: good until the queue changes.
#[derive(Debug)]
pub struct NextDelivery {
    position: Position,
    /// Where its body is.
    pub body: BodyRef,
    /// Its size in bytes.
    pub size_bytes: u32,
}

impl NextDelivery {
    /// Its place in the queue.
    pub fn index(&self) -> MessageIndex {
        self.position.index
    }
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
    /// All that was ever enqueued here, since this process knows the queue.
    arrived: Totals,
    unacked_count: u64,
    /// Of their bodies.
    unacked_body_bytes: u64,
    dying_count: u64,
    /// Of their bodies.
    dying_body_bytes: u64,
    /// What dies is dead-lettered.
    has_dead_lettering: bool,
    /// Who is served.
    turns: Turns,
    watermark: Watermark,
    /// Absent while nobody consumes or holds anything.
    consumers: Option<Box<Consumers>>,
    /// Present between a restart and the end of recovery.
    recovery: Option<Box<Recovery>>,
    /// Present where messages have priorities.
    levels: Option<Box<Levels>>,
    /// Present where there is a limit.
    limits: Option<Box<Limits>>,
    /// Present where returns are counted.
    returns: Option<Box<Returns>>,
    /// Present where several nodes keep the queue.
    origins: Option<Box<Origins>>,
}

impl Queue {
    /// A new, empty queue.
    pub fn new(durability: Durability, settings: &QueueSettings) -> Self {
        Self {
            entries: Entries::default(),
            fresh: 0,
            returned_count: 0,
            returned_from: 0,
            ready: Totals::default(),
            arrived: Totals::default(),
            unacked_count: 0,
            unacked_body_bytes: 0,
            dying_count: 0,
            dying_body_bytes: 0,
            has_dead_lettering: settings.dead_lettering.is_some(),
            turns: Turns::of(settings),
            watermark: Watermark::new(durability, 0),
            consumers: None,
            recovery: None,
            levels: Levels::new(settings.priorities),
            limits: Limits::new(settings),
            returns: Returns::new(durability, settings),
            origins: (durability == Durability::Replicated).then(Box::default),
        }
    }

    /// Adds a message at the end.
    pub fn enqueue(&mut self, arrival: Arrival) -> MessageIndex {
        debug_assert!(
            self.recovery.is_none(),
            "nothing is published to a queue in recovery"
        );
        self.ready.add(arrival.sizes());
        self.arrived.add(arrival.sizes());
        let Some(levels) = &mut self.levels else {
            return self.entries.push(&arrival, 0);
        };
        let level = levels.level_of(arrival.priority);
        let index = self.entries.push(&arrival, level);
        if level > 0 {
            levels.insert(level, index.0);
        }
        index
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
        let added = self.consumers_mut().add(spec);
        self.drop_consumers_if_empty();
        added
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

    /// Changes how many unsettled deliveries a consumer may have from now on; 0 is no limit. What
    /// it has stays with it.
    pub fn set_consumer_prefetch(&mut self, key: ConsumerKey, prefetch: u16) {
        if let Some(consumers) = &mut self.consumers {
            consumers.set_prefetch(key, prefetch);
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

    /// The live message at `index`: where its body is now.
    pub fn message(&self, index: MessageIndex) -> Option<Released> {
        let position = self.entries.position(index.0)?;
        let has_body = self.entries.chunk(position).has_slots();
        has_body.then(|| self.entries.at(position))
    }

    /// What is kept beside the message in the log, as [`Arrival::meta`] said when it came, except
    /// that a queue without priorities has forgotten the message's own. Zeros if it is gone.
    pub fn meta_of(&self, index: MessageIndex) -> [u8; META_SIZE_BYTES] {
        let Some(position) = self.entries.position(index.0) else {
            return [0; META_SIZE_BYTES];
        };
        self.entries.chunk(position).arrival(position.bit()).meta()
    }

    /// Whether the message at `index` came as a redelivered one ([`Arrival::redelivered`]).
    pub fn came_redelivered(&self, index: MessageIndex) -> bool {
        self.entries.position(index.0).is_some_and(|position| {
            self.entries.chunk(position).came_redelivered() >> position.bit() & 1 == 1
        })
    }

    /// The next message that a consumer gets. None if there is no message, nobody to take it, or
    /// it lies above the reserved watermark.
    #[inline]
    pub fn next_delivery(&self) -> Option<NextDelivery> {
        if self.ready.count == 0 || !self.consumers.as_ref()?.can_take() {
            return None;
        }
        let position = self.next_ready()?;
        if !self.watermark.permits(position.index.0) {
            return None;
        }
        let (_, body, size_bytes) = self.entries.at(position);
        Some(NextDelivery {
            position,
            body,
            size_bytes,
        })
    }

    /// Hands what [`Queue::next_delivery`] has just found to the consumer whose turn it is among
    /// those of the highest priority that can take one.
    ///
    /// # Panics
    /// If the queue has changed since.
    #[inline]
    pub fn assign(&mut self, next: &NextDelivery) -> Assignment {
        let position = next.position;
        debug_assert_eq!(
            self.next_ready().map(|position| position.index),
            Some(position.index),
            "nothing has changed"
        );
        let consumers = self.consumers.as_mut();
        let served = consumers.and_then(|consumers| consumers.serve(position.index.0));
        let (consumer, no_ack) = served.expect("somebody could take one");
        self.hand_out(position, consumer, no_ack)
    }

    /// Hands out the next message, if [`Queue::next_delivery`] finds one.
    pub fn assign_next(&mut self) -> Option<Assignment> {
        self.next_delivery().map(|next| self.assign(&next))
    }

    /// To be called when as much as can be has been handed out. What waits for somebody to take
    /// it has met all consumers: they lose their places, and stand again in the order in which
    /// they get room.
    pub fn end_dispatch(&mut self) {
        self.end_returns();
        if self.ready.count > 0
            && let Some(consumers) = &mut self.consumers
            && !consumers.can_take()
        {
            consumers.all_met();
        }
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
        if !no_ack {
            self.consumers_mut().hold(getter, position.index.0);
        }
        Got::Message(self.hand_out(position, getter, no_ack))
    }

    /// Removes every ready message (AMQP 0-9-1, queue.purge) and appends them to `released`.
    pub fn purge(&mut self, released: &mut Vec<Released>) -> u64 {
        let count = self.ready.count;
        if self.is_replicated() {
            self.purge_replicated(released);
        } else {
            self.entries.remove_ready(|message| released.push(message));
        }
        self.fresh = self.entries.next_index();
        (self.returned_count, self.ready) = (0, Totals::default());
        if let Some(levels) = &mut self.levels {
            levels.clear();
        }
        if let Some(returns) = &mut self.returns {
            returns.retain(|index| self.entries.position(index).is_some());
        }
        count
    }

    /// Takes on what a changed policy says. Expiries already given to messages stay; priorities
    /// and the single active consumer are fixed when the queue is made.
    pub fn configure(&mut self, settings: &QueueSettings) {
        self.has_dead_lettering = settings.dead_lettering.is_some();
        self.limits = Limits::new(settings);
        match &mut self.returns {
            Some(returns) => returns.set_limit(settings.delivery_limit),
            None => self.returns = Returns::new(self.durability(), settings),
        }
    }

    /// The consumer that gets the messages, where only one at a time does.
    pub fn active_consumer(&self) -> Option<ConsumerKey> {
        self.consumers.as_ref()?.active()
    }

    /// The log moved a body. False if the message is gone or has another body, so that the new
    /// copy is garbage.
    pub fn relocate(&mut self, index: MessageIndex, from: BodyRef, to: BodyRef) -> bool {
        self.entries.relocate(index.0, from, to)
    }

    /// All live messages (ready, unacked and dying) from `first` on, by index. In recovery: those restored.
    pub fn live_from(&self, first: MessageIndex) -> impl Iterator<Item = Released> {
        self.entries.live_from(first.0, self.recovery.is_some())
    }

    /// Messages ready for delivery; 0 in recovery.
    pub fn ready_count(&self) -> u64 {
        self.ready.count
    }

    /// Messages that a consumer holds.
    pub fn unacked_count(&self) -> u64 {
        self.unacked_count
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
        self.unacked_body_bytes
    }

    /// Messages that were ever enqueued, since this process knows the queue.
    pub fn arrived_count(&self) -> u64 {
        self.arrived.count
    }

    /// Sum of the sizes of their bodies, in bytes.
    pub fn arrived_body_bytes(&self) -> u64 {
        self.arrived.body_bytes
    }

    /// Whether the consumer waits until it is the single active one.
    pub fn is_waiting_consumer(&self, key: ConsumerKey) -> bool {
        let consumers = self.consumers.as_ref();
        let active = consumers.and_then(|consumers| consumers.active());
        self.turns != Turns::All && active != Some(key)
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
        let levels = self
            .levels
            .as_ref()
            .map_or(0, |levels| levels.memory_bytes());
        let limits = self.limits.as_ref().map_or(0, |_| size_of::<Limits>());
        let returns = self
            .returns
            .as_ref()
            .map_or(0, |returns| returns.memory_bytes());
        size_of::<Self>() + self.entries.memory_bytes() + consumers + levels + limits + returns
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
        // between the last one handed out and it may be gone. With priorities the next one may
        // be any; if there is none, the next to come will be at the end.
        let fresh = match &self.levels {
            None => self
                .entries
                .next_ready(self.fresh)
                .map_or(self.fresh, |next| next.index.0),
            Some(_) => self
                .next_ready()
                .map_or(self.entries.next_index(), |next| next.index.0),
        };
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
        let raised_below = self
            .levels
            .as_ref()
            .map_or(0, |levels| levels.handed_out_below());
        MessageIndex(self.watermark.release(self.fresh.max(raised_below)))
    }

    /// Whether it survives its process.
    pub fn durability(&self) -> Durability {
        self.watermark.durability()
    }

    #[inline]
    fn level_of(&self, priority: u8) -> u8 {
        match &self.levels {
            None => 0,
            Some(levels) => levels.level_of(priority),
        }
    }

    #[inline]
    fn hand_out(&mut self, position: Position, consumer: ConsumerKey, no_ack: bool) -> Assignment {
        let index = position.index;
        let holder = if no_ack && !self.is_replicated() {
            Holder::Nobody
        } else {
            Holder::Consumer(consumer)
        };
        self.pass(position);
        let taken = self.entries.take(position, holder);
        if !no_ack {
            self.unacked_count += 1;
            self.unacked_body_bytes += u64::from(taken.sizes.body);
        }
        self.ready.subtract(taken.sizes);
        let is_gone = no_ack && !self.is_replicated();
        if no_ack && !is_gone {
            self.begin_to_leave(position);
        }
        let delivery_count = match &mut self.returns {
            None => 0,
            Some(returns) => returns.handed_out(index.0, is_gone),
        };
        Assignment {
            consumer,
            index,
            body: taken.body,
            size_bytes: taken.sizes.stored,
            redelivered: taken.redelivered,
            delivery_count,
            settled: no_ack,
        }
    }

    fn consumers_mut(&mut self) -> &mut Consumers {
        let turns = self.turns;
        let is_quorum = self.is_quorum();
        self.consumers
            .get_or_insert_with(|| Consumers::boxed(turns, !is_quorum))
    }

    fn is_quorum(&self) -> bool {
        let levels = self.levels.as_ref();
        levels.is_some_and(|levels| levels.are_of_quorum())
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
