//! The groups of this node's replicated queues: what drives them, and who leads.
//!
//! A queue that is served here, replicated or not, works as it does on a node that stands alone.
//! What is different for a replicated one: messages come by way of a [`Proposal`], not from
//! `enqueue`, and what the queue has decided goes there too, instead of to the log. At the end of a
//! drain each proposal becomes one entry, or several if it is large.
//!
//! What the groups append in a drain is sealed and written with everything else; when its chunk is
//! on disk they are told and may go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use staunch_broker::{Origin, Queue, QueueEntry};
use staunch_log::{ChunkId, StreamId};
use staunch_raft::{
    Body, Config, Members, StepError,
    config::{ENTRY_CACHE_BYTES_MAX, TICK},
};
use staunch_replica::{Effects, Parting, Rebuild, Replica, TakeError};
use staunch_types::{GroupId, LogIndex, NodeId, QueueId, Timestamp};

use super::proposal::Proposal;
use crate::{
    node::Node,
    pending::Pending,
    queues::{QueueSlot, settings_of},
};

/// Messages that are kept of groups whose queues are not known yet.
const EARLY_MESSAGES_MAX: usize = 4096;

/// Bytes of entries that all groups of this node keep in memory for members that lag. One group may
/// keep half of what the others leave free.
const ENTRIES_SIZE_BYTES_MAX: u64 = 128 << 20;
/// Bytes of entries in memory, those that are not applied among them, above which a follower takes
/// no more: what it passes over is sent again.
const ENTRIES_SIZE_BYTES_TAKEN_MAX: u64 = 2 * ENTRIES_SIZE_BYTES_MAX;

/// Where a queue is.
#[derive(Default)]
pub(crate) enum Place {
    /// On this node alone.
    #[default]
    Here,
    /// On this node and others.
    Replicated(Box<Member>),
    /// On others.
    Elsewhere,
}

/// This node's part in a replicated queue.
#[expect(
    clippy::struct_excessive_bools,
    reason = "membership of four lists of the node"
)]
pub(crate) struct Member {
    pub(crate) replica: Replica,
    pub(crate) proposal: Proposal,
    /// Who led it last, as far as this node knows.
    pub(super) leader: Option<NodeId>,
    /// The highest number of each origin that was offered to this leader.
    pub(super) offered: BTreeMap<Origin, u64>,
    /// Those of them that were refused since, as far as it is not known that their origin has heard that.
    pub(super) refused: BTreeMap<Origin, BTreeSet<u64>>,
    /// Entries that were proposed and are not applied, with their numbers on this node.
    pub(super) outstanding: VecDeque<(LogIndex, u64)>,
    /// Up to where the checkpoint under way contains it.
    pub(super) checkpointing: Option<LogIndex>,
    /// Bytes of applied entries that it may keep in memory if there is room.
    pub(super) cache_size_bytes_max: u64,
    /// Bytes of entries in memory, as they were last counted.
    counted_size_bytes: u64,
    /// In the list of groups to be advanced.
    is_due: bool,
    /// In the list of groups that hear of time.
    is_ticking: bool,
    /// In the list of groups with something to propose.
    pub(super) is_proposing: bool,
    /// In the list of groups that appended something.
    is_unsealed: bool,
}

/// What drives the groups.
pub(crate) struct Groups {
    next_tick: Timestamp,
    due: Vec<QueueId>,
    ticking: Vec<QueueId>,
    pub(super) proposing: Vec<QueueId>,
    unsealed: Vec<QueueId>,
    /// Bytes of entries in memory, of all groups.
    entries_size_bytes: u64,
    /// Whom to tell when a chunk is on disk.
    writing: VecDeque<(ChunkId, QueueId)>,
    pub(super) suspected: BTreeSet<NodeId>,
    /// Messages of groups whose queues this node is yet to hear of from the catalog.
    early: BTreeMap<QueueId, Vec<staunch_raft::Message>>,
    early_count: usize,
    /// Number of the last proposal on this node.
    pub(super) last_proposal: u64,
    /// Proposals that are not applied.
    pub(super) outstanding: BTreeSet<u64>,
    /// What waits for proposals up to a number: none until those of its drain are made.
    pub(super) waiting: VecDeque<(Option<u64>, Pending)>,
    /// A group has adopted a state that a checkpoint must make durable.
    pub(super) wants_checkpoint: bool,
    /// Groups that came with a catalog which a restart would not find: they promise nothing.
    pub(super) held: BTreeSet<QueueId>,
    /// Groups that this node leads and whose members are not those that the catalog wants.
    pub(super) changing: BTreeSet<QueueId>,
    /// Groups that this node is to be a member of no longer.
    pub(super) leaving: BTreeSet<QueueId>,
    /// Groups that it has left.
    pub(crate) left: BTreeMap<QueueId, Parting>,
    pub(super) next_leaving_look: Timestamp,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Here => "Here",
            Self::Replicated(_) => "Replicated",
            Self::Elsewhere => "Elsewhere",
        })
    }
}

impl Groups {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            next_tick: now,
            due: Vec::new(),
            ticking: Vec::new(),
            proposing: Vec::new(),
            unsealed: Vec::new(),
            entries_size_bytes: 0,
            writing: VecDeque::new(),
            suspected: BTreeSet::new(),
            early: BTreeMap::new(),
            early_count: 0,
            last_proposal: 0,
            outstanding: BTreeSet::new(),
            waiting: VecDeque::new(),
            wants_checkpoint: false,
            held: BTreeSet::new(),
            changing: BTreeSet::new(),
            leaving: BTreeSet::new(),
            left: BTreeMap::new(),
            next_leaving_look: now,
        }
    }

    /// When the groups are to hear of time; none if all sleep: then it is told them by the way.
    pub(crate) fn next_tick(&self) -> Option<Timestamp> {
        (!self.ticking.is_empty()).then_some(self.next_tick)
    }

    /// Whether groups have appended something that is not sealed.
    pub(crate) fn has_unsealed(&self) -> bool {
        !self.unsealed.is_empty()
    }

    /// Whether groups wait for the disk.
    pub(crate) fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Keeps a message until its queue is known; there is no room for many.
    fn put_early(&mut self, id: QueueId, message: staunch_raft::Message) {
        if self.early_count < EARLY_MESSAGES_MAX {
            self.early_count += 1;
            self.early.entry(id).or_default().push(message);
        }
    }

    /// What came for a queue before it was known. Of queues made before it nothing more is
    /// awaited.
    fn take_early(&mut self, id: QueueId) -> Vec<staunch_raft::Message> {
        let mut found = Vec::new();
        while let Some(entry) = self.early.first_entry()
            && *entry.key() <= id
        {
            let (of, messages) = entry.remove_entry();
            self.early_count -= messages.len();
            if of == id {
                found = messages;
            }
        }
        found
    }

    pub(crate) fn mark_proposing(&mut self, id: QueueId, member: &mut Member) {
        if !std::mem::replace(&mut member.is_proposing, true) {
            self.proposing.push(id);
        }
    }

    /// Counts what a group keeps in memory, and lets it keep so much from now on that there is room
    /// for others.
    fn count_entries(&mut self, member: &mut Member) {
        let group = member.replica.group_mut();
        let others = self.entries_size_bytes - member.counted_size_bytes;
        group.set_entry_cache_bytes_max(share(others).min(member.cache_size_bytes_max));
        member.counted_size_bytes = group.entry_cache_bytes();
        self.entries_size_bytes = others + member.counted_size_bytes;
    }

    /// A group is gone.
    pub(super) fn forget_entries(&mut self, member: &Member) {
        self.entries_size_bytes -= member.counted_size_bytes;
    }

    fn forget_outstanding(&mut self, member: &mut Member) {
        for (_, number) in member.outstanding.drain(..) {
            self.outstanding.remove(&number);
        }
    }

    pub(super) fn is_all_applied(&self) -> bool {
        self.proposing.is_empty() && self.outstanding.is_empty() && self.waiting.is_empty()
    }
}

impl Member {
    pub(crate) fn new(replica: Replica) -> Self {
        Self {
            replica,
            proposal: Proposal::default(),
            leader: None,
            offered: BTreeMap::new(),
            refused: BTreeMap::new(),
            outstanding: VecDeque::new(),
            checkpointing: None,
            cache_size_bytes_max: ENTRY_CACHE_BYTES_MAX,
            counted_size_bytes: 0,
            is_due: false,
            is_ticking: false,
            is_proposing: false,
            is_unsealed: false,
        }
    }

    /// Gives back memory that only a busy group needs.
    fn rest(&mut self) {
        self.outstanding.shrink_to_fit();
        self.proposal.shrink();
        self.replica.shrink();
    }
}

/// Bytes of applied entries that one group may keep when the others keep so many.
fn share(others_size_bytes: u64) -> u64 {
    ENTRIES_SIZE_BYTES_MAX.saturating_sub(others_size_bytes) / 2
}

impl QueueSlot {
    /// Whether this node hands out the queue's messages.
    pub(crate) fn is_served_here(&self) -> bool {
        match &self.place {
            Place::Here => true,
            Place::Replicated(_) => self.queue.leads(),
            Place::Elsewhere => false,
        }
    }

    pub(crate) fn is_replicated(&self) -> bool {
        matches!(self.place, Place::Replicated(_))
    }

    pub(crate) fn member_mut(&mut self) -> Option<&mut Member> {
        match &mut self.place {
            Place::Replicated(member) => Some(member),
            Place::Here | Place::Elsewhere => None,
        }
    }

    pub(crate) fn member(&self) -> Option<&Member> {
        match &self.place {
            Place::Replicated(member) => Some(member),
            Place::Here | Place::Elsewhere => None,
        }
    }
}

impl Node {
    /// Where a queue of the catalog is on this node, and the queue as it is at first: a new one.
    pub(crate) fn open_place(&mut self, entry: &QueueEntry) -> Option<(Place, Queue)> {
        let me = self.cluster.as_ref()?.me;
        let placement = &entry.placement;
        if !placement.members.contains(&me) {
            if placement.is_replicated && self.is_relearning() {
                self.note_left(entry.id, Parting::Forgotten);
            }
            let queue = Queue::new(staunch_broker::Durability::Transient, &settings_of(entry));
            return Some((Place::Elsewhere, queue));
        }
        if !placement.is_replicated {
            return None;
        }
        let members = Members::of(placement.members.iter().copied());
        let members = members.expect("a placement names its members once");
        let settings = settings_of(entry);
        let stream = StreamId(entry.id.0);
        let rebuild = if self.is_relearning() {
            self.note_forgotten(entry.id);
            Rebuild::forgotten(stream, &settings)
        } else if placement.changes > 0 {
            return Some(self.join_group(entry.id, &settings));
        } else {
            Rebuild::founding(stream, members, &settings)
        };
        let founded = rebuild.finish(self.group_config(entry.id), &settings);
        let member = Box::new(Member::new(founded.replica));
        Some((Place::Replicated(member), founded.queue))
    }

    pub(crate) fn group_config(&self, id: QueueId) -> Config {
        let cluster = self.cluster.as_ref().expect("only clusters have groups");
        Config {
            is_witness: cluster.is_witness,
            ..Config::new(GroupId::from(id), cluster.me, self.config.seed)
        }
    }

    /// A group has come to be on this node: it hears of time from now on, and of who is suspected.
    pub(crate) fn begin_group(&mut self, id: QueueId, is_new: bool) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let suspected = cluster.groups.suspected.clone();
        let early = cluster.groups.take_early(id);
        let me = cluster.me;
        let entry = self.catalog.queue_by_id(id);
        let is_first = entry.is_some_and(|entry| entry.placement.members.first() == Some(&me));
        let Some(member) = self.queues.get_mut(id).and_then(QueueSlot::member_mut) else {
            return;
        };
        let group = member.replica.group_mut();
        group.know_witnesses(&self.catalog.witnesses());
        for node in suspected {
            group.suspect(node);
        }
        if is_new && is_first {
            group.campaign();
        }
        for message in early {
            // As if it had been lost, if it makes no sense.
            drop(member.replica.take(message));
        }
        self.watch_members(id);
        self.rouse(id);
    }

    /// Has the group advanced in this drain, and told of time.
    pub(super) fn rouse(&mut self, id: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(member) = self.queues.get_mut(id).and_then(QueueSlot::member_mut) else {
            return;
        };
        if !std::mem::replace(&mut member.is_due, true) {
            cluster.groups.due.push(id);
        }
        if !member.replica.group().is_asleep() && !std::mem::replace(&mut member.is_ticking, true) {
            cluster.groups.ticking.push(id);
        }
    }

    /// Messages of groups have come.
    pub(crate) fn take_raft(&mut self, from: NodeId, batch: &Bytes) {
        let Ok(messages) = staunch_raft::wire::decode(batch) else {
            // Of another version, or damaged: it is repeated, or its sender gives up.
            return;
        };
        let cluster = self.cluster.as_ref();
        let is_full =
            cluster.is_some_and(|it| it.groups.entries_size_bytes > ENTRIES_SIZE_BYTES_TAKEN_MAX);
        for message in messages {
            if message.from != from {
                continue;
            }
            if message.group == GroupId::CATALOG {
                self.take_catalog_raft(message);
                continue;
            }
            let id = QueueId(message.group.0);
            let Some(member) = self.queues.get_mut(id).and_then(QueueSlot::member_mut) else {
                // Its queue is not here yet, or not any more.
                if id >= self.catalog.next_queue_id()
                    && let Some(cluster) = &mut self.cluster
                {
                    cluster.groups.put_early(id, message);
                }
                continue;
            };
            let is_large =
                matches!(&message.body, Body::Append(append) if !append.entries.is_empty());
            if is_large && is_full {
                // As if it had been lost: memory has not been growing for lack of answers.
                continue;
            }
            match member.replica.take(message) {
                Err(TakeError::NotStaged) => self.ask_for_transfer(id, from),
                Err(TakeError::Step(StepError::Inconsistent(_))) => self.forget_replica(id),
                // A stranger's, or nonsense, is as if it had been lost.
                Ok(()) | Err(TakeError::Step(_) | TakeError::Data(_) | TakeError::Batch(_)) => {}
            }
            self.rouse(id);
        }
    }

    /// Lets time pass for the groups that are awake.
    pub(crate) fn tick_groups(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let groups = &mut cluster.groups;
        if now < groups.next_tick {
            return;
        }
        groups.next_tick = now + TICK;
        let mut due = Vec::new();
        for id in std::mem::take(&mut groups.ticking) {
            let Some(member) = self.queues.get_mut(id).and_then(QueueSlot::member_mut) else {
                continue;
            };
            let group = member.replica.group_mut();
            group.tick();
            // Most ticks of most groups lead to nothing.
            let is_silent = !group.is_asleep() && !group.is_due();
            if is_silent && !member.replica.is_deposed() {
                groups.ticking.push(id);
            } else {
                member.is_ticking = false;
                due.push(id);
            }
        }
        for id in due {
            self.rouse(id);
        }
        self.tick_leadership(now);
        self.tick_members(now);
        self.tick_placements(now);
        self.tick_transfers();
        self.tick_repairs(now);
        self.tick_catalog();
    }

    /// Does what is due for the groups.
    pub(crate) fn advance_groups(&mut self) {
        self.tell_persisted();
        loop {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let due = std::mem::take(&mut cluster.groups.due);
            if due.is_empty() {
                break;
            }
            for id in due {
                self.advance_group(id);
            }
        }
        self.release_committed();
    }

    /// Tells the groups whose chunks are on disk.
    fn tell_persisted(&mut self) {
        let persisted = self.store.persisted();
        let now = self.now;
        while let Some(cluster) = &mut self.cluster
            && let Some((_, id)) = cluster
                .groups
                .writing
                .pop_front_if(|(chunk, _)| *chunk <= persisted)
        {
            let is_writing = cluster.groups.is_writing();
            cluster.leadership.writing_since = is_writing.then_some(now);
            if let Some(member) = self.queues.get_mut(id).and_then(QueueSlot::member_mut) {
                member.replica.persisted(persisted);
                self.rouse(id);
            }
        }
    }

    fn advance_group(&mut self, id: QueueId) {
        let Some(member) = self.queues.get_mut(id).and_then(QueueSlot::member_mut) else {
            return;
        };
        member.is_due = false;
        if let Some(cluster) = &self.cluster
            && cluster.groups.held.contains(&id)
        {
            return;
        }
        let Some(mut slot) = self.queues.take(id) else {
            return;
        };
        let mut effects = Effects::default();
        loop {
            if slot.member().is_some_and(|it| it.replica.is_deposed()) {
                self.cease_to_serve(&mut slot);
                effects.began_to_lead = false;
            }
            if let Place::Replicated(member) = &mut slot.place {
                member
                    .replica
                    .advance(&mut self.store, &mut slot.queue, &mut effects);
            }
            if !slot.member().is_some_and(|it| it.replica.is_deposed()) {
                break;
            }
        }
        if let Place::Replicated(member) = &mut slot.place
            && member.replica.has_unsealed()
            && let Some(cluster) = &mut self.cluster
            && !std::mem::replace(&mut member.is_unsealed, true)
        {
            cluster.groups.unsealed.push(id);
        }
        if let Place::Replicated(member) = &mut slot.place {
            if member.replica.group().is_asleep() {
                member.rest();
            }
            if let Some(cluster) = &mut self.cluster {
                cluster.groups.count_entries(member);
            }
        }
        self.queues.put(slot);
        self.follow_effects(id, effects);
        self.end_transfers(id);
        self.rouse_if_awake(id);
    }

    fn rouse_if_awake(&mut self, id: QueueId) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        if let Place::Replicated(member) = &mut slot.place
            && !member.replica.group().is_asleep()
            && let Some(cluster) = &mut self.cluster
            && !std::mem::replace(&mut member.is_ticking, true)
        {
            cluster.groups.ticking.push(id);
        }
    }

    fn follow_effects(&mut self, id: QueueId, effects: Effects) {
        self.send_raft(effects.send);
        if let Some(role) = effects.role {
            self.note_role(id, role);
        }
        if effects.applied {
            self.note_applied(id);
        }
        // Which of those were refused that an earlier leader had proposed is not known: whoever waits
        // for them offers them again, and is told so.
        let serves = self.queues.get(id).is_some_and(QueueSlot::is_served_here);
        if serves && !effects.began_to_lead {
            for (origin, number) in effects.heard {
                self.heard(id, origin, number);
            }
        }
        if effects.began_to_lead {
            self.begin_to_serve(id);
        }
        if let Some(node) = effects.needs_snapshot {
            self.transfer_to(id, node);
        }
        if effects.adopted {
            self.forget_read_ahead(id);
        }
        if effects.adopted
            && let Some(cluster) = &mut self.cluster
        {
            cluster.groups.wants_checkpoint = true;
        }
    }

    fn forget_read_ahead(&mut self, id: QueueId) {
        if let Some(slot) = self.queues.get_mut(id) {
            self.fetches.forget(slot);
        }
    }

    fn note_applied(&mut self, id: QueueId) {
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if !std::mem::replace(&mut slot.is_active, true) {
            self.active.push(id);
        }
        let serves = slot.is_served_here();
        if let Place::Replicated(member) = &mut slot.place {
            let applied = member.replica.group().applied_index();
            while let Some((_, number)) = member
                .outstanding
                .pop_front_if(|(index, _)| *index <= applied)
            {
                cluster.groups.outstanding.remove(&number);
            }
            if member.outstanding.is_empty() {
                member.proposal.nothing_is_coming();
            }
        }
        if serves {
            self.mark_dirty(id);
        }
    }

    /// This node leads the queue from now on.
    fn begin_to_serve(&mut self, id: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.leadership.begun_count += 1;
        let me = cluster.me;
        let now = self.wall_now();
        let Some(slot) = self.queues.get_mut(id) else {
            return;
        };
        slot.restored_below = slot.queue.next_index();
        slot.used_at = now;
        let member = slot.member();
        let Some(term) = member.and_then(|member| member.replica.led_term()) else {
            return;
        };
        self.watch_use(id);
        self.watch_members(id);
        self.served_by(id, me, term);
        self.mark_dirty(id);
    }

    /// This node served the queue in `slot`, which is at hand, and does not any more. The one place
    /// where that happens: queue, consumers and all that waits change together, while it can
    /// still be asked who holds what.
    pub(super) fn cease_to_serve(&mut self, slot: &mut QueueSlot) {
        let led_term = slot.member().and_then(|member| member.replica.led_term());
        self.leave_to_others(slot, led_term.unwrap_or_default());
        self.ledger.queue_moves(slot);
        self.fetches.forget(slot);
        self.forget_expiry(slot);
        slot.expires_next = None;
        slot.watched_at = None;
        self.forget_dead(slot);
        self.rooms.forget(slot.id);
        slot.settled.clear();
        if let Place::Replicated(member) = &mut slot.place
            && let Some(cluster) = &mut self.cluster
        {
            member.replica.depose(&mut slot.queue);
            member.proposal = Proposal::default();
            member.offered.clear();
            member.refused.clear();
            cluster.groups.forget_outstanding(member);
        }
    }

    /// A queue is gone: nobody waits for what was proposed to it.
    pub(crate) fn forget_proposals(&mut self, member: &mut Member) {
        if let Some(cluster) = &mut self.cluster {
            cluster.groups.forget_outstanding(member);
            cluster.groups.forget_entries(member);
        }
    }

    /// The group came with a catalog that a restart would not find. What it had promised would be
    /// forgotten then: it takes nothing and says nothing until the catalog is on disk.
    pub(super) fn hold_group(&mut self, id: QueueId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.groups.held.insert(id);
        }
    }

    /// The catalog would be found by a restart: the groups that came with it may speak.
    pub(super) fn release_held(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if cluster.catalog.replica.awaits_checkpoint() {
            return;
        }
        for id in std::mem::take(&mut cluster.groups.held) {
            self.rouse(id);
        }
    }

    /// Something was appended to the log that is to be sealed with the drain, and belongs to no
    /// entry.
    pub(super) fn mark_appended(&mut self) {
        self.has_open_messages = true;
    }

    /// What the groups have appended is in this chunk and those before it.
    pub(crate) fn seal_groups(&mut self, chunk: ChunkId) {
        self.seal_catalog(chunk);
        let now = self.now;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for id in std::mem::take(&mut cluster.groups.unsealed) {
            if let Some(member) = self.queues.get_mut(id).and_then(QueueSlot::member_mut) {
                member.is_unsealed = false;
                member.replica.sealed(chunk);
                cluster.groups.writing.push_back((chunk, id));
                cluster.leadership.writing_since.get_or_insert(now);
            }
        }
    }

    /// The failure detector suspects a node.
    pub(crate) fn suspect(&mut self, node: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.groups.suspected.insert(node);
        cluster.placements.suspected(node, self.now);
        // Whoever is first in line to stand for election does so at once.
        cluster.groups.next_tick = self.now;
        self.for_each_group(|group| group.suspect(node));
        self.suspect_for_catalog(node);
    }

    /// It takes that back.
    pub(crate) fn trust(&mut self, node: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.groups.suspected.remove(&node);
        cluster.placements.trusted(node);
        self.for_each_group(|group| group.trust(node));
        self.trust_for_catalog(node);
    }

    /// The failure detector suspects it now.
    pub(crate) fn is_given_up(&self, node: NodeId) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|it| it.groups.suspected.contains(&node))
    }

    /// A peer is another process than before: it leads nothing any more, and may have left groups
    /// asleep behind it. Who had given it up has seen its failover.
    pub(crate) fn groups_peer_restarted(&mut self, node: NodeId, was_given_up: bool) {
        if self.is_given_up(node) {
            return;
        }
        if !was_given_up {
            self.note_suspected(node, true);
        }
        self.suspect(node);
        if !was_given_up {
            self.note_trusted(node);
        }
        self.trust(node);
    }

    pub(super) fn for_each_group(&mut self, each: impl Fn(&mut staunch_raft::Group)) {
        let mut ids = Vec::new();
        for slot in self.queues.iter_mut() {
            let id = slot.id;
            if let Some(member) = slot.member_mut() {
                each(member.replica.group_mut());
                ids.push(id);
            }
        }
        for id in ids {
            self.rouse(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_busy_groups_share_what_one_may_not_have() {
        let mut kept = 0;
        let mut shares = (0..10_000).map(|_| {
            let share = share(kept).min(ENTRY_CACHE_BYTES_MAX);
            kept += share;
            share
        });
        assert_eq!(shares.next(), Some(ENTRY_CACHE_BYTES_MAX));
        assert_eq!(shares.last(), Some(0));
        assert!(kept < ENTRIES_SIZE_BYTES_MAX);
        assert!(
            share(0) < ENTRIES_SIZE_BYTES_MAX,
            "one leaves room for others"
        );
    }
}
