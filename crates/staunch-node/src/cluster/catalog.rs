//! The catalog as a group: what drives it, and what is applied when it is committed.
//!
//! Every node applies the same commands in the same order with the same code as a node that stands
//! alone; `proposals` is how a node brings its own into that order and answers its clients,
//! `catalog_transfer` how a member that lags gets the whole catalog.
//!
//! A node serves its clients from its own copy of the catalog. When it is started it waits until it
//! has applied the word of its own start, and so all that was committed before; from then on it
//! goes on without a majority, but for changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use staunch_broker::{Catalog, CatalogCommand, NodeCommand, NodeState, QueueEntry};
use staunch_log::ChunkId;
use staunch_raft::{Config, Members, Message};
use staunch_replica::{
    Batch, CatalogEffects, CatalogEvent, CatalogRebuild, CatalogReplica, CatalogState, OnRefusal,
    TakeError,
};
use staunch_types::{
    ConnectionId, GroupId, LogIndex, NodeId, QueueId, Refusal, Request, Timestamp,
};

use super::{
    catalog_transfer::{Arrival, Transfer},
    proposals::{Proposals, Then},
};
use crate::{definitions::Defined, node::Node, queues::QueueSlot};

/// How long a node may be away before what it alone keeps in memory is given up.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// The group that keeps the catalog, on this node.
pub(crate) struct CatalogGroup {
    pub(crate) replica: CatalogReplica,
    pub(super) proposals: Proposals,
    /// Requests that came before the catalog was up to date.
    early: Vec<(ConnectionId, Vec<Request>)>,
    is_ready: bool,
    /// The cluster's first user has been proposed.
    is_founding: bool,
    /// Since when nodes are away, or since when they were last given up.
    away: BTreeMap<NodeId, Timestamp>,
    /// Queues whose end has been proposed.
    doomed: BTreeSet<QueueId>,
    /// Up to where the checkpoint under way contains it.
    checkpointing: Option<LogIndex>,
    /// To members that lag.
    pub(super) transfers: BTreeMap<NodeId, Transfer>,
    /// From the leader.
    pub(super) arrival: Option<Arrival>,
}

impl CatalogGroup {
    /// A new cluster's.
    pub(crate) fn founding(me: NodeId, seed: u64) -> Self {
        let members = Members::of([me]).expect("one node is a group");
        Self::begin(CatalogRebuild::founding(members), me, seed)
    }

    /// That of a cluster which this node is to join.
    pub(crate) fn joining(me: NodeId, seed: u64) -> Self {
        Self::begin(CatalogRebuild::joining(), me, seed)
    }

    /// That of a cluster of which this node was a member, and has forgotten it.
    pub(super) fn forgotten(me: NodeId, seed: u64) -> Self {
        Self::begin(CatalogRebuild::forgotten(), me, seed)
    }

    fn begin(rebuild: CatalogRebuild, me: NodeId, seed: u64) -> Self {
        let replica = rebuild.finish(config(me, seed));
        Self::new(replica.expect("a new group is sound"))
    }

    /// Whether this node has proposed the end of a queue that is still there.
    pub(super) fn is_doomed(&self, id: QueueId) -> bool {
        self.doomed.contains(&id)
    }

    /// Takes over what waited while this node had no id.
    pub(super) fn succeed(&mut self, stranger: Self) {
        self.early = stranger.early;
    }

    /// A node is gone for good.
    pub(super) fn forget_node(&mut self, node: NodeId) {
        self.away.remove(&node);
        self.transfers.remove(&node);
    }

    /// One that goes on.
    pub(crate) fn new(replica: CatalogReplica) -> Self {
        Self {
            replica,
            proposals: Proposals::default(),
            early: Vec::new(),
            is_ready: false,
            is_founding: false,
            away: BTreeMap::new(),
            doomed: BTreeSet::new(),
            checkpointing: None,
            transfers: BTreeMap::new(),
            arrival: None,
        }
    }

    pub(crate) fn has_unsealed(&self) -> bool {
        self.replica.has_unsealed()
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.replica.is_writing()
    }

    /// What a checkpoint says of it.
    pub(crate) fn state(&self, catalog: &Catalog) -> CatalogState {
        let mut whole = Vec::new();
        catalog.encode_whole(&mut whole);
        self.replica.state_now(whole.into())
    }

    /// Whether clients have to wait: until the catalog has caught up, and until a restart would find
    /// one that came from another node, with all that is put into its queues.
    fn holds_requests(&self) -> bool {
        !self.is_ready || !self.early.is_empty() || self.replica.awaits_checkpoint()
    }

    /// Index of the last entry that this node has applied.
    pub(super) fn applied(&self) -> u64 {
        self.replica.group().applied_index().0
    }

    /// Who leads, as far as this node knows.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.replica.group().role_now().leader
    }
}

pub(crate) fn config(me: NodeId, seed: u64) -> Config {
    Config::new(GroupId::CATALOG, me, seed)
}

impl Node {
    /// A peer is connected: what it had not answered is asked again.
    pub(crate) fn catalog_peer_up(&mut self, node: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let group = &mut cluster.catalog;
        group.transfers.remove(&node);
        if group.leader() == Some(node) {
            group.proposals.ask_again();
        }
        // At the start there is no need to wait for a timeout.
        let voters = group.replica.group().members().voters;
        let is_first = voters.first() == Some(&cluster.me);
        if is_first && group.leader().is_none() {
            group.replica.group_mut().campaign();
        }
    }

    pub(crate) fn catalog_peer_down(&mut self, node: NodeId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.catalog.transfers.remove(&node);
        }
    }

    /// A message of the catalog's group has come.
    pub(crate) fn take_catalog_raft(&mut self, message: Message) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let from = message.from;
        match cluster.catalog.replica.take(message) {
            Err(TakeError::NotStaged) => self.lack_catalog(from),
            // What cannot be taken is as if it had been lost.
            Ok(()) | Err(TakeError::Step(_) | TakeError::Data(_) | TakeError::Batch(_)) => {}
        }
    }

    /// Time passes for the catalog's group ([`staunch_raft::config::TICK`]).
    pub(crate) fn tick_catalog(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let group = &mut cluster.catalog;
        group.replica.group_mut().tick();
        group
            .transfers
            .retain(|_, transfer| !transfer.has_stalled(now));
        self.give_up_proposals();
        self.give_up_nodes();
        self.change_catalog_members();
    }

    /// The failure detector suspects a node.
    pub(crate) fn suspect_for_catalog(&mut self, node: NodeId) {
        let now = self.now;
        if let Some(cluster) = &mut self.cluster {
            cluster.catalog.replica.group_mut().suspect(node);
            cluster.catalog.away.insert(node, now);
        }
    }

    /// It takes that back.
    pub(crate) fn trust_for_catalog(&mut self, node: NodeId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.catalog.replica.group_mut().trust(node);
            cluster.catalog.away.remove(&node);
        }
    }

    /// This node is about to stop: another is to lead the catalog's group.
    pub(crate) fn hand_over_catalog(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let nodes = &cluster.nodes;
        let group = cluster.catalog.replica.group_mut();
        if group.is_leader()
            && let Some(to) = group.successor(|node| nodes.is_connected(node))
        {
            // If it cannot be, the others notice that this node is gone.
            let _refused = group.transfer_to(to);
        }
    }

    /// Does what is due for the catalog's group.
    pub(crate) fn advance_catalog(&mut self) {
        let persisted = self.store.persisted();
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.catalog.replica.persisted(persisted);
        self.drive_catalog();
        self.introduce_node();
        self.found_cluster();
        self.become_ready();
        self.send_proposals();
        // What was proposed here is in the group's log now.
        self.drive_catalog();
    }

    fn drive_catalog(&mut self) {
        loop {
            let mut effects = CatalogEffects::default();
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            cluster
                .catalog
                .replica
                .advance(&mut self.store, &mut effects);
            let CatalogEffects {
                send,
                role,
                events,
                needs_snapshot,
            } = effects;
            self.send_raft(send);
            if let Some(role) = role {
                self.note_catalog_role(role);
            }
            let is_over = events.is_empty();
            for event in events {
                match event {
                    CatalogEvent::Apply(batch) => self.apply_batch(&batch),
                    CatalogEvent::Adopt(catalog) => self.adopt_catalog(&catalog),
                }
                self.handle_unserved();
            }
            // The group calls applied what has been handed out, so that comes first.
            if let Some(node) = needs_snapshot {
                self.transfer_catalog_to(node);
            }
            if is_over {
                return;
            }
        }
    }

    /// What the catalog's group has appended is in this chunk and those before it.
    pub(crate) fn seal_catalog(&mut self, chunk: ChunkId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.catalog.replica.sealed(chunk);
        }
    }

    /// A checkpoint is about to be taken.
    pub(crate) fn checkpoint_catalog(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            let group = &mut cluster.catalog;
            group.replica.checkpoint(&mut self.store);
            group.checkpointing = Some(group.replica.group().applied_index());
        }
    }

    /// It is on disk.
    pub(crate) fn catalog_checkpointed(&mut self) {
        if let Some(cluster) = &mut self.cluster
            && let Some(upto) = cluster.catalog.checkpointing.take()
        {
            cluster.catalog.replica.compact(upto);
            cluster.catalog.replica.checkpointed();
        }
    }

    /// Applies what was agreed on; answers, if it was this node that proposed it.
    fn apply_batch(&mut self, batch: &Batch) {
        if !batch.is_admitted(&mut self.catalog) {
            return;
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let is_own = batch.origin == cluster.origin;
        let then = if is_own {
            cluster.catalog.proposals.answered(batch.number)
        } else {
            None
        };
        let acting = self.acting.take();
        let asking = then.as_ref().and_then(Then::session);
        self.acting = asking
            .filter(|(session, connection)| self.is_still(*session, *connection))
            .map(|(session, _)| session);
        let mut results = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            let result = self.apply_agreed(command, is_own);
            let ends = result.is_err() && batch.on_refusal == OnRefusal::Stop;
            results.push(result);
            if ends {
                break;
            }
        }
        self.acting = acting;
        if is_own {
            self.drop_orphans(&results);
        }
        if let Some(then) = then {
            self.conclude(then, results);
        }
    }

    /// A change that the nodes have agreed on. `speaks`: it is for this node to publish what has
    /// happened, for all of them.
    fn apply_agreed(&mut self, command: &CatalogCommand, speaks: bool) -> Result<Defined, Refusal> {
        let applied = self.catalog.apply_replicated(command)?;
        if let CatalogCommand::Node(command) = command
            && command.is_about_nodes()
        {
            self.follow_nodes();
        }
        self.follow_definition(command, &applied, speaks);
        if let CatalogCommand::Node(NodeCommand::Started {
            node,
            previous: Some(previous),
            life,
            ..
        }) = command
            && previous != life
        {
            self.life_is_over(*node, *previous);
        }
        Ok(Defined {
            change: applied.change,
            is_logged: false,
            queue: applied.queue,
        })
    }

    /// Queues of connections that have closed before their declaration was agreed on.
    fn drop_orphans(&mut self, results: &[Result<Defined, Refusal>]) {
        let declared = results.iter().flatten().filter_map(|defined| defined.queue);
        for id in declared.collect::<Vec<_>>() {
            let owner = self.catalog.queue_by_id(id).and_then(|entry| entry.owner);
            if owner.is_some_and(|owner| self.sessions.find(owner).is_none()) {
                self.delete_by_node(id);
            }
        }
    }

    /// The whole catalog has come from another member.
    fn adopt_catalog(&mut self, whole: &Bytes) {
        let catalog = Catalog::decode_whole(whole, self.config.seed);
        let mut catalog = catalog.expect("it was read before");
        catalog.succeed(&self.catalog);
        let old = std::mem::replace(&mut self.catalog, catalog);
        self.follow_nodes();
        let gone: Vec<QueueEntry> = (old.queues_and_holders())
            .filter(|entry| self.catalog.queue_by_id(entry.id).is_none())
            .cloned()
            .collect();
        for entry in &gone {
            self.forget_queue(entry);
        }
        self.begin_to_relearn();
        let ids: Vec<QueueId> = (self.catalog.queues_and_holders())
            .map(|entry| entry.id)
            .collect();
        for id in ids {
            let was_replicated = self.queues.get(id).is_some_and(QueueSlot::is_replicated);
            if self.queues.get(id).is_none() {
                self.make_queue(id);
            } else {
                self.configure_queue(id);
                self.follow_placement(id);
            }
            let is_replicated = self.queues.get(id).is_some_and(QueueSlot::is_replicated);
            if is_replicated && !was_replicated {
                self.hold_group(id);
            }
        }
        self.end_to_relearn();
        self.end_sessions_without_ground();
        self.refresh_epoch();
        if let Some(cluster) = &mut self.cluster {
            cluster.groups.wants_checkpoint = true;
            let heard = self.catalog.node(cluster.me);
            let heard = heard.filter(|entry| entry.life == cluster.origin);
            let heard = heard.map_or(0, |entry| entry.heard);
            cluster.catalog.proposals.renumber(heard);
        }
    }

    /// Proposes that this node lives, until the catalog says so.
    fn introduce_node(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if cluster.membership.is_fresh() || cluster.membership.is_removed {
            return;
        }
        let known = self.catalog.node(cluster.me);
        if known.is_some_and(|known| known.life == cluster.origin && !known.is_lost) {
            cluster.catalog.proposals.is_known = true;
            return;
        }
        let proposals = &mut cluster.catalog.proposals;
        proposals.is_known = false;
        if !proposals.may_introduce(now) {
            return;
        }
        let command = if cluster.membership.is_founder && self.catalog.cluster_id() == 0 {
            NodeCommand::Begin {
                cluster: cluster.membership.cluster,
                nodes: cluster.seeds.clone(),
                founder: cluster.me,
                is_witness: cluster.is_witness,
                life: cluster.origin,
            }
        } else {
            // Of one that has joined the catalog speaks already, when it comes.
            let Some(known) = known else { return };
            NodeCommand::Started {
                node: cluster.me,
                name: cluster.name.clone(),
                address: cluster.own_address(),
                previous: Some(known.life),
                life: cluster.origin,
            }
        };
        let command = CatalogCommand::Node(command);
        let batch = Batch {
            origin: cluster.origin,
            base: 0,
            number: 0,
            on_refusal: OnRefusal::Stop,
            commands: vec![command],
        };
        self.send_batch(&batch);
    }

    /// The leader of a catalog without users makes the first one, once for all nodes.
    fn found_cluster(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let group = &mut cluster.catalog;
        let serves = group.replica.group().is_serving();
        if self.catalog.is_founded() || group.is_founding || !serves || !group.proposals.is_known {
            return;
        }
        // Clients are to find all who were to found it.
        let voters = group.replica.group().members();
        let is_whole = !voters.is_joint()
            && self.catalog.nodes().all(|(id, entry)| {
                entry.state != NodeState::Invited && voters.voters.contains(&id)
            });
        if !is_whole {
            return;
        }
        group.is_founding = true;
        let mut commands = vec![CatalogCommand::Node(NodeCommand::Found)];
        commands.extend(self.first_definitions());
        self.propose_batch(commands, OnRefusal::Stop, Then::Nothing);
    }

    /// The catalog has caught up: clients are heard from now on.
    fn become_ready(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let group = &mut cluster.catalog;
        if !group.is_ready && (!group.proposals.is_known || !self.catalog.is_founded()) {
            return;
        }
        group.is_ready = true;
        if group.early.is_empty() || group.replica.awaits_checkpoint() {
            return;
        }
        for (id, requests) in std::mem::take(&mut group.early) {
            self.handle_requests(id, requests, now);
        }
    }

    /// Keeps requests back until the catalog has caught up; gives them back if it has.
    pub(crate) fn hold_early(
        &mut self,
        id: ConnectionId,
        requests: Vec<Request>,
    ) -> Option<Vec<Request>> {
        match &mut self.cluster {
            Some(cluster) if cluster.membership.is_removed || cluster.is_witness => {
                self.turn_away(id);
                None
            }
            Some(cluster) if cluster.catalog.holds_requests() => {
                cluster.catalog.early.push((id, requests));
                None
            }
            _ => Some(requests),
        }
    }

    /// The leader has the others give up what nodes kept in memory that are away for too long.
    fn give_up_nodes(&mut self) {
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let group = &mut cluster.catalog;
        if !group.replica.group().is_serving() {
            return;
        }
        let mut lost = Vec::new();
        for (node, since) in &mut group.away {
            let known = self.catalog.node(*node).filter(|known| !known.is_lost);
            if let Some(known) = known
                && now.since(*since) >= AWAY_MAX
            {
                *since = now;
                let (node, life) = (*node, known.life);
                lost.push(CatalogCommand::Node(NodeCommand::Lost { node, life }));
            }
        }
        for command in lost {
            self.propose_batch(vec![command], OnRefusal::GoOn, Then::Nothing);
        }
    }

    /// Notes that the end of a queue is proposed; false if it was before.
    pub(crate) fn doom(&mut self, id: QueueId) -> bool {
        let cluster = self.cluster.as_mut();
        cluster.is_some_and(|cluster| cluster.catalog.doomed.insert(id))
    }

    /// What this node has kept in memory alone goes, for all nodes, as soon as they agree that it has
    /// been started: nobody is to put anything into what is left of it.
    pub(crate) fn doom_transient_queues(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let me = cluster.me;
        let gone = self.catalog.transient_of(me);
        for id in gone {
            self.doom(id);
        }
    }

    /// As [`Node::doom_transient_queues`], for a queue of which this node has heard only now: while
    /// the others do not know that it has been started, it is of a life before.
    pub(crate) fn doom_if_old(&mut self, id: QueueId) {
        let Some(cluster) = &self.cluster else { return };
        let (me, origin) = (cluster.me, cluster.origin);
        let known = self.catalog.node(me);
        let is_known = known.is_none_or(|known| known.life == origin);
        let entry = self.catalog.queue_by_id(id);
        if !is_known && entry.is_some_and(|entry| entry.goes_with(me)) {
            self.doom(id);
        }
    }

    /// The queue is gone.
    pub(crate) fn forget_doom(&mut self, id: QueueId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.catalog.doomed.remove(&id);
        }
    }

    /// Whether clients of this node are heard: always, on a node that stands alone.
    pub fn is_ready(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_none_or(|cluster| cluster.catalog.is_ready)
    }

    /// Who leads the catalog's group, as far as this node knows.
    pub fn catalog_leader(&self) -> Option<NodeId> {
        self.cluster.as_ref()?.catalog.leader()
    }

    /// Index of the last entry of the catalog's group that this node has applied, and the whole
    /// catalog then: for whoever compares nodes.
    pub fn catalog_image(&self) -> Option<(LogIndex, Vec<u8>)> {
        let cluster = self.cluster.as_ref()?;
        let mut whole = Vec::new();
        self.catalog.encode_whole(&mut whole);
        Some((cluster.catalog.replica.group().applied_index(), whole))
    }
}
