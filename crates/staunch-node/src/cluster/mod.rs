//! What several nodes do together.
//!
//! * `groups`: the Raft groups of this node's replicated queues, and who leads them.
//! * `membership`: who this node is, who the others are, and how nodes join; `nodes` names and links.
//! * `members`: how the members of groups become those that the catalog wants.
//! * `placements`: what the catalog should want: replicas move away from nodes that leave or are gone.
//! * `catalog`: the catalog as a group, `proposals` what this node wants changed in it and who waits
//!   for that, `place` where new queues are kept.
//! * `edge`: what clients of this node ask of queues that are served elsewhere, and `outbox` what
//!   they publish to replicated queues and to those of other nodes.
//! * `status`, `removal`: what operators ask.
//! * `holds`: publishers that wait, because of alarms elsewhere or full outboxes.
//! * `heartbeat`: who is heard, and hears; `leadership`: which node should lead a queue; `failover`: who
//!   has led it when another was lost.
//! * `transfer`: whole queues for members that lag too far.
//! * `repair`: replicas that have forgotten everything.
//!
//! Peers speak in frames of four kinds ([`PeerPayload`]); each of these modules owns one and its
//! layout. `docs/replication.md` tells how they play together.

mod abroad;
mod answers;
mod asked;
mod catalog;
mod catalog_transfer;
mod claims;
mod edge;
mod facts;
mod failover;
mod groups;
mod heartbeat;
mod holds;
mod leadership;
mod members;
mod membership;
mod nodes;
mod offer;
mod outbox;
mod place;
mod placements;
mod proposal;
mod proposals;
mod remotes;
mod removal;
mod repair;
mod settled;
mod shadow;
mod status;
mod transfer;
mod upkeep;
mod wire;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use staunch_broker::Origin;
use staunch_raft::{Liveness, LivenessEvent};
use staunch_replica::Identity;
use staunch_types::{Name, NodeId, Timestamp};

use crate::{config::ClusterConfig, input::Output, node::Node};

pub(crate) use catalog::{CatalogGroup, config as catalog_config};
pub use facts::{GroupFacts, PlacementFacts, deliveries_in};
pub use failover::{Cause, FAILOVERS_MAX, Failover};
pub(crate) use groups::{Member, Place};
pub(crate) use holds::AlarmsElsewhere;
use membership::Membership;
use nodes::{Nodes, STRANGER};
pub(crate) use outbox::{Fate, Publisher, Purpose};
pub(crate) use proposals::{BATCH_FILL_SIZE_BYTES, Then};
pub use removal::StopCheck;
pub(crate) use repair::is_with_others;
pub use status::{ClusterStatus, NodeStatus, OtherNode, QueueReplicas, ReplicaStatus};
pub(crate) use wire::{Frame, count as count_request};

/// What the runtime tells of links with other nodes.
#[derive(Debug)]
pub enum PeerInput {
    /// A peer is connected. What was sent to it before may not have arrived.
    Up {
        /// Its name.
        peer: Name,
        /// Its process.
        incarnation: u64,
    },
    /// The connection is gone.
    Down {
        /// Its name.
        peer: Name,
        /// It has said that it stops.
        goodbye: bool,
    },
    /// A peer has sent something.
    Received {
        /// Its name.
        peer: Name,
        /// What it is.
        kind: PeerPayload,
        /// Its bytes.
        payload: Bytes,
    },
}

/// A frame for a peer.
#[derive(Debug)]
pub struct PeerOutput {
    /// Its name.
    pub peer: Name,
    /// What it is.
    pub kind: PeerPayload,
    /// Its bytes, one after the other.
    pub payload: Vec<Bytes>,
}

/// What a frame between nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPayload {
    /// "I live", or the answer "I have heard you" ([`heartbeat`]).
    Heartbeat,
    /// Messages of Raft groups (`staunch_raft::wire`).
    Raft,
    /// Of the catalog: definitions for its leader.
    Catalog,
    /// Between clients' nodes and queues' leaders.
    Queue,
    /// Whole queues.
    Transfer,
}

/// How a frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendClass {
    /// It may get lost, and is repeated where it matters.
    Lossy,
    /// It arrives, after all sent so before it, or the connection ends.
    Reliable,
}

impl PeerPayload {
    /// How it travels.
    #[must_use]
    pub fn class(self) -> SendClass {
        match self {
            Self::Heartbeat | Self::Raft => SendClass::Lossy,
            Self::Catalog | Self::Queue | Self::Transfer => SendClass::Reliable,
        }
    }
}

/// What a node knows of the others, and does with them.
pub(crate) struct Cluster {
    /// This node; a placeholder until it has been given an id.
    pub(crate) me: NodeId,
    /// Its name.
    name: Name,
    /// It votes, and keeps no messages.
    pub(crate) is_witness: bool,
    /// Names and addresses of those that it founds a cluster with, or asks to join theirs.
    seeds: Vec<(Name, Name)>,
    membership: Membership,
    /// What comes from clients of this node, in this life of it.
    pub(crate) origin: Origin,
    pub(crate) nodes: Nodes,
    /// Name of the node that is to lead everything.
    primary: Option<Name>,
    pub(crate) liveness: Liveness,
    next_liveness_tick: Timestamp,
    /// How long a node must be silent at the least before others give it up.
    patience_min: Duration,
    /// The last drain.
    advanced_at: Timestamp,
    /// The end of the last time in which this node stood still.
    awake_since: Timestamp,
    pub(crate) groups: groups::Groups,
    pub(crate) catalog: catalog::CatalogGroup,
    pub(crate) edge: edge::Edge,
    pub(crate) outboxes: outbox::Outboxes,
    transfers: transfer::Transfers,
    pub(crate) repairs: repair::Repairs,
    leadership: leadership::Leadership,
    failovers: failover::Failovers,
    pub(crate) placements: placements::Placements,
    /// Raft messages that wait for the end of the drain.
    raft: BTreeMap<NodeId, Vec<staunch_raft::Message>>,
}

impl Cluster {
    /// This node has forgotten everything, and who it is.
    pub(crate) fn lose(&mut self) {
        self.membership.is_lost = true;
    }

    /// Whether this node has forgotten who it is, and nobody has told it.
    pub(crate) fn is_lost(&self) -> bool {
        self.membership.is_lost && self.membership.is_fresh()
    }

    /// This node has forgotten the catalog, and all that goes with it.
    pub(crate) fn forget_catalog(&mut self) {
        self.repairs.has_forgotten_catalog = true;
    }

    /// A node of a cluster, at its start: what it is, if it has data.
    pub(crate) fn new(config: &ClusterConfig, identity: Option<&Identity>, seed: u64) -> Self {
        let now = Timestamp::default();
        let me = identity.map_or(STRANGER, |identity| identity.node);
        let mut seeds = config.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup_by(|a, b| a.0 == b.0);
        Self {
            me,
            name: config.me.clone(),
            is_witness: config.is_witness,
            seeds,
            membership: Membership::of(identity),
            origin: Origin(config.incarnation),
            liveness: Liveness::new([], config.liveness, now),
            primary: config.primary.clone(),
            nodes: Nodes::new(me, config.me.clone()),
            next_liveness_tick: now,
            patience_min: config.liveness.silence_min,
            advanced_at: now,
            awake_since: now,
            groups: groups::Groups::new(now),
            catalog: CatalogGroup::joining(me, seed),
            edge: edge::Edge::default(),
            outboxes: outbox::Outboxes::default(),
            transfers: transfer::Transfers::default(),
            repairs: repair::Repairs::default(),
            leadership: leadership::Leadership::default(),
            failovers: failover::Failovers::default(),
            placements: placements::Placements::default(),
            raft: BTreeMap::new(),
        }
    }

    /// The node that is to lead everything, if there is one.
    pub(crate) fn primary(&self) -> Option<NodeId> {
        let primary = self.primary.as_ref();
        primary.and_then(|name| self.nodes.named(name))
    }

    fn is_seed(&self, name: &Name) -> bool {
        self.seeds.iter().any(|(seed, _)| seed == name)
    }

    fn seeds_hash(&self) -> u64 {
        membership::names_hash(self.seeds.iter().map(|(name, _)| name))
    }

    /// Where others reach this node, by its own list of seeds.
    fn own_address(&self) -> Name {
        let own = self.seeds.iter().find(|(name, _)| *name == self.name);
        own.map(|(_, address)| address.clone()).unwrap_or_default()
    }
}

impl Node {
    pub(crate) fn handle_peer(&mut self, input: PeerInput) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        match input {
            PeerInput::Up { peer, incarnation } => {
                cluster.nodes.link_up(peer.clone(), incarnation);
                self.introduce_to(&peer);
            }
            PeerInput::Down { peer, goodbye } => {
                let Some(node) = cluster.nodes.link_down(&peer) else {
                    return;
                };
                self.peer_down(node, goodbye);
            }
            PeerInput::Received {
                peer,
                kind,
                payload,
            } => {
                if kind == PeerPayload::Catalog
                    && payload
                        .first()
                        .is_some_and(|kind| *kind >= membership::FRAME_WHO)
                {
                    return self.membership_received(&peer, &payload);
                }
                let Some(node) = cluster.nodes.find(&peer) else {
                    return;
                };
                cluster.liveness.heard(node, now);
                cluster.nodes.heard(node, now);
                match kind {
                    PeerPayload::Heartbeat => self.heartbeat_received(node, &payload),
                    PeerPayload::Raft => self.take_raft(node, &payload),
                    PeerPayload::Catalog => self.catalog_received(node, payload),
                    PeerPayload::Queue => self.queue_received(node, payload),
                    PeerPayload::Transfer => self.transfer_received(node, payload),
                }
            }
        }
    }

    /// The connection with a peer is gone, or its process.
    fn peer_down(&mut self, node: NodeId, goodbye: bool) {
        self.note_disconnected(node, goodbye);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.nodes.set_down(node);
        if goodbye {
            cluster.liveness.said_goodbye(node);
        } else {
            cluster.liveness.link_broken(node);
        }
        self.report_liveness();
        self.transfers_peer_down(node);
        self.catalog_peer_down(node);
        self.edge_peer_down(node);
    }

    /// The catalog says that a life of a node is over. If that is the one it is connected to, its
    /// machine has died and been started again, and nothing has told the connection so far.
    pub(crate) fn life_is_over(&mut self, node: NodeId, life: Origin) {
        let Some(cluster) = &self.cluster else { return };
        let nodes = &cluster.nodes;
        if nodes.is_connected(node) && nodes.incarnation(node) == Some(life.0) {
            self.peer_down(node, false);
        }
    }

    /// Lets time pass for detector and groups, and does what is due; the first thing in a drain.
    pub(crate) fn advance_cluster(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if now.since(cluster.advanced_at) >= cluster.patience_min {
            cluster.awake_since = now;
        }
        cluster.advanced_at = now;
        if now >= cluster.next_liveness_tick {
            self.report_liveness();
        }
        self.advance_membership();
        self.tick_groups(now);
        self.advance_groups();
        self.advance_catalog();
        self.advance_edge(now);
    }

    /// When [`Node::advance_cluster`] has something to do although nothing happens.
    pub(crate) fn cluster_timeout(&self) -> Option<Timestamp> {
        let cluster = self.cluster.as_ref()?;
        let liveness = Some(cluster.next_liveness_tick);
        liveness.into_iter().chain(cluster.groups.next_tick()).min()
    }

    /// Asks the detector who is alive, and tells the groups what has changed.
    fn report_liveness(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let events = cluster.liveness.tick(now);
        cluster.next_liveness_tick = cluster.liveness.next_tick(now);
        for event in events {
            match event {
                LivenessEvent::SendHeartbeat(node) => {
                    self.send_heartbeat(node);
                }
                LivenessEvent::Suspected(node) => {
                    self.note_suspected(node, false);
                    self.suspect(node);
                }
                LivenessEvent::Alive(node) => {
                    self.note_trusted(node);
                    self.trust(node);
                }
            }
        }
    }

    /// Sends a frame, if the peer is connected.
    pub(crate) fn send(&mut self, to: NodeId, kind: PeerPayload, payload: Vec<Bytes>) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let Some(peer) = cluster.nodes.connected_name(to) else {
            return;
        };
        self.outputs.push_back(Output::Peer(PeerOutput {
            peer,
            kind,
            payload,
        }));
    }

    /// Keeps a message of a group until the drain ends.
    pub(crate) fn send_raft(&mut self, messages: Vec<staunch_raft::Message>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for message in messages {
            cluster.raft.entry(message.to).or_default().push(message);
        }
    }

    /// Sends what the groups had to say in this drain, one batch for each peer.
    pub(crate) fn flush_peers(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for (to, messages) in std::mem::take(&mut cluster.raft) {
            for batch in staunch_raft::wire::encode(&messages) {
                self.send(to, PeerPayload::Raft, batch);
            }
        }
    }
}
