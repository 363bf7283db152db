//! Replicas that have forgotten everything, because what this node had on disk is damaged.
//!
//! Their node says so to all others every second. Who leads such a group resets what it knows of
//! the member and proposes a barrier ([`staunch_raft::Group::member_forgot`]). When that is applied the member gets the
//! whole state: `transfer` and `catalog_transfer` say on whose behalf they send it, so that a state
//! from before the barrier is not taken. `docs/replication.md` tells why that is safe.
//!
//! A body that turns out damaged while the node runs is no reason to forget as long as nobody else
//! leads: the group is handed over, and forgets when another leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use staunch_broker::{Placement, QueueEntry};
use staunch_log::{Damage, DamagedRecord, FetchError};
use staunch_raft::{Group, LogPosition};
use staunch_replica::Replica;
use staunch_types::{GroupId, MessageIndex, NodeId, QueueId, Timestamp};

use super::{Cluster, Member, PeerPayload, Place, transfer};
use crate::{
    input::Output,
    node::Node,
    queues::{QueueSlot, is_logged},
};

/// How often a node says what it has forgotten, and looks what has become of it.
const CALL_EVERY: Duration = Duration::from_secs(1);
/// Groups that are named in one frame.
const GROUPS_NAMED_MAX: usize = 4096;

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    /// Groups of this node that have forgotten, or whose new state is not durable yet.
    own: BTreeMap<QueueId, Loss>,
    /// Numbers given to losses.
    loss_count: u32,
    /// The catalog was forgotten when the node started, and has not come yet.
    pub(super) has_forgotten_catalog: bool,
    /// The catalog that has come is being taken over.
    is_relearning: bool,
    /// Members of groups that this node leads.
    patients: BTreeMap<(GroupId, NodeId), Patient>,
    /// Queues with a body that cannot be read here.
    damaged: BTreeSet<QueueId>,
    next_call: Timestamp,
}

/// Names one occasion on which a member has forgotten everything; the default one none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Its node's process.
    life: u64,
    /// Numbered by that.
    number: u32,
}

impl Loss {
    /// Appends its bytes: life u64, number u32.
    pub(super) fn put(self, out: &mut impl BufMut) {
        out.put_u64(self.life);
        out.put_u32(self.number);
    }

    /// Reads what [`Loss::put`] wrote.
    pub(super) fn take(bytes: &mut Bytes) -> Option<Self> {
        let life = bytes.try_get_u64().ok()?;
        let number = bytes.try_get_u32().ok()?;
        Some(Self { life, number })
    }
}

/// A member that has forgotten, as its leader knows it.
#[derive(Clone, Copy, Debug)]
struct Patient {
    loss: Loss,
    /// What it gets must contain this, and come from the leader of this term.
    barrier: LogPosition,
}

impl Repairs {
    /// Whether a body of the queue cannot be read here.
    pub(crate) fn is_damaged(&self, queue: QueueId) -> bool {
        self.damaged.contains(&queue)
    }

    /// Whether this node's replica of the queue is not what it should be.
    pub(super) fn is_repairing(&self, queue: QueueId) -> bool {
        self.own.contains_key(&queue) || self.damaged.contains(&queue)
    }

    /// Replicas of queues on this node that are not what they should be.
    fn own_count(&self) -> usize {
        let others = (self.damaged.iter()).filter(|id| !self.own.contains_key(id));
        self.own.len() + others.count()
    }

    /// Because of which loss a member of this group gets a whole state: none if it only lags.
    /// Nothing if it is not its time yet.
    pub(super) fn loss_of(&self, group: &Group, node: NodeId) -> Option<Loss> {
        if !group.is_forgetful(node) {
            return Some(Loss::default());
        }
        let patient = self.patients.get(&(group.id(), node))?;
        let is_due = group.role_now().term == patient.barrier.term
            && group.applied_index() >= patient.barrier.index;
        is_due.then_some(patient.loss)
    }

    /// A member says that it has forgotten. Whether that is news.
    fn hear(&mut self, group: &mut Group, node: NodeId, loss: Loss) -> bool {
        if !group.is_serving() || !group.members().contains(node) {
            return false;
        }
        let key = (group.id(), node);
        let term = group.role_now().term;
        let known = self.patients.get(&key);
        if known.is_some_and(|known| known.loss == loss && known.barrier.term == term) {
            return false;
        }
        // If it is not taken, the member says it again.
        let Ok(barrier) = group.member_forgot(node) else {
            return false;
        };
        self.patients.insert(key, Patient { loss, barrier });
        true
    }
}

impl Node {
    /// Whether a body of the queue cannot be read here.
    pub(crate) fn is_body_damaged(&self, queue: QueueId) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.repairs.is_damaged(queue))
    }

    /// A record of a queue could not be moved.
    pub(crate) fn record_is_damaged(&mut self, left: &DamagedRecord) {
        let id = QueueId(left.stream.0);
        let is_live = self.queues.get(id).is_some_and(|slot| {
            let message = slot.queue.message(MessageIndex(left.index));
            message.is_some_and(|(_, body, _)| body == left.body)
        });
        // Nobody misses one that has died meanwhile, or was got anew.
        if is_live {
            self.body_is_damaged(id, left.damage.clone());
        }
    }

    /// A body of the queue cannot be read.
    pub(crate) fn body_is_damaged(&mut self, id: QueueId, damage: Damage) {
        let Some(slot) = self.queues.get(id) else {
            return;
        };
        let entry = self.catalog.queue_by_id(id);
        let is_alone = entry.is_none_or(|entry| !is_with_others(&entry.placement));
        match &mut self.cluster {
            Some(cluster) if slot.is_replicated() && !is_alone => {
                cluster.repairs.damaged.insert(id);
                self.outputs.push_back(Output::Damaged(id, damage));
            }
            _ => {
                let unreadable = Output::Unreadable(FetchError::Damage(damage));
                self.outputs.push_back(unreadable);
            }
        }
    }

    /// A group of this node has forgotten everything.
    pub(crate) fn note_forgotten(&mut self, id: QueueId) {
        if let Some(cluster) = &mut self.cluster {
            let repairs = &mut cluster.repairs;
            repairs.loss_count += 1;
            let loss = Loss {
                life: cluster.origin.0,
                number: repairs.loss_count,
            };
            repairs.own.insert(id, loss);
        }
    }

    /// What this node's replica has lost, if it has forgotten everything.
    pub(super) fn own_loss(&self, id: QueueId) -> Option<Loss> {
        let member = self.queues.get(id).and_then(QueueSlot::member)?;
        let own = &self.cluster.as_ref()?.repairs.own;
        let loss = own.get(&id).copied();
        loss.filter(|_| member.replica.has_forgotten())
    }

    /// The log that this replica has cannot be trusted.
    pub(super) fn forget_replica(&mut self, id: QueueId) {
        let Some(mut slot) = self.queues.take(id) else {
            return;
        };
        if slot
            .member()
            .is_some_and(|it| it.replica.led_term().is_some())
        {
            self.cease_to_serve(&mut slot);
        }
        self.fetches.forget(&mut slot);
        let settings = slot.settings.clone();
        let QueueSlot { place, queue, .. } = &mut *slot;
        if let Place::Replicated(member) = place {
            member.replica.forget(&mut self.store, queue, &settings);
            member.checkpointing = None;
        }
        self.queues.put(slot);
        self.mark_appended();
        self.note_forgotten(id);
    }

    /// Says what was forgotten, and does what is due about it; part of every tick.
    pub(super) fn tick_repairs(&mut self, now: Timestamp) {
        // At once: a leader that brings queues home would bring a damaged one back.
        self.leave_damaged();
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if now < cluster.repairs.next_call {
            return;
        }
        cluster.repairs.next_call = now + CALL_EVERY;
        self.review_own();
        self.call_for_repair();
        self.help_patients();
    }

    /// Hands over groups with a damaged body, and forgets those that others lead.
    fn leave_damaged(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        for id in cluster.repairs.damaged.clone() {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let nodes = &cluster.nodes;
            let slot = self.queues.get_mut(id);
            let Some(member) = slot.and_then(QueueSlot::member_mut) else {
                cluster.repairs.damaged.remove(&id);
                continue;
            };
            let group = member.replica.group_mut();
            let leader = group.role_now().leader;
            if group.is_leader() {
                if let Some(to) = group.successor(|node| nodes.is_connected(node)) {
                    // If it is not taken it is tried again.
                    let _refused = group.transfer_to(to);
                    self.rouse(id);
                }
            } else if leader.is_some() && !self.queues.get(id).is_some_and(|it| it.queue.leads()) {
                cluster.repairs.damaged.remove(&id);
                self.forget_replica(id);
            }
        }
    }

    /// What has come and is durable is repaired. When all is, nobody needs the damaged files.
    fn review_own(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let is_open = |replica: &Replica| replica.has_forgotten() || replica.awaits_checkpoint();
        cluster.repairs.own.retain(|id, _| {
            let member = self.queues.get(*id).and_then(QueueSlot::member);
            member.is_some_and(|member| is_open(&member.replica))
        });
        if cluster.repairing_count(cluster.me) == 0 {
            self.store.forget_damaged();
        }
    }

    /// Tells all others what was forgotten.
    fn call_for_repair(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let mut losses = Vec::new();
        if cluster.catalog.replica.has_forgotten() {
            losses.push((GroupId::CATALOG.0, cluster.catalog_loss()));
        }
        let own = cluster.repairs.own.keys();
        let own = own.filter_map(|id| Some((id.0, self.own_loss(*id)?)));
        losses.extend(own);
        let others = cluster.nodes.others();
        for part in losses.chunks(GROUPS_NAMED_MAX) {
            let mut out = BytesMut::new();
            for (group, loss) in part {
                out.put_u64(*group);
                loss.put(&mut out);
            }
            let frame = transfer::forgotten_frame(out.freeze());
            for other in &others {
                self.send(*other, PeerPayload::Transfer, frame.clone());
            }
        }
    }

    /// A node says which of its replicas have forgotten everything.
    pub(super) fn hear_forgotten(&mut self, from: NodeId, mut payload: Bytes) {
        while let Ok(group) = payload.try_get_u64() {
            let (Some(loss), Some(cluster)) = (Loss::take(&mut payload), &mut self.cluster) else {
                return;
            };
            if group == GroupId::CATALOG.0 {
                let group = cluster.catalog.replica.group_mut();
                if cluster.repairs.hear(group, from, loss) {
                    cluster.catalog.transfers.remove(&from);
                }
                continue;
            }
            let id = QueueId(group);
            let slot = self.queues.get_mut(id);
            let Some(member) = slot.and_then(QueueSlot::member_mut) else {
                continue;
            };
            if (cluster.repairs).hear(member.replica.group_mut(), from, loss) {
                self.abandon_transfer(id, from);
                self.rouse(id);
            }
        }
    }

    /// Sends members the state that they have forgotten, once it contains their barriers.
    fn help_patients(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let keys: Vec<_> = cluster.repairs.patients.keys().copied().collect();
        for (group, node) in keys {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let slot = self.queues.get(QueueId(group.0));
            let of_queue = slot.and_then(QueueSlot::member);
            let known = if group == GroupId::CATALOG {
                Some(cluster.catalog.replica.group())
            } else {
                of_queue.map(|member| member.replica.group())
            };
            if !known.is_some_and(|group| group.is_forgetful(node)) {
                cluster.repairs.patients.remove(&(group, node));
            } else if group == GroupId::CATALOG {
                self.transfer_catalog_to(node);
            } else {
                self.transfer_to(QueueId(group.0), node);
            }
        }
    }

    /// The catalog has come. If it was forgotten, so is all that this node had of its queues.
    pub(super) fn begin_to_relearn(&mut self) {
        let accepts = self.config.accept_loss;
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if !std::mem::take(&mut cluster.repairs.has_forgotten_catalog) {
            return;
        }
        cluster.repairs.is_relearning = true;
        let me = cluster.me;
        let is_lost = |entry: &&QueueEntry| {
            entry.placement.members == [me] && is_logged(entry) && !entry.options.exclusive
        };
        let mut all = self.catalog.queues_and_holders();
        if let Some(lost) = all.find(is_lost)
            && !accepts
        {
            let lost = Output::Lost(lost.vhost.clone(), lost.name.clone());
            self.outputs.push_back(lost);
        }
    }

    /// Queues that are made from now on are new to all.
    pub(super) fn end_to_relearn(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.repairs.is_relearning = false;
        }
    }

    /// Whether a replica that is made now was there before, and has forgotten everything.
    pub(super) fn is_relearning(&self) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.repairs.is_relearning)
    }
}

impl Cluster {
    /// What this node has lost if it has forgotten the catalog, which happens at its start only.
    pub(super) fn catalog_loss(&self) -> Loss {
        Loss {
            life: self.origin.0,
            number: 0,
        }
    }

    /// Replicas of a node that are damaged, as far as this one knows.
    pub(super) fn repairing_count(&self, node: NodeId) -> usize {
        if node != self.me {
            let patients = self.repairs.patients.keys();
            return patients.filter(|(_, of)| *of == node).count();
        }
        let catalog = &self.catalog.replica;
        let is_catalog_open = self.repairs.has_forgotten_catalog
            || catalog.has_forgotten()
            || catalog.awaits_checkpoint();
        self.repairs.own_count() + usize::from(is_catalog_open)
    }
}

/// Whether somebody else has what a queue holds.
pub(crate) fn is_with_others(placement: &Placement) -> bool {
    placement.is_replicated && placement.members.len() > 1
}

impl Member {
    /// Whether its replica has forgotten everything.
    pub(super) fn has_forgotten(&self) -> bool {
        self.replica.has_forgotten()
    }
}
