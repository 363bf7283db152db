//! The nodes of the cluster as the catalog knows them, and what becomes of what they alone keep.
//!
//! A node makes itself known with every start; what its last process kept in memory is gone from
//! then on, everywhere. So do the nodes that live when one has been away for long. Until a node
//! has made itself known (again), nothing that it proposes counts: it may speak of a past that is
//! over.

use std::collections::BTreeMap;

use staunch_types::{Name, NodeId, QueueId, Refusal};

use super::apply::Mode;
use super::{Applied, Catalog, Change, Placement};
use crate::encoding::{DecodeError, Reader, Writer};
use crate::queue::Origin;

/// Proposals that a node made and nobody has heard of may be this many numbers apart, for the
/// numbers to be believed.
const NUMBER_MAX: u64 = 1 << 62;

/// What happens to a node, or is decided by one on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// A node has begun a new life. It counts only if the life before it is the one that is known:
    /// so a repetition that comes late does not bring back a life that is over.
    Started {
        /// The node.
        node: NodeId,
        /// Its name.
        name: Name,
        /// Where other nodes reach it.
        address: Name,
        /// Its life before this one, as far as the catalog knows.
        previous: Option<Origin>,
        /// Its life from now on.
        life: Origin,
    },
    /// A node has been away for too long in this life of it.
    Lost {
        /// The node.
        node: NodeId,
        /// The life that the proposer knew.
        life: Origin,
    },
    /// The cluster has its first user from now on; refused if it had one before.
    Found,
    /// An operator wants a node to lead nothing, or to lead again.
    Drain {
        /// The node.
        node: NodeId,
        /// It is to lead nothing.
        is_drained: bool,
    },
    /// A queue goes because of what it is, not because a client asked; a missing one is no error.
    Retire {
        /// Its id: a queue declared anew under the same name stays.
        queue: QueueId,
    },
    /// A cluster begins. Counts once.
    Begin {
        /// Which it is: a number that no other cluster has.
        cluster: u64,
        /// Names and addresses of those that are to found it; they get ids from 1 on.
        nodes: Vec<(Name, Name)>,
        /// Which of them speaks.
        founder: NodeId,
        /// It is a witness.
        is_witness: bool,
        /// Its life.
        life: Origin,
    },
    /// A node without data is to be one of the cluster's. It gets the id that was kept for its name,
    /// or a new one; the one that had its name before has lost its data and is gone for good.
    Join {
        /// Its name.
        name: Name,
        /// Where other nodes reach it.
        address: Name,
        /// Who has the name, as the proposer knows. If that is not so any more it does not count: a
        /// repetition that comes late must not put an end to who has joined.
        previous: Option<(NodeId, Origin)>,
        /// It is a witness.
        is_witness: bool,
        /// Its life.
        life: Origin,
    },
    /// An operator wants a node to go: its replicas are to be moved.
    Leave {
        /// The node.
        node: NodeId,
    },
    /// A node is gone for good: replicas that it had are dropped, and queues that it kept alone.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// A replicated queue is to be kept by other nodes.
    Place {
        /// The queue.
        queue: QueueId,
        /// [`Placement::changes`] as the proposer knows them; otherwise it does not count.
        changes: u32,
        /// The nodes; the first is to lead.
        members: Vec<NodeId>,
    },
}

/// How far a node is with joining or leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// An id is kept for it.
    Invited,
    /// It is one of the cluster's.
    Member,
    /// It is to go.
    Leaving,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its name.
    pub name: Name,
    /// Where other nodes reach it; empty if nobody has said.
    pub address: Name,
    /// Whether it comes or goes.
    pub state: NodeState,
    /// Its life; 0 of one that is invited.
    pub life: Origin,
    /// It has been away for too long, and has not made itself known again.
    pub is_lost: bool,
    /// An operator wants it to lead nothing.
    pub is_drained: bool,
    /// It votes and keeps no messages. A node is one for good, or never.
    pub is_witness: bool,
    /// Number of its last proposal that counted.
    pub heard: u64,
}

/// What every node keeps of the queues, counted by placements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) led_count: usize,
    pub(super) kept_count: usize,
}

/// Loads by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads(BTreeMap<NodeId, Load>);

impl Loads {
    pub(super) fn add(&mut self, placement: &Placement) {
        for (position, node) in placement.members.iter().enumerate() {
            let load = self.0.entry(*node).or_default();
            load.kept_count += 1;
            load.led_count += usize::from(position == 0 && placement.is_replicated);
        }
    }

    pub(super) fn remove(&mut self, placement: &Placement) {
        for (position, node) in placement.members.iter().enumerate() {
            let load = self.0.entry(*node).or_default();
            load.kept_count -= 1;
            load.led_count -= usize::from(position == 0 && placement.is_replicated);
            if *load == Load::default() {
                self.0.remove(node);
            }
        }
    }

    pub(super) fn kept_count(&self, node: NodeId) -> usize {
        self.of(node).kept_count
    }

    fn of(&self, node: NodeId) -> Load {
        self.0.get(&node).copied().unwrap_or_default()
    }
}

impl Catalog {
    /// The nodes of the cluster.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeEntry)> {
        self.nodes.iter().map(|(id, entry)| (*id, entry))
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&NodeEntry> {
        self.nodes.get(&id)
    }

    /// Whether the cluster has got its first user.
    pub fn is_founded(&self) -> bool {
        self.is_founded
    }

    /// Whether a proposal counts: its node lives, and the number is the next one. Everything below
    /// `base` was answered or given up by its node. It is remembered as heard from now on.
    pub fn admit(&mut self, life: Origin, base: u64, number: u64) -> bool {
        let mut nodes = self.nodes.values_mut();
        let Some(entry) = nodes.find(|entry| entry.life == life && !entry.is_lost) else {
            return false;
        };
        let next = base.max(entry.heard.saturating_add(1));
        let counts = number == next && number <= NUMBER_MAX;
        if counts {
            entry.heard = number;
        }
        counts
    }

    /// Whether a node is to lead nothing.
    pub fn is_drained(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|entry| entry.is_drained)
    }

    /// Whether a node is a witness.
    pub fn is_witness(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|entry| entry.is_witness)
    }

    /// The nodes that are witnesses, in order.
    pub fn witnesses(&self) -> Vec<NodeId> {
        let witnesses = self.nodes().filter(|(_, entry)| entry.is_witness);
        witnesses.map(|(id, _)| id).collect()
    }

    /// Where a new group of `size` members is kept, out of `among`: first the node that is to lead,
    /// which is the `primary`, if there is one, else the one with the fewest to lead, and of those
    /// with as many `here`; then those that keep the fewest. A node that is drained leads only if
    /// all are. A witness is one of them only beside two others ([`Catalog::wants_witness`]).
    pub fn place_group(
        &self,
        among: &[NodeId],
        size: usize,
        here: NodeId,
        primary: Option<NodeId>,
    ) -> Placement {
        self.place_beside(self.queues.loads(), (among, size), here, primary)
    }

    /// As [`Catalog::place_group`] for `count` groups, each placed as if those before it were
    /// there: so their leaders, and what nodes keep, are spread.
    pub fn place_groups(
        &self,
        count: usize,
        (among, size): (&[NodeId], usize),
        here: NodeId,
        primary: Option<NodeId>,
    ) -> Vec<Placement> {
        let mut loads = self.queues.loads().clone();
        let place = |_| {
            let placement = self.place_beside(&loads, (among, size), here, primary);
            loads.add(&placement);
            placement
        };
        (0..count).map(place).collect()
    }

    /// Whether a queue that was declared for `size` nodes, and is kept by `copies` of them with its
    /// messages, has a use for a witness: two cannot tell which of them is left, and three need no
    /// help.
    pub fn wants_witness(copies: usize, size: usize) -> bool {
        copies == 2 && size > 2
    }

    fn place_beside(
        &self,
        beside: &Loads,
        (among, size): (&[NodeId], usize),
        here: NodeId,
        primary: Option<NodeId>,
    ) -> Placement {
        let load = |node: NodeId| beside.of(node);
        let leads = |node: NodeId| load(node).led_count;
        let mut nodes = among.to_vec();
        nodes.sort_unstable();
        nodes.dedup();
        let (mut witnesses, mut nodes): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|node| self.is_witness(*node));
        let rank = |node: NodeId| {
            let is_drained = self.is_drained(node);
            let is_primary = primary == Some(node);
            (is_drained, !is_primary, leads(node), node != here, node)
        };
        let first = nodes.iter().copied().min_by_key(|node| rank(*node));
        let Some(first) = first else {
            return Placement::HERE;
        };
        nodes.retain(|node| *node != first);
        nodes.sort_by_key(|node| (load(*node).kept_count, *node));
        let size = size.clamp(1, super::MEMBERS_MAX);
        let members = std::iter::once(first).chain(nodes).take(size);
        let mut members: Vec<NodeId> = members.collect();
        if Self::wants_witness(members.len(), size) {
            witnesses.sort_by_key(|node| (load(*node).kept_count, *node));
            members.extend(witnesses.first());
        }
        Placement::replicated(members)
    }

    pub(super) fn apply_node(
        &mut self,
        command: &NodeCommand,
        mode: Mode,
    ) -> Result<Applied, Refusal> {
        match command {
            NodeCommand::Started {
                node,
                name,
                address,
                previous,
                life,
            } => Ok(self.start_node(*node, (name, address), (*previous, *life), mode)),
            NodeCommand::Lost { node, life } => {
                let known = self.nodes.get_mut(node);
                let Some(entry) = known.filter(|entry| entry.life == *life && !entry.is_lost)
                else {
                    return Ok(Applied::unchanged());
                };
                entry.is_lost = true;
                let mut applied = Applied::new(Change::Deleted, true);
                self.drop_transient_of(*node, mode, &mut applied);
                Ok(applied)
            }
            NodeCommand::Found if self.is_founded => Err(Refusal::Precondition(
                "the cluster has its first user already".to_owned(),
            )),
            NodeCommand::Found => {
                self.is_founded = true;
                Ok(Applied::new(Change::Created, true))
            }
            NodeCommand::Drain { node, is_drained } => {
                let Some(entry) = self.nodes.get_mut(node) else {
                    return Err(Refusal::Precondition(format!("there is no node {node}")));
                };
                if entry.is_drained == *is_drained {
                    return Ok(Applied::unchanged());
                }
                entry.is_drained = *is_drained;
                Ok(Applied::new(Change::Updated, true))
            }
            NodeCommand::Retire { queue } => {
                let Some(entry) = self.queues.by_id(*queue) else {
                    return Ok(Applied::unchanged());
                };
                if entry.holds_delayed || entry.is_partition() {
                    return Ok(Applied::unchanged());
                }
                let mut applied = Applied::new(Change::Deleted, entry.is_durable());
                self.drop_queue(*queue, mode, &mut applied);
                Ok(applied)
            }
            NodeCommand::Begin { .. }
            | NodeCommand::Join { .. }
            | NodeCommand::Leave { .. }
            | NodeCommand::Remove { .. }
            | NodeCommand::Place { .. } => self.apply_membership(command, mode),
        }
    }

    fn start_node(
        &mut self,
        node: NodeId,
        (name, address): (&Name, &Name),
        (previous, life): (Option<Origin>, Origin),
        mode: Mode,
    ) -> Applied {
        let known = self.nodes.get(&node);
        // A node that was removed does not come back.
        if known.is_none() && self.cluster_id != 0 {
            return Applied::unchanged();
        }
        let is_same = known.is_some_and(|known| known.life == life);
        let follows = known.map(|known| known.life) == previous;
        if !follows || (is_same && known.is_some_and(|known| !known.is_lost)) {
            return Applied::unchanged();
        }
        // A life that was taken for lost goes on with its numbers.
        let heard = known.filter(|_| is_same).map_or(0, |known| known.heard);
        let is_drained = known.is_some_and(|known| known.is_drained);
        let is_witness = known.is_some_and(|known| known.is_witness);
        let change = known.map_or(Change::Created, |_| Change::Updated);
        let entry = NodeEntry {
            name: name.clone(),
            address: address.clone(),
            state: known.map_or(NodeState::Member, |known| known.state),
            life,
            is_lost: false,
            is_drained,
            is_witness,
            heard,
        };
        self.nodes.insert(node, entry);
        let mut applied = Applied::new(change, true);
        self.drop_transient_of(node, mode, &mut applied);
        applied
    }

    /// What a node kept in memory alone is gone with its process: queues that are not durable, and
    /// those of its connections.
    pub(super) fn drop_transient_of(&mut self, node: NodeId, mode: Mode, applied: &mut Applied) {
        for queue in self.transient_of(node) {
            self.drop_queue(queue, mode, applied);
        }
    }

    /// Queues that go with the node's process, in the order of their names.
    pub fn transient_of(&self, node: NodeId) -> Vec<QueueId> {
        let all = self.queues.sorted().into_iter();
        let gone = all.filter(|queue| queue.goes_with(node));
        gone.map(|queue| queue.id).collect()
    }

    pub(super) fn encode_nodes(&self, out: &mut Vec<u8>) {
        out.put_u64(self.cluster_id);
        out.put_u64(self.next_node_id.0);
        out.put_bool(self.is_founded);
        out.put_u32(u32::try_from(self.nodes.len()).expect("nodes are few"));
        for (id, entry) in &self.nodes {
            out.put_u64(id.0);
            out.put_name(&entry.name);
            out.put_name(&entry.address);
            out.put_u8(entry.state.code());
            out.put_u64(entry.life.0);
            out.put_bool(entry.is_lost);
            out.put_bool(entry.is_drained);
            out.put_bool(entry.is_witness);
            out.put_u64(entry.heard);
        }
    }

    pub(super) fn read_nodes(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        self.cluster_id = reader.u64()?;
        self.next_node_id = NodeId(reader.u64()?);
        self.is_founded = reader.bool()?;
        for _ in 0..reader.u32()? {
            let id = NodeId(reader.u64()?);
            let entry = NodeEntry {
                name: reader.name()?,
                address: reader.name()?,
                state: NodeState::from_code(reader.u8()?)?,
                life: Origin(reader.u64()?),
                is_lost: reader.bool()?,
                is_drained: reader.bool()?,
                is_witness: reader.bool()?,
                heard: reader.u64()?,
            };
            self.nodes.insert(id, entry);
        }
        Ok(())
    }
}

impl NodeCommand {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Started {
                node,
                name,
                address,
                previous,
                life,
            } => {
                out.put_u8(1);
                out.put_u64(node.0);
                out.put_name(name);
                out.put_name(address);
                out.put_optional_u64(previous.map(|previous| previous.0));
                out.put_u64(life.0);
            }
            Self::Lost { node, life } => {
                out.put_u8(2);
                out.put_u64(node.0);
                out.put_u64(life.0);
            }
            Self::Found => out.put_u8(3),
            Self::Retire { queue } => {
                out.put_u8(4);
                out.put_u64(queue.0);
            }
            Self::Drain { node, is_drained } => {
                out.put_u8(5);
                out.put_u64(node.0);
                out.put_bool(*is_drained);
            }
            Self::Begin { .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::Remove { .. }
            | Self::Place { .. } => self.encode_membership(out),
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Started {
                node: NodeId(reader.u64()?),
                name: reader.name()?,
                address: reader.name()?,
                previous: reader.optional_u64()?.map(Origin),
                life: Origin(reader.u64()?),
            },
            2 => Self::Lost {
                node: NodeId(reader.u64()?),
                life: Origin(reader.u64()?),
            },
            3 => Self::Found,
            4 => Self::Retire {
                queue: QueueId(reader.u64()?),
            },
            5 => Self::Drain {
                node: NodeId(reader.u64()?),
                is_drained: reader.bool()?,
            },
            kind => Self::read_membership(kind, reader)?,
        })
    }
}

impl NodeState {
    fn code(self) -> u8 {
        match self {
            Self::Invited => 0,
            Self::Member => 1,
            Self::Leaving => 2,
        }
    }

    fn from_code(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Invited),
            1 => Ok(Self::Member),
            2 => Ok(Self::Leaving),
            kind => Err(DecodeError::UnknownKind { kind }),
        }
    }
}
