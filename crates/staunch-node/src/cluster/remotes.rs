//! Consumers and getters of this node's clients on other nodes, and the shadows of channels there.

use staunch_types::{ChannelNumber, ConnectionId, ConsumerKey, Request, request::Settle};

use super::{
    abroad::{Asked, At, Remote},
    wire::SettledRun,
};
use crate::{consumers::ConsumerKind, node::Node, queues::QueueSlot, session::SessionSlot};

impl Node {
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
            remote.held.remove(index);
        }
        let (session, at) = (remote.session, remote.at);
        let run = SettledRun {
            first: settle.first,
            count: settle.count,
            outcome: settle.outcome,
        };
        let (queue, of) = (settle.queue, (remote.connection, settle.channel));
        match at {
            At::Nowhere(_) => edge.settlements.add(None, queue, run, Some(of)),
            At::Claiming(_) => {
                let number = edge.settlements.add_unsent(queue, run, of);
                remote.unsent.push((number, *settle));
            }
            At::Known(node, consumer) => {
                let term = edge.term_of(queue);
                edge.settlements
                    .add(Some((node, term)), queue, run, Some(of));
                let settle = Settle {
                    consumer,
                    ..*settle
                };
                self.send_request(session, node, Some(queue), Request::Settle(settle));
            }
        }
        let on = (settle.channel, settle.outcome);
        self.count_settled(session, on, settle.consumer, settle.count);
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
            self.send_request(session, node, None, request.clone());
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
            edge.push_request(node, (connection, &found.vhost), None, request);
            if let Some(guests) = edge.abroad.guests.get_mut(&connection)
                && let Some(guest) = guests.get_mut(&node)
            {
                guest.channels.remove(&channel);
            }
        }
        let of_channel = |asked: &Asked| asked.channel == channel;
        let asked = &mut edge.abroad.asked;
        if asked.get(&connection).is_some_and(of_channel)
            && let Some(asked) = asked.remove(&connection)
        {
            self.give_up_asked(connection, Some(&asked));
        }
        self.leave_unsent(connection, channel);
    }

    /// A channel is over, and with it those whose claims were not answered: servers learn by other
    /// means what these have settled.
    fn leave_unsent(&mut self, connection: ConnectionId, channel: ChannelNumber) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for remote in cluster.edge.abroad.take_ended_of(connection, channel) {
            self.settle_unsent(&remote);
        }
    }

    /// Who waited for the answer to its claim is over: the server learns of what it has settled behind
    /// the end of the channel.
    fn settle_unsent(&mut self, remote: &Remote) {
        if let At::Claiming(server) = remote.at
            && !remote.unsent.is_empty()
        {
            self.settle_again(remote.queue, server);
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
        self.settle_unsent(&remote);
        true
    }

    /// A connection is over, and its shadows with it.
    pub(crate) fn end_shadows(&mut self, session: SessionSlot) {
        let (Some(cluster), Some(found)) = (&mut self.cluster, self.sessions.get(session)) else {
            return;
        };
        let (connection, edge) = (found.id, &mut cluster.edge);
        edge.abroad.asked.remove(&connection);
        edge.abroad
            .forgetting
            .retain(|(_, of), _| *of != connection);
        for (node, _) in edge.abroad.guests.remove(&connection).unwrap_or_default() {
            let of = (connection, &found.vhost);
            edge.push_request(node, of, None, Request::CloseConnection);
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
            let asked = self.take_asked(connection);
            self.give_up_asked(connection, asked.as_ref());
            if let Some(asked) = asked
                && let Some(cluster) = &mut self.cluster
            {
                cluster.edge.abroad.unserved.push((connection, asked));
            }
        }
    }

    /// Handles anew what was asked of queues that are gone, now that the catalog and the table of
    /// queues agree.
    pub(super) fn handle_unserved(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for (connection, asked) in std::mem::take(&mut cluster.edge.abroad.unserved) {
            if self.is_still(asked.session, connection) {
                self.handle_rare_request(asked.session, asked.request);
            }
        }
    }
}
