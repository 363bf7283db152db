//! Stage 7 of the road: who gets what, with which bytes.
//!
//! A queue hands out in order, so it never hands out a message whose bytes are not in memory: it
//! asks for them and waits. Reads go ahead: while one window of cold messages is handed out the
//! next is read, and order needs no further thought.

use bytes::Bytes;
use staunch_broker::Assignment;
use staunch_log::FetchDone;
use staunch_types::{BodyRef, ChannelNumber, Delivery, Event, Message, MessageIndex, QueueId};

use crate::{
    consumers::ConsumerKind,
    input::Output,
    node::Node,
    queues::QueueSlot,
    session::{OUTBOUND_SIZE_BYTES_MAX, SessionSlot},
};

/// Bytes one fetch reads ahead for a queue.
const FETCH_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// The same while many queues read at once.
const FETCH_SIZE_BYTES_CROWDED: usize = 32 * 1024;
/// Messages one fetch reads at most.
const FETCH_COUNT_MAX: usize = 4096;
/// Bytes read ahead for all queues beyond which fetches get small.
const WINDOWS_SIZE_BYTES_CROWDED: usize = 32 * 1024 * 1024;

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
        for id in std::mem::take(&mut self.dirty) {
            let Some(mut slot) = self.queues.take(id) else {
                continue;
            };
            slot.is_dirty = false;
            // The next tick looks whether it has become idle.
            if !slot.is_active {
                slot.is_active = true;
                self.active.push(id);
            }
            self.serve_getters(&mut slot);
            self.dispatch(&mut slot);
            self.reserve_ahead(&mut slot);
            self.queues.put(slot);
        }
    }

    fn dispatch(&mut self, slot: &mut QueueSlot) {
        while slot.queue.can_dispatch() {
            let Some((index, body, size)) = slot.queue.peek_next() else {
                return;
            };
            let Some(bytes) = self.resident(slot, index, body, size) else {
                return self.fetch(slot, index);
            };
            let Some(assignment) = slot.queue.assign_next() else {
                return;
            };
            assert_eq!(
                assignment.index, index,
                "what was peeked is what is assigned"
            );
            self.forget_window(slot, index);
            self.deliver(slot, &assignment, bytes);
        }
    }

    /// The message's bytes, if they are in memory.
    pub(crate) fn resident(
        &self,
        slot: &QueueSlot,
        index: MessageIndex,
        body: BodyRef,
        size_bytes: u32,
    ) -> Option<Bytes> {
        if !slot.is_durable {
            return Some(self.bodies.get(body));
        }
        if let Some(cold) = &slot.cold
            && let Some(bytes) = cold.window.get(&index)
        {
            return Some(bytes.clone());
        }
        self.store.body(body, size_bytes)
    }

    /// Drops fetched bytes that have been handed out or are behind what is; reads on ahead.
    pub(crate) fn forget_window(&mut self, slot: &mut QueueSlot, handed_out: MessageIndex) {
        let Some(cold) = &mut slot.cold else { return };
        while let Some(entry) = cold.window.first_entry()
            && *entry.key() <= handed_out
        {
            let size = entry.remove().len();
            cold.window_size_bytes -= size;
            self.fetches.window_size_bytes -= size;
        }
        let is_low = cold.window_size_bytes < FETCH_SIZE_BYTES_MAX / 2;
        let next = cold.next;
        if is_low && !cold.is_fetching && next > handed_out {
            self.fetch(slot, next);
        }
        if slot.cold.as_ref().is_some_and(|cold| cold.is_over()) {
            slot.cold = None;
        }
    }

    /// Asks for the bytes of what comes at `from` and after it, one fetch per queue at a time.
    pub(crate) fn fetch(&mut self, slot: &mut QueueSlot, from: MessageIndex) {
        let cold = slot.cold.get_or_insert_default();
        if cold.is_fetching {
            return;
        }
        let is_crowded = self.fetches.size_bytes() > WINDOWS_SIZE_BYTES_CROWDED;
        let limit = if is_crowded {
            FETCH_SIZE_BYTES_CROWDED
        } else {
            FETCH_SIZE_BYTES_MAX
        };
        let mut wanted = Vec::new();
        let mut size_bytes = 0;
        for (index, body, size) in slot.queue.live_from(from).take(FETCH_COUNT_MAX) {
            let fits = size_bytes + size as usize <= limit || wanted.is_empty();
            // What is still in memory needs no reading, nor does anything behind it.
            if !fits || self.store.body(body, size).is_some() {
                break;
            }
            wanted.push((index.0, body, size));
            size_bytes += size as usize;
        }
        let Some((last, _, _)) = wanted.last() else {
            return;
        };
        cold.next = MessageIndex(last + 1);
        cold.is_fetching = true;
        self.fetches.under_way_size_bytes += size_bytes;
        let job = self.store.fetch(&wanted);
        self.outputs.push_back(Output::Fetch(slot.id, job));
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
        cold.is_fetching = false;
        for fetched in done.records {
            self.fetches.window_size_bytes += fetched.stored.len();
            self.fetches.window_size_bytes -= cold.put(MessageIndex(fetched.index), fetched.stored);
        }
        self.mark_dirty(id);
    }

    fn deliver(&mut self, slot: &mut QueueSlot, assignment: &Assignment, bytes: Bytes) {
        let consumer = *self
            .consumers
            .get(assignment.consumer)
            .expect("a queue knows live keys");
        let delivery = Self::delivery(slot.id, consumer.channel, assignment, bytes);
        let mut is_blocked = self.count_outbound(consumer.session, &delivery);
        if !assignment.settled
            && let Some(channel) = self
                .sessions
                .channel_mut(consumer.session, consumer.channel)
        {
            is_blocked |= channel.count_unsettled();
        }
        self.sessions
            .push(consumer.session, Event::Delivery(delivery));
        self.note_assigned(slot, assignment);
        if is_blocked {
            self.apply_blocks(consumer.session, Some(slot));
        }
    }

    pub(crate) fn delivery(
        queue: QueueId,
        channel: ChannelNumber,
        assignment: &Assignment,
        bytes: Bytes,
    ) -> Delivery {
        Delivery {
            channel,
            consumer: assignment.consumer,
            queue,
            index: assignment.index,
            redelivered: assignment.redelivered,
            settled: assignment.settled,
            message: Message::from_stored(bytes).expect("bodies are kept in their stored form"),
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

    /// Keeps the books: a settled message leaves, another is counted with its consumer.
    pub(crate) fn note_assigned(&mut self, slot: &mut QueueSlot, assignment: &Assignment) {
        if !assignment.settled {
            let consumer = self.consumers.get_mut(assignment.consumer);
            consumer.expect("a queue knows live keys").unsettled_count += 1;
            return;
        }
        if slot.is_durable {
            slot.note_settled(assignment.index);
            self.store.release(assignment.body, assignment.size_bytes);
            if !slot.has_unlogged {
                slot.has_unlogged = true;
                self.unlogged.push(slot.id);
            }
        } else {
            self.bodies.release(assignment.body);
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

    /// Lets the session's consumers go on as far as their channels allow.
    pub(crate) fn unblock_session(&mut self, session: SessionSlot) {
        self.apply_blocks(session, None);
    }
}
