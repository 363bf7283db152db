//! Nodes that come and go, and the nodes that are to keep a queue.
//!
//! An id is used once. A node that comes back without its data gets a new one under its name: what
//! the others believe it to have acknowledged is gone, so to them it must be somebody else
//! (contract C7). In placements the new one takes the place of the old.

use staunch_types::{Name, NodeId, QueueId, Refusal};

use super::apply::Mode;
use super::placement::MEMBERS_MAX;
use super::{Applied, Catalog, Change, NodeCommand, NodeEntry, NodeState, Placement};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::queue::Origin;

/// Nodes that found a cluster, or are in one.
pub(super) const NODES_MAX: usize = 31;

impl Catalog {
    /// Which cluster this is; 0 if none has been founded.
    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    /// The node that has a name.
    pub fn node_named(&self, name: &Name) -> Option<(NodeId, &NodeEntry)> {
        self.nodes().find(|(_, entry)| entry.name == *name)
    }

    /// Whether the node was one of the cluster's and is not any more.
    pub fn is_removed(&self, node: NodeId) -> bool {
        node < self.next_node_id && !self.nodes.contains_key(&node)
    }

    /// Whether queues may be placed on the node.
    pub fn is_member(&self, node: NodeId) -> bool {
        let state = self.nodes.get(&node).map(|entry| entry.state);
        state == Some(NodeState::Member)
    }

    /// How many queues the node is to keep.
    pub fn kept_count(&self, node: NodeId) -> usize {
        self.queues.loads().kept_count(node)
    }

    /// Where something is kept that is declared now: nodes that went while the declaration was on
    /// its way keep nothing, and who looks after placements finds others for them.
    pub(super) fn without_removed(&self, placement: &Placement) -> Result<Placement, Refusal> {
        let (there, gone): (Vec<NodeId>, Vec<NodeId>) = placement
            .members
            .iter()
            .partition(|node| !self.is_removed(**node));
        let keeps = |node: &NodeId| !self.is_witness(*node);
        match gone.first() {
            None => Ok(placement.clone()),
            Some(node) if !there.iter().any(keeps) => Err(Refusal::Precondition(format!(
                "node {node} was to keep it, and is not one of the cluster's any more"
            ))),
            Some(_) => Ok(Placement {
                members: there,
                ..placement.clone()
            }),
        }
    }

    pub(super) fn apply_membership(
        &mut self,
        command: &NodeCommand,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        match command {
            NodeCommand::Begin {
                cluster,
                nodes,
                founder,
                is_witness,
                life,
            } => {
                let founder = (*founder, *is_witness, *life);
                Ok(self.begin_cluster(*cluster, nodes, founder))
            }
            NodeCommand::Join {
                name,
                address,
                previous,
                is_witness,
                life,
            } => {
                let joined = NodeEntry {
                    is_witness: *is_witness,
                    ..entry(name, address, NodeState::Member, *life)
                };
                Ok(self.join_node(joined, *previous, mode))
            }
            NodeCommand::Leave { node } => self.leave_node(*node),
            NodeCommand::Remove { node } => Ok(self.remove_node(*node, mode)),
            NodeCommand::Place {
                queue,
                changes,
                members,
            } => self.place_queue(*queue, *changes, members),
            _ => unreachable!("applied by the caller"),
        }
    }

    fn begin_cluster(
        &mut self,
        cluster: u64,
        nodes: &[(Name, Name)],
        (founder, is_witness, life): (NodeId, bool, Origin),
    ) -> Applied {
        if self.cluster_id != 0 || !self.nodes.is_empty() {
            return Applied::unchanged();
        }
        self.cluster_id = cluster;
        for (name, address) in nodes {
            let id = self.take_node_id();
            let is_founder = id == founder;
            let state = if is_founder {
                NodeState::Member
            } else {
                NodeState::Invited
            };
            let life = if is_founder { life } else { Origin(0) };
            let entry = NodeEntry {
                is_witness: is_founder && is_witness,
                ..entry(name, address, state, life)
            };
            self.nodes.insert(id, entry);
        }
        Applied::new(Change::Created, true)
    }

    /// A node becomes one of the cluster's. Where it takes the place of another of its name it
    /// takes that one's queues, too, unless only one of them is a witness.
    fn join_node(
        &mut self,
        joined: NodeEntry,
        previous: Option<(NodeId, Origin)>,
        mode: Mode,
    ) -> Applied {
        let known = self.node_named(&joined.name);
        let known = known.map(|(id, entry)| (id, entry.life, entry.state));
        if known.map(|(id, life, _)| (id, life)) != previous
            || self.nodes.len() >= NODES_MAX + usize::from(known.is_some())
        {
            return Applied::unchanged();
        }
        let mut applied = Applied::new(Change::Created, true);
        match known {
            Some((id, _, NodeState::Invited)) => {
                self.nodes.insert(id, joined);
            }
            Some((old, _, NodeState::Member | NodeState::Leaving)) => {
                let new = self.take_node_id();
                self.drop_transient_of(old, mode, &mut applied);
                let is_alike = self.is_witness(old) == joined.is_witness;
                self.nodes.remove(&old);
                self.nodes.insert(new, joined);
                let by = is_alike.then_some(new);
                self.replace_everywhere(old, by, mode, &mut applied);
            }
            None => {
                let new = self.take_node_id();
                self.nodes.insert(new, joined);
            }
        }
        applied
    }

    fn leave_node(&mut self, node: NodeId) -> Result<Applied, Refusal> {
        let stays = |(id, entry): (&NodeId, &NodeEntry)| {
            *id != node && entry.state == NodeState::Member && !entry.is_witness
        };
        if !self.nodes.iter().any(stays) {
            return Err(Refusal::Precondition(
                "the last node that keeps messages cannot leave the cluster".to_owned(),
            ));
        }
        let Some(entry) = self.nodes.get_mut(&node) else {
            return Err(Refusal::Precondition(format!("there is no node {node}")));
        };
        let is_new = entry.state != NodeState::Leaving;
        entry.state = NodeState::Leaving;
        Ok(Applied::new(Change::of(is_new), true))
    }

    fn remove_node(&mut self, node: NodeId, mode: Mode) -> Applied {
        if !self.nodes.contains_key(&node) || self.nodes.len() == 1 {
            return Applied::unchanged();
        }
        let mut applied = Applied::new(Change::Deleted, true);
        self.drop_transient_of(node, mode, &mut applied);
        self.nodes.remove(&node);
        self.replace_everywhere(node, None, mode, &mut applied);
        applied
    }

    /// A node is gone, and with it what it kept. `by` takes its place, if there is one; a queue
    /// that it kept alone begins anew there, or goes.
    fn replace_everywhere(
        &mut self,
        node: NodeId,
        by: Option<NodeId>,
        mode: Mode,
        applied: &mut Applied,
    ) {
        let all = self.queues.sorted().into_iter();
        let kept = all.filter(|queue| queue.placement.members.contains(&node));
        let kept: Vec<QueueId> = kept.map(|queue| queue.id).collect();
        let first = self.nodes().find(|(_, entry)| !entry.is_witness);
        let first = first.map(|(id, _)| id);
        for id in kept {
            let queue = self.queues.by_id(id).expect("it was found");
            let old = queue.placement.members.iter();
            let members: Vec<NodeId> = match by {
                Some(by) => old.map(|it| if *it == node { by } else { *it }).collect(),
                None => old.filter(|it| **it != node).copied().collect(),
            };
            // A witness alone has nothing of a queue.
            let is_lost = members.iter().all(|it| self.is_witness(*it));
            let stays = queue.holds_delayed || queue.is_partition();
            let placement = match (is_lost, stays) {
                (false, _) => queue.placement.changed_to(members),
                // What an exchange delays goes with its exchange alone, a partition with its queue.
                (true, true) => Placement {
                    is_replicated: false,
                    ..queue.placement.changed_to(first.into_iter().collect())
                },
                (true, false) => {
                    self.drop_queue(id, mode, applied);
                    continue;
                }
            };
            self.queues.place(id, placement);
            applied.queues_moved.push(id);
        }
    }

    fn place_queue(
        &mut self,
        queue: QueueId,
        changes: u32,
        members: &[NodeId],
    ) -> Result<Applied, Refusal> {
        let Some(entry) = self.queues.by_id(queue) else {
            return Ok(Applied::unchanged());
        };
        let old = &entry.placement;
        if old.changes != changes || old.members == members || !old.is_replicated {
            return Ok(Applied::unchanged());
        }
        let repeats = (1..members.len()).any(|at| members[..at].contains(&members[at]));
        let fits = !members.is_empty() && members.len() <= MEMBERS_MAX && !repeats;
        let stranger = members
            .iter()
            .find(|node| !old.members.contains(node) && !self.is_member(**node));
        if let Some(node) = stranger {
            return Err(Refusal::Precondition(format!(
                "node {node} is not one of the cluster's, or is about to leave it"
            )));
        }
        if !fits {
            return Err(Refusal::Precondition(format!(
                "a queue is kept by 1 to {MEMBERS_MAX} nodes, each named once"
            )));
        }
        let (witnesses, copies): (Vec<NodeId>, Vec<NodeId>) =
            members.iter().partition(|node| self.is_witness(**node));
        let is_beside = witnesses.len() == 1 && copies.len() == 2 && members.ends_with(&witnesses);
        if !witnesses.is_empty() && !is_beside {
            return Err(Refusal::Precondition(format!(
                "node {} is a witness: it keeps no messages, and is of use only as the last of \
                 three members",
                witnesses[0]
            )));
        }
        let placement = old.changed_to(members.to_vec());
        self.queues.place(queue, placement);
        let mut applied = Applied::new(Change::Updated, true);
        applied.queues_moved.push(queue);
        Ok(applied)
    }

    fn take_node_id(&mut self) -> NodeId {
        let id = self.next_node_id;
        self.next_node_id = NodeId(id.0 + 1);
        id
    }
}

fn entry(name: &Name, address: &Name, state: NodeState, life: Origin) -> NodeEntry {
    NodeEntry {
        name: name.clone(),
        address: address.clone(),
        state,
        life,
        is_lost: false,
        is_drained: false,
        is_witness: false,
        heard: 0,
    }
}

impl NodeCommand {
    /// Whether it changes who belongs to the cluster, or where nodes are.
    pub fn is_about_nodes(&self) -> bool {
        match self {
            Self::Started { .. }
            | Self::Begin { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Remove { .. } => true,
            Self::Lost { .. }
            | Self::Found
            | Self::Drain { .. }
            | Self::Retire { .. }
            | Self::Place { .. } => false,
        }
    }

    pub(super) fn encode_membership(&self, out: &mut Vec<u8>) {
        match self {
            Self::Begin {
                cluster,
                nodes,
                founder,
                is_witness,
                life,
            } => {
                out.put_u8(6);
                out.put_u64(*cluster);
                out.put_u32(u32::try_from(nodes.len()).expect("nodes are few"));
                for (name, address) in nodes {
                    out.put_name(name);
                    out.put_name(address);
                }
                out.put_u64(founder.0);
                out.put_bool(*is_witness);
                out.put_u64(life.0);
            }
            Self::Join {
                name,
                address,
                previous,
                is_witness,
                life,
            } => {
                out.put_u8(7);
                out.put_name(name);
                out.put_name(address);
                out.put_optional_u64(previous.map(|(id, _)| id.0));
                out.put_u64(previous.map_or(0, |(_, life)| life.0));
                out.put_bool(*is_witness);
                out.put_u64(life.0);
            }
            Self::Leave { node } => {
                out.put_u8(8);
                out.put_u64(node.0);
            }
            Self::Remove { node } => {
                out.put_u8(9);
                out.put_u64(node.0);
            }
            Self::Place {
                queue,
                changes,
                members,
            } => {
                out.put_u8(10);
                out.put_u64(queue.0);
                out.put_u32(*changes);
                out.put_u32(u32::try_from(members.len()).expect("members are few"));
                for member in members {
                    out.put_u64(member.0);
                }
            }
            _ => unreachable!("encoded by the caller"),
        }
    }

    pub(super) fn read_membership(kind: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            6 => {
                let cluster = reader.u64()?;
                let count = take_count(reader, NODES_MAX)?;
                let nodes = (0..count).map(|_| Ok((reader.name()?, reader.name()?)));
                let nodes = nodes.collect::<Result<_, DecodeError>>()?;
                Self::Begin {
                    cluster,
                    nodes,
                    founder: NodeId(reader.u64()?),
                    is_witness: reader.bool()?,
                    life: Origin(reader.u64()?),
                }
            }
            7 => {
                let (name, address) = (reader.name()?, reader.name()?);
                let previous = reader.optional_u64()?.map(NodeId);
                let life_before = Origin(reader.u64()?);
                Self::Join {
                    name,
                    address,
                    previous: previous.map(|id| (id, life_before)),
                    is_witness: reader.bool()?,
                    life: Origin(reader.u64()?),
                }
            }
            8 => Self::Leave {
                node: NodeId(reader.u64()?),
            },
            9 => Self::Remove {
                node: NodeId(reader.u64()?),
            },
            10 => {
                let (queue, changes) = (QueueId(reader.u64()?), reader.u32()?);
                let count = take_count(reader, MEMBERS_MAX)?;
                let members = (0..count).map(|_| reader.u64().map(NodeId));
                Self::Place {
                    queue,
                    changes,
                    members: members.collect::<Result<_, _>>()?,
                }
            }
            kind => return Err(DecodeError::UnknownKind { kind }),
        })
    }
}

fn take_count(reader: &mut Reader<'_>, max: usize) -> Result<usize, DecodeError> {
    let count = usize::try_from(reader.u32()?).map_err(|_| DecodeError::OutOfRange)?;
    if count > max {
        return Err(DecodeError::OutOfRange);
    }
    Ok(count)
}
