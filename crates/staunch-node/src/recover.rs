//! From a data directory to a node that knows everything it ever confirmed.
//!
//! The log gives back, in this order: the state of the last checkpoint, the live records of the
//! segments, then the young files in log order. What the young files say from before the
//! checkpoint is in the state already: definitions and settlements are skipped, messages are only
//! found again.

use std::collections::BTreeMap;

use bytes::Bytes;
use staunch_broker::{
    Applied, Arrival, Catalog, CatalogCommand, DecodeError, Queue, QueueCommand, QueueEntry,
    Released, Restored,
};
use staunch_log::{
    Background, Damage, Disk, Note, OnDamage, Reader, RecoverError, Recovered as Item, StreamId,
    Writer,
};
use staunch_raft::Members;
use staunch_replica::{Batch, CatalogRebuild, OnRefusal, Rebuild, RebuildError, is_catalog_record};
use staunch_types::{BodyRef, ConsumerKey, MessageIndex, NodeId, QueueId, Timestamp};

use crate::{
    cluster::{CatalogGroup, Cluster, Member, Place, catalog_config, is_with_others},
    config::NodeConfig,
    consumers::ConsumerKind,
    node::Node,
    queues::{QueueSlot, is_logged, settings_of},
    state::{self, KeptGroup, KeptQueue, StateError},
};

/// A node ready to run, with the workers that do its disk work.
pub struct Recovered<D: Disk> {
    /// The machine.
    pub node: Node,
    /// Runs write jobs.
    pub writer: Writer<D>,
    /// Runs background jobs.
    pub background: Background<D>,
    /// Runs fetch jobs.
    pub reader: Reader<D>,
    /// What the log found worth telling, such as a torn tail that was cut.
    pub notes: Vec<Note>,
    /// Replicas that are damaged and get everything from the other nodes, and why.
    pub repairs: Vec<(QueueId, RebuildError)>,
    /// Messages that are lost, which was accepted ([`NodeConfig::accept_loss`]).
    pub lost_count: u64,
}

/// Why a node does not start on its data.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] RecoverError),
    /// The checkpoint's state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A record in the log passed its checksum but makes no sense.
    #[error("record of stream {stream} cannot be read: {source}")]
    Record {
        /// Its stream.
        stream: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// Messages that must be there are not.
    #[error("queue {queue} lacks {count} messages from index {first}")]
    Missing {
        /// The queue's id.
        queue: QueueId,
        /// First message that is missing.
        first: MessageIndex,
        /// How many in a row.
        count: u64,
    },
    /// The node that wrote this was not one of several.
    #[error(
        "the data directory is that of a node that stands alone: a node that joins a cluster begins \
         with an empty one"
    )]
    StoodAlone,
    /// The node that wrote this was one of several.
    #[error("the data directory is that of a node of a cluster, and this one is to stand alone")]
    WasMember,
    /// The catalog's group does not hold what it had promised.
    #[error("the catalog's group: {0}")]
    Catalog(RebuildError),
    /// The log is damaged, and may have held messages that no other node has.
    #[error(
        "{damage}, and queue {queue} is kept by this node alone: the other nodes can repair \
         everything else if the loss of its messages is accepted (--accept-loss)"
    )]
    OnlyHere {
        /// A queue that no other node has.
        queue: QueueId,
        /// What is damaged.
        damage: Damage,
    },
    /// A replica does not hold what it had promised.
    #[error("replica of queue {queue}: {source}")]
    Replica {
        /// The queue's id.
        queue: QueueId,
        /// What is wrong.
        source: RebuildError,
    },
}

/// Opens what `disk` holds, or begins there.
///
/// # Errors
/// [`StartError`]; nothing on disk has been changed then, except that a torn tail may be closed.
///
/// # Panics
/// On a bug.
pub fn recover<D: Disk>(disk: D, config: NodeConfig) -> Result<Recovered<D>, StartError> {
    let damage = match open(disk.clone(), config.clone()) {
        Err(StartError::Log(RecoverError::Damage(damage))) if config.cluster.is_some() => damage,
        other => return other,
    };
    // Which streams have lost something cannot be told: the node forgets all.
    staunch_log::begin_anew(&disk, state::forgotten()).map_err(RecoverError::from)?;
    let mut recovered = open(disk, config)?;
    recovered.notes.push(Note::LogGivenUp(damage));
    Ok(recovered)
}

fn open<D: Disk>(disk: D, config: NodeConfig) -> Result<Recovered<D>, StartError> {
    let on_damage = if config.cluster.is_some() || config.accept_loss {
        OnDamage::LackSegments
    } else {
        OnDamage::Refuse
    };
    let mut recovery = staunch_log::recover_with(disk, config.log.clone(), on_damage)?;
    let cluster = config.cluster.as_ref();
    let cluster = cluster.map(|cluster| {
        let cluster = Cluster::new(cluster, config.seed, Timestamp::default());
        Box::new(cluster)
    });
    let mut replay = Replay::new(config.seed, cluster.as_deref());
    let mut is_new = true;
    while let Some(item) = replay.unless_alone(recovery.next(), config.accept_loss)? {
        is_new = false;
        replay.take(item, recovery.payload())?;
    }
    if !config.accept_loss {
        replay.check_own()?;
    }
    let opened = recovery.finish()?;
    let mut store = opened.store;
    store.set_cache_size_bytes(config.cache_size_bytes());
    for (body, size_bytes) in &replay.dead {
        store.release(*body, *size_bytes);
    }
    let mut node = Node::with_parts(config, replay.catalog, store);
    node.cluster = cluster;
    if let (Some(cluster), Some(rebuild)) = (&mut node.cluster, replay.catalog_group) {
        let config = catalog_config(cluster.me, node.config.seed);
        let replica = rebuild.finish(config).map_err(StartError::Catalog)?;
        if replica.has_forgotten() {
            cluster.forget_catalog();
        }
        cluster.catalog = CatalogGroup::new(replica);
    }
    let (mut repairs, mut lost_count) = (Vec::new(), 0);
    for (id, rebuild) in replay.groups {
        repairs.extend(node.restore_group(id, rebuild)?);
    }
    for (id, queue) in replay.queues {
        let tenured_below = replay.young_from.get(&id).copied().unwrap_or_default();
        lost_count += node.restore_own(id, queue, tenured_below);
    }
    node.open_queues_without_log();
    node.catalog.set_limits(node.config.catalog_limits);
    node.refresh_epoch();
    if is_new && node.cluster.is_none() {
        node.bootstrap();
    }
    Ok(Recovered {
        node,
        writer: opened.writer,
        background: opened.background,
        reader: opened.reader,
        notes: opened.notes,
        repairs,
        lost_count,
    })
}

struct Replay {
    seed: u64,
    /// This node, if it is one of several.
    me: Option<NodeId>,
    catalog: Catalog,
    /// The same.
    catalog_group: Option<CatalogRebuild>,
    /// Replicated queues.
    groups: BTreeMap<QueueId, Rebuild>,
    /// Queues that this node alone keeps.
    queues: BTreeMap<QueueId, Queue>,
    /// Records of messages that no longer live: the store counts every record as live at first.
    dead: Vec<(BodyRef, u32)>,
    /// First index of each queue that is found in a young file, else the index behind its last.
    young_from: BTreeMap<QueueId, MessageIndex>,
}

impl Replay {
    fn new(seed: u64, cluster: Option<&Cluster>) -> Self {
        let founding = |cluster: &Cluster| CatalogRebuild::founding(cluster.founders());
        Self {
            seed,
            me: cluster.map(|cluster| cluster.me),
            catalog_group: cluster.map(founding),
            groups: BTreeMap::new(),
            catalog: Catalog::new(seed),
            queues: BTreeMap::new(),
            dead: Vec::new(),
            young_from: BTreeMap::new(),
        }
    }

    /// Damage cannot be repaired by others if it may have hit what nobody else has.
    fn unless_alone<T>(
        &self,
        next: Result<T, RecoverError>,
        accepts_loss: bool,
    ) -> Result<T, StartError> {
        match (next, self.queues.first_key_value()) {
            (Err(RecoverError::Damage(damage)), Some((queue, _)))
                if self.me.is_some() && !accepts_loss =>
            {
                let queue = *queue;
                Err(StartError::OnlyHere { queue, damage })
            }
            (next, _) => Ok(next?),
        }
    }

    /// Messages that only this node had are not lost in silence.
    fn check_own(&self) -> Result<(), StartError> {
        for (id, queue) in &self.queues {
            if let Some((first, count)) = queue.missing().first() {
                return Err(StartError::Missing {
                    queue: *id,
                    first: *first,
                    count: *count,
                });
            }
        }
        Ok(())
    }

    /// `stored` is the stored form of a message that has just been read with the log.
    fn take(&mut self, item: Item, stored: Option<&[u8]>) -> Result<(), StartError> {
        match item {
            Item::State(bytes) => return self.state(bytes),
            Item::Control {
                stream: StreamId::CATALOG,
                payload,
                in_state,
            } => return self.catalog_record(payload, in_state),
            Item::Message {
                stream,
                index,
                body,
                size_bytes,
                meta,
                ..
            } => {
                let id = QueueId(stream.0);
                if let Some(rebuild) = self.groups.get_mut(&id) {
                    let place = (body, size_bytes);
                    return rebuild
                        .message(MessageIndex(index), place, meta.0, stored)
                        .map_err(|source| StartError::Replica { queue: id, source });
                }
                let arrival = Arrival::from_meta(body, size_bytes, meta.0);
                let arrival = arrival.map_err(|source| StartError::Record {
                    stream: stream.0,
                    source,
                })?;
                self.message(QueueId(stream.0), MessageIndex(index), arrival);
            }
            Item::Control {
                stream,
                payload,
                in_state,
            } if self.groups.contains_key(&QueueId(stream.0)) => {
                let queue = QueueId(stream.0);
                let rebuild = self.groups.get_mut(&queue).expect("it is there");
                let taken = rebuild.control(payload, in_state);
                return taken.map_err(|source| StartError::Replica { queue, source });
            }
            Item::Control { in_state: true, .. } => {}
            Item::Control {
                stream, payload, ..
            } => {
                let command =
                    QueueCommand::decode(&payload).map_err(|source| StartError::Record {
                        stream: stream.0,
                        source,
                    })?;
                let mut released = Vec::new();
                if let Some(queue) = self.queues.get_mut(&QueueId(stream.0)) {
                    queue.apply_recovered(&command, &mut released);
                }
                self.bury(released);
            }
        }
        Ok(())
    }

    /// What the last checkpoint says.
    fn state(&mut self, bytes: Bytes) -> Result<(), StartError> {
        let state = state::decode(bytes, self.seed)?;
        self.catalog = state.catalog;
        self.catalog_group = match (state.group, self.me) {
            (KeptGroup::Member(group), Some(_)) => Some(CatalogRebuild::from_state(group).0),
            (KeptGroup::Forgotten, Some(_)) => Some(CatalogRebuild::forgotten()),
            (KeptGroup::None, None) => None,
            (KeptGroup::None, Some(_)) => return Err(StartError::StoodAlone),
            (_, None) => return Err(StartError::WasMember),
        };
        for (id, kept) in state.queues {
            self.restore(id, kept)?;
        }
        self.follow_catalog();
        Ok(())
    }

    fn message(&mut self, id: QueueId, index: MessageIndex, arrival: Arrival) {
        let Arrival {
            body, size_bytes, ..
        } = arrival;
        let restored = match self.queues.get_mut(&id) {
            Some(queue) => queue.restore_message(index, arrival),
            None => Restored::Gone,
        };
        match restored {
            Restored::Live if staunch_log::is_in_segment(body) => {
                let next = self.young_from.entry(id).or_default();
                *next = (*next).max(index.next());
            }
            Restored::Live => {}
            Restored::Gone | Restored::Duplicate => self.dead.push((body, size_bytes)),
        }
    }

    fn catalog_record(&mut self, payload: Bytes, in_state: bool) -> Result<(), StartError> {
        let is_members = is_catalog_record(&payload);
        let Some(group) = &mut self.catalog_group else {
            if is_members {
                return Err(StartError::WasMember);
            }
            if in_state {
                return Ok(());
            }
            let command = CatalogCommand::decode(&payload)
                .map_err(|source| StartError::Record { stream: 0, source })?;
            // It was persisted: it is refused only if a later part of the state, which the
            // checkpoint already had, makes it pointless.
            if let Ok(applied) = self.catalog.replay(&command) {
                self.follow(&applied);
            }
            return Ok(());
        };
        if !is_members {
            return Err(StartError::StoodAlone);
        }
        let batches = group.control(payload, in_state);
        for batch in batches.map_err(StartError::Catalog)? {
            self.batch(&batch);
        }
        Ok(())
    }

    /// What the nodes had agreed on, as they applied it.
    fn batch(&mut self, batch: &Batch) {
        if !batch.is_admitted(&mut self.catalog) {
            return;
        }
        for command in &batch.commands {
            match self.catalog.apply_replicated(command) {
                Ok(applied) => self.follow(&applied),
                Err(_) if batch.on_refusal == OnRefusal::Stop => return,
                Err(_) => {}
            }
        }
    }

    fn follow(&mut self, applied: &Applied) {
        for entry in &applied.queues_deleted {
            self.remove(entry.id);
        }
        let declared = applied.queue.and_then(|id| self.catalog.queue_by_id(id));
        let Some(entry) = declared.cloned() else {
            return;
        };
        self.begin(&entry);
        for id in entry.partitions() {
            if let Some(part) = self.catalog.queue_by_id(id).cloned() {
                self.begin(&part);
            }
        }
    }

    fn restore(&mut self, id: QueueId, kept: KeptQueue) -> Result<(), StartError> {
        match kept {
            KeptQueue::Own(queue) => {
                self.queues.insert(id, queue);
            }
            KeptQueue::Forgotten => {
                let entry = self.catalog.queue_by_id(id);
                let settings = entry.map(settings_of).unwrap_or_default();
                let rebuild = Rebuild::forgotten(StreamId(id.0), &settings);
                self.groups.insert(id, rebuild);
            }
            KeptQueue::Replica(state) => {
                let entry = self.catalog.queue_by_id(id);
                let settings = entry.map(settings_of).unwrap_or_default();
                let rebuild = Rebuild::from_state(StreamId(id.0), state, &settings);
                let failed = |source| StartError::Replica { queue: id, source };
                self.groups.insert(id, rebuild.map_err(failed)?);
            }
        }
        Ok(())
    }

    /// A queue is in the catalog: if this node keeps it, what the log has of it is to be found.
    fn begin(&mut self, entry: &QueueEntry) {
        let placement = &entry.placement;
        let is_here = self.me.is_none_or(|me| placement.members.contains(&me));
        if !is_here {
            return;
        }
        if placement.is_replicated {
            let members = Members::of(placement.members.iter().copied());
            let members = members.expect("a placement names its members once");
            let stream = StreamId(entry.id.0);
            self.groups
                .entry(entry.id)
                .or_insert_with(|| Rebuild::founding(stream, members, &settings_of(entry)));
        } else if is_logged(entry) {
            self.queues
                .entry(entry.id)
                .or_insert_with(|| Queue::recovering(&settings_of(entry)));
        }
    }

    fn follow_catalog(&mut self) {
        let all: Vec<_> = self.catalog.queues_and_holders().cloned().collect();
        for entry in all {
            self.begin(&entry);
        }
        let groups = self.groups.keys();
        let gone = groups.filter(|id| self.catalog.queue_by_id(**id).is_none());
        for id in gone.copied().collect::<Vec<_>>() {
            self.remove(id);
        }
        let stale: Vec<_> = self
            .queues
            .keys()
            .filter(|id| self.catalog.queue_by_id(**id).is_none())
            .copied()
            .collect();
        for id in stale {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: QueueId) {
        if let Some(rebuild) = self.groups.remove(&id) {
            self.dead.extend(rebuild.bury());
        }
        if let Some(queue) = self.queues.remove(&id) {
            let released: Vec<_> = queue.live_from(MessageIndex(0)).collect();
            self.bury(released);
        }
    }

    fn bury(&mut self, released: Vec<Released>) {
        self.dead.extend(
            released
                .into_iter()
                .map(|(_, body, size_bytes)| (body, size_bytes)),
        );
    }
}

impl Node {
    /// Makes places in the table for queues of the catalog of which the log holds nothing: those of
    /// other nodes, and those whose messages are in partitions.
    fn open_queues_without_log(&mut self) {
        let all = self.catalog.queues_and_holders();
        let unknown = all.map(|entry| entry.id);
        let unknown = unknown.filter(|id| self.queues.get(*id).is_none());
        for id in unknown.collect::<Vec<_>>() {
            self.open_queue(id);
        }
    }

    /// A queue that this node alone keeps is there again. How many messages it has lost.
    fn restore_own(&mut self, id: QueueId, mut queue: Queue, tenured_below: MessageIndex) -> u64 {
        let lost_count = queue.finish_recovery();
        let entry = self
            .catalog
            .queue_by_id(id)
            .expect("replay follows the catalog");
        let mut slot = QueueSlot::new(entry, queue, self.wall_now());
        slot.restored_below = slot.queue.next_index();
        slot.tenured_below = tenured_below;
        // A policy may have changed since the queue's snapshot was taken.
        slot.queue.configure(&slot.settings);
        self.note_expiry(&mut slot);
        self.queues.insert(Box::new(slot));
        self.watch_use(id);
        // What has died of its limit is back if its end was not on disk.
        self.mark_dirty(id);
        lost_count
    }

    /// A replica goes on from what its disk holds. If that is damaged, what is wrong.
    fn restore_group(
        &mut self,
        id: QueueId,
        rebuild: Rebuild,
    ) -> Result<Option<(QueueId, RebuildError)>, StartError> {
        let entry = self.catalog.queue_by_id(id);
        let entry = entry.expect("replay follows the catalog");
        let settings = settings_of(entry);
        let mut found = rebuild.finish(self.group_config(id), &settings);
        for (body, size_bytes) in found.dead {
            self.store.release(body, size_bytes);
        }
        if let Some(source) = found.damage.clone() {
            if !is_with_others(&entry.placement) {
                return Err(StartError::Replica { queue: id, source });
            }
            let (store, queue) = (&mut self.store, &mut found.queue);
            found.replica.forget(store, queue, &settings);
        }
        let mut slot = QueueSlot::new(entry, found.queue, self.wall_now());
        slot.place = Place::Replicated(Box::new(Member::new(found.replica)));
        slot.queue.configure(&slot.settings);
        self.queues.insert(Box::new(slot));
        self.begin_group(id, false);
        Ok(found.damage.map(|damage| {
            self.has_open_messages = true;
            self.note_forgotten(id);
            (id, damage)
        }))
    }

    /// Queues there are.
    pub fn queue_count(&self) -> usize {
        self.catalog.queue_count()
    }

    /// Messages in all queues.
    pub fn message_count(&self) -> u64 {
        self.queues
            .iter()
            .map(|slot| slot.queue.message_count())
            .sum()
    }

    /// Panics if the node contradicts itself.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        self.catalog.check_invariants();
        let mut transient_count = 0;
        for slot in self.queues.iter() {
            slot.queue.check_invariants();
            for key in slot.queue.consumer_keys() {
                let consumer = self.consumers.get(key);
                assert_eq!(
                    consumer.map(|consumer| consumer.queue),
                    Some(slot.id),
                    "a queue knows live keys of its own: {key:?}"
                );
            }
            assert!(
                self.catalog.queue_by_id(slot.id).is_some(),
                "table and catalog agree"
            );
            if !slot.is_durable && matches!(slot.place, Place::Here) {
                transient_count += slot.queue.message_count();
            }
        }
        assert_eq!(
            transient_count,
            self.bodies.count() as u64,
            "every body has one message"
        );
        self.check_sessions();
        self.check_shadows();
        self.store.check_invariants();
    }

    /// What clients of other nodes have not settled is what the queues know of that.
    fn check_shadows(&self) {
        let shadows = self.sessions.iter().filter(|it| it.shadow_of.is_some());
        for channel in shadows.flat_map(|session| session.channels.values()) {
            for key in channel.consumers.iter().chain(channel.getters.values()) {
                let consumer = self.consumers.get(*key).expect("a channel knows live keys");
                // What was held of a queue that is gone is void.
                if let Some(slot) = self.queues.get(consumer.queue) {
                    let known = slot.queue.unsettled_count(*key);
                    assert_eq!(consumer.unsettled_count, known, "of shadow {key:?}");
                }
            }
        }
    }

    fn check_sessions(&self) {
        assert_eq!(
            self.recount(),
            self.census,
            "connections and channels are counted"
        );
        let mut key_count = 0;
        let mut tx_size_bytes = 0;
        for session in self.sessions.iter() {
            for id in &session.exclusive_queues {
                let entry = self
                    .catalog
                    .queue_by_id(*id)
                    .expect("it owns what is there");
                assert_eq!(entry.owner, Some(session.id), "it owns its own");
            }
            for channel in session.channels.values() {
                key_count += channel.consumers.len() + channel.getters.len();
                key_count += usize::from(channel.replies.is_some());
                tx_size_bytes += channel.tx.as_ref().map_or(0, |tx| tx.size_bytes);
                let unsettled = channel.consumers.iter().map(|key| {
                    let consumer = self.consumers.get(*key).expect("a channel knows live keys");
                    let is_over = consumer.kind == ConsumerKind::Cancelled;
                    assert!(
                        !is_over || consumer.unsettled_count > 0,
                        "it is over and still here"
                    );
                    consumer.unsettled_count
                });
                assert_eq!(
                    unsettled.sum::<u32>(),
                    channel.unsettled_count,
                    "unsettled are counted"
                );
                let holds = |key: &ConsumerKey| {
                    self.consumers
                        .get(*key)
                        .is_some_and(|it| it.unsettled_count > 0)
                };
                assert!(
                    channel.getters.values().all(holds),
                    "a getter's key lasts while it holds"
                );
            }
        }
        assert_eq!(
            key_count,
            self.consumers.count(),
            "every consumer has a channel"
        );
        assert_eq!(
            tx_size_bytes, self.tx_size_bytes,
            "what is held back is counted"
        );
        let waiting = self
            .queues
            .iter()
            .flat_map(|slot| slot.getters.iter().flatten());
        let gets = self
            .sessions
            .iter()
            .flat_map(|session| session.channels.values());
        let gets = gets.map(|channel| channel.waiting_gets.len());
        assert_eq!(
            waiting.count(),
            gets.sum::<usize>(),
            "every get stands in one line"
        );
    }
}
