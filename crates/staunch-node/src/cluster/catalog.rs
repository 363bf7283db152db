//! The catalog as a group: definitions are proposed, and answered when they are committed.

use bytes::Bytes;
use staunch_types::NodeId;

use crate::node::Node;

/// The group that keeps the catalog, on this node.
pub(crate) struct CatalogGroup {}

impl CatalogGroup {
    pub(crate) fn new(_me: NodeId, _seed: u64) -> Self {
        Self {}
    }
}

impl Node {
    /// A peer is connected: what it had not answered is asked again.
    pub(crate) fn catalog_peer_up(&mut self, _node: NodeId) {}

    pub(crate) fn catalog_peer_down(&mut self, _node: NodeId) {}

    /// [`super::PeerPayload::Catalog`] has come.
    pub(crate) fn catalog_received(&mut self, _from: NodeId, _payload: Bytes) {}

    /// A message of the catalog's group has come.
    pub(crate) fn take_catalog_raft(&mut self, _message: staunch_raft::Message) {}

    /// Time passes for the catalog's group ([`staunch_raft::config::TICK`]).
    pub(crate) fn tick_catalog(&mut self) {}

    /// The failure detector suspects a node.
    pub(crate) fn suspect_for_catalog(&mut self, _node: NodeId) {}

    /// It takes that back.
    pub(crate) fn trust_for_catalog(&mut self, _node: NodeId) {}

    /// This node is about to stop: another is to lead the catalog's group.
    pub(crate) fn hand_over_catalog(&mut self) {}

    /// Does what is due for the catalog's group; part of every drain.
    pub(crate) fn advance_catalog(&mut self) {}
}
