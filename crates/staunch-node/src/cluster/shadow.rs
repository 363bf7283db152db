//! Clients of other nodes, on the node that serves their queues.

use staunch_broker::{Arrival, Origin, Overflow};
use staunch_types::{
    BodyRef, ChannelNumber, ConnectionId, ConsumerKey, Message, Name, NodeId, Operation, QueueId,
    Refusal, Reply, Request, request::DeclareQueue,
};

use super::{
    groups::Place,
    offer::Offer,
    wire::{Frame, Heard, Published},
};
use crate::{
    definitions::{check_conditions, deletion},
    node::Node,
    pending::{CountsDue, Pending},
    publish::{Arriving, Enqueued},
    session::{Channel, SessionSlot},
};

/// What a node's clients have published to a queue that is kept here alone.
#[derive(Debug)]
pub(crate) struct Home {
    /// That node's process.
    origin: Origin,
    /// The highest number that has come.
    seen: u64,
}

impl Node {
    /// Messages for a queue, from clients of another node.
    pub(super) fn take_published(&mut self, from: NodeId, published: Published) {
        let Some(cluster) = &self.cluster else { return };
        let Some(origin) = cluster.nodes.incarnation(from).map(Origin) else {
            return;
        };
        let queue = published.queue;
        let Some(slot) = self.queues.get(queue) else {
            // It is gone, and what was on its way to it with it.
            let upto = published.messages.last().map_or(0, |(number, _)| *number);
            let heard = Heard {
                queue,
                upto,
                ..Heard::default()
            };
            return self.queue_frame(from, Frame::Heard(heard));
        };
        match &slot.place {
            // Its sender hears that it is gone.
            Place::Here if cluster.catalog.is_doomed(queue) => {}
            Place::Here => self.take_home(from, origin, published),
            Place::Replicated(_) if slot.is_served_here() => {
                self.offer_for(from, origin, published);
            }
            // Sent again when the sender knows who serves it.
            Place::Replicated(_) | Place::Elsewhere => {}
        }
    }

    fn offer_for(&mut self, from: NodeId, origin: Origin, published: Published) {
        let Published {
            queue,
            base,
            follows,
            messages,
        } = published;
        let offer = Offer {
            origin,
            base,
            follows,
            messages,
        };
        let offered = self.offer(queue, offer);
        if offered.heard < base && offered.refused.is_empty() {
            return;
        }
        if !offered.refused.is_empty() {
            self.rooms.turned_away_node(queue, from);
        }
        let heard = Heard {
            queue,
            upto: offered.heard,
            doubtful: offered.heard,
            refused: offered.refused,
        };
        self.queue_frame(from, Frame::Heard(heard));
    }

    /// Messages for a queue that is kept here alone: each is taken once, and answered when it is
    /// on disk, if it goes there.
    fn take_home(&mut self, from: NodeId, origin: Origin, published: Published) {
        let Published {
            queue,
            base,
            follows,
            messages,
        } = published;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let home = cluster.edge.homes.entry((queue, from));
        let home = home.or_insert(Home { origin, seen: 0 });
        if home.origin != origin {
            *home = Home { origin, seen: 0 };
        }
        let seen = home.seen.max(base - 1);
        if follows > seen {
            return;
        }
        let upto = messages.last().map_or(seen, |(number, _)| *number);
        home.seen = seen.max(upto);
        let upto = home.seen;
        let mut refused = Vec::new();
        for (number, message) in messages.into_iter().filter(|(number, _)| *number > seen) {
            if self.enqueue_home(queue, message.meta, message.stored) == Enqueued::Refused {
                refused.push(number);
            }
        }
        if !refused.is_empty() {
            self.rooms.turned_away_node(queue, from);
        }
        if self.dead_letters.has_refused() {
            self.publish_refused();
        }
        let slot = self.queues.get(queue);
        let is_durable = slot.is_some_and(|slot| slot.is_durable);
        let may_refuse = slot.is_some_and(|slot| slot.settings.overflow != Overflow::DropHead);
        let heard = Frame::Heard(Heard {
            queue,
            upto,
            doubtful: if may_refuse { seen } else { 0 },
            refused,
        });
        if is_durable {
            self.pending.push(Pending::Frame(Box::new((from, heard))));
        } else {
            self.queue_frame(from, heard);
        }
    }

    fn enqueue_home(
        &mut self,
        queue: QueueId,
        meta: [u8; staunch_broker::META_SIZE_BYTES],
        stored: bytes::Bytes,
    ) -> Enqueued {
        let Ok(message) = Message::from_stored(stored) else {
            return Enqueued::Refused;
        };
        let Ok(arrival) = Arrival::from_meta(BodyRef(0), 0, meta) else {
            return Enqueued::Refused;
        };
        let now = self.wall_now();
        let mut arriving = Arriving::new(&message, now);
        arriving.redelivered = arrival.redelivered;
        if self
            .queues
            .get(queue)
            .is_some_and(|slot| slot.holds_delayed)
        {
            let until = arrival.expires_at.unwrap_or(now);
            arriving.delay_millis = Some(until.0.saturating_sub(now.0));
        }
        self.enqueue(queue, &mut arriving)
    }

    /// What has waited for the disk goes out with this drain.
    pub(crate) fn send_later(&mut self, to: NodeId, frame: Frame) {
        self.queue_frame(to, frame);
    }

    /// Requests of a client of another node.
    pub(super) fn take_requests(
        &mut self,
        from: NodeId,
        connection: ConnectionId,
        vhost: &Name,
        requests: Vec<Request>,
    ) {
        for request in requests {
            let slot = match request {
                Request::Consume(_)
                | Request::Get { .. }
                | Request::PurgeQueue { .. }
                | Request::DeclareQueue(_)
                | Request::DeleteQueue { .. }
                | Request::LimitChannel { .. } => self.shadow(from, connection, vhost),
                _ => self.find_shadow(from, connection),
            };
            if let Some(slot) = slot {
                self.take_request(slot, request);
            }
        }
    }

    /// The session of a client of another node, made if it is not there.
    pub(super) fn shadow(
        &mut self,
        from: NodeId,
        connection: ConnectionId,
        vhost: &Name,
    ) -> Option<SessionSlot> {
        if self.sessions.find(connection).is_some() {
            return self.find_shadow(from, connection);
        }
        let slot = self.sessions.insert(connection);
        let session = self.sessions.get_mut(slot)?;
        session.shadow_of = Some(from);
        session.vhost = vhost.clone();
        Some(slot)
    }

    pub(super) fn find_shadow(
        &self,
        from: NodeId,
        connection: ConnectionId,
    ) -> Option<SessionSlot> {
        let slot = self.sessions.find(connection)?;
        let session = self.sessions.get(slot)?;
        (session.shadow_of == Some(from)).then_some(slot)
    }

    pub(super) fn take_request(&mut self, slot: SessionSlot, request: Request) {
        match request {
            Request::Settle(settle) => self.settle_what_is_held(slot, settle),
            Request::Drained { size_bytes } => {
                let session = self.sessions.get(slot);
                let most = session.map_or(0, |session| session.outbound_size_bytes);
                self.drained(slot, size_bytes.min(most));
            }
            Request::CloseChannel { channel } => self.abandon_channel(slot, channel),
            Request::CloseConnection => self.end_shadow(slot),
            Request::Consume(consume) => {
                self.open_shadow_channel(slot, consume.channel);
                self.consume(slot, &consume);
            }
            Request::Get {
                channel,
                queue,
                no_ack,
            } => {
                self.open_shadow_channel(slot, channel);
                self.get(slot, channel, &queue, no_ack);
            }
            Request::PurgeQueue { channel, queue } => {
                self.open_shadow_channel(slot, channel);
                self.purge_queue(slot, channel, &queue);
            }
            Request::DeclareQueue(DeclareQueue { channel, queue, .. }) => {
                self.open_shadow_channel(slot, channel);
                self.count_for_shadow(slot, channel, &queue);
            }
            Request::DeleteQueue {
                channel,
                queue,
                if_unused,
                if_empty,
            } => {
                self.open_shadow_channel(slot, channel);
                self.check_for_shadow(slot, channel, &queue, (if_unused, if_empty));
            }
            Request::LimitChannel { channel, prefetch } => {
                self.open_shadow_channel(slot, channel);
                self.limit_channel(slot, channel, prefetch);
            }
            Request::LimitConsumers { channel, prefetch } => {
                self.limit_consumers(slot, channel, prefetch);
            }
            Request::Cancel { channel, consumer } => self.cancel(slot, channel, consumer),
            _ => {}
        }
    }

    pub(super) fn open_shadow_channel(&mut self, slot: SessionSlot, channel: ChannelNumber) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session
                .channels
                .entry(channel)
                .or_insert_with(Channel::default);
        }
    }

    fn count_for_shadow(&mut self, slot: SessionSlot, channel: ChannelNumber, name: &Name) {
        let Some((session, queue)) = self.asked_for(slot, channel, name, Operation::DeclareQueue)
        else {
            return;
        };
        self.renew_by_declaration(queue);
        self.answer_counts(CountsDue {
            session: slot,
            connection: session,
            channel,
            queue,
        });
    }

    fn check_for_shadow(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        name: &Name,
        conditions: (bool, bool),
    ) {
        let operation = Operation::DeleteQueue;
        let Some((_, queue)) = self.asked_for(slot, channel, name, operation) else {
            return;
        };
        let request = deletion(channel, name, conditions);
        if conditions.1 && self.waits_for_publishes(slot, queue, request) {
            return;
        }
        self.dispatch_now(queue);
        let Some(found) = self.queues.get(queue) else {
            return;
        };
        let checked = check_conditions(found, conditions);
        let count = found.queue.ready_count();
        match checked {
            Ok(()) => self.reply(slot, channel, Reply::QueueDeleted { count }),
            Err(refusal) => self.refuse(slot, channel, operation, refusal),
        }
    }

    /// The queue that a client of another node asks about; none if it was refused, or another
    /// node serves it now, which will be asked.
    fn asked_for(
        &mut self,
        slot: SessionSlot,
        channel: ChannelNumber,
        name: &Name,
        operation: Operation,
    ) -> Option<(ConnectionId, QueueId)> {
        let (connection, vhost) = self.requester(slot, channel)?;
        match self.catalog.check_queue(&vhost, name, connection) {
            Ok(entry) => {
                let id = entry.id;
                (!self.is_elsewhere(id)).then_some((connection, id))
            }
            Err(refusal) => {
                self.refuse(slot, channel, operation, refusal);
                None
            }
        }
    }

    /// The client is gone, or its node.
    pub(super) fn end_shadow(&mut self, slot: SessionSlot) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let channels: Vec<_> = session.channels.keys().copied().collect();
        for channel in channels {
            self.abandon_channel(slot, channel);
        }
        self.sessions.remove(slot);
    }

    pub(super) fn end_shadows_of(&mut self, node: NodeId) {
        for slot in self.shadows_of(node) {
            self.end_shadow(slot);
        }
    }

    /// Answers to a node and its clients that wait for a commit or the disk are for nobody.
    pub(super) fn forget_link(&mut self, node: NodeId) {
        let shadows = self.shadows_of(node).into_iter().collect();
        self.pending.forget_link(node, &shadows);
        drop(self.take_waiting(|pending| pending.is_for(node, &shadows)));
    }

    fn shadows_of(&self, node: NodeId) -> Vec<SessionSlot> {
        let mut slots = self.sessions.slots();
        slots.retain(|slot| {
            let session = self.sessions.get(*slot);
            session.is_some_and(|session| session.shadow_of == Some(node))
        });
        slots
    }

    /// A consumer or getter of a client of another node is forgotten: its queue is served
    /// elsewhere now.
    pub(super) fn forget_shadow_consumer(&mut self, key: ConsumerKey) {
        self.consumers.take_label(key);
        let Some(consumer) = self.consumers.remove(key) else {
            return;
        };
        let open = self
            .sessions
            .channel_mut(consumer.session, consumer.channel);
        let Some(open) = open else { return };
        let was_consumer = open.consumers.remove(&key);
        open.getters.retain(|_, getter| *getter != key);
        if was_consumer {
            open.unsettled_count -= consumer.unsettled_count;
            if open.recheck_room() {
                self.unblock_session(consumer.session);
            }
        }
    }

    /// Answers when everything asked before is safe.
    pub(super) fn answer_barrier(&mut self, from: NodeId, number: u64) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let lost = cluster.edge.lost.remove(&from).unwrap_or_default();
        let lost = lost.into_iter().collect();
        let passed = Frame::Passed { number, lost };
        if self.is_all_persisted() {
            self.queue_frame(from, passed);
        } else {
            self.push_pending(Pending::Frame(Box::new((from, passed))));
        }
    }

    /// The refusal of what needs a queue that nobody serves.
    pub(super) fn no_server(&self, id: QueueId) -> Refusal {
        let (Some(entry), Some(cluster)) = (self.catalog.queue_by_id(id), &self.cluster) else {
            return Refusal::Precondition("no majority".to_owned());
        };
        let home = entry.placement.home();
        let Some(home) = home.filter(|_| !cluster.catalog.is_doomed(id)) else {
            return Refusal::Precondition("no majority".to_owned());
        };
        let name = cluster.nodes.name(home).cloned().unwrap_or_default();
        let durable = if entry.options.durable {
            "durable "
        } else {
            ""
        };
        Refusal::Unavailable(format!(
            "home node '{name}' of {durable}queue '{}' in vhost '{}' is down or inaccessible",
            entry.name, entry.vhost
        ))
    }
}
