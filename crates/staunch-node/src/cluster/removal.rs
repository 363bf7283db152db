//! Whether a node can be done without: asked before it is stopped, and before it leaves.

use staunch_broker::{NodeCommand, QueueEntry};
use staunch_types::{Name, NodeId, QueueId, Refusal};

use crate::{node::Node, queues::QueueSlot};

/// Entries that a member may lack, beside a witness, to be taken for one that could lead: it has
/// them in a moment.
const TAKE_OVER_LAG_MAX: u64 = 64;
/// Queues that are named; all are counted.
const QUEUES_NAMED_MAX: usize = 100;

/// What would stand still without a node, as the node sees it that is asked: it knows the members of
/// groups that it is one of, and of others where the catalog wants them to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopCheck {
    /// Nobody could declare anything.
    pub catalog: bool,
    /// Replicated queues that would have no majority.
    pub queue_count: usize,
    /// The first of those, as (virtual host, queue).
    pub queues: Vec<(Name, Name)>,
}

impl StopCheck {
    /// Whether nothing would stand still.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        !self.catalog && self.queue_count == 0
    }
}

impl Node {
    /// What would stand still if the node stopped; none if there is no such node.
    pub(crate) fn stop_check(&self, name: &Name) -> Option<StopCheck> {
        let (node, _) = self.catalog.node_named(name)?;
        let cluster = self.cluster.as_ref()?;
        let is_up = |other: NodeId| other != node && self.is_well(other);
        let stalled = self.stalled_by(node);
        let catalog = cluster.catalog.replica.group().members();
        let named = stalled.iter().take(QUEUES_NAMED_MAX);
        let named = named.filter_map(|id| self.catalog.queue_by_id(*id));
        Some(StopCheck {
            catalog: !catalog.has_quorum(is_up),
            queue_count: stalled.len(),
            queues: named
                .map(|entry| (entry.vhost.clone(), entry.name.clone()))
                .collect(),
        })
    }

    /// Whether the node is this one, or is connected and heard of.
    pub(super) fn is_well(&self, node: NodeId) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| {
            let is_there = cluster.nodes.is_connected(node) && cluster.liveness.is_alive(node);
            node == cluster.me || is_there
        })
    }

    /// Replicated queues that would have no majority without the node.
    fn stalled_by(&self, node: NodeId) -> Vec<QueueId> {
        let is_up = |other: NodeId| other != node && self.is_well(other);
        let is_stalled = |entry: &&QueueEntry| {
            let placement = &entry.placement;
            if !placement.is_replicated {
                return false;
            }
            let member = self.queues.get(entry.id).and_then(QueueSlot::member);
            let Some(member) = member else {
                let up_count = placement.members.iter().filter(|it| is_up(**it)).count();
                return 2 * up_count <= placement.members.len();
            };
            let group = member.replica.group();
            let progress = group.progress();
            let has_it = |other: NodeId| {
                let known = progress.iter().find(|it| it.node == other);
                known.is_none_or(|it| !it.needs_snapshot)
            };
            // A witness votes for whoever has what it knows of: somebody else must have all.
            let last = group.last_index();
            let members = group.members();
            let can_lead = |other: NodeId| {
                let known = progress.iter().find(|it| it.node == other);
                let has_all = known.is_none_or(|it| it.matched.0 + TAKE_OVER_LAG_MAX >= last.0);
                is_up(other) && !group.is_witness(other) && has_all
            };
            let has_witness = members.voters.iter().any(|voter| group.is_witness(*voter));
            let has_heir = !has_witness || members.voters.iter().any(|voter| can_lead(*voter));
            !has_heir || !members.has_quorum(|other| is_up(other) && has_it(other))
        };
        let all = self.catalog.queues_and_holders();
        all.filter(is_stalled).map(|entry| entry.id).collect()
    }

    /// What is to be proposed for a node to go.
    pub(crate) fn removal(&self, name: &Name, is_dead: bool) -> Result<Vec<NodeCommand>, Refusal> {
        let refuse = |text: String| Err(Refusal::Precondition(text));
        let Some((node, _)) = self.catalog.node_named(name) else {
            return refuse(format!("there is no node {name} in the cluster"));
        };
        match (is_dead, self.is_well(node)) {
            (true, true) => {
                return refuse(format!(
                    "node {name} is well: stop it before it is given up, or let it leave"
                ));
            }
            (false, false) => {
                return refuse(format!(
                    "node {name} is away and cannot hand over what it keeps: if it is gone for good, \
                     it can be given up with --force"
                ));
            }
            (true, false) => return Ok(vec![NodeCommand::Remove { node }]),
            (false, true) => {}
        }
        let is_own = |entry: &&QueueEntry| {
            entry.placement.home() == Some(node) && entry.is_durable() && !entry.holds_delayed
        };
        if let Some(queue) = self.catalog.queues().find(is_own) {
            let count = self.catalog.queues().filter(is_own).count();
            return refuse(format!(
                "{count} durable queues are kept by node {name} alone, such as '{}' in vhost '{}': \
                 they are to be deleted first",
                queue.name, queue.vhost
            ));
        }
        let check = self.stop_check(name).unwrap_or_default();
        if !check.is_safe() {
            return refuse(format!(
                "without node {name} there is no majority of the nodes, or of those that keep a \
                 queue ({} queues)",
                check.queue_count
            ));
        }
        Ok(vec![NodeCommand::Leave { node }])
    }
}
