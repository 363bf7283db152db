//! Whole queues for members that need entries which are gone.

use bytes::Bytes;
use staunch_types::{NodeId, QueueId};

use crate::node::Node;

impl Node {
    /// [`super::PeerPayload::Transfer`] has come.
    pub(crate) fn transfer_received(&mut self, _from: NodeId, _payload: Bytes) {}

    /// This node leads the queue, and a member needs all of it.
    pub(crate) fn transfer_to(&mut self, _queue: QueueId, _node: NodeId) {}

    /// The leader offers a state that is not here: it is to send the queue again.
    pub(crate) fn ask_for_transfer(&mut self, _queue: QueueId, _leader: NodeId) {}
}
