//! Whole queues for members that need entries which are gone.

use bytes::Bytes;
use staunch_types::NodeId;

use crate::node::Node;

impl Node {
    /// [`super::PeerPayload::Transfer`] has come.
    pub(crate) fn transfer_received(&mut self, _from: NodeId, _payload: Bytes) {}
}
