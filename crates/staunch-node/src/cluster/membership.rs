//! Who this node is, and who the others are: founding, joining, being removed.
//!
//! What a node is, it keeps on its disk: the cluster's number, its own id. A node without data has
//! neither and waits. When all nodes of its list of seeds are connected and have no data either, the
//! first of them founds a cluster of its own, with an id for each of the others, and these join it
//! as any node joins a cluster that exists. Clients wait until all have joined.
//!
//! ```text
//! newcomer                                    any member
//!   │ Who (fresh)  ◀───────────────────────▶ Who (cluster, id) │  on every new connection
//!   │ Join(address) ───────────────────────▶ │ proposes it, or finds it done
//!   │ ◀──────────────────── Welcome(cluster, id) │ when it is agreed on
//!   │ Who (cluster, id) ───────────────────▶ │ knows it from now on
//! ```
//!
//! A node whose disk was lost is fresh: it asks to join and gets a new id under its name, while the
//! old one is over. What it had acknowledged as the old one it has lost; a vote of it under that id
//! could cost a confirmed message.
//!
//! One whose data is damaged so that it does not know who it was asks `Recall` in place of `Join`, and is
//! told who has its name: it is that node, which has forgotten everything (`repair`).
//!
//! Rejected: that all seeds found the group together. A seed that loses its data while others have
//! founded and others have not would have to know whether it had founded, too.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Buf, BufMut, Bytes};
use staunch_broker::{CatalogCommand, NodeCommand, NodeState, Origin};
use staunch_log::StreamId;
use staunch_replica::{CatalogRecord, Identity, OnRefusal};
use staunch_types::{ConnectionId, Event, Name, NodeId, Timestamp};

use super::{
    CatalogGroup, PeerOutput, PeerPayload, Then,
    nodes::{STRANGER, Standing},
};
use crate::{
    input::{MembershipNews, Output},
    node::Node,
};

pub(super) const FRAME_WHO: u8 = 5;
pub(super) const FRAME_JOIN: u8 = 6;
pub(super) const FRAME_WELCOME: u8 = 7;
pub(super) const FRAME_REMOVED: u8 = 8;
pub(super) const FRAME_RECALL: u8 = 9;

/// Version of these frames.
const VERSION: u8 = 2;
/// How often a node asks to join until it is welcome.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a node is told that was removed, by itself and by its clients.
const REMOVED_TEXT: &str = "this node was removed from its cluster";

/// What clients of a witness are told.
const WITNESS_TEXT: &str = "this node is a witness and serves no clients: connect to another one";

/// What this node is to its cluster, and what it waits for.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// Which cluster; 0 of a node without data.
    pub(super) cluster: u64,
    /// It has founded the cluster.
    pub(super) is_founder: bool,
    /// It was removed, and nobody of the cluster speaks with it.
    pub(super) is_removed: bool,
    /// What it had is damaged, and so is who it was.
    pub(super) is_lost: bool,
    asked_at: Option<Timestamp>,
    /// Who has asked and was proposed since the nodes last changed. A proposal is kept until it is
    /// agreed on.
    proposed: BTreeMap<Name, Origin>,
    /// Where other nodes are, as the runtime was told.
    addresses: Vec<(Name, Name)>,
}

impl Membership {
    pub(super) fn of(identity: Option<&Identity>) -> Self {
        Self {
            cluster: identity.map_or(0, |identity| identity.cluster),
            is_founder: identity.is_some_and(|identity| identity.is_founder),
            ..Self::default()
        }
    }

    /// Whether it has no data.
    pub(super) fn is_fresh(&self) -> bool {
        self.cluster == 0
    }
}

impl Node {
    /// Who this node is, for its checkpoints; none of a node that has no data, or stands alone.
    pub(crate) fn own_identity(&self) -> Option<Identity> {
        let cluster = self.cluster.as_ref()?;
        let membership = &cluster.membership;
        (!membership.is_fresh()).then(|| Identity {
            cluster: membership.cluster,
            node: cluster.me,
            is_founder: membership.is_founder,
            is_removed: membership.is_removed,
            is_witness: cluster.is_witness,
            name: cluster.name.clone(),
        })
    }

    /// Whether this node was removed from its cluster.
    pub fn is_removed(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.membership.is_removed)
    }

    /// Whether this node is to be one of a cluster's, and the others may not know of it.
    pub fn is_new_to_cluster(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.membership.is_fresh())
    }

    /// Somebody is connected: says who this node is.
    pub(super) fn introduce_to(&mut self, peer: &Name) {
        let Some(cluster) = &self.cluster else { return };
        let mut frame = vec![FRAME_WHO, VERSION];
        let is_fresh = cluster.membership.is_fresh();
        frame.put_u64(cluster.membership.cluster);
        frame.put_u64(if is_fresh { 0 } else { cluster.me.0 });
        // With one that has forgotten who it was nobody founds anything.
        let is_lost = cluster.membership.is_lost;
        frame.put_u64(cluster.seeds_hash() ^ u64::from(is_lost));
        self.send_to_link(peer, frame);
    }

    fn introduce_to_all(&mut self) {
        for peer in self.linked_peers() {
            self.introduce_to(&peer);
        }
    }

    fn linked_peers(&self) -> Vec<Name> {
        let cluster = self.cluster.as_ref();
        let links = cluster.iter().flat_map(|cluster| cluster.nodes.links());
        links.map(|(name, _)| name.clone()).collect()
    }

    fn send_to_link(&mut self, peer: &Name, frame: Vec<u8>) {
        self.outputs.push_back(Output::Peer(PeerOutput {
            peer: peer.clone(),
            kind: PeerPayload::Catalog,
            payload: vec![frame.into()],
        }));
    }

    /// A frame about who is who. What makes no sense is passed over.
    pub(super) fn membership_received(&mut self, peer: &Name, payload: &Bytes) {
        let mut bytes = payload.clone();
        let kind = bytes.try_get_u8().unwrap_or_default();
        if bytes.try_get_u8() != Ok(VERSION) {
            return;
        }
        let mut number = || bytes.try_get_u64().unwrap_or_default();
        match kind {
            FRAME_WHO => {
                let (cluster, node, seeds_hash) = (number(), NodeId(number()), number());
                let standing = match (cluster, node) {
                    (0, _) => Standing::Fresh { seeds_hash },
                    (_, NodeId(0) | STRANGER) => return,
                    (cluster, node) => Standing::Member { cluster, node },
                };
                if let Some(cluster) = &mut self.cluster {
                    cluster.nodes.heard_standing(peer, standing);
                }
                self.meet(peer);
            }
            FRAME_JOIN => {
                let is_witness = bytes.try_get_u8().unwrap_or_default() == 1;
                if let Ok(address) = Name::new(&bytes) {
                    self.let_join(peer, &address, is_witness);
                }
            }
            FRAME_RECALL => {
                let is_witness = bytes.try_get_u8().unwrap_or_default() == 1;
                self.recall(peer, is_witness);
            }
            FRAME_WELCOME => {
                let (cluster, node) = (number(), NodeId(number()));
                let is_seed = self.cluster.as_ref().is_some_and(|it| it.is_seed(peer));
                if is_seed && cluster != 0 && !matches!(node, NodeId(0) | STRANGER) {
                    self.become_node(cluster, node, false);
                }
            }
            FRAME_REMOVED => {
                let cluster = self.cluster.as_ref();
                let own = cluster.map(|it| (it.membership.cluster, it.me));
                if own == Some((number(), NodeId(number()))) {
                    self.be_removed();
                }
            }
            _ => {}
        }
    }

    /// Does what follows from what a peer has said of itself.
    fn meet(&mut self, peer: &Name) {
        let Some(cluster) = &self.cluster else { return };
        let Some(link) = cluster.nodes.link(peer) else {
            return;
        };
        let membership = &cluster.membership;
        match link.said {
            None | Some(Standing::Fresh { .. }) => {}
            Some(Standing::Member { .. }) if membership.is_fresh() => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.membership.asked_at = None;
                }
            }
            Some(Standing::Member { cluster, .. }) if cluster != membership.cluster => {
                self.tell(MembershipNews::Foreign { peer: peer.clone() });
            }
            Some(Standing::Member { cluster, node }) => {
                let known = self.catalog.node(node);
                if self.catalog.is_removed(node) {
                    let mut frame = vec![FRAME_REMOVED, VERSION];
                    frame.put_u64(cluster);
                    frame.put_u64(node.0);
                    self.send_to_link(peer, frame);
                } else if known.is_some_and(|known| known.name != *peer) {
                    self.tell(MembershipNews::Foreign { peer: peer.clone() });
                } else if !link.is_known() {
                    self.node_up(peer, node);
                }
            }
        }
    }

    /// A node of this cluster is connected.
    fn node_up(&mut self, peer: &Name, node: NodeId) {
        let now = self.now;
        let was_given_up = self.is_given_up(node);
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if cluster.membership.is_removed || node == cluster.me {
            return;
        }
        let is_restarted = cluster.nodes.set_up(peer, node, now);
        cluster.liveness.watch(node);
        cluster.liveness.link_up(node, now);
        self.report_liveness();
        if is_restarted {
            self.groups_peer_restarted(node, was_given_up);
        }
        self.catalog_peer_up(node);
        self.edge_peer_up(node, is_restarted);
    }

    /// Somebody without data wants to be one of the cluster's nodes.
    fn let_join(&mut self, peer: &Name, address: &Name, is_witness: bool) {
        if self.welcome(peer) {
            return;
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(link) = cluster.nodes.link(peer) else {
            return;
        };
        let life = Origin(link.incarnation);
        let membership = &mut cluster.membership;
        let may_propose = !membership.is_fresh()
            && cluster.catalog.proposals.is_known
            && matches!(link.said, Some(Standing::Fresh { .. }));
        if !may_propose || membership.proposed.get(peer) == Some(&life) {
            return;
        }
        membership.proposed.insert(peer.clone(), life);
        let known = self.catalog.node_named(peer);
        let command = NodeCommand::Join {
            name: peer.clone(),
            address: address.clone(),
            previous: known.map(|(id, entry)| (id, entry.life)),
            is_witness,
            life,
        };
        let commands = vec![CatalogCommand::Node(command)];
        self.propose_batch(commands, OnRefusal::GoOn, Then::Nothing);
    }

    /// Tells a peer which node it has become, if it has asked to be one and that is agreed on.
    fn welcome(&mut self, peer: &Name) -> bool {
        let Some(cluster) = &self.cluster else {
            return false;
        };
        let link = cluster.nodes.link(peer);
        let Some(link) = link.filter(|it| matches!(it.said, Some(Standing::Fresh { .. }))) else {
            return false;
        };
        let entry = self.catalog.node_named(peer);
        let joined = entry.filter(|(_, entry)| {
            entry.life == Origin(link.incarnation) && entry.state != NodeState::Invited
        });
        let Some((id, _)) = joined else {
            return false;
        };
        self.tell_identity(peer, id);
        true
    }

    /// Tells a peer that has forgotten who it was, unless it is to be something else now.
    fn recall(&mut self, peer: &Name, is_witness: bool) {
        let entry = self.catalog.node_named(peer);
        let joined = entry.filter(|(_, entry)| {
            entry.state != NodeState::Invited && entry.is_witness == is_witness
        });
        if let Some((id, _)) = joined.filter(|_| self.is_ready()) {
            self.tell_identity(peer, id);
        }
    }

    fn tell_identity(&mut self, peer: &Name, id: NodeId) {
        let mut frame = vec![FRAME_WELCOME, VERSION];
        frame.put_u64(self.catalog.cluster_id());
        frame.put_u64(id.0);
        self.send_to_link(peer, frame);
    }

    /// Asks to join, or founds a cluster, if it is time for that; part of every drain.
    pub(super) fn advance_membership(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if !cluster.membership.is_fresh() {
            return;
        }
        let member = cluster.nodes.links().find(|(name, link)| {
            matches!(link.said, Some(Standing::Member { .. })) && cluster.is_seed(name)
        });
        if let Some((peer, _)) = member {
            let peer = peer.clone();
            let asked = cluster.membership.asked_at;
            if asked.is_some_and(|at| now.since(at) < ASK_AGAIN_AFTER) {
                return;
            }
            cluster.membership.asked_at = Some(now);
            let kind = if cluster.membership.is_lost {
                FRAME_RECALL
            } else {
                FRAME_JOIN
            };
            let mut frame = vec![kind, VERSION, u8::from(cluster.is_witness)];
            frame.put_slice(&cluster.own_address());
            return self.send_to_link(&peer, frame);
        }
        let seeds_hash = cluster.seeds_hash();
        let is_first = cluster.seeds.iter().all(|(name, _)| cluster.name <= *name);
        let agrees = |name: &Name| {
            let link = cluster.nodes.link(name);
            link.and_then(|link| link.said) == Some(Standing::Fresh { seeds_hash })
        };
        let others = cluster.seeds.iter().map(|(name, _)| name);
        let all_agree = others.filter(|name| **name != cluster.name).all(agrees);
        if is_first && all_agree && !cluster.membership.is_lost {
            // It differs from process to process, and so from cluster to cluster.
            let number = cluster.origin.0.max(1);
            self.become_node(number, NodeId(1), true);
        }
    }

    /// This node has become one of a cluster's: from now on that is what it is.
    fn become_node(&mut self, number: u64, me: NodeId, is_founder: bool) {
        let seed = self.config.seed;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if !cluster.membership.is_fresh() {
            return;
        }
        cluster.membership.cluster = number;
        cluster.membership.is_founder = is_founder;
        cluster.me = me;
        cluster.nodes.be(me);
        let is_lost = cluster.membership.is_lost;
        let group = if is_founder {
            CatalogGroup::founding(me, seed)
        } else if is_lost {
            cluster.forget_catalog();
            CatalogGroup::forgotten(me, seed)
        } else {
            CatalogGroup::joining(me, seed)
        };
        let stranger = std::mem::replace(&mut cluster.catalog, group);
        cluster.catalog.succeed(stranger);
        if is_founder {
            cluster.catalog.replica.group_mut().campaign();
        }
        self.write_identity();
        self.tell(if is_founder {
            MembershipNews::Founded
        } else {
            MembershipNews::Joined { node: me }
        });
        self.introduce_to_all();
        // Who has spoken before is known from now on.
        for peer in self.linked_peers() {
            self.meet(&peer);
        }
    }

    /// Has the log say who this node is.
    fn write_identity(&mut self) {
        if let Some(identity) = self.own_identity() {
            let record = CatalogRecord::Identity(identity).encode();
            self.store.append_control(StreamId::CATALOG, &record);
            self.mark_appended();
        }
    }

    /// The catalog has changed as to who belongs to the cluster.
    pub(crate) fn follow_nodes(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.membership.proposed.clear();
        let (new, gone) = cluster.nodes.follow(&self.catalog);
        for node in new.into_iter().filter(|node| *node != cluster.me) {
            cluster.liveness.watch(node);
        }
        for node in gone {
            self.forget_node(node);
        }
        let Some(cluster) = &self.cluster else { return };
        if self.catalog.is_removed(cluster.me) {
            self.be_removed();
        }
        let witnesses = self.catalog.witnesses();
        self.for_each_group(|group| group.know_witnesses(&witnesses));
        for peer in self.linked_peers() {
            if !self.welcome(&peer) {
                self.meet(&peer);
            }
        }
        self.tell_addresses();
    }

    /// A node is gone for good.
    fn forget_node(&mut self, node: NodeId) {
        self.suspect(node);
        self.transfers_peer_down(node);
        self.catalog_peer_down(node);
        self.edge_peer_down(node);
        if let Some(cluster) = &mut self.cluster {
            cluster.liveness.forget(node);
            cluster.groups.suspected.remove(&node);
            cluster.placements.trusted(node);
            cluster.catalog.forget_node(node);
        }
    }

    /// Tells the runtime where the other nodes are, if that has changed.
    fn tell_addresses(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let others = self.catalog.nodes().filter(|(id, _)| *id != cluster.me);
        let addresses = others.map(|(_, entry)| (entry.name.clone(), entry.address.clone()));
        let addresses: Vec<_> = addresses.collect();
        if addresses != cluster.membership.addresses {
            cluster.membership.addresses.clone_from(&addresses);
            self.tell(MembershipNews::Links(addresses));
        }
    }

    /// This node is none of the cluster's any more: it serves nobody.
    fn be_removed(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if std::mem::replace(&mut cluster.membership.is_removed, true) {
            return;
        }
        for slot in self.sessions.slots() {
            let reason = REMOVED_TEXT.to_owned();
            self.sessions.push(slot, Event::Forced { reason });
        }
        self.write_identity();
        self.tell(MembershipNews::Removed);
    }

    /// A client of a node that was removed, or is a witness.
    pub(super) fn turn_away(&mut self, id: ConnectionId) {
        let text = if self.is_removed() {
            REMOVED_TEXT
        } else {
            WITNESS_TEXT
        };
        if let Some(slot) = self.sessions.find(id) {
            let reason = text.to_owned();
            self.sessions.push(slot, Event::Forced { reason });
        }
    }

    fn tell(&mut self, news: MembershipNews) {
        self.outputs.push_back(Output::Membership(news));
    }
}

/// Of names in order; equal ones have equal hashes on every node (FNV-1a).
pub(super) fn names_hash<'a>(names: impl Iterator<Item = &'a Name>) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for name in names {
        hash = name.iter().fold(hash, |hash, byte| mix(hash, *byte));
        hash = mix(hash, 0);
    }
    hash
}
