//! What the simulator's checkers look at: facts about the groups of this node, changing nothing.

use bytes::Bytes;
use staunch_raft::{LogPosition, RoleChange};
use staunch_types::{GroupId, LogIndex, QueueId};

use super::Place;
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

impl Node {
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

    /// Whether messages are on their way from this node to queues that others serve, or from one
    /// queue to another.
    #[must_use]
    pub fn is_passing_on(&self) -> bool {
        let cluster = self.cluster.as_ref();
        let dead = self.queues.iter().filter_map(|slot| slot.dead.as_ref());
        cluster.is_some_and(|cluster| !cluster.outboxes.is_empty())
            || dead.into_iter().any(|dead| dead.is_moving())
    }

    /// What this node's catalog or queue is after its group's last applied entry, as a checkpoint would have
    /// it; the same on every member.
    #[must_use]
    pub fn group_state(&self, group: GroupId) -> Option<Bytes> {
        let mut state = Vec::new();
        if group == GroupId::CATALOG {
            self.catalog.encode_whole(&mut state);
            return Some(state.into());
        }
        let slot = self.queues.get(QueueId(group.0))?;
        let Place::Replicated(_) = &slot.place else {
            return None;
        };
        slot.queue.encode_snapshot(&mut state);
        Some(state.into())
    }
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
