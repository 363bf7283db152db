//! Queues of other nodes, on the node of the client that uses them.
//!
//! A connection has one request at a time that it waits for, so what was *asked* of another node
//! is known by its connection. A consumer on another node is a *remote* here: it has a key of its
//! own, which the client knows, and what it holds is remembered, so that it can move when another
//! node serves the queue.

use std::collections::{BTreeMap, BTreeSet};

use staunch_broker::{ConsumerSpec, Indexes};
use staunch_types::{
    ChannelNumber, ConnectionId, ConsumerKey, Name, NodeId, QueueId, Request, Timestamp,
    request::Settle,
};

use super::{edge::Edge, wire::Frame};
use crate::session::SessionSlot;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Abroad {
    /// By token.
    pub(super) remotes: BTreeMap<u64, Remote>,
    last_token: u64,
    by_key: BTreeMap<ConsumerKey, u64>,
    by_server: BTreeMap<(NodeId, ConsumerKey), u64>,
    by_queue: BTreeMap<QueueId, BTreeSet<u64>>,
    pub(super) asked: BTreeMap<ConnectionId, Asked>,
    /// Nodes that were told to forget what they had been asked for connections, how often, and have
    /// not said that they have.
    pub(super) forgetting: BTreeMap<(NodeId, ConnectionId), u32>,
    /// What was asked of queues that are gone.
    pub(super) unserved: Vec<(ConnectionId, Asked)>,
    /// Remotes that ended before their claims were answered, by token.
    pub(super) ended: BTreeMap<u64, Remote>,
    pub(super) guests: BTreeMap<ConnectionId, BTreeMap<NodeId, Guest>>,
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
    pub(super) held: Indexes,
    /// Settlements that wait for its key there, with their numbers.
    pub(super) unsent: Vec<(u64, Settle)>,
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
    pub(super) since: Timestamp,
    pub(super) sent_to: Option<NodeId>,
}

/// A connection's shadow on another node.
#[derive(Debug, Default)]
pub(super) struct Guest {
    pub(super) channels: BTreeSet<ChannelNumber>,
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

    /// Who gets a delivery of that queue. The server may have given a key to another one that this node
    /// believes to be somebody's who has in truth to move.
    pub(super) fn receiver(&self, node: NodeId, key: ConsumerKey, queue: QueueId) -> Option<u64> {
        let token = self.find_at(node, key)?;
        let remote = self.remotes.get(&token)?;
        (remote.queue == queue).then_some(token)
    }

    pub(super) fn set_at(&mut self, token: u64, at: At) -> Option<&mut Remote> {
        let before = self.remotes.get(&token)?.at;
        self.forget_at(token, before);
        if let At::Known(node, key) = at {
            self.by_server.insert((node, key), token);
        }
        let remote = self.remotes.get_mut(&token)?;
        remote.at = at;
        Some(remote)
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<Remote> {
        let remote = self.remotes.remove(&token)?;
        self.by_key.remove(&remote.key);
        self.forget_at(token, remote.at);
        if let Some(tokens) = self.by_queue.get_mut(&remote.queue) {
            tokens.remove(&token);
            if tokens.is_empty() {
                self.by_queue.remove(&remote.queue);
            }
        }
        Some(remote)
    }

    /// A remote is not there any more. The server may have given its key to another one since.
    fn forget_at(&mut self, token: u64, at: At) {
        if let At::Known(node, key) = at
            && self.by_server.get(&(node, key)) == Some(&token)
        {
            self.by_server.remove(&(node, key));
        }
    }

    /// As [`Abroad::remove`] for one whose channel goes on: if it has just been claimed, the server
    /// is still to be told that it is over.
    pub(super) fn retire(&mut self, token: u64) {
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

    /// Remotes of a channel that ended before their claims were answered.
    pub(super) fn take_ended_of(
        &mut self,
        connection: ConnectionId,
        channel: ChannelNumber,
    ) -> Vec<Remote> {
        let of_channel =
            |_: &u64, it: &mut Remote| (it.connection, it.channel) == (connection, channel);
        let ended = self.ended.extract_if(.., of_channel);
        ended.map(|(_, remote)| remote).collect()
    }

    pub(super) fn of_queue(&self, queue: QueueId) -> Vec<u64> {
        let tokens = self.by_queue.get(&queue);
        tokens.into_iter().flatten().copied().collect()
    }

    /// Whether what a node answers for a connection was asked before it was told to forget that.
    pub(super) fn is_forgetting(&self, node: NodeId, connection: ConnectionId) -> bool {
        self.forgetting.contains_key(&(node, connection))
    }

    /// A node has forgotten what was asked of it before it was told so once.
    pub(super) fn has_forgotten(&mut self, node: NodeId, connection: ConnectionId) {
        if let Some(count) = self.forgetting.get_mut(&(node, connection)) {
            *count -= 1;
            if *count == 0 {
                self.forgetting.remove(&(node, connection));
            }
        }
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
    pub(super) fn nodes_of(&self, connection: ConnectionId, channel: ChannelNumber) -> Vec<NodeId> {
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
    pub(super) fn drained(&mut self, connection: ConnectionId, mut size_bytes: u64) {
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
    /// A node is to forget what it was asked for a connection.
    pub(super) fn forget_asked(&mut self, connection: ConnectionId, node: NodeId) {
        let forgetting = &mut self.abroad.forgetting;
        *forgetting.entry((node, connection)).or_default() += 1;
        self.push(node, Frame::Forget(connection));
    }

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
            self.push_request(node, (connection, &Name::default()), None, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_server_has_given_to_another_one_gets_no_deliveries() {
        let mut abroad = Abroad::default();
        let (server, there) = (NodeId(1), ConsumerKey(7));
        let token = abroad.insert(Remote {
            session: SessionSlot(0),
            connection: ConnectionId(1),
            channel: ChannelNumber(1),
            queue: QueueId(10),
            key: ConsumerKey(3),
            spec: None,
            at: At::Known(server, there),
            held: Indexes::default(),
            unsent: Vec::new(),
        });
        assert_eq!(abroad.receiver(server, there, QueueId(10)), Some(token));
        assert_eq!(abroad.receiver(server, there, QueueId(14)), None);
        assert_eq!(abroad.receiver(NodeId(2), there, QueueId(10)), None);
    }
}
