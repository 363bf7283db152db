//! What the simulator's checkers look at: facts about the groups of this node, changing nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use staunch_broker::NodeState;
use staunch_raft::{LogPosition, RoleChange};
use staunch_types::{ConnectionId, Delivery, Event, GroupId, LogIndex, NodeId, QueueId, Reply};

use super::wire::{self, Frame};
use crate::{node::Node, queues::QueueSlot};

/// A group as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// Which one.
    pub group: GroupId,
    /// This node's role, its term, and whom it takes for the leader.
    pub role: RoleChange,
    /// Everything up to here is part of its state.
    pub applied: LogIndex,
    /// The last entry known to be committed, if it is still in memory.
    pub committed: Option<LogPosition>,
}

/// Where a replicated queue should be kept, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementFacts {
    /// The queue.
    pub queue: QueueId,
    /// How often that was changed.
    pub changes: u32,
    /// The nodes.
    pub members: Vec<NodeId>,
}

impl Node {
    /// Which of its cluster's nodes this is; none if it has not joined one.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        self.own_identity().map(|identity| identity.node)
    }

    /// Nodes that belong to the cluster, those among them that are to leave it left out.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        let nodes = self.catalog.nodes();
        let members = nodes.filter(|(_, entry)| entry.state == NodeState::Member);
        members.map(|(id, _)| id).collect()
    }

    /// Where replicated queues should be kept.
    #[must_use]
    pub fn placements(&self) -> Vec<PlacementFacts> {
        let queues = self.catalog.queues_and_holders();
        let replicated = queues.filter(|entry| entry.placement.is_replicated);
        let facts = replicated.map(|entry| PlacementFacts {
            queue: entry.id,
            changes: entry.placement.changes,
            members: entry.placement.members.clone(),
        });
        facts.collect()
    }

    /// Replicas of this node that are damaged and get everything anew.
    #[must_use]
    pub fn repairing_count(&self) -> usize {
        let cluster = self.cluster.as_ref();
        cluster.map_or(0, |cluster| cluster.repairing_count(cluster.me))
    }

    /// The groups of which this node is a member.
    #[must_use]
    pub fn group_facts(&self) -> Vec<GroupFacts> {
        self.groups().map(facts_of).collect()
    }

    /// This node's members of groups, to be looked at.
    pub fn groups(&self) -> impl Iterator<Item = &staunch_raft::Group> {
        let queues = self.queues.iter().filter_map(QueueSlot::member);
        let queues = queues.map(|member| member.replica.group());
        let catalog = self.cluster.iter().map(|it| it.catalog.replica.group());
        catalog.chain(queues)
    }

    /// Queues that others serve to which messages are on their way from this node, and queues of
    /// which messages are on their way to others.
    #[must_use]
    pub fn passing_on(&self) -> BTreeSet<QueueId> {
        let cluster = self.cluster.as_ref();
        let to = cluster.into_iter().flat_map(|it| it.outboxes.queues());
        let is_moving = |slot: &&QueueSlot| slot.dead.as_ref().is_some_and(|it| it.is_moving());
        let from = self.queues.iter().filter(is_moving);
        to.chain(from.map(|slot| slot.id)).collect()
    }

    /// Connections of other nodes' clients that use queues which this node serves, or were when their
    /// node was last heard of.
    pub fn guests(&self) -> impl Iterator<Item = ConnectionId> {
        let shadows = self.sessions.iter().filter(|it| it.shadow_of.is_some());
        shadows.map(|session| session.id)
    }

    /// What this node's catalog or queue is after its group's last applied entry, as a checkpoint would have
    /// it; the same on every member. None if it has no such queue or is a witness, or has a state that
    /// came whole from another member, which the group does not call applied before a checkpoint has it.
    #[must_use]
    pub fn group_state(&self, group: GroupId) -> Option<Bytes> {
        let mut state = Vec::new();
        if group == GroupId::CATALOG {
            if self.cluster.as_ref()?.catalog.replica.awaits_checkpoint() {
                return None;
            }
            self.catalog.encode_whole(&mut state);
            return Some(state.into());
        }
        if self.cluster.as_ref()?.is_witness {
            return None;
        }
        let slot = self.queues.get(QueueId(group.0))?;
        if slot.member()?.replica.awaits_checkpoint() {
            return None;
        }
        slot.queue.encode_snapshot(&mut state);
        Some(state.into())
    }
}

/// What the server of a queue hands out to clients of another node with a frame
/// ([`PeerPayload::Queue`](super::PeerPayload::Queue)).
#[must_use]
pub fn deliveries_in(frame: &Bytes) -> Vec<(ConnectionId, Delivery)> {
    let Ok((_, Frame::Events { connection, events })) = wire::decode(frame.clone()) else {
        return Vec::new();
    };
    let delivered = events.into_iter().filter_map(|event| match event {
        Event::Delivery(delivery) => Some(delivery),
        Event::Reply {
            reply: Reply::Got { delivery, .. },
            ..
        } => Some(*delivery),
        _ => None,
    });
    delivered.map(|delivery| (connection, delivery)).collect()
}

fn facts_of(group: &staunch_raft::Group) -> GroupFacts {
    let index = group.committed_index();
    let term = group.term_at(index);
    GroupFacts {
        group: group.id(),
        role: group.role_now(),
        applied: group.applied_index(),
        committed: term.map(|term| LogPosition { index, term }),
    }
}
