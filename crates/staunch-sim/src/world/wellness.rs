//! Whether the cluster is what it should be: all nodes are there, nothing is being repaired or
//! moved, and every group is kept by those who should keep it.

use std::collections::BTreeMap;

use staunch_node::Node;
use staunch_raft::Group;
use staunch_types::{GroupId, NodeId};

use crate::{knobs::Mode, world::World};

impl World {
    /// What is not as it should be; none if nothing has to be done any more.
    pub(super) fn not_whole(&self) -> Option<String> {
        let mut nodes = Vec::new();
        for (number, machine) in self.machines.iter().enumerate() {
            let node = machine.process.as_ref().map(|process| &process.node);
            let Some(node) = node else {
                return Some(format!("node {number} is down"));
            };
            let repairing = node.repairing_count();
            if !node.is_ready() || node.is_removed() || repairing > 0 {
                return Some(format!("node {number} repairs {repairing} replicas"));
            }
            nodes.push(node);
        }
        let leaders = leaders(&nodes);
        let leads = |node: &&&Node| {
            let catalog = leaders.get(&GroupId::CATALOG);
            catalog.is_some_and(|group| node.id() == Some(group.me()))
        };
        let Some(first) = nodes.iter().find(leads) else {
            return Some("nobody leads the catalog".to_owned());
        };
        let of_catalog = (GroupId::CATALOG, first.members());
        let placed = first.placements().into_iter();
        let placed = placed.map(|placed| (GroupId(placed.queue.0), placed.members));
        let mut all = placed.chain([of_catalog]);
        all.find_map(|(id, desired)| match leaders.get(&id) {
            None => Some(format!("nobody leads group {id}")),
            Some(group) => not_kept(group, desired),
        })
    }
}

impl World {
    /// A group that is led by somebody else than should lead it; none if there is none, or nobody
    /// waits for that.
    pub(super) fn not_at_home(&self) -> Option<String> {
        if !self.cluster_knobs.awaits_home {
            return None;
        }
        let processes = self.machines.iter().filter_map(|it| it.process.as_ref());
        let nodes: Vec<&Node> = processes.map(|process| &process.node).collect();
        let primary = match self.cluster_knobs.mode {
            Mode::Standby(primary) => nodes.get(primary).and_then(|node| node.id()),
            Mode::Cluster | Mode::Partitioned => None,
        };
        let leaders = leaders(&nodes);
        let mut placements = nodes.first()?.placements().into_iter();
        placements.find_map(|placed| {
            let id = GroupId(placed.queue.0);
            let primary = primary.filter(|primary| placed.members.contains(primary));
            let home = primary.or(placed.members.first().copied());
            let leader = leaders.get(&id).map(|group| group.me());
            let is_home = leader == home;
            (!is_home).then(|| format!("group {id} should be led by {home:?} and is by {leader:?}"))
        })
    }
}

/// The leaders of all groups; of several that take themselves for one, who was elected last.
fn leaders<'a>(nodes: &[&'a Node]) -> BTreeMap<GroupId, &'a Group> {
    let mut leaders: BTreeMap<GroupId, &Group> = BTreeMap::new();
    let groups = nodes.iter().flat_map(|node| node.groups());
    for group in groups.filter(|group| group.is_leader()) {
        let known = leaders.entry(group.id()).or_insert(group);
        if known.role_now().term < group.role_now().term {
            *known = group;
        }
    }
    leaders
}

/// Why a group is not yet kept by those who should keep it, as its leader knows.
fn not_kept(group: &Group, mut desired: Vec<NodeId>) -> Option<String> {
    let members = group.members();
    let mut voters = members.voters.clone();
    voters.sort_unstable();
    desired.sort_unstable();
    let has_all = |node: &NodeId| {
        let progress = group.progress();
        let known = progress.iter().find(|member| member.node == *node);
        let has_it = known
            .is_some_and(|known| !known.needs_snapshot && known.matched >= group.committed_index());
        (has_it || *node == group.me()) && !group.is_forgetful(*node)
    };
    let is_kept = !members.is_joint()
        && members.learners.is_empty()
        && voters == desired
        && voters.iter().all(has_all);
    (!is_kept).then(|| {
        let (id, progress) = (group.id(), group.progress());
        format!("group {id} should be kept by {desired:?} and is by {members:?}: {progress:?}")
    })
}
