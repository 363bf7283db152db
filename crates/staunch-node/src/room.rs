//! Room in full queues: who is told that a queue which refused something could take it now.
//!
//! A dead letter that must not be lost is tried again after a while in any case. Here it is
//! remembered which full queue it waits for, so that it goes on when that has room: one of each
//! queue that waits, and the next one when that has arrived. Other nodes are told once; what
//! they have on their way is refused or not, and if it is, they are told again.

use std::collections::{BTreeMap, BTreeSet};

use staunch_types::{NodeId, QueueId};

use crate::{cluster::Place, node::Node, queues::QueueSlot};

/// Who waits for room, by the full queue.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    /// Queues of this node with dead letters for it.
    sources: BTreeMap<QueueId, BTreeSet<QueueId>>,
    /// Nodes that it has refused something of.
    nodes: BTreeMap<QueueId, BTreeSet<NodeId>>,
}

impl Rooms {
    /// A full queue has refused a dead letter of `source`.
    pub(crate) fn turned_away(&mut self, full: QueueId, source: QueueId) {
        self.sources.entry(full).or_default().insert(source);
    }

    /// A full queue has refused something of another node.
    pub(crate) fn turned_away_node(&mut self, full: QueueId, node: NodeId) {
        self.nodes.entry(full).or_default().insert(node);
    }

    /// The queue is gone.
    pub(crate) fn forget(&mut self, id: QueueId) {
        self.sources.remove(&id);
        self.nodes.remove(&id);
    }

    /// Whether somebody waits for room in the queue.
    #[inline]
    fn is_awaited(&self, id: QueueId) -> bool {
        let is_idle = self.sources.is_empty() && self.nodes.is_empty();
        !is_idle && (self.sources.contains_key(&id) || self.nodes.contains_key(&id))
    }
}

impl QueueSlot {
    fn has_room(&self) -> bool {
        let coming = match &self.place {
            Place::Replicated(member) => member.proposal.coming(),
            Place::Here | Place::Elsewhere => (0, 0),
        };
        !self.queue.is_full_with(coming, 0)
    }
}

impl Node {
    /// Tells whom it concerns if the queue, which has just handed out what it can, has room.
    pub(crate) fn tell_of_room(&mut self, slot: &QueueSlot) {
        let id = slot.id;
        if !self.rooms.is_awaited(id) || !slot.has_room() {
            return;
        }
        for node in self.rooms.nodes.remove(&id).unwrap_or_default() {
            self.send_room(node, id);
        }
        self.use_room(id);
    }

    /// A queue has room: of each queue with dead letters that wait for that, one goes on.
    pub(crate) fn use_room(&mut self, full: QueueId) {
        let Some(sources) = self.rooms.sources.remove(&full) else {
            return;
        };
        for source in sources {
            if self.try_parked(source) {
                self.rooms.turned_away(full, source);
            }
        }
    }
}
