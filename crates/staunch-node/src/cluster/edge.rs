//! What clients of this node ask of queues that are served elsewhere, and what clients of other
//! nodes ask of queues that are served here.

use bytes::Bytes;
use staunch_broker::Origin;
use staunch_types::{NodeId, QueueId, Term};

use crate::node::Node;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Edge {}

impl Node {
    pub(crate) fn edge_peer_up(&mut self, _node: NodeId, _incarnation: u64) {}

    pub(crate) fn edge_peer_down(&mut self, _node: NodeId) {}

    /// [`super::PeerPayload::Queue`] has come.
    pub(crate) fn queue_received(&mut self, _from: NodeId, _payload: Bytes) {}

    /// Some node serves the queue from now on, in this term; it may be this one.
    pub(crate) fn served_by(&mut self, _queue: QueueId, _leader: NodeId, _term: Term) {}

    /// This node served the queue and does not any more: its consumers and all that they held is
    /// forgotten there. Called before the queue forgets: who holds what can still be asked.
    pub(crate) fn ceases_to_serve(&mut self, _queue: QueueId) {}

    /// This node, which serves the queue, has applied everything of `origin` up to `number`.
    pub(crate) fn heard(&mut self, _queue: QueueId, _origin: Origin, _number: u64) {}
}
