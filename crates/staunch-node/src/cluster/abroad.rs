//! Queues of other nodes, on the node of the client that uses them.
//!
//! A connection has one request at a time that it waits for, so what was *asked* of another node
//! is known by its connection. A consumer on another node is a *remote* here: it has a key of its
//! own, which the client knows, and what it holds is remembered, so that it can move when another
//! node serves the queue.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use staunch_broker::ConsumerSpec;
use staunch_types::{
    ChannelNumber, ConnectionId, ConsumerKey, Name, NodeId, Operation, QueueId, Request, Timestamp,
    request::Settle,
};

use super::{
    edge::Edge,
    wire::{self, SettledRun},
};
use crate::{consumers::ConsumerKind, node::Node, queues::QueueSlot, session::SessionSlot};

/// How long a request waits for somebody who serves its queue (contract C15).
const SERVER_AWAITED_MAX: Duration = Duration::from_secs(5);

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Abroad {
    /// By token.
    remotes: BTreeMap<u64, Remote>,
    last_token: u64,
    by_key: BTreeMap<ConsumerKey, u64>,
    by_server: BTreeMap<(NodeId, ConsumerKey), u64>,
    by_queue: BTreeMap<QueueId, BTreeSet<u64>>,
    pub(super) asked: BTreeMap<ConnectionId, Asked>,
    /// Remotes that ended before their claims were answered, by token.
    ended: BTreeMap<u64, Remote>,
    guests: BTreeMap<ConnectionId, BTreeMap<NodeId, Guest>>,
    /// Of whose deliveries some have drained in this drain.
    drained: BTreeSet<ConnectionId>,
}

/// Someone of this node's clients who takes from a queue that is served elsewhere.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) session: SessionSlot,
    pub(super) connection: ConnectionId,
    pub(super) channel: ChannelNumber,
    pub(super) queue: QueueId,
    /// Its key here.
    pub(super) key: ConsumerKey,
    /// With that key; none if it only holds.
    pub(super) spec: Option<ConsumerSpec>,
    pub(super) at: At,
    pub(super) held: BTreeSet<u64>,
    /// Settlements that wait for its key there.
    pub(super) unsent: Vec<Settle>,
}

/// Where a remote is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// With nobody, since then.
    Nowhere(Timestamp),
    /// This node has been told of it.
    Claiming(NodeId),
    /// With this node, under this key.
    Known(NodeId, ConsumerKey),
}

/// A request that another node is to answer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) session: SessionSlot,
    pub(super) channel: ChannelNumber,
    pub(super) queue: QueueId,
    /// With keys of this node.
    pub(super) request: Request,
    since: Timestamp,
    pub(super) sent_to: Option<NodeId>,
}

/// A connection's shadow on another node.
#[derive(Debug, Default)]
struct Guest {
    channels: BTreeSet<ChannelNumber>,
    /// Bytes of deliveries that have come and are not known to have drained.
    outbound_size_bytes: u64,
    /// Bytes that have drained, of which the node has not been told.
    drained_size_bytes: u64,
}

impl Abroad {
    pub(super) fn insert(&mut self, remote: Remote) -> u64 {
        self.last_token += 1;
        let token = self.last_token;
        self.by_key.insert(remote.key, token);
        if let At::Known(node, key) = remote.at {
            self.by_server.insert((node, key), token);
        }
        self.by_queue.entry(remote.queue).or_default().insert(token);
        self.remotes.insert(token, remote);
        token
    }

    pub(super) fn get(&self, token: u64) -> Option<&Remote> {
        self.remotes.get(&token)
    }

    pub(super) fn get_mut(&mut self, token: u64) -> Option<&mut Remote> {
        self.remotes.get_mut(&token)
    }

    pub(super) fn find(&self, key: ConsumerKey) -> Option<u64> {
        self.by_key.get(&key).copied()
    }

    pub(super) fn find_at(&self, node: NodeId, key: ConsumerKey) -> Option<u64> {
        self.by_server.get(&(node, key)).copied()
    }

    pub(super) fn set_at(&mut self, token: u64, at: At) -> Option<&mut Remote> {
        let remote = self.remotes.get_mut(&token)?;
        if let At::Known(node, key) = remote.at {
            self.by_server.remove(&(node, key));
        }
        if let At::Known(node, key) = at {
            self.by_server.insert((node, key), token);
        }
        remote.at = at;
        Some(remote)
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Remote> {
        let remote = self.remotes.remove(&token)?;
        self.by_key.remove(&remote.key);
        if let At::Known(node, key) = remote.at {
            self.by_server.remove(&(node, key));
        }
        if let Some(tokens) = self.by_queue.get_mut(&remote.queue) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.by_queue.remove(&remote.queue);
            }
        }
        Some(remote)
    }

    /// As [`Abroad::remove`] for one whose channel goes on: if it has just been claimed, the server
    /// is still to be told that it is over.
    fn retire(&mut self, token: u64) {
        if let Some(remote) = self.remove(token)
            && let At::Claiming(_) = remote.at
        {
            self.ended.insert(token, remote);
        }
    }

    /// A remote that ended before its claim was answered by `node`.
    pub(super) fn take_ended(&mut self, token: u64, node: NodeId) -> Option<Remote> {
        let remote = self.ended.remove(&token)?;
        (remote.at == At::Claiming(node)).then_some(remote)
    }

    pub(super) fn of_queue(&self, queue: QueueId) -> Vec<u64> {
        let tokens = self.by_queue.get(&queue);
        tokens.into_iter().flatten().copied().collect()
    }

    /// Queues with remotes, or of which something was asked.
    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        let asked = self.asked.values().map(|asked| asked.queue);
        self.by_queue.keys().copied().chain(asked)
    }

    /// A connection's channel is known to a node from now on.
    pub(super) fn note_shadow(
        &mut self,
        connection: ConnectionId,
        channel: ChannelNumber,
        node: NodeId,
    ) {
        let guests = self.guests.entry(connection).or_default();
        guests.entry(node).or_default().channels.insert(channel);
    }

    /// The nodes that know the connection's channel.
    fn nodes_of(&self, connection: ConnectionId, channel: ChannelNumber) -> Vec<NodeId> {
        let guests = self.guests.get(&connection).into_iter().flatten();
        guests
            .filter(|(_, guest)| guest.channels.contains(&channel))
            .map(|(node, _)| *node)
            .collect()
    }

    /// Deliveries have come from a node.
    pub(super) fn came(&mut self, connection: ConnectionId, from: NodeId, size_bytes: u64) {
        let guests = self.guests.entry(connection).or_default();
        guests.entry(from).or_default().outbound_size_bytes += size_bytes;
    }

    /// Deliveries have left for the client. Those of other nodes are taken to be the first: all
    /// of them have left when everything has.
    fn drained(&mut self, connection: ConnectionId, mut size_bytes: u64) {
        for guest in self.guests.get_mut(&connection).into_iter().flatten() {
            let guest = guest.1;
            let part = guest.outbound_size_bytes.min(size_bytes);
            guest.outbound_size_bytes -= part;
            guest.drained_size_bytes += part;
            size_bytes -= part;
            self.drained.insert(connection);
        }
    }
}

impl Edge {
    /// Tells the servers what has drained.
    pub(super) fn push_drained(&mut self) {
        let mut drained = Vec::new();
        for connection in std::mem::take(&mut self.abroad.drained) {
            let guests = self.abroad.guests.get_mut(&connection);
            for (node, guest) in guests.into_iter().flatten() {
                let size_bytes = std::mem::take(&mut guest.drained_size_bytes);
                if size_bytes > 0 {
                    drained.push((connection, *node, size_bytes));
                }
            }
        }
        for (connection, node, size_bytes) in drained {
            let request = Request::Drained { size_bytes };
            self.push_request(node, connection, &Name::default(), request);
        }
    }
}

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
    /// its own node asks again.
    pub(super) fn ask_later(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        queue: QueueId,
        request: Request,
    ) -> Option<ConnectionId> {
        let found = self.sessions.get(session)?;
        if found.shadow_of.is_some() {
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
        cluster.edge.abroad.asked.insert(connection, asked);
        Some(connection)
    }

    fn send_asked(&mut self, connection: ConnectionId) {
        let Some(cluster) = &self.cluster else { return };
        let me = cluster.me;
        let Some(asked) = cluster.edge.abroad.asked.get(&connection) else {
            return;
        };
        let (session, channel, request) = (asked.session, asked.channel, asked.request.clone());
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
                self.send_request(session, server, limit);
            }
        }
        let Some(request) = self.translated(server, request) else {
            return;
        };
        self.send_request(session, server, request);
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

    pub(super) fn take_asked(&mut self, connection: ConnectionId) -> Option<Asked> {
        let cluster = self.cluster.as_mut()?;
        cluster.edge.abroad.asked.remove(&connection)
    }

    /// Sends a request for a session to a node, which then knows the session and its channel.
    pub(super) fn send_request(&mut self, session: SessionSlot, to: NodeId, request: Request) {
        let (Some(found), Some(cluster)) = (self.sessions.get(session), &mut self.cluster) else {
            return;
        };
        if let Some(channel) = channel_of(&request) {
            cluster.edge.abroad.note_shadow(found.id, channel, to);
        }
        let edge = &mut cluster.edge;
        edge.push_request(to, found.id, &found.vhost, request);
    }

    /// What was asked of a queue goes to its new server.
    pub(super) fn ask_again(&mut self, queue: QueueId, _server: NodeId) {
        for connection in self.asked_where(|asked| asked.queue == queue) {
            let Some(cluster) = &self.cluster else { return };
            let asked = cluster.edge.abroad.asked.get(&connection);
            if let Some(Request::Cancel { consumer, .. }) = asked.map(|asked| &asked.request) {
                // Its place was not claimed with the new one.
                let consumer = *consumer;
                self.take_asked(connection);
                self.end_remote_consumer(consumer, true);
            } else {
                self.send_asked(connection);
            }
        }
    }

    fn asked_where(&self, which: impl Fn(&Asked) -> bool) -> Vec<ConnectionId> {
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
            let refusal = self.no_server(asked.queue);
            let operation = operation(&asked.request);
            self.refuse(asked.session, asked.channel, operation, refusal);
        }
        let Some(cluster) = &self.cluster else { return };
        let remotes = cluster.edge.abroad.remotes.values();
        let lost: Vec<_> = remotes
            .filter(|remote| matches!(remote.at, At::Nowhere(since) if is_late(since)))
            .map(|remote| (remote.queue, remote.key))
            .collect();
        for (queue, key) in lost {
            if self.home_of(queue).is_some() {
                self.end_remote_consumer(key, false);
            }
        }
    }

    /// `basic.cancel` of a consumer on another node. False if it is none.
    pub(crate) fn cancel_elsewhere(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        key: ConsumerKey,
    ) -> bool {
        let Some(cluster) = &self.cluster else {
            return false;
        };
        let abroad = &cluster.edge.abroad;
        let Some(remote) = abroad.find(key).and_then(|token| abroad.get(token)) else {
            return false;
        };
        if remote.session != session || remote.spec.is_none() {
            return false;
        }
        let (at, queue) = (remote.at, remote.queue);
        if let At::Known(..) = at {
            let consumer = key;
            self.ask(
                session,
                channel,
                queue,
                Request::Cancel { channel, consumer },
            );
        } else {
            self.end_remote_consumer(key, true);
        }
        true
    }

    /// A consumer on another node is over, because its client wants that or because it was
    /// cancelled there. What it holds stays with it.
    pub(super) fn end_remote_consumer(&mut self, key: ConsumerKey, is_wanted: bool) {
        let Some(consumer) = self.consumers.get(key).copied() else {
            return;
        };
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let abroad = &mut cluster.edge.abroad;
        if let Some(token) = abroad.find(key) {
            if consumer.unsettled_count == 0 {
                abroad.retire(token);
            } else if let Some(remote) = abroad.get_mut(token)
                && !matches!(remote.at, At::Claiming(_))
            {
                remote.spec = None;
            }
        }
        if is_wanted {
            self.cancelled_elsewhere(key);
        } else {
            self.cancel_by_node(key);
        }
    }

    /// A settlement for a queue that several nodes keep, or another. False if the consumer is
    /// served here.
    pub(crate) fn settle_elsewhere(&mut self, settle: &Settle) -> bool {
        let Some(cluster) = &mut self.cluster else {
            return false;
        };
        let edge = &mut cluster.edge;
        let Some(token) = edge.abroad.find(settle.consumer) else {
            return false;
        };
        let Some(remote) = edge.abroad.get_mut(token) else {
            return false;
        };
        for index in settle.first.0..settle.first.0 + u64::from(settle.count) {
            remote.held.remove(&index);
        }
        let (session, at) = (remote.session, remote.at);
        let run = SettledRun {
            first: settle.first,
            count: settle.count,
            outcome: settle.outcome,
        };
        let server = match at {
            At::Nowhere(_) => None,
            At::Claiming(node) | At::Known(node, _) => Some(node),
        };
        let of = Some((remote.connection, settle.channel));
        if let At::Claiming(_) = at {
            remote.unsent.push(*settle);
        }
        edge.settlements.add(server, settle.queue, run, of);
        if let At::Known(node, consumer) = at {
            let settle = Settle {
                consumer,
                ..*settle
            };
            self.send_request(session, node, Request::Settle(settle));
        }
        self.count_settled(session, settle.channel, settle.consumer, settle.count);
        if self.consumers.get(settle.consumer).is_none()
            && let Some(cluster) = &mut self.cluster
        {
            cluster.edge.abroad.retire(token);
        }
        true
    }

    /// Tells the nodes that know a channel of a request that concerns it.
    pub(crate) fn tell_servers(
        &mut self,
        session: SessionSlot,
        channel: ChannelNumber,
        request: &Request,
    ) {
        let (Some(cluster), Some(found)) = (&mut self.cluster, self.sessions.get(session)) else {
            return;
        };
        let abroad = &mut cluster.edge.abroad;
        if let Request::LimitConsumers { prefetch, .. } = request {
            for remote in abroad.remotes.values_mut() {
                if remote.session == session
                    && remote.channel == channel
                    && let Some(spec) = &mut remote.spec
                {
                    spec.prefetch = *prefetch;
                }
            }
        }
        for node in abroad.nodes_of(found.id, channel) {
            self.send_request(session, node, request.clone());
        }
    }

    /// Deliveries have left for the client.
    pub(crate) fn drained_elsewhere(&mut self, session: SessionSlot, size_bytes: u64) {
        if let (Some(cluster), Some(found)) = (&mut self.cluster, self.sessions.get(session)) {
            cluster.edge.abroad.drained(found.id, size_bytes);
        }
    }

    /// A channel is over: so it is on other nodes.
    pub(crate) fn leave_servers(&mut self, session: SessionSlot, channel: ChannelNumber) {
        let (Some(cluster), Some(found)) = (&mut self.cluster, self.sessions.get(session)) else {
            return;
        };
        let (connection, edge) = (found.id, &mut cluster.edge);
        for node in edge.abroad.nodes_of(connection, channel) {
            let request = Request::CloseChannel { channel };
            edge.push_request(node, connection, &found.vhost, request);
            if let Some(guests) = edge.abroad.guests.get_mut(&connection)
                && let Some(guest) = guests.get_mut(&node)
            {
                guest.channels.remove(&channel);
            }
        }
        let asked = &mut edge.abroad.asked;
        if asked
            .get(&connection)
            .is_some_and(|it| it.channel == channel)
        {
            asked.remove(&connection);
        }
    }

    /// Forgets a consumer on another node whose channel is over. False if it is none.
    pub(crate) fn forget_remote(&mut self, key: ConsumerKey) -> bool {
        let Some(cluster) = &mut self.cluster else {
            return false;
        };
        let Some(token) = cluster.edge.abroad.find(key) else {
            return false;
        };
        let Some(remote) = cluster.edge.abroad.remove(token) else {
            return false;
        };
        if let At::Claiming(server) = remote.at
            && !remote.unsent.is_empty()
        {
            // The server learns of them behind the end of the channel.
            self.settle_again(remote.queue, server);
        }
        true
    }

    /// A connection is over, and its shadows with it.
    pub(crate) fn end_shadows(&mut self, session: SessionSlot) {
        let (Some(cluster), Some(found)) = (&mut self.cluster, self.sessions.get(session)) else {
            return;
        };
        let (connection, edge) = (found.id, &mut cluster.edge);
        edge.abroad.asked.remove(&connection);
        for (node, _) in edge.abroad.guests.remove(&connection).unwrap_or_default() {
            edge.push_request(node, connection, &found.vhost, Request::CloseConnection);
        }
    }

    /// The queue in `slot`, which another node served, is gone.
    pub(super) fn cancel_abroad(&mut self, slot: &mut QueueSlot) {
        let id = slot.id;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for token in cluster.edge.abroad.of_queue(id) {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let Some(remote) = cluster.edge.abroad.remove(token) else {
                continue;
            };
            let kind = self.consumers.get(remote.key).map(|consumer| consumer.kind);
            if kind == Some(ConsumerKind::Active) {
                self.cancel_by_node(remote.key);
            }
        }
        for connection in self.asked_where(|asked| asked.queue == id) {
            if let Some(asked) = self.take_asked(connection) {
                self.handle_rare_request(asked.session, asked.request);
            }
        }
    }
}

/// The channel that a request is for.
fn channel_of(request: &Request) -> Option<ChannelNumber> {
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
