//! The node's queues: each queue machine with what the node keeps beside it.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use staunch_broker::{DeadLettering, Priorities, Queue, QueueEntry, QueueKind, QueueSettings};
use staunch_types::{ChannelNumber, MessageIndex, Name, NodeId, QueueId, UnixMillis};

use crate::{
    cluster::Place, counts::QueueCounts, dead_letter::Dead, session::SessionSlot, transient::Arena,
};

/// A queue and its surroundings. Rare parts are boxed: a node may hold 100,000 idle queues.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three facts, and membership of five lists of the node"
)]
pub(crate) struct QueueSlot {
    pub(crate) id: QueueId,
    pub(crate) vhost: Name,
    pub(crate) name: Name,
    pub(crate) kind: QueueKind,
    /// What arguments and policies say together.
    pub(crate) settings: Arc<QueueSettings>,
    /// Its messages are in the log and survive a restart.
    pub(crate) is_durable: bool,
    /// Goes when its last consumer goes.
    pub(crate) is_auto_delete: bool,
    /// It holds the messages that an exchange delays; no client knows it.
    pub(crate) holds_delayed: bool,
    /// Which nodes keep it.
    pub(crate) place: Place,
    pub(crate) queue: Queue,
    /// What happened, apart from what the queue counts itself.
    pub(crate) counts: QueueCounts,
    /// Messages below this were there before the node was started: recovery restored them.
    pub(crate) restored_below: MessageIndex,
    /// Every live message below this has left the young files.
    pub(crate) tenured_below: MessageIndex,
    /// Indexes settled and not yet in the log, as runs.
    pub(crate) settled: Vec<(MessageIndex, u32)>,
    /// Its memory, as it was last counted.
    counted_size_bytes: u64,
    /// In the node's list of queues to dispatch.
    pub(crate) is_dirty: bool,
    /// In the node's list of queues used since the last tick.
    pub(crate) is_active: bool,
    /// Its policy says how long it is to hold out (`horizon-slo`).
    pub(crate) is_watched: bool,
    /// Its publishers are slowed so that it does.
    pub(crate) is_slowed: bool,
    /// In the ledger of what has changed since the last sample.
    pub(crate) is_moved: bool,
    /// In the node's list of queues with unlogged settlements.
    pub(crate) has_unlogged: bool,
    /// In the node's list of queues with dead letters to publish.
    pub(crate) is_mourning: bool,
    /// When its next message expires, as the node's list of deadlines has it.
    pub(crate) expires_next: Option<UnixMillis>,
    /// When it was last of use to somebody, for `x-expires`.
    pub(crate) used_at: UnixMillis,
    /// When it is looked at next for that, as the node's list of deadlines has it.
    pub(crate) watched_at: Option<UnixMillis>,
    /// Messages that have died and were not passed on yet.
    pub(crate) dead: Option<Box<Dead>>,
    /// Arena of a transient queue in use.
    pub(crate) arena: Option<Box<Arena>>,
    /// Cold bodies fetched ahead, for a queue whose head is not in memory.
    pub(crate) cold: Option<Box<Cold>>,
    /// `basic.get`s that have not been answered; absent, not empty, when there is none.
    pub(crate) getters: Option<VecDeque<WaitingGet>>,
}

/// Bodies read back from disk ahead of their delivery.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    /// Bodies not yet handed out.
    pub(crate) window: BTreeMap<MessageIndex, Bytes>,
    /// Their size.
    pub(crate) window_size_bytes: usize,
    /// A fetch is under way, for whom.
    pub(crate) fetching: Option<FetchFor>,
    /// Behind what was last fetched there is probably more to be read.
    pub(crate) has_more: bool,
}

/// What bodies are read back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchFor {
    /// To be handed out.
    Delivery,
    /// To be dead-lettered.
    DeadLetter,
    /// To be sent to a member that gets the whole queue.
    Transfer(NodeId),
}

/// A `basic.get` that has not been answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingGet {
    pub(crate) session: SessionSlot,
    pub(crate) channel: ChannelNumber,
    pub(crate) no_ack: bool,
}

/// Queues whose memory is counted in one tick although nothing has happened to them.
const COUNTED_IN_TURN: usize = 256;

/// All queues by id, in order.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    slots: BTreeMap<QueueId, Option<Box<QueueSlot>>>,
    /// Memory of all, as each was last counted.
    memory_size_bytes: u64,
    /// The last one that was counted in its turn.
    counted: QueueId,
}

impl QueueSlot {
    /// A queue as the catalog knows it, with nothing going on yet.
    pub(crate) fn new(entry: &QueueEntry, queue: Queue, now: UnixMillis) -> Self {
        Self {
            id: entry.id,
            vhost: entry.vhost.clone(),
            name: entry.name.clone(),
            kind: entry.kind(),
            settings: settings_of(entry),
            is_durable: is_logged(entry),
            is_auto_delete: entry.options.auto_delete,
            holds_delayed: entry.holds_delayed,
            place: Place::Here,
            queue,
            counts: QueueCounts::default(),
            restored_below: MessageIndex::default(),
            tenured_below: MessageIndex::default(),
            settled: Vec::new(),
            counted_size_bytes: 0,
            is_dirty: false,
            is_active: false,
            is_watched: settings_of(entry).horizon_slo_millis.is_some(),
            is_slowed: false,
            is_moved: false,
            has_unlogged: false,
            is_mourning: false,
            expires_next: None,
            used_at: now,
            watched_at: None,
            dead: None,
            arena: None,
            cold: None,
            getters: None,
        }
    }

    /// Memory of index and dead letters.
    fn memory_size_bytes(&self) -> u64 {
        let dead = self.dead.as_ref().map_or(0, |dead| dead.memory_bytes());
        (self.queue.memory_bytes() + dead) as u64
    }

    /// Whether someone is there for what is read ahead, and something to be read for them.
    pub(crate) fn wants_window(&self) -> bool {
        let has_takers = self.queue.consumer_count() > 0 || self.getters.is_some();
        has_takers && self.queue.ready_count() > 0
    }

    /// Whether messages are handed out in the order of their indexes, returned ones apart.
    pub(crate) fn is_fifo(&self) -> bool {
        self.settings.priorities == Priorities::None
    }

    /// Whether a copy of the message may have been handed out that nobody knows of any more: the
    /// copy was not on disk when the process before this one ended, and the message itself was.
    /// Copies of such copies are in doubt as well.
    pub(crate) fn may_have_been_copied(&self, index: MessageIndex) -> bool {
        index < self.restored_below || self.queue.came_redelivered(index)
    }

    /// Remembers that `index` is settled, to be logged with the next chunk.
    pub(crate) fn note_settled(&mut self, index: MessageIndex) {
        if let Some((first, count)) = self.settled.last_mut()
            && first.0 + u64::from(*count) == index.0
            && *count < u32::MAX
        {
            *count += 1;
            return;
        }
        self.settled.push((index, 1));
    }
}

impl Cold {
    /// Nothing is read ahead and nothing is being read.
    pub(crate) fn is_over(&self) -> bool {
        self.window.is_empty() && self.fetching.is_none()
    }

    /// Drops the body of a message that is not ready any more; its size, 0 if it is not there.
    pub(crate) fn forget(&mut self, index: MessageIndex) -> usize {
        let size = self.window.remove(&index).map_or(0, |body| body.len());
        self.window_size_bytes -= size;
        size
    }

    /// Keeps a fetched body; returns the size of the one it replaces, usually 0.
    pub(crate) fn put(&mut self, index: MessageIndex, body: Bytes) -> usize {
        self.window_size_bytes += body.len();
        let replaced = self
            .window
            .insert(index, body)
            .map_or(0, |replaced| replaced.len());
        self.window_size_bytes -= replaced;
        replaced
    }
}

impl Queues {
    pub(crate) fn insert(&mut self, slot: Box<QueueSlot>) {
        let replaced = self.slots.insert(slot.id, Some(slot));
        assert!(replaced.is_none(), "a queue id is used once");
    }

    pub(crate) fn get(&self, id: QueueId) -> Option<&QueueSlot> {
        self.slots.get(&id)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: QueueId) -> Option<&mut QueueSlot> {
        self.slots.get_mut(&id)?.as_deref_mut()
    }

    /// Takes a queue out while the rest of the node works on it; [`Self::put`] brings it back.
    pub(crate) fn take(&mut self, id: QueueId) -> Option<Box<QueueSlot>> {
        self.slots.get_mut(&id)?.take()
    }

    pub(crate) fn put(&mut self, slot: Box<QueueSlot>) {
        let place = self
            .slots
            .get_mut(&slot.id)
            .expect("a queue is put back where it was taken");
        *place = Some(slot);
    }

    pub(crate) fn remove(&mut self, id: QueueId) -> Option<Box<QueueSlot>> {
        let removed = self.slots.remove(&id)??;
        self.memory_size_bytes -= removed.counted_size_bytes;
        Some(removed)
    }

    /// Memory of all queues' indexes: of those in use as of the last tick.
    pub(crate) fn memory_size_bytes(&self) -> u64 {
        self.memory_size_bytes
    }

    /// Counts the memory of a queue anew.
    pub(crate) fn count_memory(&mut self, id: QueueId) {
        let slot = self.slots.get_mut(&id).and_then(Option::as_deref_mut);
        if let Some(slot) = slot {
            count(slot, &mut self.memory_size_bytes);
        }
    }

    /// Counts the memory of some of those that are not in use: all of them in each tick would keep
    /// a node busy that has many and nothing to do.
    pub(crate) fn count_memory_in_turn(&mut self) {
        let behind = (Bound::Excluded(self.counted), Bound::Unbounded);
        let mut last = QueueId::default();
        for (at, (id, slot)) in self.slots.range_mut(behind).enumerate() {
            if at == COUNTED_IN_TURN {
                self.counted = last;
                return;
            }
            last = *id;
            if let Some(slot) = slot {
                count(slot, &mut self.memory_size_bytes);
            }
        }
        self.counted = QueueId::default();
    }

    /// Counts the memory of all.
    pub(crate) fn count_memory_of_all(&mut self) {
        for slot in self.slots.values_mut().flatten() {
            count(slot, &mut self.memory_size_bytes);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &QueueSlot> {
        self.slots.values().filter_map(|slot| slot.as_deref())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut QueueSlot> {
        self.slots
            .values_mut()
            .filter_map(|slot| slot.as_deref_mut())
    }
}

fn count(slot: &mut QueueSlot, sum: &mut u64) {
    let size_bytes = slot.memory_size_bytes();
    *sum = *sum - slot.counted_size_bytes + size_bytes;
    slot.counted_size_bytes = size_bytes;
}

/// Whether the queue's messages go to the log: durable, and not bound to a connection; or kept by
/// several nodes, whatever it was declared as. A queue with partitions has none of its own.
pub(crate) fn is_logged(entry: &QueueEntry) -> bool {
    !entry.is_split() && (entry.is_durable() || entry.placement.is_replicated)
}

/// How the queue behaves. What an exchange delays leaves the queue that holds it as dead letters
/// leave theirs, see `delay`.
pub(crate) fn settings_of(entry: &QueueEntry) -> Arc<QueueSettings> {
    if !entry.holds_delayed {
        return entry.settings.clone();
    }
    Arc::new(QueueSettings {
        dead_lettering: Some(DeadLettering {
            exchange: entry.name.clone(),
            routing_key: None,
            at_least_once: false,
        }),
        ..QueueSettings::default()
    })
}
