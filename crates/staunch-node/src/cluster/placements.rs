//! What the catalog should want: replicas move away from nodes that are to leave or are gone.
//!
//! The leader of the catalog's group looks once a second, and proposes other placements for a
//! bounded number of queues: where a member is about to leave, has been away for too long, or where
//! there are fewer members than were asked for and there is a node for one more. A node that is to
//! leave has itself removed when it keeps nothing any more.

use std::{collections::BTreeMap, time::Duration};

use staunch_broker::{Catalog, CatalogCommand, NodeCommand, NodeState, Placement, QueueEntry};
use staunch_replica::OnRefusal;
use staunch_types::{NodeId, Timestamp};

use super::{
    Then,
    members::{Next, next_change},
    place::GROUP_SIZE_DEFAULT,
};
use crate::{node::Node, queues::QueueSlot};

/// How often the leader looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Placements that are proposed at one look.
const MOVES_PER_LOOK: usize = 50;

/// When the leader looked last, and who is away.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    next_look: Timestamp,
    /// Since when nodes are silent.
    away: BTreeMap<NodeId, Timestamp>,
    /// The catalog in which there was nothing to be done, and who was away for too long.
    settled: Option<(u64, Vec<NodeId>)>,
    /// This node has proposed its own removal.
    is_leaving: bool,
}

impl Placements {
    pub(super) fn suspected(&mut self, node: NodeId, now: Timestamp) {
        self.away.entry(node).or_insert(now);
    }

    pub(super) fn trusted(&mut self, node: NodeId) {
        self.away.remove(&node);
    }

    /// Since when a node is away.
    pub(super) fn away_since(&self, node: NodeId) -> Option<Timestamp> {
        self.away.get(&node).copied()
    }
}

impl Node {
    /// Leads the catalog's group towards the cluster's nodes as members; part of every tick.
    pub(super) fn change_catalog_members(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let (nodes, liveness) = (&cluster.nodes, &cluster.liveness);
        let is_well = |node: NodeId| nodes.is_connected(node) && liveness.is_alive(node);
        let replica = &mut cluster.catalog.replica;
        if !replica.group().is_serving() || self.catalog.cluster_id() == 0 {
            return;
        }
        let of_state = |state: NodeState| {
            let nodes = self.catalog.nodes();
            let nodes = nodes.filter(move |(_, entry)| entry.state == state);
            nodes.map(|(id, _)| id).collect::<Vec<NodeId>>()
        };
        // Nobody may need the vote of a node when it goes.
        let (desired, leaving) = (of_state(NodeState::Member), of_state(NodeState::Leaving));
        let members = replica.group().members();
        let is_same =
            !members.is_joint() && members.learners == leaving && members.voters == desired;
        if is_same {
            return;
        }
        match next_change(replica.group(), &desired, &leaving, is_well) {
            Next::Nothing => {}
            Next::Wait => replica.group_mut().wake(),
            Next::Propose(change) => drop(replica.group_mut().propose_change(&change)),
            Next::HandOver => {
                let group = replica.group_mut();
                let to = group.successor(|node| desired.contains(&node) && is_well(node));
                // If it cannot be, it is tried again with the next tick.
                let _refused = to.map(|to| group.transfer_to(to));
            }
        }
    }

    /// Looks after placements; part of every tick.
    pub(super) fn tick_placements(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if now < cluster.placements.next_look {
            return;
        }
        cluster.placements.next_look = now + LOOK_EVERY;
        self.leave_when_empty();
        let Some(cluster) = &self.cluster else { return };
        if !cluster.catalog.replica.group().is_serving() || !self.catalog.is_founded() {
            return;
        }
        let gone = self.gone_nodes(now);
        let state = (self.catalog.version(), gone);
        if cluster.placements.settled.as_ref() == Some(&state) {
            return;
        }
        let (moves, waits) = self.repairs(&state.1);
        let is_settled = moves.is_empty() && !waits;
        for command in moves {
            let command = CatalogCommand::Node(command);
            self.propose_batch(vec![command], OnRefusal::GoOn, Then::Nothing);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.placements.settled = is_settled.then_some(state);
        }
    }

    /// Nodes that keep nothing for long: they are to leave, or away for too long.
    fn gone_nodes(&self, now: Timestamp) -> Vec<NodeId> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let config = self.config.cluster.as_ref();
        let patience = config.and_then(|config| config.replica_repair_after);
        let is_gone = |(id, entry): &(NodeId, &staunch_broker::NodeEntry)| {
            let since = cluster.placements.away_since(*id);
            let is_away = patience
                .zip(since)
                .is_some_and(|(patience, since)| now.since(since) >= patience);
            entry.state == NodeState::Leaving || is_away
        };
        self.catalog
            .nodes()
            .filter(is_gone)
            .map(|(id, _)| id)
            .collect()
    }

    /// Placements that should be others, some of them; and whether there are more that wait for their
    /// group's leader. Without one nothing would come of another placement, and a group that has
    /// never had one could not be founded any more by members which hear of it later.
    fn repairs(&self, gone: &[NodeId]) -> (Vec<NodeCommand>, bool) {
        let Some(cluster) = &self.cluster else {
            return (Vec::new(), false);
        };
        let is_well = |node: NodeId| {
            let is_here = node == cluster.me
                || cluster.nodes.is_connected(node) && cluster.liveness.is_alive(node);
            is_here && self.catalog.is_member(node) && !gone.contains(&node)
        };
        let ids = cluster.nodes.ids().filter(|node| is_well(*node));
        let loads = ids.map(|node| (self.catalog.kept_count(node), node));
        let (witnesses, copies) = loads.partition(|(_, node)| self.catalog.is_witness(*node));
        let mut free = Free { copies, witnesses };
        let nodes = Nodes {
            gone,
            is_leaving: |node: NodeId| !self.catalog.is_member(node),
            is_witness: |node: NodeId| self.catalog.is_witness(node),
        };
        let (mut moves, mut waits) = (Vec::new(), false);
        for entry in self.catalog.queues_and_holders() {
            if moves.len() == MOVES_PER_LOOK {
                break;
            }
            let placement = &entry.placement;
            if !placement.is_replicated {
                continue;
            }
            let Some(members) = repaired(placement, size_of(entry), &nodes, &mut free) else {
                continue;
            };
            if self.server_of(entry.id).is_none() {
                waits = true;
                continue;
            }
            moves.push(NodeCommand::Place {
                queue: entry.id,
                changes: placement.changes,
                members,
            });
        }
        (moves, waits)
    }

    /// A node that is to leave goes when it keeps nothing any more, and has no vote on the catalog. Its
    /// proposal is the entry behind the end of that which a farewell is about: the leader has applied
    /// that end, for this node has heard of it.
    fn leave_when_empty(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let me = cluster.me;
        let state = self.catalog.node(me).map(|entry| entry.state);
        if state != Some(NodeState::Leaving) {
            cluster.placements.is_leaving = false;
            return;
        }
        let members = cluster.catalog.replica.group().members();
        let votes = members.is_joint() || members.is_voter(me);
        let keeps = self.queues.iter().any(QueueSlot::is_replicated);
        let is_home = |entry: &QueueEntry| entry.placement.home() == Some(me) && entry.is_durable();
        if votes || keeps || cluster.placements.is_leaving || self.catalog.queues().any(is_home) {
            return;
        }
        cluster.placements.is_leaving = true;
        let command = CatalogCommand::Node(NodeCommand::Remove { node: me });
        self.propose_batch(vec![command], OnRefusal::GoOn, Then::Nothing);
    }

    /// Queues that keep a node busy that has less to do elsewhere: a few placements that are more
    /// even, none if there is nothing to be gained.
    pub(crate) fn evener_placements(&self) -> Vec<NodeCommand> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let is_fit = |id: &NodeId| self.catalog.is_member(*id) && !self.catalog.is_witness(*id);
        let members = cluster.nodes.ids().filter(is_fit);
        let mut loads: BTreeMap<NodeId, usize> = members
            .map(|id| (id, self.catalog.kept_count(id)))
            .collect();
        let mut moves = Vec::new();
        for entry in self.catalog.queues_and_holders() {
            if moves.len() == MOVES_PER_LOOK {
                break;
            }
            let placement = &entry.placement;
            let load = |node: &NodeId| loads.get(node).copied();
            let full = placement
                .members
                .iter()
                .max_by_key(|node| (load(node), **node));
            let others = loads
                .keys()
                .filter(|node| !placement.members.contains(node));
            let free = others.min_by_key(|node| (load(node), **node)).copied();
            let (Some(full), Some(free)) = (full.copied(), free) else {
                continue;
            };
            let gains = load(&full).zip(load(&free)).is_some_and(|(a, b)| a > b + 1);
            if !placement.is_replicated || !gains {
                continue;
            }
            let swap = |node: &NodeId| if *node == full { free } else { *node };
            let members = placement.members.iter().map(swap).collect();
            *loads.entry(full).or_default() -= 1;
            *loads.entry(free).or_default() += 1;
            moves.push(NodeCommand::Place {
                queue: entry.id,
                changes: placement.changes,
                members,
            });
        }
        moves
    }
}

/// Members that a queue was declared to have.
fn size_of(entry: &QueueEntry) -> usize {
    let size = entry.options.arguments.get(super::place::GROUP_SIZE);
    let size = size.and_then(|size| usize::try_from(size.as_i64()?).ok());
    size.unwrap_or(GROUP_SIZE_DEFAULT).max(1)
}

/// Nodes that can take one queue more, with how many they keep.
struct Free {
    copies: Vec<(usize, NodeId)>,
    witnesses: Vec<(usize, NodeId)>,
}

/// What is known of nodes that are members of queues.
struct Nodes<'a, L, W> {
    /// They keep nothing for long.
    gone: &'a [NodeId],
    /// Whether it goes even if nobody takes its place.
    is_leaving: L,
    is_witness: W,
}

/// Other members for a queue, if it should have others. Witnesses are replaced by witnesses, and
/// are there only beside two nodes with messages.
fn repaired<L: Fn(NodeId) -> bool, W: Fn(NodeId) -> bool>(
    placement: &Placement,
    size: usize,
    nodes: &Nodes<'_, L, W>,
    free: &mut Free,
) -> Option<Vec<NodeId>> {
    let old = placement.members.iter().copied();
    let (old_witnesses, old_copies): (Vec<NodeId>, Vec<NodeId>) =
        old.partition(|node| (nodes.is_witness)(*node));
    let mut members = repaired_copies(old_copies, nodes, &mut free.copies);
    while members.len() < size {
        let Some(node) = take_free(&mut free.copies, &members) else {
            break;
        };
        members.push(node);
    }
    if Catalog::wants_witness(members.len(), size) {
        let old = |is_fit: &dyn Fn(NodeId) -> bool| {
            let mut witnesses = old_witnesses.iter().copied();
            witnesses.find(|node| is_fit(*node))
        };
        let witness = old(&|node| !nodes.gone.contains(&node))
            .or_else(|| take_free(&mut free.witnesses, &old_witnesses))
            .or_else(|| old(&|node| !(nodes.is_leaving)(node)));
        members.extend(witness);
    }
    (members != placement.members).then_some(members)
}

/// The members, with others in the place of those that are gone; the last one stays in any case.
fn repaired_copies<L: Fn(NodeId) -> bool, W>(
    mut members: Vec<NodeId>,
    nodes: &Nodes<'_, L, W>,
    free: &mut [(usize, NodeId)],
) -> Vec<NodeId> {
    let mut at = 0;
    while at < members.len() {
        let node = members[at];
        if nodes.gone.contains(&node) {
            if let Some(free) = take_free(free, &members) {
                members[at] = free;
            } else if (nodes.is_leaving)(node) && members.len() > 1 {
                members.remove(at);
                continue;
            }
        }
        at += 1;
    }
    members
}

/// The node that keeps the least, and is none of `members`.
fn take_free(free: &mut [(usize, NodeId)], members: &[NodeId]) -> Option<NodeId> {
    let others = free.iter_mut().filter(|(_, node)| !members.contains(node));
    let free = others.min_by_key(|(load, node)| (*load, *node))?;
    free.0 += 1;
    Some(free.1)
}
