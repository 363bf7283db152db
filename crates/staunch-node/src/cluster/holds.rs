//! Publishers that wait: for nodes that run out of memory or disk, and for queues that do not take
//! what is on its way to them.
//!
//! A node tells the others of its alarms ([`Frame::Alarm`](super::wire::Frame)). Who publishes to a
//! queue that is kept there is blocked as by an alarm of his own node, wherever he is connected;
//! others go on. RabbitMQ blocks all publishers of a cluster.
//!
//! What is on its way to a queue that nobody serves, or that is slow, waits in its outbox. One
//! queue's outbox may take half of what the others leave free (a dynamic threshold, Choudhury and
//! Hahne); who publishes to it beyond that is not read from until half of it has gone. So a queue
//! without a leader holds up its own publishers and no others.

use std::collections::BTreeMap;

use staunch_types::{ConnectionId, Event, NodeId, QueueId};

use crate::{cluster::wire::Frame, node::Node, session::SessionSlot};

/// Alarms of other nodes: memory, disk; those that have none are not there.
#[derive(Debug, Default)]
pub(crate) struct AlarmsElsewhere(BTreeMap<NodeId, (bool, bool)>);

impl AlarmsElsewhere {
    /// Whether another node has an alarm.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// All of them together.
    pub(crate) fn all(&self) -> (bool, bool) {
        let alarms = self.0.values();
        alarms.fold((false, false), |all, one| (all.0 | one.0, all.1 | one.1))
    }

    /// Whether anything changes when this is what a node says.
    fn set(&mut self, node: NodeId, alarms: (bool, bool)) -> bool {
        let before = if alarms == (false, false) {
            self.0.remove(&node)
        } else {
            self.0.insert(node, alarms)
        };
        before.unwrap_or_default() != alarms
    }
}

impl Node {
    /// Another node's alarms have changed; it is gone, if it has none.
    pub(crate) fn hear_alarms(&mut self, node: NodeId, memory: bool, disk: bool) {
        if !self.alarms.elsewhere.set(node, (memory, disk)) {
            return;
        }
        let is_over = !self.alarms.elsewhere.any();
        for slot in self.sessions.slots() {
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            if session.is_exposed {
                session.is_exposed = !is_over;
                self.tell_alarms(slot);
            }
        }
    }

    /// Tells the other nodes of this one's alarms.
    pub(crate) fn spread_alarms(&mut self) {
        let (memory, disk) = self.alarms();
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for node in cluster.nodes.others() {
            cluster.edge.push(node, Frame::Alarm { memory, disk });
        }
    }

    /// A node is connected: it knows nothing of this one's alarms.
    pub(super) fn greet_with_alarms(&mut self, node: NodeId) {
        let (memory, disk) = self.alarms();
        if memory || disk {
            self.queue_frame(node, Frame::Alarm { memory, disk });
        }
    }

    /// Tells a session which alarms hold it back.
    pub(crate) fn tell_alarms(&mut self, slot: SessionSlot) {
        let (mut memory, mut disk) = self.alarms();
        if self.sessions.get(slot).is_some_and(|it| it.is_exposed) {
            let elsewhere = self.alarms.elsewhere.all();
            memory |= elsewhere.0;
            disk |= elsewhere.1;
        }
        self.sessions.push(slot, Event::Alarm { memory, disk });
    }

    /// A session has published to queues of other nodes, or replicated ones: it has to wait if they
    /// are kept where memory or disk runs low, or if too much is on its way to them.
    pub(crate) fn hold_publisher(&mut self, slot: SessionSlot, queues: &[QueueId]) {
        if self.alarms.elsewhere.any() {
            self.expose(slot, queues);
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if !cluster.outboxes.is_filling() {
            return;
        }
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let connection = session.id;
        let before = session.holds_count;
        for queue in queues {
            session.holds_count += u32::from(cluster.outboxes.hold(*queue, (slot, connection)));
        }
        if before == 0 && session.holds_count > 0 {
            let is_held = true;
            self.sessions.push(slot, Event::PublishesHeld { is_held });
        }
    }

    fn expose(&mut self, slot: SessionSlot, queues: &[QueueId]) {
        let alarmed = &self.alarms.elsewhere.0;
        let is_kept_there = |queue: &QueueId| {
            let entry = self.catalog.queue_by_id(*queue);
            entry.is_some_and(|it| {
                it.placement
                    .members
                    .iter()
                    .any(|node| alarmed.contains_key(node))
            })
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if !session.is_exposed && queues.iter().any(is_kept_there) {
            session.is_exposed = true;
            self.tell_alarms(slot);
        }
    }

    /// Reads on from publishers whose outboxes have room.
    pub(crate) fn let_publishers_go_on(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for (slot, connection) in cluster.outboxes.take_relieved() {
            self.relieve_publisher(slot, connection);
        }
    }

    /// A session is not read from until it has been relieved as often.
    pub(crate) fn hold_session(&mut self, slot: SessionSlot) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.holds_count += 1;
        if session.holds_count == 1 {
            let is_held = true;
            self.sessions.push(slot, Event::PublishesHeld { is_held });
        }
    }

    pub(crate) fn relieve_publisher(&mut self, slot: SessionSlot, connection: ConnectionId) {
        let session = self.sessions.get_mut(slot);
        let Some(session) = session.filter(|session| session.id == connection) else {
            return;
        };
        session.holds_count -= 1;
        if session.holds_count == 0 {
            let is_held = false;
            self.sessions.push(slot, Event::PublishesHeld { is_held });
        }
    }
}
