//! Stage 7 of the road: who gets what, with which bytes.
//!
//! A queue hands out in order, so it never hands out a message whose bytes are not in memory: it
//! asks for them and waits. Reads go ahead: while one window of cold messages is handed out the
//! next is read, and order needs no further thought.

use bytes::Bytes;
use staunch_broker::Assignment;
use staunch_log::{FetchDone, FetchError, FetchFailed, FetchJob};
use staunch_types::{
    BodyRef, ChannelNumber, Delivery, Event, Message, MessageIndex, QueueId, UnixMillis,
    field_table::TableBuilder,
    properties::{Properties, PropertiesBuilder},
};

use crate::{
    consumers::ConsumerKind,
    counts::HandedOut,
    input::Output,
    node::Node,
    queues::{FetchFor, QueueSlot},
    session::{OUTBOUND_SIZE_BYTES_MAX, SessionSlot},
};

/// Header of messages that were given back before.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// Bytes one fetch reads ahead for a queue.
const FETCH_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// The same while many queues read at once.
const FETCH_SIZE_BYTES_CROWDED: usize = 32 * 1024;
/// Messages one fetch reads at most.
const FETCH_COUNT_MAX: usize = 4096;
/// Messages looked at for it.
const UPCOMING_COUNT_MAX: usize = 4 * FETCH_COUNT_MAX;
/// Bytes read ahead for all queues beyond which fetches get small.
const WINDOWS_SIZE_BYTES_CROWDED: usize = 32 * 1024 * 1024;

/// Where the bytes of a message are that are in memory.
pub(crate) enum Resident {
    /// In a chunk of the log, or read back.
    Bytes(Bytes),
    /// In the table of transient bodies.
    InTable,
}

/// What has been read back ahead of delivery.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    /// Bytes read back and not yet handed out, all queues together.
    window_size_bytes: usize,
    /// Bytes that are being read.
    under_way_size_bytes: usize,
}

impl Fetches {
    /// Memory that reading ahead takes or is about to take.
    pub(crate) fn size_bytes(&self) -> usize {
        self.window_size_bytes + self.under_way_size_bytes
    }

    pub(crate) fn add_window(&mut self, size_bytes: usize) {
        self.window_size_bytes += size_bytes;
    }

    pub(crate) fn subtract_window(&mut self, size_bytes: usize) {
        self.window_size_bytes -= size_bytes;
    }

    /// Forgets what was read ahead for a queue. A fetch under way goes on.
    pub(crate) fn forget(&mut self, slot: &mut QueueSlot) {
        let Some(cold) = &mut slot.cold else { return };
        cold.window.clear();
        self.window_size_bytes -= std::mem::take(&mut cold.window_size_bytes);
        if cold.is_over() {
            slot.cold = None;
        }
    }
}

impl Node {
    /// Hands out what can be handed out, queue by queue.
    pub(crate) fn dispatch_dirty(&mut self) {
        for session in std::mem::take(&mut self.relieved) {
            for queue in self.sessions.end_relief(session, &self.consumers) {
                self.serve_if_dirty(queue);
            }
        }
        for id in std::mem::take(&mut self.dirty) {
            self.serve_if_dirty(id);
        }
    }

    /// Does what a queue owes for what came before in this drain: the next request changes who
    /// gets its messages, or takes them away, and nobody is to see that take effect first.
    pub(crate) fn dispatch_now(&mut self, id: QueueId) {
        if self.queues.get(id).is_some_and(|slot| slot.is_dirty) {
            self.log_settlements();
            self.seal_for_use();
            self.serve_if_dirty(id);
        }
    }

    /// Serves a queue unless that has been done since it was put on the list.
    fn serve_if_dirty(&mut self, id: QueueId) {
        if self.queues.get(id).is_none_or(|slot| !slot.is_dirty) {
            return;
        }
        let Some(mut slot) = self.queues.take(id) else {
            return;
        };
        slot.is_dirty = false;
        // The next tick looks whether it has become idle.
        if !slot.is_active {
            slot.is_active = true;
            self.active.push(id);
        }
        if slot.is_served_here() && !self.is_claiming(id) {
            self.serve(&mut slot);
            self.tell_of_room(&slot);
        }
        self.queues.put(slot);
    }

    /// Lets a queue do what is due. What is over time goes before anything is handed out. What
    /// is too much for the queue, or must be handed out at once or never (a time to live of 0),
    /// goes right after the consumers have taken what they can; then come those who only get.
    fn serve(&mut self, slot: &mut QueueSlot) {
        let now = self.wall_now();
        if self.expire(slot, UnixMillis(now.0.saturating_sub(1))) {
            self.dispatch(slot);
            self.drop_head(slot);
            self.expire(slot, now);
            self.serve_getters(slot);
        }
        self.note_expiry(slot);
        self.reserve_ahead(slot);
    }

    fn dispatch(&mut self, slot: &mut QueueSlot) {
        let is_in_doubt = self.may_have_successor(slot);
        while let Some(next) = slot.queue.next_delivery() {
            let index = next.index();
            let Some(resident) = self.resident(slot, index, next.body, next.size_bytes) else {
                return self.fetch(slot);
            };
            let mut assignment = slot.queue.assign(&next);
            assignment.redelivered |= is_in_doubt;
            self.forget_window(slot, index);
            self.deliver(slot, &assignment, resident);
        }
        slot.queue.end_dispatch();
    }

    /// The message's bytes, if they are in memory.
    #[inline]
    pub(crate) fn resident(
        &self,
        slot: &QueueSlot,
        index: MessageIndex,
        body: BodyRef,
        size_bytes: u32,
    ) -> Option<Resident> {
        if !slot.is_durable {
            return Some(Resident::InTable);
        }
        if let Some(cold) = &slot.cold
            && let Some(bytes) = cold.window.get(&index)
        {
            return Some(Resident::Bytes(bytes.clone()));
        }
        self.store.body(body, size_bytes).map(Resident::Bytes)
    }

    /// The bytes of a message that has been assigned. One that is settled by that leaves the
    /// table of transient bodies.
    #[inline]
    pub(crate) fn claim(&mut self, resident: Resident, assignment: &Assignment) -> Bytes {
        match resident {
            Resident::InTable if assignment.settled => self.bodies.take(assignment.body),
            resident => self.share(resident, assignment.body),
        }
    }

    /// The bytes of a message that stays where it is.
    #[inline]
    pub(crate) fn share(&self, resident: Resident, body: BodyRef) -> Bytes {
        match resident {
            Resident::Bytes(bytes) => bytes,
            Resident::InTable => self.bodies.get(body),
        }
    }

    /// Drops the fetched bytes of a message that has been handed out; reads on ahead.
    #[inline]
    pub(crate) fn forget_window(&mut self, slot: &mut QueueSlot, handed_out: MessageIndex) {
        if slot.cold.is_some() {
            self.move_window(slot, handed_out);
        }
    }

    fn move_window(&mut self, slot: &mut QueueSlot, handed_out: MessageIndex) {
        let is_fifo = slot.is_fifo();
        let Some(cold) = &mut slot.cold else { return };
        let mut forgotten = cold.forget(handed_out);
        // What lies behind has been handed out as well, or will be read again if it returns.
        while is_fifo
            && let Some((index, _)) = cold.window.first_key_value()
            && *index < handed_out
        {
            let index = *index;
            forgotten += cold.forget(index);
        }
        self.fetches.window_size_bytes -= forgotten;
        let is_low = cold.window_size_bytes < FETCH_SIZE_BYTES_MAX / 2;
        if is_low && cold.has_more && cold.fetching.is_none() {
            self.fetch(slot);
        }
        if slot.cold.as_ref().is_some_and(|cold| cold.is_over()) {
            slot.cold = None;
        }
    }

    /// Drops the fetched bytes of a message that has left its queue otherwise.
    pub(crate) fn forget_fetched(&mut self, slot: &mut QueueSlot, index: MessageIndex) {
        if let Some(cold) = &mut slot.cold {
            self.fetches.window_size_bytes -= cold.forget(index);
        }
    }

    /// Asks for the bytes of what comes next and has none in memory, one fetch per queue at a
    /// time.
    pub(crate) fn fetch(&mut self, slot: &mut QueueSlot) {
        let is_crowded = self.fetches.size_bytes() > WINDOWS_SIZE_BYTES_CROWDED;
        let is_fifo = slot.is_fifo();
        let yields = slot.dead.as_ref().is_some_and(|dead| dead.is_starved);
        let is_damaged = self.is_body_damaged(slot.id);
        let cold = slot.cold.get_or_insert_default();
        if cold.fetching.is_some() || yields || is_damaged {
            return;
        }
        let limit = if is_crowded {
            FETCH_SIZE_BYTES_CROWDED
        } else {
            FETCH_SIZE_BYTES_MAX
        };
        let mut wanted = Vec::new();
        let mut size_bytes = 0;
        cold.has_more = true;
        let unread = slot.queue.upcoming().take(UPCOMING_COUNT_MAX);
        for (index, body, size) in unread.filter(|(index, ..)| !cold.window.contains_key(index)) {
            if self.store.body(body, size).is_some() {
                // Nothing behind a message in memory needs reading where order is by age.
                cold.has_more = !is_fifo;
                if is_fifo {
                    break;
                }
                continue;
            }
            let is_over = size_bytes + size as usize > limit && !wanted.is_empty();
            if is_over || wanted.len() == FETCH_COUNT_MAX {
                break;
            }
            wanted.push((index.0, body, size));
            size_bytes += size as usize;
        }
        if wanted.is_empty() {
            cold.has_more = false;
            return;
        }
        let job = self.start_fetch(slot, FetchFor::Delivery, &wanted, size_bytes);
        self.outputs.push_back(Output::Fetch(slot.id, job));
    }

    /// Keeps the books of a fetch that begins.
    pub(crate) fn start_fetch(
        &mut self,
        slot: &mut QueueSlot,
        who: FetchFor,
        wanted: &[(u64, BodyRef, u32)],
        size_bytes: usize,
    ) -> FetchJob {
        slot.cold.get_or_insert_default().fetching = Some(who);
        self.fetches.under_way_size_bytes += size_bytes;
        self.store.fetch(wanted)
    }

    /// Bytes came back: the queue goes on.
    pub(crate) fn handle_fetched(&mut self, id: QueueId, done: FetchDone) {
        self.store.handle_fetched(&done);
        let read_size_bytes: usize = done.records.iter().map(|record| record.stored.len()).sum();
        self.fetches.under_way_size_bytes -= read_size_bytes;
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        let cold = slot.cold.get_or_insert_default();
        let who = cold.fetching.take();
        let bodies = done.records.into_iter();
        let bodies = bodies.map(|fetched| (MessageIndex(fetched.index), fetched.stored));
        match who {
            Some(FetchFor::DeadLetter) => self.dead_fetched(id, bodies.collect()),
            Some(FetchFor::Transfer(node)) => self.transfer_fetched(id, node, bodies.collect()),
            Some(FetchFor::Delivery) | None => {
                for (index, body) in bodies {
                    self.fetches.window_size_bytes += body.len();
                    self.fetches.window_size_bytes -= cold.put(index, body);
                }
            }
        }
        self.mourn_again(id);
        self.mark_dirty(id);
    }

    /// Bytes could not be read: if others have them, they are got from there.
    pub(crate) fn handle_fetch_failed(&mut self, id: QueueId, failed: FetchFailed) {
        self.store.handle_fetch_failed(&failed);
        self.fetches.under_way_size_bytes -= failed.size_bytes;
        if let Some(slot) = self.queues.get_mut(id) {
            slot.cold.get_or_insert_default().fetching = None;
        }
        match failed.cause {
            FetchError::Damage(damage) => self.body_is_damaged(id, damage),
            cause @ FetchError::Disk(_) => self.outputs.push_back(Output::Unreadable(cause)),
        }
    }

    fn deliver(&mut self, slot: &mut QueueSlot, assignment: &Assignment, resident: Resident) {
        let bytes = self.claim(resident, assignment);
        let consumer = *self
            .consumers
            .get(assignment.consumer)
            .expect("a queue knows live keys");
        let delivery = Self::delivery(slot.id, consumer.channel, assignment, bytes);
        if !self.traced.is_empty() {
            self.trace_delivery(consumer.session, &slot.name, &delivery);
        }
        let mut is_blocked = self.count_outbound(consumer.session, &delivery);
        let (is_settled, is_again) = (assignment.settled, assignment.redelivered);
        slot.counts
            .count(HandedOut::Delivered, is_settled, is_again);
        let (session, number) = (consumer.session, consumer.channel);
        if let Some(channel) = self.sessions.channel_mut(session, number) {
            channel
                .counts
                .count(HandedOut::Delivered, is_settled, is_again);
            is_blocked |= !is_settled && channel.count_unsettled();
        }
        self.sessions
            .push(consumer.session, Event::Delivery(delivery));
        self.note_assigned(slot, assignment);
        if is_blocked {
            self.sessions
                .end_turn(consumer.session, consumer.channel, assignment.consumer);
            self.apply_blocks(consumer.session, Some(slot));
        }
    }

    pub(crate) fn delivery(
        queue: QueueId,
        channel: ChannelNumber,
        assignment: &Assignment,
        bytes: Bytes,
    ) -> Delivery {
        let mut message =
            Message::from_stored(bytes).expect("bodies are kept in their stored form");
        if assignment.delivery_count > 0 {
            message = with_delivery_count(&message, assignment.delivery_count);
        }
        Delivery {
            channel,
            consumer: assignment.consumer,
            queue,
            index: assignment.index,
            redelivered: assignment.redelivered,
            settled: assignment.settled,
            message,
        }
    }

    /// Counts a delivery against the connection's limit; true if this was the one too many.
    pub(crate) fn count_outbound(&mut self, session: SessionSlot, delivery: &Delivery) -> bool {
        let Some(session) = self.sessions.get_mut(session) else {
            return false;
        };
        session.outbound_size_bytes += delivery.outbound_size_bytes();
        let is_over = session.outbound_size_bytes > OUTBOUND_SIZE_BYTES_MAX;
        let newly = is_over && !session.is_congested;
        session.is_congested |= is_over;
        newly
    }

    /// Keeps the books: a settled message leaves, another is counted with its consumer. (A
    /// transient one's body has left with [`Node::claim`].)
    pub(crate) fn note_assigned(&mut self, slot: &mut QueueSlot, assignment: &Assignment) {
        if !assignment.settled {
            let consumer = self.consumers.get_mut(assignment.consumer);
            consumer.expect("a queue knows live keys").unsettled_count += 1;
            return;
        }
        if slot.is_durable {
            slot.note_settled(assignment.index);
            if !slot.is_replicated() {
                self.store.release(assignment.body, assignment.size_bytes);
            }
            if !slot.has_unlogged {
                slot.has_unlogged = true;
                self.unlogged.push(slot.id);
            }
        }
    }

    /// Tells every queue the session consumes from which of its consumers must wait. `at_hand` is
    /// a queue that is out of the table.
    pub(crate) fn apply_blocks(
        &mut self,
        session: SessionSlot,
        mut at_hand: Option<&mut QueueSlot>,
    ) {
        let Some(found) = self.sessions.get(session) else {
            return;
        };
        let mut changes = Vec::new();
        for (number, channel) in &found.channels {
            let is_blocked = found.is_blocked(*number);
            changes.extend(channel.consumers.iter().map(|key| (*key, is_blocked)));
        }
        for (key, is_blocked) in changes {
            let Some(consumer) = self.consumers.get(key) else {
                continue;
            };
            if consumer.kind != ConsumerKind::Active {
                continue;
            }
            let queue = consumer.queue;
            match &mut at_hand {
                Some(slot) if slot.id == queue => slot.queue.set_consumer_blocked(key, is_blocked),
                Some(_) | None => {
                    if let Some(slot) = self.queues.get_mut(queue) {
                        slot.queue.set_consumer_blocked(key, is_blocked);
                    }
                    if !is_blocked {
                        self.mark_dirty(queue);
                    }
                }
            }
        }
    }

    /// Lets the session's consumers go on as far as their channels allow, in turn.
    pub(crate) fn unblock_session(&mut self, session: SessionSlot) {
        self.apply_blocks(session, None);
        if self.sessions.begin_relief(session) {
            self.relieved.push(session);
        }
    }
}

/// The message with the header that says how often it has come back (RabbitMQ, quorum queues).
fn with_delivery_count(message: &Message, count: u32) -> Message {
    let properties = Properties::from_validated(message.properties());
    let headers = TableBuilder::new()
        .copy_except(properties.headers().unwrap_or_default(), &[DELIVERY_COUNT])
        .long(DELIVERY_COUNT, i64::from(count))
        .build();
    let mut encoded = Vec::new();
    PropertiesBuilder::from_properties(properties)
        .headers(headers.as_table_ref())
        .encode(&mut encoded)
        .expect("strings of a message are short");
    message.with_properties(&encoded)
}
