//! What several nodes do together.
//!
//! * `groups`: the Raft groups of this node's replicated queues, and who leads them.
//! * `catalog`: the catalog as a group, `proposals` what this node wants changed in it and who waits
//!   for that, `place` where new queues are kept.
//! * `edge`: what clients of this node ask of queues that are served elsewhere, and `outbox` what
//!   they publish to replicated queues and to those of other nodes.
//! * `status`: what operators ask.
//! * `leadership`: which node should lead a queue.
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
mod groups;
mod leadership;
mod nodes;
mod offer;
mod outbox;
mod place;
mod proposal;
mod proposals;
mod remotes;
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
use staunch_raft::{Liveness, LivenessEvent, Members};
use staunch_types::{Name, NodeId, Timestamp};

use crate::{config::ClusterConfig, input::Output, node::Node};

pub(crate) use catalog::{CatalogGroup, config as catalog_config};
pub use facts::GroupFacts;
pub(crate) use groups::{Member, Place};
use nodes::Nodes;
pub(crate) use outbox::{Fate, Publisher, Purpose};
pub(crate) use proposals::Then;
pub(crate) use repair::is_with_others;
pub use status::{ClusterStatus, NodeStatus, QueueReplicas, ReplicaStatus};
pub(crate) use wire::{Frame, count as count_request};

/// How often the failure detector looks at its watch.
const LIVENESS_TICK: Duration = Duration::from_millis(20);

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
    /// "I live": empty.
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
    /// This node.
    pub(crate) me: NodeId,
    /// What comes from clients of this node, in this life of it.
    pub(crate) origin: Origin,
    pub(crate) nodes: Nodes,
    /// The node that is to lead everything.
    pub(crate) primary: Option<NodeId>,
    pub(crate) liveness: Liveness,
    next_liveness_tick: Timestamp,
    pub(crate) groups: groups::Groups,
    pub(crate) catalog: catalog::CatalogGroup,
    pub(crate) edge: edge::Edge,
    pub(crate) outboxes: outbox::Outboxes,
    transfers: transfer::Transfers,
    pub(crate) repairs: repair::Repairs,
    leadership: leadership::Leadership,
    /// Raft messages that wait for the end of the drain.
    raft: BTreeMap<NodeId, Vec<staunch_raft::Message>>,
}

impl Cluster {
    /// This node has forgotten the catalog, and all that goes with it.
    pub(crate) fn forget_catalog(&mut self) {
        self.repairs.has_forgotten_catalog = true;
    }

    /// The members of a new catalog's group.
    pub(crate) fn founders(&self) -> Members {
        Members::of(self.nodes.ids()).expect("nodes have different ids")
    }

    /// A node of a cluster, at its start.
    pub(crate) fn new(config: &ClusterConfig, seed: u64, now: Timestamp) -> Self {
        let nodes = Nodes::founding(config);
        let me = nodes.me();
        let others = nodes.others();
        let members = Members::of(nodes.ids()).expect("nodes have different ids");
        let catalog = CatalogGroup::founding(members, me, seed);
        Self {
            me,
            origin: Origin(config.incarnation),
            liveness: Liveness::new(others, config.liveness, now),
            primary: config.primary.as_ref().and_then(|name| nodes.find(name)),
            nodes,
            next_liveness_tick: now,
            groups: groups::Groups::new(now),
            catalog,
            edge: edge::Edge::default(),
            outboxes: outbox::Outboxes::default(),
            transfers: transfer::Transfers::default(),
            repairs: repair::Repairs::default(),
            leadership: leadership::Leadership::default(),
            raft: BTreeMap::new(),
        }
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
                let Some(node) = cluster.nodes.find(&peer) else {
                    return;
                };
                let is_restarted = cluster.nodes.set_up(node, incarnation, now);
                cluster.liveness.link_up(node, now);
                self.report_liveness();
                if is_restarted {
                    self.groups_peer_restarted(node);
                }
                self.catalog_peer_up(node);
                self.edge_peer_up(node, is_restarted);
            }
            PeerInput::Down { peer, goodbye } => {
                let Some(node) = cluster.nodes.find(&peer) else {
                    return;
                };
                self.peer_down(node, goodbye);
            }
            PeerInput::Received {
                peer,
                kind,
                payload,
            } => {
                let Some(node) = cluster.nodes.find(&peer) else {
                    return;
                };
                cluster.liveness.heard(node, now);
                match kind {
                    PeerPayload::Heartbeat => {}
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
        if now >= cluster.next_liveness_tick {
            cluster.next_liveness_tick = now + LIVENESS_TICK;
            self.report_liveness();
        }
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
        for event in cluster.liveness.tick(now) {
            match event {
                LivenessEvent::SendHeartbeat(node) => {
                    self.send(node, PeerPayload::Heartbeat, Vec::new());
                }
                LivenessEvent::Suspected(node) => self.suspect(node),
                LivenessEvent::Alive(node) => self.trust(node),
            }
        }
    }

    /// Sends a frame, if the peer is connected.
    pub(crate) fn send(&mut self, to: NodeId, kind: PeerPayload, payload: Vec<Bytes>) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(peer) = cluster.nodes.connected_name(to) else {
            return;
        };
        cluster.liveness.sent(to, now);
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
