//! Whole queues for members that need entries which are gone.
//!
//! ```text
//! leader                                  member
//!   │ Begin ─────────────────────────────▶ │ stages
//!   │ ◀──────────────────────── Next(index)│ where to begin, or to go on
//!   │ Bodies (up to 1 MiB) ──────────────▶ │
//!   │ ◀──────────────────────── Next(index)│ … until there are no more
//!   │ State, in pieces ──────────────────▶ │ whole
//!   │ ◀───────────────────────── Staged    │
//!   │ the group's snapshot ──────────────▶ │ adopts it
//! ```
//!
//! A node that is to keep the queue no longer asks by Leaving, and is answered by Left (`members`).
//!
//! A witness gets the state alone, and that without messages.
//!
//! One piece is under way for each member and queue, and all together take no more than
//! [`SIZE_BYTES_PER_TICK`] of the link each tick. When the connection breaks, the member keeps what
//! it has got, and says so when it is asked to begin again.
//!
//! A frame, big-endian:
//!
//! ```text
//! version u8 │ kind u8 │ queue u64 │ fields of the kind
//! Begin      loss: because of which the member gets the queue, if it has forgotten everything
//! Bodies     count u32 │ (index u64, meta 16 B, size u32, stored form) of each
//! Next       index u64
//! State      offset u64 │ total u64 │ bytes
//! Staged     index u64 │ term u64 │ members
//! Forgotten  (group u64, loss) of each: replicas that have forgotten everything; of no queue
//! a loss     life u64 │ number u32
//! Left       changes of the placement u32 │ index u64 │ term u64: the farewell
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use staunch_broker::META_SIZE_BYTES;
use staunch_raft::{LogPosition, Members, SnapshotMeta, config::ENTRY_CACHE_BYTES_MAX};
use staunch_replica::{Replica, ReplicaState};
use staunch_types::{LogIndex, MessageIndex, NodeId, QueueId, Term};

use super::{PeerPayload, Place, repair::Loss};
use crate::{
    node::Node,
    queues::{FetchFor, QueueSlot},
};

const VERSION: u8 = 2;
const KIND_BEGIN: u8 = 1;
const KIND_BODIES: u8 = 2;
const KIND_NEXT: u8 = 3;
const KIND_STATE: u8 = 4;
const KIND_STAGED: u8 = 5;
const KIND_FAILED: u8 = 6;
const KIND_FORGOTTEN: u8 = 7;
pub(super) const KIND_LEAVING: u8 = 8;
pub(super) const KIND_LEFT: u8 = 9;

/// Bytes of bodies in one piece, beyond the first body.
const PIECE_SIZE_BYTES_MAX: usize = 1024 * 1024;
/// Bodies in one piece.
const PIECE_COUNT_MAX: usize = 4096;
/// Bytes that all transfers together send in one tick of 50 ms, beyond the first piece: 64 MiB/s.
const SIZE_BYTES_PER_TICK: usize = 3 * 1024 * 1024 + 256 * 1024;
/// Bytes of applied entries that a leader keeps while a member gets the whole queue, so that it can
/// go on from there.
const ENTRY_CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of a queue's state, without bodies, that a member takes.
const STATE_SIZE_BYTES_MAX: u64 = 1 << 30;
/// Ticks after which a transfer of which nothing is heard is begun anew: 10 s.
const SILENCE_TICKS_MAX: u32 = 200;

/// Queues on their way from and to this node.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    outgoing: BTreeMap<(QueueId, NodeId), Outgoing>,
    /// States that are coming, in pieces.
    incoming: BTreeMap<QueueId, BytesMut>,
    /// Bytes that may be sent before the next tick.
    budget: usize,
}

/// A queue on its way to a member.
#[derive(Debug, Default)]
struct Outgoing {
    /// Where to go on; none while the member has not said.
    next: Option<MessageIndex>,
    /// Bodies that were read for the next piece.
    bodies: BTreeMap<MessageIndex, Bytes>,
    /// What is awaited is the end of a read.
    is_reading: bool,
    /// All bodies and the state have been sent; the member will need the entries behind this.
    sent_upto: Option<LogIndex>,
    silent_ticks: u32,
}

/// What becomes of a piece.
enum Piece {
    /// These bodies.
    Bodies(Bytes, usize),
    /// There are no more.
    End,
    /// They must be read first, or the queue is being read for others.
    Later,
}

impl Transfers {
    /// The last entry that members which are getting the queue do not need.
    pub(super) fn needed_from(&self, queue: QueueId) -> Option<LogIndex> {
        let of_queue = self.outgoing.range((queue, NodeId(0))..);
        let of_queue = of_queue.take_while(|((of, _), _)| *of == queue);
        of_queue
            .filter_map(|(_, outgoing)| outgoing.sent_upto)
            .min()
    }
}

impl Node {
    /// This node leads the queue, and a member needs all of it. Told again while that is so.
    pub(crate) fn transfer_to(&mut self, queue: QueueId, node: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if !cluster.nodes.is_connected(node)
            || cluster.transfers.outgoing.contains_key(&(queue, node))
        {
            return;
        }
        let member = self.queues.get(queue).and_then(QueueSlot::member);
        let loss = member.and_then(|it| cluster.repairs.loss_of(it.replica.group(), node));
        let Some(loss) = loss else { return };
        let outgoing = Outgoing::default();
        cluster.transfers.outgoing.insert((queue, node), outgoing);
        self.keep_entries(queue, ENTRY_CACHE_BYTES);
        let mut out = BytesMut::new();
        loss.put(&mut out);
        self.send(
            node,
            PeerPayload::Transfer,
            frame(KIND_BEGIN, queue, &[out.freeze()]),
        );
    }

    /// The leader offers a state that is not here: it is to send the queue again.
    pub(crate) fn ask_for_transfer(&mut self, queue: QueueId, leader: NodeId) {
        self.send(
            leader,
            PeerPayload::Transfer,
            frame(KIND_FAILED, queue, &[]),
        );
    }

    /// [`super::PeerPayload::Transfer`] has come. What makes no sense is passed over: the
    /// transfer is begun anew in time.
    pub(crate) fn transfer_received(&mut self, from: NodeId, mut payload: Bytes) {
        let (Ok(VERSION), Ok(kind), Ok(queue)) = (
            payload.try_get_u8(),
            payload.try_get_u8(),
            payload.try_get_u64(),
        ) else {
            return;
        };
        let queue = QueueId(queue);
        match kind {
            KIND_BEGIN => {
                if let Some(loss) = Loss::take(&mut payload) {
                    self.begin_staging(queue, from, loss);
                }
            }
            KIND_BODIES => self.stage_bodies(queue, from, payload),
            KIND_NEXT => {
                if let Ok(index) = payload.try_get_u64() {
                    self.transfer_on(queue, from, Some(MessageIndex(index)));
                }
            }
            KIND_STATE => self.stage_state(queue, from, payload),
            KIND_STAGED => self.offer_staged(queue, from, payload),
            KIND_FAILED => self.abandon_transfer(queue, from),
            KIND_FORGOTTEN => self.hear_forgotten(from, payload),
            KIND_LEAVING => self.let_leave(queue, from),
            KIND_LEFT => self.have_left(queue, payload),
            _ => {}
        }
    }

    /// Time passes: what had to wait for its share goes on.
    pub(super) fn tick_transfers(&mut self) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.transfers.budget = SIZE_BYTES_PER_TICK;
        let keys: Vec<_> = cluster.transfers.outgoing.keys().copied().collect();
        for (queue, node) in keys {
            let Some(cluster) = &mut self.cluster else {
                return;
            };
            let Some(outgoing) = cluster.transfers.outgoing.get_mut(&(queue, node)) else {
                continue;
            };
            outgoing.silent_ticks += 1;
            if outgoing.silent_ticks > SILENCE_TICKS_MAX {
                self.abandon_transfer(queue, node);
            } else {
                self.transfer_on(queue, node, None);
            }
        }
    }

    /// A peer is gone: what was on its way to it is begun anew when it is back.
    pub(super) fn transfers_peer_down(&mut self, node: NodeId) {
        let Some(cluster) = &self.cluster else { return };
        let keys = cluster.transfers.outgoing.keys();
        let gone: Vec<_> = keys.filter(|(_, to)| *to == node).copied().collect();
        for (queue, node) in gone {
            self.abandon_transfer(queue, node);
        }
    }

    /// Bodies have been read that a member is to get.
    pub(crate) fn transfer_fetched(
        &mut self,
        queue: QueueId,
        node: NodeId,
        bodies: Vec<(MessageIndex, Bytes)>,
    ) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        if let Some(outgoing) = cluster.transfers.outgoing.get_mut(&(queue, node)) {
            outgoing.is_reading = false;
            outgoing.bodies.extend(bodies);
            self.transfer_on(queue, node, None);
        }
    }

    /// This node keeps nothing of the queue any more.
    pub(super) fn forget_transfers(&mut self, queue: QueueId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.transfers.incoming.remove(&queue);
        cluster.transfers.outgoing.retain(|(of, _), _| *of != queue);
    }

    pub(super) fn abandon_transfer(&mut self, queue: QueueId, node: NodeId) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        cluster.transfers.outgoing.remove(&(queue, node));
        let others = cluster.transfers.outgoing.keys();
        let is_last = others.filter(|(of, _)| *of == queue).count() == 0;
        if is_last {
            self.keep_entries(queue, ENTRY_CACHE_BYTES_MAX);
        }
        let slot = self.queues.get_mut(queue);
        if let Some(member) = slot.and_then(QueueSlot::member_mut) {
            member.replica.group_mut().withdraw_snapshot(node);
            self.rouse(queue);
        }
    }

    fn keep_entries(&mut self, queue: QueueId, bytes_max: u64) {
        let slot = self.queues.get_mut(queue);
        if let Some(member) = slot.and_then(QueueSlot::member_mut) {
            member.cache_size_bytes_max = bytes_max;
        }
        self.rouse(queue);
    }

    /// Sends the next piece, if it is its turn. `next`: the member has said where to go on.
    fn transfer_on(&mut self, queue: QueueId, node: NodeId, next: Option<MessageIndex>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let transfers = &mut cluster.transfers;
        let budget = transfers.budget;
        let Some(outgoing) = transfers.outgoing.get_mut(&(queue, node)) else {
            return;
        };
        if next.is_some() {
            outgoing.silent_ticks = 0;
            outgoing.next = next;
        }
        let Some(from) = outgoing.next.filter(|_| outgoing.sent_upto.is_none()) else {
            return;
        };
        if outgoing.is_reading || budget == 0 {
            return;
        }
        let Some(mut slot) = self.queues.take(queue) else {
            return self.abandon_transfer(queue, node);
        };
        let is_witness = self.catalog.is_witness(node);
        let piece = if is_witness {
            Piece::End
        } else {
            self.next_piece(&mut slot, node, from)
        };
        let state = match (&piece, &slot.place) {
            (Piece::End, Place::Replicated(member)) if is_witness => {
                Some(member.replica.witness_state_now(&slot.settings))
            }
            (Piece::End, Place::Replicated(member)) => Some(member.replica.state_now(&slot.queue)),
            _ => None,
        };
        // A leader that serves nobody yet may need this very member for that.
        let member = slot.member();
        let leads = member.is_some_and(|member| member.replica.group().is_leader());
        self.queues.put(slot);
        if !leads {
            return self.abandon_transfer(queue, node);
        }
        match piece {
            Piece::Later => {}
            Piece::Bodies(bytes, size_bytes) => {
                if let Some(cluster) = &mut self.cluster {
                    let transfers = &mut cluster.transfers;
                    transfers.budget = transfers.budget.saturating_sub(size_bytes);
                    if let Some(outgoing) = transfers.outgoing.get_mut(&(queue, node)) {
                        outgoing.next = None;
                        outgoing.bodies.clear();
                    }
                }
                self.send(
                    node,
                    PeerPayload::Transfer,
                    frame(KIND_BODIES, queue, &[bytes]),
                );
            }
            Piece::End => {
                if let Some(state) = state {
                    self.send_state(queue, node, &state);
                }
            }
        }
    }

    fn next_piece(&mut self, slot: &mut QueueSlot, node: NodeId, from: MessageIndex) -> Piece {
        let Some(cluster) = &mut self.cluster else {
            return Piece::Later;
        };
        let outgoing = cluster.transfers.outgoing.get_mut(&(slot.id, node));
        let read = outgoing.map(|outgoing| &outgoing.bodies);
        let mut out = BytesMut::new();
        out.put_u32(0);
        let (mut count, mut size_bytes) = (0_u32, 0);
        let mut wanted = Vec::new();
        let mut wanted_size_bytes = 0;
        let live = Replica::bodies_from(&slot.queue, from).take(PIECE_COUNT_MAX);
        for ((index, body, size), meta) in live {
            let size = size as usize;
            if size_bytes + wanted_size_bytes + size > PIECE_SIZE_BYTES_MAX
                && (count > 0 || !wanted.is_empty())
            {
                break;
            }
            let read = read.and_then(|read| read.get(&index).cloned());
            let Some(stored) = read.or_else(|| self.store.body(body, narrow(size))) else {
                wanted.push((index.0, body, narrow(size)));
                wanted_size_bytes += size;
                continue;
            };
            if wanted.is_empty() {
                out.put_u64(index.0);
                out.put_slice(&meta);
                out.put_u32(narrow(stored.len()));
                out.put_slice(&stored);
                count += 1;
                size_bytes += size;
            }
        }
        if count > 0 {
            out[..4].copy_from_slice(&count.to_be_bytes());
            return Piece::Bodies(out.freeze(), size_bytes);
        }
        if wanted.is_empty() {
            return Piece::End;
        }
        let is_busy = (slot.cold.as_ref()).is_some_and(|cold| cold.fetching.is_some());
        if !is_busy && !self.is_body_damaged(slot.id) {
            let who = FetchFor::Transfer(node);
            let job = self.start_fetch(slot, who, &wanted, wanted_size_bytes);
            self.outputs.push_back(crate::Output::Fetch(slot.id, job));
            if let Some(cluster) = &mut self.cluster
                && let Some(outgoing) = cluster.transfers.outgoing.get_mut(&(slot.id, node))
            {
                outgoing.is_reading = true;
            }
        }
        Piece::Later
    }

    fn send_state(&mut self, queue: QueueId, node: NodeId, state: &ReplicaState) {
        if let Some(cluster) = &mut self.cluster
            && let Some(outgoing) = cluster.transfers.outgoing.get_mut(&(queue, node))
        {
            outgoing.sent_upto = Some(state.meta.last.index);
        }
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        let bytes = Bytes::from(bytes);
        let mut offset = 0;
        while offset < bytes.len() {
            let end = bytes.len().min(offset + PIECE_SIZE_BYTES_MAX);
            let mut head = BytesMut::new();
            head.put_u64(offset as u64);
            head.put_u64(bytes.len() as u64);
            let parts = [head.freeze(), bytes.slice(offset..end)];
            self.send(
                node,
                PeerPayload::Transfer,
                frame(KIND_STATE, queue, &parts),
            );
            offset = end;
        }
    }

    /// The leader is about to send the queue: it hears from where on. A replica that has forgotten
    /// everything takes only what is sent because its leader knows that.
    fn begin_staging(&mut self, queue: QueueId, leader: NodeId, loss: Loss) {
        if let Some(cluster) = &self.cluster
            && cluster.groups.held.contains(&queue)
        {
            return;
        }
        let own_loss = self.own_loss(queue);
        let store = &mut self.store;
        let Some(slot) = self.queues.get_mut(queue) else {
            return;
        };
        let Place::Replicated(member) = &mut slot.place else {
            return;
        };
        if member.has_forgotten() && own_loss != Some(loss) {
            return;
        }
        let replica = &mut member.replica;
        let next = replica.staged_next();
        let next = next.unwrap_or_else(|| replica.begin_staging(store, &slot.queue));
        if let Some(cluster) = &mut self.cluster {
            cluster.transfers.incoming.remove(&queue);
        }
        self.mark_appended();
        self.send_next(queue, leader, next);
    }

    fn send_next(&mut self, queue: QueueId, leader: NodeId, next: MessageIndex) {
        let bytes = Bytes::copy_from_slice(&next.0.to_be_bytes());
        self.send(
            leader,
            PeerPayload::Transfer,
            frame(KIND_NEXT, queue, &[bytes]),
        );
    }

    fn stage_bodies(&mut self, queue: QueueId, leader: NodeId, mut payload: Bytes) {
        let store = &mut self.store;
        let slot = self.queues.get_mut(queue);
        let Some(member) = slot.and_then(QueueSlot::member_mut) else {
            return;
        };
        let count = payload.try_get_u32().unwrap_or_default();
        let mut next = None;
        for _ in 0..count {
            let Some((index, meta, stored)) = take_body(&mut payload) else {
                return;
            };
            match member.replica.stage(store, index, meta, &stored) {
                Ok(Some(upto)) => next = Some(upto),
                Ok(None) => return self.ask_for_transfer(queue, leader),
                Err(_) => return,
            }
        }
        self.mark_appended();
        if let Some(next) = next {
            self.send_next(queue, leader, next);
        }
    }

    fn stage_state(&mut self, queue: QueueId, leader: NodeId, mut payload: Bytes) {
        let (Ok(offset), Ok(total)) = (payload.try_get_u64(), payload.try_get_u64()) else {
            return;
        };
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let incoming = cluster.transfers.incoming.entry(queue).or_default();
        if offset == 0 {
            incoming.clear();
        }
        let fits = offset == incoming.len() as u64
            && total <= STATE_SIZE_BYTES_MAX
            && offset + payload.len() as u64 <= total;
        if !fits {
            cluster.transfers.incoming.remove(&queue);
            return self.ask_for_transfer(queue, leader);
        }
        incoming.extend_from_slice(&payload);
        if (incoming.len() as u64) < total {
            return;
        }
        let bytes = cluster.transfers.incoming.remove(&queue);
        let bytes = bytes.unwrap_or_default().freeze();
        let staged = ReplicaState::decode(bytes).ok().and_then(|state| {
            let slot = self.queues.get_mut(queue)?;
            let settings = slot.settings.clone();
            let member = slot.member_mut()?;
            let staged = member
                .replica
                .stage_state(&mut self.store, &state, &settings);
            staged.ok()
        });
        let Some(meta) = staged else {
            return self.ask_for_transfer(queue, leader);
        };
        let mut out = BytesMut::new();
        out.put_u64(meta.last.index.0);
        out.put_u64(meta.last.term.0);
        let parts = [out.freeze(), meta.members.encode()];
        self.send(
            leader,
            PeerPayload::Transfer,
            frame(KIND_STAGED, queue, &parts),
        );
    }

    /// A member has everything: the group offers it the snapshot.
    fn offer_staged(&mut self, queue: QueueId, node: NodeId, mut payload: Bytes) {
        let (Ok(index), Ok(term)) = (payload.try_get_u64(), payload.try_get_u64()) else {
            return;
        };
        let Ok(members) = Members::decode(&payload) else {
            return;
        };
        let last = LogPosition {
            index: LogIndex(index),
            term: Term(term),
        };
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let Some(outgoing) = cluster.transfers.outgoing.get_mut(&(queue, node)) else {
            return;
        };
        outgoing.silent_ticks = 0;
        let slot = self.queues.get_mut(queue);
        let Some(member) = slot.and_then(QueueSlot::member_mut) else {
            return;
        };
        let group = member.replica.group_mut();
        group.offer_snapshot(node, SnapshotMeta { last, members });
        self.rouse(queue);
    }

    /// A transfer has reached its end when the member has what it was offered.
    pub(super) fn end_transfers(&mut self, queue: QueueId) {
        let Some(cluster) = &self.cluster else { return };
        let keys = cluster.transfers.outgoing.range((queue, NodeId(0))..);
        let of_queue: Vec<_> = keys
            .take_while(|((of, _), _)| *of == queue)
            .filter(|(_, outgoing)| outgoing.sent_upto.is_some())
            .map(|((_, node), _)| *node)
            .collect();
        if of_queue.is_empty() {
            return;
        }
        let slot = self.queues.get(queue);
        let Some(member) = slot.and_then(QueueSlot::member) else {
            return;
        };
        let group = member.replica.group();
        let first_kept = group.compacted().index.next();
        let progress = group.progress();
        for node in of_queue {
            let reached = progress
                .iter()
                .find(|member| member.node == node)
                .is_none_or(|member| !member.needs_snapshot && member.matched.next() >= first_kept);
            if reached && let Some(cluster) = &mut self.cluster {
                cluster.transfers.outgoing.remove(&(queue, node));
                self.keep_entries(queue, ENTRY_CACHE_BYTES_MAX);
            }
        }
    }
}

pub(super) fn frame(kind: u8, queue: QueueId, parts: &[Bytes]) -> Vec<Bytes> {
    let mut head = BytesMut::with_capacity(10);
    head.put_u8(VERSION);
    head.put_u8(kind);
    head.put_u64(queue.0);
    let mut segments = vec![head.freeze()];
    segments.extend_from_slice(parts);
    segments
}

/// A frame that names replicas of this node that have forgotten everything.
pub(super) fn forgotten_frame(groups: Bytes) -> Vec<Bytes> {
    frame(KIND_FORGOTTEN, QueueId(0), &[groups])
}

fn take_body(payload: &mut Bytes) -> Option<(MessageIndex, [u8; META_SIZE_BYTES], Bytes)> {
    let index = payload.try_get_u64().ok()?;
    let mut meta = [0; META_SIZE_BYTES];
    payload.try_copy_to_slice(&mut meta).ok()?;
    let size = payload.try_get_u32().ok()? as usize;
    if size > payload.len() {
        return None;
    }
    Some((MessageIndex(index), meta, payload.split_to(size)))
}

fn narrow(size: usize) -> u32 {
    u32::try_from(size).expect("messages are below 4 GiB")
}
