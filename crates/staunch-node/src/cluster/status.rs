//! What operators ask about the cluster, as this node sees it.

use std::{collections::BTreeMap, time::Duration};

use staunch_broker::{NodeState, QueueEntry};
use staunch_types::{LogIndex, Name, NodeId, Term};

use super::{Cluster, Place};
use crate::node::Node;

/// Queues without a leader that are named; all are counted.
const LEADERLESS_NAMED_MAX: usize = 100;

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// This node.
    pub me: Name,
    /// All nodes, this one among them, by id.
    pub nodes: Vec<NodeStatus>,
    /// Who leads the group of the catalog, if this node knows.
    pub catalog_leader: Option<Name>,
    /// Replicated queues of which this node is a member.
    pub group_count: usize,
    /// Those among them for which this node knows no leader.
    pub leaderless_count: usize,
    /// The first of those, as (virtual host, queue).
    pub leaderless: Vec<(Name, Name)>,
    /// Queues beside a witness that this node leads, and of which it has the only whole copy: the
    /// other member with messages is away, or behind.
    pub single_copy_count: usize,
}

/// A node that another could ask something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherNode {
    /// Its name.
    pub name: Name,
    /// It is connected, and was heard of lately.
    pub is_there: bool,
}

/// A node as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts, in any combination")]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: Name,
    /// It is connected, or it is the one that answers.
    pub is_up: bool,
    /// Its process, if it is known.
    pub incarnation: Option<u64>,
    /// It was silent for too long.
    pub is_suspected: bool,
    /// An operator wants it to lead nothing.
    pub is_drained: bool,
    /// It votes, and keeps no messages.
    pub is_witness: bool,
    /// Whether it comes or goes.
    pub state: NodeState,
    /// How long it has been silent, as the answering node knows.
    pub away: Option<Duration>,
    /// Queues that it is to keep, replicated or not.
    pub kept_count: usize,
    /// Queues that it leads, among those of which the answering node is a member.
    pub led_count: usize,
    /// Its replicas that are damaged and get everything anew, the catalog's counted as one: all if
    /// it is the node that answers, else those of groups that this one leads.
    pub repairing_count: usize,
}

/// Where a queue is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueReplicas {
    /// It is a group; otherwise it is on one node.
    pub is_replicated: bool,
    /// The node that hands out its messages, if the answering one knows.
    pub leader: Option<Name>,
    /// The answering node's term, if it is a member.
    pub term: Option<Term>,
    /// Who keeps it. What the leader alone knows is there only in its answer.
    pub replicas: Vec<ReplicaStatus>,
    /// If its messages are in partitions: their names, and where each is kept.
    pub partitions: Vec<(Name, QueueReplicas)>,
}

/// A member of a queue's group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts, in any combination")]
pub struct ReplicaStatus {
    /// Its node.
    pub node: Name,
    /// That node is connected, or it is the one that answers.
    pub is_up: bool,
    /// It votes; otherwise it learns.
    pub is_voter: bool,
    /// It keeps no messages.
    pub is_witness: bool,
    /// Entries of the leader's log that it does not have on its disk yet, as the leader knows.
    pub behind: Option<u64>,
    /// It must be given the whole queue.
    pub needs_snapshot: bool,
    /// It is damaged, counts for nothing, and gets everything anew; known to its leader and itself.
    pub is_repairing: bool,
}

impl Node {
    /// None from a node that stands alone.
    pub(crate) fn cluster_status(&self) -> Option<ClusterStatus> {
        let cluster = self.cluster.as_ref()?;
        let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut leaderless = Vec::new();
        let (mut group_count, mut leaderless_count, mut single_copy_count) = (0, 0, 0);
        for slot in self.queues.iter() {
            let Place::Replicated(member) = &slot.place else {
                continue;
            };
            group_count += 1;
            single_copy_count += usize::from(member.replica.group().has_only_copy());
            if let Some(leader) = member.replica.group().role_now().leader {
                *led.entry(leader).or_default() += 1;
                continue;
            }
            leaderless_count += 1;
            if leaderless.len() < LEADERLESS_NAMED_MAX {
                leaderless.push((slot.vhost.clone(), slot.name.clone()));
            }
        }
        let status = |id: NodeId| {
            let status = cluster.node_status(id, led.get(&id).copied().unwrap_or(0));
            let state = self.catalog.node(id).map(|entry| entry.state);
            let since = cluster.placements.away_since(id);
            NodeStatus {
                is_drained: self.catalog.is_drained(id),
                is_witness: self.catalog.is_witness(id),
                state: state.unwrap_or(NodeState::Invited),
                away: since.map(|since| self.now.since(since)),
                kept_count: self.catalog.kept_count(id),
                ..status
            }
        };
        Some(ClusterStatus {
            me: cluster.name_of(cluster.me),
            nodes: cluster.nodes.ids().map(status).collect(),
            catalog_leader: cluster.catalog.leader().map(|id| cluster.name_of(id)),
            group_count,
            leaderless_count,
            leaderless,
            single_copy_count,
        })
    }

    /// All nodes but this one, without those that have not yet come.
    pub(crate) fn other_nodes(&self) -> Vec<OtherNode> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let others = cluster.nodes.ids().filter(|id| *id != cluster.me);
        let others = others.map(|id| OtherNode {
            name: cluster.name_of(id),
            is_there: cluster.is_up(id) && cluster.liveness.is_alive(id),
        });
        others.collect()
    }

    /// None if there is no such queue.
    pub(crate) fn queue_replicas(&self, vhost: &Name, name: &Name) -> Option<QueueReplicas> {
        let entry = self.catalog.queue(vhost, name)?;
        let parts = entry.partitions();
        let parts = parts.filter_map(|id| self.catalog.queue_by_id(id));
        let parts = parts.filter_map(|part| Some((part.name.clone(), self.replicas_of(part)?)));
        Some(QueueReplicas {
            partitions: parts.collect(),
            ..self.replicas_of(entry)?
        })
    }

    /// Whether so many of the nodes that keep a queue are connected that it can have a leader. What
    /// is known of its leader may be out of date: who has lost the others cannot say so.
    pub(crate) fn has_majority(&self, entry: &QueueEntry) -> bool {
        let Some(cluster) = &self.cluster else {
            return true;
        };
        let members = &entry.placement.members;
        let up_count = members.iter().filter(|node| cluster.is_up(**node)).count();
        !entry.placement.is_replicated || 2 * up_count > members.len()
    }

    fn replicas_of(&self, entry: &QueueEntry) -> Option<QueueReplicas> {
        let slot = self.queues.get(entry.id)?;
        let Some(cluster) = &self.cluster else {
            return Some(QueueReplicas {
                is_replicated: false,
                leader: None,
                term: None,
                replicas: Vec::new(),
                partitions: Vec::new(),
            });
        };
        Some(match &slot.place {
            Place::Replicated(member) => {
                let group = member.replica.group();
                let role = group.role_now();
                QueueReplicas {
                    is_replicated: true,
                    leader: role.leader.map(|leader| cluster.name_of(leader)),
                    term: Some(role.term),
                    replicas: if member.has_forgotten() {
                        self.placed(cluster, entry, None).replicas
                    } else {
                        cluster.replicas_of(group)
                    },
                    partitions: Vec::new(),
                }
            }
            Place::Here | Place::Elsewhere => {
                let server = self.server_of(entry.id);
                self.placed(cluster, entry, server.filter(|_| self.has_majority(entry)))
            }
        })
    }

    /// A queue of which this node is no member, as the catalog has placed it.
    fn placed(
        &self,
        cluster: &Cluster,
        entry: &QueueEntry,
        server: Option<NodeId>,
    ) -> QueueReplicas {
        let status = |node: &NodeId| ReplicaStatus {
            node: cluster.name_of(*node),
            is_up: cluster.is_up(*node),
            is_voter: entry.placement.is_replicated,
            is_witness: self.catalog.is_witness(*node),
            behind: None,
            needs_snapshot: false,
            is_repairing: *node == cluster.me && cluster.repairs.is_repairing(entry.id),
        };
        QueueReplicas {
            is_replicated: entry.placement.is_replicated,
            leader: server
                .or(entry.placement.home())
                .map(|it| cluster.name_of(it)),
            term: None,
            replicas: entry.placement.members.iter().map(status).collect(),
            partitions: Vec::new(),
        }
    }
}

impl Cluster {
    pub(super) fn name_of(&self, id: NodeId) -> Name {
        self.nodes.name(id).cloned().unwrap_or_default()
    }

    fn is_up(&self, id: NodeId) -> bool {
        id == self.me || self.nodes.is_connected(id)
    }

    fn node_status(&self, id: NodeId, led_count: usize) -> NodeStatus {
        let is_me = id == self.me;
        NodeStatus {
            id,
            name: self.name_of(id),
            is_up: self.is_up(id),
            incarnation: if is_me {
                Some(self.origin.0)
            } else {
                self.nodes.incarnation(id)
            },
            is_suspected: !is_me && !self.liveness.is_alive(id),
            is_drained: false,
            is_witness: false,
            state: NodeState::Member,
            away: None,
            kept_count: 0,
            led_count,
            repairing_count: self.repairing_count(id),
        }
    }

    fn replicas_of(&self, group: &staunch_raft::Group) -> Vec<ReplicaStatus> {
        let members = group.members();
        let last: LogIndex = group.last_index();
        let progress = group.progress();
        let all = members.voters.iter().map(|node| (*node, true));
        let learners = members.learners.iter().map(|node| (*node, false));
        let status = |(node, is_voter)| {
            let known = progress.iter().find(|progress| progress.node == node);
            ReplicaStatus {
                node: self.name_of(node),
                is_up: self.is_up(node),
                is_voter,
                is_witness: group.is_witness(node),
                behind: known.map(|known| last.0.saturating_sub(known.matched.0)),
                needs_snapshot: known.is_some_and(|known| known.needs_snapshot),
                is_repairing: group.is_forgetful(node),
            }
        };
        all.chain(learners).map(status).collect()
    }
}
