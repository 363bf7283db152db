//! What this node asks others on behalf of its clients, one request of a connection at a time.
//!
//! Answers have no numbers. So when a request is given up that a node may still answer, that node is
//! told to forget it ([`Frame::Forget`]), and until it says that it has, its answers for that
//! connection are passed over.

use std::time::Duration;

use staunch_types::{ChannelNumber, ConnectionId, NodeId, Operation, QueueId, Request, Timestamp};

use super::{
    abroad::{Asked, At},
    wire::{self, Frame},
};
use crate::{node::Node, session::SessionSlot};

/// How long a request waits for somebody who serves its queue (contract C15).
const SERVER_AWAITED_MAX: Duration = Duration::from_secs(5);

impl Node {
    /// Has the queue's server answer a request.
    pub(crate) fn ask(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        queue: QueueId,
        request: Request,
    ) {
        let is_down = self.server_of(queue).is_none() && self.home_of(queue).is_some();
        let found = self.sessions.get(session);
        if is_down && found.is_some_and(|found| found.shadow_of.is_none()) {
            let refusal = self.no_server(queue);
            return self.refuse(session, channel, operation(&request), refusal);
        }
        if let Some(connection) = self.ask_later(session, channel, queue, request) {
            self.send_asked(connection);
        }
    }

    /// Has the counts of a queue that was declared asked for.
    pub(crate) fn ask_for_counts(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        queue: QueueId,
    ) {
        if let Some(name) = self.queues.get(queue).map(|slot| slot.name.clone()) {
            self.ask(session, channel, queue, wire::count(channel, name));
        }
    }

    /// As [`Node::ask`], when it is known who serves the queue. None if the session is a shadow:
    /// its own node asks again; or if the channel is over, of which other nodes were told already.
    pub(super) fn ask_later(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        queue: QueueId,
        request: Request,
    ) -> Option<ConnectionId> {
        let found = self.sessions.get(session)?;
        if found.shadow_of.is_some() || !found.channels.contains_key(&channel) {
            return None;
        }
        let connection = found.id;
        let asked = Asked {
            session,
            channel,
            queue,
            request,
            since: self.now,
            sent_to: None,
        };
        let cluster = self.cluster.as_mut()?;
        let before = cluster.edge.abroad.asked.insert(connection, asked);
        self.give_up_asked(connection, before.as_ref());
        Some(connection)
    }

    fn send_asked(&mut self, connection: ConnectionId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let me = cluster.me;
        let edge = &mut cluster.edge;
        let Some(asked) = edge.abroad.asked.get_mut(&connection) else {
            return;
        };
        if let Some(before) = asked.sent_to.take() {
            edge.forget_asked(connection, before);
        }
        let Some(cluster) = &self.cluster else { return };
        let Some(asked) = cluster.edge.abroad.asked.get(&connection) else {
            return;
        };
        let (session, channel, request) = (asked.session, asked.channel, asked.request.clone());
        let queue = asked.queue;
        if cluster.catalog.is_doomed(queue) {
            // It is asked again when the queue is gone.
            return;
        }
        let Some(server) = self.server_of(asked.queue) else {
            return;
        };
        if server == me {
            self.take_asked(connection);
            return self.handle_rare_request(session, request);
        }
        if let Request::Consume(_) = request {
            let open = self.sessions.channel_mut(session, channel);
            let prefetch = open.map_or(0, |open| open.prefetch);
            if prefetch > 0 {
                let limit = Request::LimitChannel { channel, prefetch };
                self.send_request(session, server, None, limit);
            }
        }
        // What was published before is there first.
        self.flush_outbox(queue);
        let Some(request) = self.translated(server, request) else {
            return;
        };
        self.send_request(session, server, Some(queue), request);
        if let Some(cluster) = &mut self.cluster
            && let Some(asked) = cluster.edge.abroad.asked.get_mut(&connection)
        {
            asked.sent_to = Some(server);
        }
    }

    /// The request with the server's key of its consumer; none if the server does not know it.
    fn translated(&self, server: NodeId, request: Request) -> Option<Request> {
        let Request::Cancel { channel, consumer } = request else {
            return Some(request);
        };
        let abroad = &self.cluster.as_ref()?.edge.abroad;
        match abroad.get(abroad.find(consumer)?)?.at {
            At::Known(node, consumer) if node == server => {
                Some(Request::Cancel { channel, consumer })
            }
            At::Known(..) | At::Claiming(_) | At::Nowhere(_) => None,
        }
    }

    /// Nobody waits for the answer any more.
    pub(super) fn give_up_asked(&mut self, connection: ConnectionId, asked: Option<&Asked>) {
        if let Some(sent_to) = asked.and_then(|asked| asked.sent_to)
            && let Some(cluster) = &mut self.cluster
        {
            cluster.edge.forget_asked(connection, sent_to);
        }
    }

    /// A node does not wait any more for what it has asked for a connection. What is answered already
    /// is on its way before this is.
    pub(super) fn forget_asked_here(&mut self, from: NodeId, connection: ConnectionId) {
        if let Some(session) = self.find_shadow(from, connection) {
            self.send_events();
            self.pending.forget_answers(session);
            drop(self.take_waiting(|pending| pending.answers(session)));
            self.forget_getters(session);
        }
        self.queue_frame(from, Frame::Forgotten(connection));
    }

    /// A node has forgotten what was asked of it before.
    pub(super) fn has_forgotten_asked(&mut self, from: NodeId, connection: ConnectionId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.edge.abroad.has_forgotten(from, connection);
        }
    }

    pub(super) fn take_asked(&mut self, connection: ConnectionId) -> Option<Asked> {
        let cluster = self.cluster.as_mut()?;
        cluster.edge.abroad.asked.remove(&connection)
    }

    /// Sends a request for a session to a node, which then knows the session and its channel; about
    /// that queue if it is about one.
    pub(super) fn send_request(
        &mut self,
        session: SessionSlot,
        to: NodeId,
        queue: Option<QueueId>,
        request: Request,
    ) {
        let (Some(found), Some(cluster)) = (self.sessions.get(session), &mut self.cluster) else {
            return;
        };
        if let Some(channel) = channel_of(&request) {
            cluster.edge.abroad.note_shadow(found.id, channel, to);
        }
        let edge = &mut cluster.edge;
        edge.push_request(to, (found.id, &found.vhost), queue, request);
    }

    /// What was asked of a queue goes to its new server. A consumer that is to be cancelled is one of
    /// this node's if that serves the queue now; at another server its place was not claimed.
    pub(super) fn ask_again(&mut self, queue: QueueId, server: NodeId) {
        for connection in self.asked_where(|asked| asked.queue == queue) {
            let Some(cluster) = &self.cluster else { return };
            let is_here = server == cluster.me;
            let asked = cluster.edge.abroad.asked.get(&connection);
            if let Some(Request::Cancel { consumer, .. }) = asked.map(|asked| &asked.request)
                && !is_here
            {
                let consumer = *consumer;
                let asked = self.take_asked(connection);
                self.give_up_asked(connection, asked.as_ref());
                self.end_remote_consumer(consumer, true);
            } else {
                self.send_asked(connection);
            }
        }
    }

    pub(super) fn asked_where(&self, which: impl Fn(&Asked) -> bool) -> Vec<ConnectionId> {
        let asked = self.cluster.iter().flat_map(|it| &it.edge.abroad.asked);
        asked
            .filter(|(_, asked)| which(asked))
            .map(|(connection, _)| *connection)
            .collect()
    }

    /// A node is gone: what was asked of it waits for another, and so do consumers there.
    pub(super) fn lose_server(&mut self, node: NodeId) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let abroad = &mut cluster.edge.abroad;
        for guests in abroad.guests.values_mut() {
            guests.remove(&node);
        }
        abroad.forgetting.retain(|(of, _), _| *of != node);
        let there = |at: At| matches!(at, At::Claiming(it) | At::Known(it, _) if it == node);
        let remotes = abroad.remotes.iter();
        let lost: Vec<_> = remotes
            .filter(|(_, remote)| there(remote.at))
            .map(|(token, _)| *token)
            .collect();
        abroad
            .ended
            .retain(|_, remote| remote.at != At::Claiming(node));
        for token in lost {
            if let Some(remote) = abroad.set_at(token, At::Nowhere(now)) {
                remote.unsent.clear();
            }
        }
        for connection in self.asked_where(|asked| asked.sent_to == Some(node)) {
            let Some(mut asked) = self.take_asked(connection) else {
                continue;
            };
            if let Request::Cancel { consumer, .. } = asked.request {
                self.end_remote_consumer(consumer, true);
            } else if self.home_of(asked.queue).is_some() {
                let refusal = self.no_server(asked.queue);
                let operation = operation(&asked.request);
                self.refuse(asked.session, asked.channel, operation, refusal);
            } else if let Some(cluster) = &mut self.cluster {
                asked.sent_to = None;
                cluster.edge.abroad.asked.insert(connection, asked);
            }
        }
    }

    /// Refuses what has waited too long, and ends consumers whose queue's only node stays away.
    pub(super) fn check_asked(&mut self, now: Timestamp) {
        let is_late = |since: Timestamp| now.since(since) >= SERVER_AWAITED_MAX;
        for connection in self.asked_where(|asked| is_late(asked.since)) {
            let Some(asked) = self.take_asked(connection) else {
                continue;
            };
            if asked.sent_to.is_some() && self.home_of(asked.queue).is_some() {
                if let Some(cluster) = &mut self.cluster {
                    cluster.edge.abroad.asked.insert(connection, asked);
                }
                continue;
            }
            self.give_up_asked(connection, Some(&asked));
            let refusal = self.no_server(asked.queue);
            let operation = operation(&asked.request);
            self.refuse(asked.session, asked.channel, operation, refusal);
        }
        let Some(cluster) = &self.cluster else { return };
        let remotes = cluster.edge.abroad.remotes.values();
        let lost: Vec<_> = remotes
            .filter(|remote| remote.spec.is_some())
            .filter(|remote| matches!(remote.at, At::Nowhere(since) if is_late(since)))
            .map(|remote| (remote.queue, remote.key))
            .collect();
        for (queue, key) in lost {
            if self.home_of(queue).is_some() {
                self.end_remote_consumer(key, false);
            }
        }
    }
}

/// The channel that a request is for.
pub(super) fn channel_of(request: &Request) -> Option<ChannelNumber> {
    match request {
        Request::Consume(consume) => Some(consume.channel),
        Request::Settle(settle) => Some(settle.channel),
        Request::DeclareQueue(declare) => Some(declare.channel),
        Request::Cancel { channel, .. }
        | Request::Get { channel, .. }
        | Request::PurgeQueue { channel, .. }
        | Request::DeleteQueue { channel, .. }
        | Request::LimitChannel { channel, .. }
        | Request::LimitConsumers { channel, .. }
        | Request::CloseChannel { channel } => Some(*channel),
        _ => None,
    }
}

/// What a request is called when it is refused.
pub(super) fn operation(request: &Request) -> Operation {
    match request {
        Request::Get { .. } => Operation::Get,
        Request::PurgeQueue { .. } => Operation::PurgeQueue,
        Request::DeclareQueue(_) => Operation::DeclareQueue,
        Request::DeleteQueue { .. } => Operation::DeleteQueue,
        Request::Cancel { .. } => Operation::Cancel,
        _ => Operation::Consume,
    }
}
