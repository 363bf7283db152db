//! Who should lead: leaders go home to the first of their queue's members, and away from a node
//! that stops, is drained, or whose disk is slow.

use std::time::Duration;

use staunch_types::{NodeId, QueueId, Timestamp};

use crate::node::Node;

/// How often leaders look whether another node should lead.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a node must have been well before it is given leaders back.
const WELL_FOR: Duration = Duration::from_secs(5);
/// Leaders that move at one look, so that clients do not all pause at once.
const MOVES_MAX: usize = 200;
/// A write that takes longer means that the disk is slow (contract C22).
const SLOW_WRITE: Duration = Duration::from_secs(1);

/// When leaders were last looked at, and what speaks against leading here.
#[derive(Debug, Default)]
pub(super) struct Leadership {
    next_look: Timestamp,
    /// Since when the oldest write of groups is under way.
    pub(super) writing_since: Option<Timestamp>,
    /// This node is to lead nothing.
    is_leaving: bool,
    /// How often this node has begun to serve a queue.
    pub(super) begun_count: u64,
    /// Catalog and that count, when everything that this node leads was at home.
    settled: Option<(u64, u64)>,
}

impl Node {
    /// Looks whether leaders should move; part of every tick.
    pub(super) fn tick_leadership(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let leadership = &mut cluster.leadership;
        if now < leadership.next_look {
            return;
        }
        leadership.next_look = now + LOOK_EVERY;
        let since = leadership.writing_since;
        let is_slow = since.is_some_and(|since| now.since(since) > SLOW_WRITE);
        let is_leaving = leadership.is_leaving || is_slow || self.catalog.is_drained(cluster.me);
        if is_leaving {
            self.hand_over(usize::MAX);
        } else {
            self.bring_home(now);
        }
    }

    /// This node is about to stop: others are to lead what it leads, and it is given nothing.
    pub(crate) fn leave_leadership(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.leadership.is_leaving = true;
            self.hand_over(usize::MAX);
            self.hand_over_catalog();
        }
    }

    /// Hands over what this node leads, to members that are well.
    fn hand_over(&mut self, count_max: usize) {
        let Some(cluster) = &self.cluster else { return };
        let (nodes, catalog) = (&cluster.nodes, &self.catalog);
        let is_fit = |node: NodeId| nodes.is_connected(node) && !catalog.is_drained(node);
        let mut moved = Vec::new();
        for slot in self.queues.iter_mut() {
            let id = slot.id;
            let Some(member) = slot.member_mut() else {
                continue;
            };
            let group = member.replica.group_mut();
            if !group.is_leader() || moved.len() >= count_max {
                continue;
            }
            let to = group.successor(is_fit);
            if to.is_some_and(|to| group.transfer_to(to).is_ok()) {
                moved.push(id);
            }
        }
        self.rouse_all(moved);
    }

    /// Gives queues back to the first of their members, if that is well and has everything.
    fn bring_home(&mut self, now: Timestamp) {
        let Some(cluster) = &self.cluster else { return };
        let is_well = |node: NodeId| {
            let since = cluster.nodes.connected_since(node);
            since.is_some_and(|since| now.since(since) > WELL_FOR)
                && cluster.liveness.is_alive(node)
                && !self.catalog.is_drained(node)
        };
        let state = (self.catalog.version(), cluster.leadership.begun_count);
        if cluster.leadership.settled == Some(state) {
            return;
        }
        let mut moved = Vec::new();
        let mut is_settled = true;
        let primary = cluster.primary();
        for slot in self.queues.iter_mut() {
            let id = slot.id;
            if !slot
                .member()
                .is_some_and(|it| it.replica.group().is_leader())
            {
                continue;
            }
            let entry = self.catalog.queue_by_id(id);
            let members = entry.map(|entry| &entry.placement.members[..]);
            let primary = primary.filter(|it| members.is_some_and(|of| of.contains(it)));
            let home = primary.or_else(|| members.and_then(|members| members.first().copied()));
            let (Some(home), Some(member)) = (home, slot.member_mut()) else {
                continue;
            };
            if home == cluster.me {
                continue;
            }
            is_settled = false;
            let group = member.replica.group_mut();
            if !is_well(home) {
                continue;
            }
            let last = group.last_index();
            let has_all = group
                .progress()
                .iter()
                .any(|progress| progress.node == home && progress.matched == last);
            if has_all && group.transfer_to(home).is_ok() {
                moved.push(id);
            }
            if moved.len() == MOVES_MAX {
                break;
            }
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.leadership.settled = is_settled.then_some(state);
        }
        self.rouse_all(moved);
    }

    fn rouse_all(&mut self, ids: Vec<QueueId>) {
        for id in ids {
            self.rouse(id);
        }
    }
}
