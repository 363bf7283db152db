//! Stage 2 to 6 for what comes back: acks, rejects, requeues, and the logging of what is settled.

use staunch_broker::{Departed, QueueCommand, Released};
use staunch_log::{Store, StreamId};
use staunch_types::{ChannelNumber, ConsumerKey, Outcome, QueueId, request::Settle};

use crate::{
    cluster::Place,
    consumers::{Consumer, ConsumerKind},
    node::Node,
    pending::Pending,
    queues::QueueSlot,
    session::SessionSlot,
    transient::TransientBodies,
};

/// Runs of settled messages in one record of the log.
const RANGES_PER_RECORD_MAX: usize = 65_536;

impl Node {
    /// `basic.ack`, `basic.nack`, `basic.reject`, `basic.recover`.
    pub(crate) fn settle(&mut self, session: SessionSlot, settle: Settle) {
        let Settle {
            channel,
            consumer,
            queue,
            first,
            count,
            outcome,
        } = settle;
        let now = self.wall_now();
        let Some(slot) = self.queues.get_mut(queue) else {
            // The queue went with its messages; there is nothing left to settle.
            return self.count_settled(session, (channel, outcome), consumer, count);
        };
        if self.cluster.is_some() {
            if !self.settle_elsewhere(&settle) {
                self.settle_held(settle);
                self.count_settled(session, (channel, outcome), consumer, count);
            }
            return;
        }
        let mut departed = Departed::default();
        let is_return = outcome == Outcome::Requeue;
        if is_return {
            slot.queue.begin_return();
        }
        let settled = slot
            .queue
            .settle(consumer, (first, count), outcome, now, &mut departed)
            .expect("a connection settles only what its channel holds");
        if is_return {
            slot.queue.drop_returned(settled, &mut departed);
        }
        slot.count_settled(outcome, settled, &departed);
        self.leave(queue, departed, is_return);
        self.mark_dirty(queue);
        self.count_settled(session, (channel, outcome), consumer, settled);
    }

    /// Settles what the consumer holds of the run, where it may have lost some of it with the
    /// queue's server before. Returns how many of its unsettled deliveries that were.
    pub(crate) fn settle_held(&mut self, settle: Settle) -> u32 {
        let Settle {
            consumer,
            queue,
            first,
            count,
            outcome,
            ..
        } = settle;
        let now = self.wall_now();
        let slot = self.queues.get_mut(queue);
        let Some(slot) = slot.filter(|slot| slot.is_served_here()) else {
            return 0;
        };
        let mut departed = Departed::default();
        let is_return = outcome == Outcome::Requeue;
        if is_return {
            slot.queue.begin_return();
        }
        let run = (first, count);
        let claim = slot
            .queue
            .settle_claimed(consumer, run, outcome, now, &mut departed);
        let settled = claim.count;
        if is_return {
            slot.queue.drop_returned(settled, &mut departed);
        }
        slot.count_settled(outcome, settled, &departed);
        self.leave(queue, departed, is_return);
        if outcome == Outcome::Ack && claim.some_astray {
            self.settle_dying(queue, first.0..first.0 + u64::from(count));
        }
        self.mark_dirty(queue);
        settled
    }

    /// As [`Node::settle`] for a client of another node.
    pub(crate) fn settle_what_is_held(&mut self, session: SessionSlot, settle: Settle) {
        let Settle {
            channel,
            consumer: key,
            queue,
            outcome,
            ..
        } = settle;
        let is_its_own = |consumer: &Consumer| {
            (consumer.session, consumer.channel, consumer.queue) == (session, channel, queue)
        };
        if self.consumers.get(key).is_some_and(is_its_own) {
            let count = self.settle_held(settle);
            self.count_settled(session, (channel, outcome), key, count);
        }
    }

    /// Messages have left their places in a queue, or were given back to it.
    pub(crate) fn leave(&mut self, queue: QueueId, departed: Departed, is_return: bool) {
        let Departed { released, dying } = departed;
        if !released.is_empty() {
            self.let_go(queue, released);
        }
        if !dying.is_empty()
            && let Some(mut slot) = self.queues.take(queue)
        {
            let released = Vec::new();
            self.depart(&mut slot, Departed { released, dying });
            self.queues.put(slot);
        }
        // Returns that are counted are logged with what is settled.
        if is_return
            && let Some(slot) = self.queues.get(queue)
            && slot.is_durable
            && slot.settings.counts_deliveries
        {
            self.mark_unlogged(queue);
        }
    }

    /// Messages have left their queue for good: their bodies go, and a durable queue will log it.
    pub(crate) fn let_go(&mut self, queue: QueueId, released: Vec<Released>) {
        if let Some(slot) = self.queues.get_mut(queue) {
            release(slot, &mut self.store, &mut self.bodies, released);
            if slot.is_durable {
                self.mark_unlogged(queue);
            }
        }
    }

    /// As [`Node::let_go`] for a queue that is at hand.
    pub(crate) fn release_from(&mut self, slot: &mut QueueSlot, released: Vec<Released>) {
        for (index, ..) in &released {
            self.forget_fetched(slot, *index);
        }
        release(slot, &mut self.store, &mut self.bodies, released);
        if slot.is_durable && !slot.has_unlogged {
            slot.has_unlogged = true;
            self.unlogged.push(slot.id);
        }
    }

    /// Keeps the books of channel and consumer after `count` settlements.
    pub(crate) fn count_settled(
        &mut self,
        session: SessionSlot,
        (channel, outcome): (ChannelNumber, Outcome),
        key: ConsumerKey,
        count: u32,
    ) {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        assert!(
            count <= consumer.unsettled_count,
            "no more is settled than was delivered"
        );
        consumer.unsettled_count -= count;
        let kind = consumer.kind;
        let is_over = kind == ConsumerKind::Cancelled && consumer.unsettled_count == 0;
        let Some(open) = self.sessions.channel_mut(session, channel) else {
            return;
        };
        if outcome == Outcome::Ack {
            open.counts.ack += u64::from(count);
        }
        if is_over {
            open.consumers.remove(&key);
            self.consumers.remove(key);
        }
        if kind == ConsumerKind::Getter {
            return self.drop_idle_getter(key);
        }
        open.unsettled_count -= count;
        if open.recheck_room() {
            self.unblock_session(session);
        }
    }

    /// Writes the settlements of this drain to the queues' streams: one record per queue.
    pub(crate) fn log_settlements(&mut self) {
        let mut payload = Vec::new();
        for id in std::mem::take(&mut self.unlogged) {
            let Some(slot) = self.queues.get_mut(id) else {
                continue;
            };
            slot.has_unlogged = false;
            let counts = slot.queue.take_returned();
            if !counts.is_empty() {
                let command = QueueCommand::Returned { counts };
                persist(slot, &mut self.store, command, &mut payload);
            }
            if slot.settled.is_empty() {
                if slot.is_replicated() {
                    self.mark_proposing(id);
                }
                continue;
            }
            let mut ranges = std::mem::take(&mut slot.settled);
            ranges.sort_unstable();
            ranges.dedup_by(|next, kept| {
                let adjoins = kept.0.0 + u64::from(kept.1) == next.0.0;
                let joined = kept.1.checked_add(next.1).filter(|_| adjoins);
                if let Some(joined) = joined {
                    kept.1 = joined;
                }
                joined.is_some()
            });
            for part in ranges.chunks(RANGES_PER_RECORD_MAX) {
                let ranges = part.to_vec();
                let command = QueueCommand::Settled { ranges };
                persist(slot, &mut self.store, command, &mut payload);
            }
            if slot.is_replicated() {
                self.mark_proposing(id);
            }
        }
    }

    /// Reserves deliveries ahead for a queue that is about to need them (contract C8). Asked
    /// when it has handed out what it may: a queue that stopped at its reservation has no other
    /// reason to be looked at again.
    pub(crate) fn reserve_ahead(&mut self, slot: &mut QueueSlot) {
        if let Some(upto) = slot.queue.needs_reservation() {
            let command = QueueCommand::Reserved { upto };
            persist(slot, &mut self.store, command, &mut Vec::new());
            if let Place::Replicated(member) = &mut slot.place {
                // Done when it is committed.
                if let Some(cluster) = &mut self.cluster {
                    cluster.groups.mark_proposing(slot.id, member);
                }
                return;
            }
            self.pending.push(Pending::Reserve {
                queue: slot.id,
                upto,
            });
        }
    }
}

impl QueueSlot {
    fn count_settled(&mut self, outcome: Outcome, count: u32, departed: &Departed) {
        match outcome {
            Outcome::Ack => self.counts.ack += u64::from(count),
            Outcome::Discard => self.counts.rejected += u64::from(count),
            Outcome::Requeue => self.count_not_returned(departed),
        }
    }

    /// Messages were given back, and these have not come into their places again.
    pub(crate) fn count_not_returned(&mut self, departed: &Departed) {
        let count = departed.released.len() + departed.dying.len();
        self.counts.returned_too_often += count as u64;
    }
}

/// Writes what the queue has decided to its stream, or has it proposed.
fn persist(slot: &mut QueueSlot, store: &mut Store, command: QueueCommand, payload: &mut Vec<u8>) {
    if let Place::Replicated(member) = &mut slot.place {
        return member.proposal.command(command);
    }
    payload.clear();
    command.encode(payload);
    store.append_control(StreamId(slot.id.0), payload);
}

fn release(
    slot: &mut QueueSlot,
    store: &mut Store,
    bodies: &mut TransientBodies,
    released: Vec<Released>,
) {
    for (index, body, size_bytes) in released {
        if slot.is_durable {
            slot.note_settled(index);
            // What several nodes keep is let go when that is committed.
            if !slot.is_replicated() {
                store.release(body, size_bytes);
            }
        } else {
            bodies.release(body);
        }
    }
}
