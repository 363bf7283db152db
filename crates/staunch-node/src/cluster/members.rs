//! From the members that a group has to those that the catalog wants.
//!
//! The catalog says who is to keep a queue ([`staunch_broker::Placement`]); who does is in the
//! group's own log, and its leader brings the one in line with the other. Who is new learns first:
//! it gets the queue, then the entries. When it has caught up, one change makes voters of those who
//! learn and lets those go who are to go; both lists of voters have to agree to it. So at no time
//! does a vote count of somebody who has less than what was promised. The catalog's own group is
//! led in the same way to the cluster's nodes.
//!
//! A leader cannot let itself go: it hands over first. Who was let go may never hear of it, for
//! nobody sends it entries any more. So a node that finds itself outside of a placement asks the
//! members until the leader says [farewell](staunch_raft::Group::farewell), drops what it has, and
//! keeps in mind where that was: if it is placed there again, it keeps to what it had promised.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use staunch_broker::{Durability, Queue, QueueSettings};
use staunch_log::StreamId;
use staunch_raft::{Change, ChangeStep, Group};
use staunch_replica::{Parting, Rebuild};
use staunch_types::{MessageIndex, NodeId, QueueId, Timestamp};

use super::{
    Cluster, PeerPayload, Place,
    groups::Member,
    transfer::{KIND_LEAVING, KIND_LEFT, frame},
};
use crate::{
    node::Node,
    queues::{QueueSlot, is_logged, settings_of},
};

/// Entries that one who learns may lack when it is made a voter: it has them in a moment.
const PROMOTION_LAG_MAX: u64 = 64;
/// Groups whose members are looked at in one tick.
const CHANGES_PER_TICK: usize = 64;
/// How often a node asks whether groups have done without it.
const ASK_LEFT_EVERY: std::time::Duration = std::time::Duration::from_millis(500);
/// Groups that it asks about at once.
const LEAVING_ASKED_MAX: usize = 256;

/// What a leader has to do next about its group's members.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// They are those that are wanted.
    Nothing,
    /// Something is under way.
    Wait,
    /// Propose this.
    Propose(Change),
    /// Let another lead: this member is to go.
    HandOver,
}

/// `desired` are those that are wanted as voters, `hearing` those that are to learn what is decided
/// and not to vote any more; `is_well` says whose answers can be expected.
pub(super) fn next_change(
    group: &Group,
    desired: &[NodeId],
    hearing: &[NodeId],
    is_well: impl Fn(NodeId) -> bool,
) -> Next {
    let members = group.members();
    if members.is_joint() {
        return Next::Wait;
    }
    let is_wanted = |node: &NodeId| desired.contains(node);
    let is_stale = |node: &&NodeId| !is_wanted(node) && !hearing.contains(node);
    if let Some(stale) = members.learners.iter().find(is_stale) {
        return Next::Propose(Change::of([ChangeStep::Remove(*stale)]));
    }
    if let Some(new) = desired.iter().find(|node| !members.contains(**node)) {
        return Next::Propose(Change::of([ChangeStep::AddLearner(*new)]));
    }
    let last = group.last_index().0;
    let progress = group.progress();
    let has_caught_up = |node: NodeId| {
        let known = progress.iter().find(|member| member.node == node);
        known.is_some_and(|it| !it.needs_snapshot && it.matched.0 + PROMOTION_LAG_MAX >= last)
    };
    let mut learners = members.learners;
    learners.retain(is_wanted);
    let ready: Vec<NodeId> = (learners.iter().copied())
        .filter(|node| has_caught_up(*node) && is_well(*node))
        .collect();
    let all_ready = ready.len() == learners.len();
    let mut extra: Vec<NodeId> = members.voters.clone();
    extra.retain(|node| !is_wanted(node));
    if extra.is_empty() && learners.is_empty() {
        return Next::Nothing;
    }
    // Who goes is needed until those have come who take its place.
    if !all_ready && (!extra.is_empty() || ready.is_empty()) {
        return Next::Wait;
    }
    let me = group.me();
    let others = extra.iter().copied().filter(|node| *node != me);
    let departures = others.map(|node| {
        if hearing.contains(&node) {
            ChangeStep::Demote(node)
        } else {
            ChangeStep::Remove(node)
        }
    });
    let promotions = ready.iter().copied().map(ChangeStep::Promote);
    let steps: Vec<ChangeStep> = promotions.chain(departures).collect();
    if steps.is_empty() {
        return Next::HandOver;
    }
    // Those who are left must be able to decide without those who go.
    let stays = |node: &&NodeId| **node == me || !extra.contains(node);
    let left = members.voters.iter().filter(stays).chain(&ready);
    let left: Vec<NodeId> = left.copied().collect();
    let well_count = left
        .iter()
        .filter(|node| **node == me || is_well(**node))
        .count();
    if 2 * well_count <= left.len() {
        return Next::Wait;
    }
    Next::Propose(Change::of(steps))
}

impl Node {
    /// Has the leaders of groups look at their members; part of every tick.
    pub(super) fn tick_members(&mut self, now: Timestamp) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let changing = cluster.groups.changing.iter();
        let ids: Vec<QueueId> = changing.take(CHANGES_PER_TICK).copied().collect();
        for id in ids {
            self.change_members(id);
        }
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let groups = &mut cluster.groups;
        if !groups.leaving.is_empty() && now >= groups.next_leaving_look {
            groups.next_leaving_look = now + ASK_LEFT_EVERY;
            let leaving = groups.leaving.iter().take(LEAVING_ASKED_MAX).copied();
            for id in leaving.collect::<Vec<_>>() {
                self.ask_to_leave(id);
            }
        }
    }

    /// Leads the group one step towards the members that the catalog wants.
    fn change_members(&mut self, id: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let (nodes, liveness) = (&cluster.nodes, &cluster.liveness);
        let is_well = |node: NodeId| nodes.is_connected(node) && liveness.is_alive(node);
        let entry = self.catalog.queue_by_id(id);
        let member = self.queues.get_mut(id).and_then(QueueSlot::member_mut);
        let (Some(entry), Some(member)) = (entry, member) else {
            cluster.groups.changing.remove(&id);
            return;
        };
        let desired = &entry.placement.members;
        let group = member.replica.group_mut();
        // Who takes over looks itself.
        if !group.is_leader() {
            cluster.groups.changing.remove(&id);
            return;
        }
        match next_change(group, desired, &[], is_well) {
            Next::Nothing => {
                cluster.groups.changing.remove(&id);
                return;
            }
            Next::Wait => {
                // It may sleep while there is something to be done.
                group.wake();
            }
            // What is refused now is tried again with the next tick.
            Next::Propose(change) => drop(member.replica.propose_change(&change)),
            Next::HandOver => {
                let to = group.successor(|node| desired.contains(&node) && is_well(node));
                // If it cannot be, it is tried again with the next tick.
                let _refused = to.map(|to| group.transfer_to(to));
            }
        }
        self.rouse(id);
    }

    /// This node leads the group, or what the catalog wants of it has changed.
    pub(super) fn watch_members(&mut self, id: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let entry = self.catalog.queue_by_id(id);
        let member = self.queues.get(id).and_then(QueueSlot::member);
        let (Some(entry), Some(member)) = (entry, member) else {
            return;
        };
        let desired = &entry.placement.members;
        if desired.contains(&cluster.me) {
            cluster.groups.leaving.remove(&id);
        } else {
            cluster.groups.leaving.insert(id);
        }
        let members = member.replica.group().members();
        let differs = members.is_joint()
            || !members.learners.is_empty()
            || members.voters.len() != desired.len()
            || !desired.iter().all(|node| members.voters.contains(node));
        if differs && member.replica.group().is_leader() {
            cluster.groups.changing.insert(id);
        }
    }

    /// The catalog wants a queue to be kept by other nodes than before.
    pub(crate) fn follow_placement(&mut self, id: QueueId) {
        let Some(cluster) = &self.cluster else { return };
        let me = cluster.me;
        let Some(entry) = self.catalog.queue_by_id(id).cloned() else {
            return;
        };
        let Some(slot) = self.queues.get(id) else {
            return;
        };
        let is_mine = entry.placement.members.contains(&me);
        match (&slot.place, entry.placement.is_replicated) {
            (Place::Replicated(_), true) => self.watch_members(id),
            (Place::Elsewhere, true) if is_mine => {
                let (place, queue) = self.join_group(id, &settings_of(&entry));
                self.replace_place(id, place, queue, true);
                self.begin_group(id, false);
            }
            (Place::Elsewhere | Place::Replicated(_), false) if is_mine => {
                self.drop_replica(id, Parting::Forgotten);
                let is_durable = is_logged(&entry);
                let durability = if is_durable {
                    Durability::Durable
                } else {
                    Durability::Transient
                };
                let queue = Queue::new(durability, &settings_of(&entry));
                self.replace_place(id, Place::Here, queue, is_durable);
                self.watch_use(id);
                self.mark_dirty(id);
            }
            (Place::Replicated(_), false) => self.drop_replica(id, Parting::Forgotten),
            (Place::Here | Place::Elsewhere, _) => {}
        }
    }

    /// This node is to keep a queue that others keep already; it may have been one of them before.
    pub(super) fn join_group(&mut self, id: QueueId, settings: &QueueSettings) -> (Place, Queue) {
        let left = |cluster: &mut Box<Cluster>| cluster.groups.left.remove(&id);
        let before = self.cluster.as_mut().and_then(left);
        let rebuild = Rebuild::joining(StreamId(id.0), before, settings);
        let joined = rebuild.finish(self.group_config(id), settings);
        if joined.replica.has_forgotten() {
            self.note_forgotten(id);
        }
        let member = Box::new(Member::new(joined.replica));
        (Place::Replicated(member), joined.queue)
    }

    /// This node has left a group.
    pub(super) fn note_left(&mut self, id: QueueId, parting: Parting) {
        if let Some(cluster) = &mut self.cluster {
            cluster.groups.left.insert(id, parting);
        }
    }

    fn replace_place(&mut self, id: QueueId, place: Place, queue: Queue, is_durable: bool) {
        if let Some(slot) = self.queues.get_mut(id) {
            slot.place = place;
            slot.queue = queue;
            slot.is_durable = is_durable;
            slot.restored_below = MessageIndex::default();
            slot.tenured_below = MessageIndex::default();
        }
    }

    /// Asks the members whether the group has done without this node.
    fn ask_to_leave(&mut self, id: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let entry = self.catalog.queue_by_id(id);
        let member = self.queues.get(id).and_then(QueueSlot::member);
        let (Some(entry), Some(member)) = (entry, member) else {
            cluster.groups.leaving.remove(&id);
            return;
        };
        if member.replica.group().is_leader() {
            cluster.groups.changing.insert(id);
            return;
        }
        for node in entry.placement.members.clone() {
            self.send(node, PeerPayload::Transfer, frame(KIND_LEAVING, id, &[]));
        }
    }

    /// A node asks whether the group has done without it.
    pub(super) fn let_leave(&mut self, id: QueueId, node: NodeId) {
        let entry = self.catalog.queue_by_id(id);
        let member = self.queues.get_mut(id).and_then(QueueSlot::member_mut);
        let (Some(entry), Some(member)) = (entry, member) else {
            return;
        };
        let group = member.replica.group_mut();
        if group.members().contains(node) || entry.placement.members.contains(&node) {
            return;
        }
        if let Some(farewell) = group.farewell() {
            let mut out = BytesMut::new();
            out.put_u32(entry.placement.changes);
            Parting::At(farewell).put(&mut out);
            self.send(
                node,
                PeerPayload::Transfer,
                frame(KIND_LEFT, id, &[out.freeze()]),
            );
        }
        self.rouse(id);
    }

    /// The group has done without this node since the placement that is named.
    pub(super) fn have_left(&mut self, id: QueueId, mut payload: Bytes) {
        let changes = payload.try_get_u32().ok();
        let Some(Parting::At(farewell)) = Parting::take(&mut payload) else {
            return;
        };
        let Some(cluster) = &self.cluster else { return };
        let entry = self.catalog.queue_by_id(id);
        let is_current = entry.is_some_and(|entry| {
            let placement = &entry.placement;
            Some(placement.changes) == changes && !placement.members.contains(&cluster.me)
        });
        let Some(member) = self.queues.get(id).and_then(QueueSlot::member) else {
            return;
        };
        let has_forgotten = member.replica.has_forgotten();
        if !is_current || !has_forgotten && !member.replica.group().may_leave(farewell) {
            return;
        }
        let parting = if has_forgotten {
            Parting::Forgotten
        } else {
            Parting::At(farewell)
        };
        self.drop_replica(id, parting);
    }

    /// This node keeps nothing of the queue any more.
    fn drop_replica(&mut self, id: QueueId, parting: Parting) {
        if let Some(cluster) = &mut self.cluster {
            cluster.groups.leaving.remove(&id);
            cluster.groups.changing.remove(&id);
        }
        if self.queues.get(id).and_then(QueueSlot::member).is_none() {
            return;
        }
        let Some(mut slot) = self.queues.take(id) else {
            return;
        };
        if slot.is_served_here() {
            self.cease_to_serve(&mut slot);
        }
        self.fetches.forget(&mut slot);
        if let Place::Replicated(mut member) = std::mem::replace(&mut slot.place, Place::Elsewhere)
        {
            self.forget_proposals(&mut member);
            member.replica.drop_out(&mut self.store, parting);
            self.note_left(id, parting);
        }
        for (_, body, size_bytes) in slot.queue.live_from(MessageIndex(0)) {
            self.store.release(body, size_bytes);
        }
        slot.queue = Queue::new(Durability::Transient, &slot.settings);
        slot.is_durable = false;
        slot.tenured_below = MessageIndex::default();
        slot.restored_below = MessageIndex::default();
        self.queues.put(slot);
        self.mark_appended();
        self.forget_transfers(id);
    }
}
