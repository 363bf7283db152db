//! `basic.get`: one message, now.
//!
//! "Now" can wait for the disk: for a reservation (contract C8), or for the message's bytes. So a
//! get stands in line at its queue until the drain ends or the disk has answered, and its channel
//! remembers where, to take it back when the channel goes first.

use staunch_broker::{Assignment, Got, QueueKind};
use staunch_types::{
    ChannelNumber, ConsumerKey, Operation, QueueId, Refusal, Reply, Request, Resource,
};

use crate::{
    consumers::{Consumer, ConsumerKind},
    counts::HandedOut,
    deliver::Resident,
    node::Node,
    queues::{QueueSlot, WaitingGet},
    session::SessionSlot,
};

impl Node {
    /// `basic.get`: answered when the drain ends, so that a message published in the same drain
    /// is already sealed and has bytes.
    pub(crate) fn get(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        queue: &[u8],
        no_ack: bool,
    ) {
        let Some((connection, vhost)) = self.requester(session, channel) else {
            return;
        };
        match self.known_queue(&vhost, queue, connection) {
            Err(refusal) => self.refuse(session, channel, Operation::Get, refusal),
            Ok(entry) => {
                let (id, name) = (entry.id, entry.name.clone());
                if entry.is_split() {
                    return self.get_from_partitions(session, channel, id, no_ack);
                }
                if self.is_elsewhere(id) {
                    let request = Request::Get {
                        channel,
                        queue: name,
                        no_ack,
                    };
                    return self.ask(session, channel, id, request);
                }
                let is_empty = |slot: &QueueSlot| slot.queue.ready_count() == 0;
                if self.queues.get(id).is_some_and(is_empty) {
                    let request = Request::Get {
                        channel,
                        queue: name,
                        no_ack,
                    };
                    if self.waits_for_publishes(session, id, request) {
                        return;
                    }
                }
                let now = self.wall_now();
                let slot = self
                    .queues
                    .get_mut(id)
                    .expect("the catalog and the table agree");
                if let Err(refusal) = check_single_active(slot) {
                    return self.refuse(session, channel, Operation::Get, refusal);
                }
                slot.used_at = now;
                let waiting = slot.getters.get_or_insert_default();
                waiting.push_back(WaitingGet {
                    session,
                    channel,
                    no_ack,
                });
                if let Some(open) = self.sessions.channel_mut(session, channel) {
                    open.waiting_gets.push(id);
                }
                self.mark_dirty(id);
            }
        }
    }

    /// Answers the gets that wait on the queue, first come first served.
    pub(crate) fn serve_getters(&mut self, slot: &mut QueueSlot) {
        let Some(mut waiting) = slot.getters.take() else {
            return;
        };
        while let Some(get) = waiting.front().copied() {
            let Some(reply) = self.serve_getter(slot, get) else {
                slot.getters = Some(waiting);
                return;
            };
            waiting.pop_front();
            if matches!(reply, Reply::GotNothing) {
                self.count_get_empty(slot, get);
            }
            self.end_waiting(get, slot.id);
            self.reply(get.session, get.channel, reply);
        }
    }

    /// The answer to a get; none if it must wait for the disk.
    fn serve_getter(&mut self, slot: &mut QueueSlot, get: WaitingGet) -> Option<Reply> {
        let Some((index, body, size)) = slot.queue.peek_next() else {
            return Some(Reply::GotNothing);
        };
        let Some(resident) = self.resident(slot, index, body, size) else {
            self.fetch(slot);
            return None;
        };
        let key = self.getter_key(get, slot.id);
        let got = slot.queue.get(key, get.no_ack);
        let reply = match got {
            // Asked for as soon as the queue has been served; it is looked at again then.
            Got::AwaitsReservation => None,
            Got::Empty => Some(Reply::GotNothing),
            Got::Message(mut assignment) => {
                assignment.redelivered |= self.may_have_successor(slot);
                assert_eq!(assignment.index, index, "what was peeked is what is taken");
                Some(self.give(slot, get, &assignment, resident))
            }
        };
        self.drop_idle_getter(key);
        reply
    }

    fn count_get_empty(&mut self, slot: &mut QueueSlot, get: WaitingGet) {
        slot.counts.get_empty += 1;
        if let Some(open) = self.sessions.channel_mut(get.session, get.channel) {
            open.counts.get_empty += 1;
        }
    }

    fn give(
        &mut self,
        slot: &mut QueueSlot,
        get: WaitingGet,
        assignment: &Assignment,
        resident: Resident,
    ) -> Reply {
        let bytes = self.claim(resident, assignment);
        self.forget_window(slot, assignment.index);
        let delivery = Self::delivery(slot.id, get.channel, assignment, bytes);
        if !self.traced.is_empty() {
            self.trace_delivery(get.session, &slot.name, &delivery);
        }
        let (is_settled, is_again) = (assignment.settled, assignment.redelivered);
        slot.counts.count(HandedOut::Got, is_settled, is_again);
        if let Some(open) = self.sessions.channel_mut(get.session, get.channel) {
            open.counts.count(HandedOut::Got, is_settled, is_again);
        }
        self.note_assigned(slot, assignment);
        if self.count_outbound(get.session, &delivery) {
            self.apply_blocks(get.session, Some(slot));
        }
        Reply::Got {
            delivery: Box::new(delivery),
            ready_count: slot.queue.ready_count(),
        }
    }

    /// Takes a session's gets out of their lines.
    pub(crate) fn forget_getters(&mut self, session: SessionSlot) {
        let Some(found) = self.sessions.get_mut(session) else {
            return;
        };
        let channels = found.channels.values_mut();
        let waiting = channels.flat_map(|open| std::mem::take(&mut open.waiting_gets));
        for queue in waiting.collect::<Vec<_>>() {
            let getters = self.queues.get_mut(queue).map(|slot| &mut slot.getters);
            if let Some(getters) = getters {
                *getters = getters.take().and_then(|mut waiting| {
                    waiting.retain(|get| get.session != session);
                    (!waiting.is_empty()).then_some(waiting)
                });
            }
        }
    }

    /// A queue is gone: whoever waits there is told.
    pub(crate) fn refuse_getters(&mut self, slot: &mut QueueSlot) {
        for get in slot.getters.take().into_iter().flatten() {
            self.end_waiting(get, slot.id);
            let refusal = Refusal::NotFound {
                resource: Resource::Queue,
                name: slot.name.clone(),
                vhost: slot.vhost.clone(),
            };
            self.refuse(get.session, get.channel, Operation::Get, refusal);
        }
    }

    /// The key under which a channel gets from a queue: it lasts while something got under it is
    /// unsettled, so that a channel that gets from many queues in turn does not gather keys.
    pub(crate) fn getter_key(&mut self, get: WaitingGet, queue: QueueId) -> ConsumerKey {
        let WaitingGet {
            session, channel, ..
        } = get;
        let open = self.sessions.channel_mut(session, channel);
        let open = open.expect("a get leaves the line with its channel");
        let consumers = &mut self.consumers;
        let kind = ConsumerKind::Getter;
        *open.getters.entry(queue).or_insert_with(|| {
            consumers.insert(Consumer {
                session,
                channel,
                queue,
                kind,
                unsettled_count: 0,
            })
        })
    }

    /// Forgets the key of a getter that holds nothing.
    pub(crate) fn drop_idle_getter(&mut self, key: ConsumerKey) {
        let Some(getter) = self.consumers.get(key).copied() else {
            return;
        };
        if getter.kind != ConsumerKind::Getter || getter.unsettled_count > 0 {
            return;
        }
        self.consumers.remove(key);
        if let Some(open) = self.sessions.channel_mut(getter.session, getter.channel) {
            open.getters.remove(&getter.queue);
        }
    }

    pub(crate) fn end_waiting(&mut self, get: WaitingGet, queue: QueueId) {
        let open = self.sessions.channel_mut(get.session, get.channel);
        let open = open.expect("a get leaves the line with its channel");
        let place = open
            .waiting_gets
            .iter()
            .position(|waits_on| *waits_on == queue);
        open.waiting_gets
            .swap_remove(place.expect("a channel knows where its gets wait"));
    }
}

/// A quorum queue with a single active consumer serves nobody else, unless it is a partition, which
/// has such a consumer without having been asked to.
fn check_single_active(slot: &QueueSlot) -> Result<(), Refusal> {
    let is_asked_for = slot.settings.single_active_consumer && slot.settings.partition.is_none();
    if slot.kind != QueueKind::Quorum || !is_asked_for {
        return Ok(());
    }
    let QueueSlot { name, vhost, .. } = slot;
    Err(Refusal::ResourceLocked(format!(
        "cannot obtain access to locked queue '{name}' in vhost '{vhost}'. basic.get operations \
         are not supported by quorum queues with single active consumer"
    )))
}
