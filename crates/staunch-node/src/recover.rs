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
use staunch_replica::{
    Batch, CatalogRebuild, CatalogRecord, Identity, Kept, OnRefusal, Parting, Rebuild,
    RebuildError, is_catalog_record,
};
use staunch_types::{BodyRef, MessageIndex, Name, NodeId, QueueId};

use crate::{
    cluster::{CatalogGroup, Cluster, Member, Place, catalog_config, is_with_others},
    config::NodeConfig,
    node::Node,
    queues::{QueueSlot, is_logged, settings_of},
    state::{self, KeptQueue, Owner, StateError},
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
    /// It was written before nodes knew who they are.
    #[error("the data directory does not say which node it belongs to")]
    NoIdentity,
    /// It is another node's.
    #[error("the data directory is that of the node {was:?}, this one is called {is:?}")]
    OtherNode {
        /// Whose it is.
        was: Name,
        /// Who has found it.
        is: Name,
    },
    /// It is a witness's, and this is to be none, or the other way round.
    #[error(
        "the data directory is that of {}, and the node is to be {}: it must be removed from the \
         cluster before it can join as the other with an empty data directory",
        kind_of(*.was_witness), kind_of(!*.was_witness)
    )]
    OtherKind {
        /// It is a witness's.
        was_witness: bool,
    },
    /// The node was removed from its cluster.
    #[error(
        "the node was removed from its cluster: with an empty data directory it can join again"
    )]
    Removed,
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

fn kind_of(is_witness: bool) -> &'static str {
    if is_witness {
        "a witness"
    } else {
        "a node that keeps messages"
    }
}

/// Opens what `disk` holds, or begins there.
///
/// # Errors
/// [`StartError`]; nothing on disk has been changed then, except that a torn tail may be closed.
///
/// # Panics
/// On a bug.
pub fn recover<D: Disk>(disk: D, config: NodeConfig) -> Result<Recovered<D>, StartError> {
    let mut identity = None;
    let damage = match open(disk.clone(), config.clone(), &mut identity) {
        Err(StartError::Log(RecoverError::Damage(damage))) if config.cluster.is_some() => damage,
        other => return other,
    };
    // Which streams have lost something cannot be told: the node forgets all but who it is. If it
    // does not know that either, the others tell it.
    let state = state::forgotten(identity.as_ref());
    staunch_log::begin_anew(&disk, state).map_err(RecoverError::from)?;
    let mut recovered = open(disk, config, &mut identity)?;
    recovered.notes.push(Note::LogGivenUp(damage));
    Ok(recovered)
}

/// `identity` is who the node is, as far as that was found, also if it cannot be opened.
fn open<D: Disk>(
    disk: D,
    config: NodeConfig,
    identity: &mut Option<Identity>,
) -> Result<Recovered<D>, StartError> {
    let on_damage = if config.cluster.is_some() || config.accept_loss {
        OnDamage::LackSegments
    } else {
        OnDamage::Refuse
    };
    let mut recovery = staunch_log::recover_with(disk, config.log.clone(), on_damage)?;
    let mut replay = Replay::new(config.seed, config.cluster.is_some());
    let mut is_new = true;
    while let Some(item) = replay.unless_alone(recovery.next(), config.accept_loss)? {
        is_new = false;
        replay.take(item, recovery.payload())?;
        identity.clone_from(&replay.identity);
    }
    if !config.accept_loss {
        replay.check_own()?;
    }
    let cluster = replay.cluster(&config)?;
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
    if let Some(cluster) = &mut node.cluster {
        cluster.groups.left = replay.left;
    }
    node.open_queues_without_log();
    node.doom_transient_queues();
    node.follow_nodes();
    node.catalog.set_limits(node.config.catalog_limits);
    node.refresh_epoch();
    if is_new && node.cluster.is_none() {
        node.bootstrap();
    }
    node.queues.count_memory_of_all();
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
    /// The node is to be one of several.
    is_member: bool,
    /// Who it is, if it knows.
    identity: Option<Identity>,
    /// It has forgotten everything, and who it was.
    is_lost: bool,
    catalog: Catalog,
    /// The same.
    catalog_group: Option<CatalogRebuild>,
    /// Replicated queues.
    groups: BTreeMap<QueueId, Rebuild>,
    /// Replicated queues that it keeps no longer.
    left: BTreeMap<QueueId, Parting>,
    /// Queues that this node alone keeps.
    queues: BTreeMap<QueueId, Queue>,
    /// Records of messages that no longer live: the store counts every record as live at first.
    dead: Vec<(BodyRef, u32)>,
    /// First index of each queue that is found in a young file, else the index behind its last.
    young_from: BTreeMap<QueueId, MessageIndex>,
}

impl Replay {
    fn new(seed: u64, is_member: bool) -> Self {
        Self {
            seed,
            is_member,
            identity: None,
            is_lost: false,
            catalog_group: None,
            groups: BTreeMap::new(),
            left: BTreeMap::new(),
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
                if self.is_member && !accepts_loss =>
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

    fn me(&self) -> Option<NodeId> {
        self.identity.as_ref().map(|identity| identity.node)
    }

    /// The node's part in its cluster, if it is to have one.
    fn cluster(&self, config: &NodeConfig) -> Result<Option<Box<Cluster>>, StartError> {
        let Some(cluster) = &config.cluster else {
            return Ok(None);
        };
        if let Some(identity) = &self.identity {
            if identity.name != cluster.me {
                return Err(StartError::OtherNode {
                    was: identity.name.clone(),
                    is: cluster.me.clone(),
                });
            }
            if identity.is_witness != cluster.is_witness {
                return Err(StartError::OtherKind {
                    was_witness: identity.is_witness,
                });
            }
            if identity.is_removed || self.catalog.is_removed(identity.node) {
                return Err(StartError::Removed);
            }
        }
        let mut cluster = Cluster::new(cluster, self.identity.as_ref(), config.seed);
        if self.is_lost && self.identity.is_none() {
            cluster.lose();
        }
        Ok(Some(Box::new(cluster)))
    }

    /// The node has learnt who it is.
    fn identify(&mut self, identity: Identity) {
        let group = if self.is_lost {
            CatalogRebuild::forgotten()
        } else if identity.is_founder {
            let members = Members::of([identity.node]).expect("one node is a group");
            CatalogRebuild::founding(members)
        } else {
            CatalogRebuild::joining()
        };
        self.catalog_group = Some(group);
        self.identity = Some(identity);
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
                let kept = rebuild.control(payload, in_state);
                let kept = kept.map_err(|source| StartError::Replica { queue, source })?;
                if let Kept::No(parting) = kept {
                    self.leave(queue, parting);
                }
            }
            Item::Control { in_state: true, .. } => {}
            Item::Control {
                stream, payload, ..
            } => {
                // The log says that a deletion is committed before the queue is gone: it may go on
                // for a while, as a member of its group or alone.
                let Some(queue) = self.queues.get_mut(&QueueId(stream.0)) else {
                    return Ok(());
                };
                let command =
                    QueueCommand::decode(&payload).map_err(|source| StartError::Record {
                        stream: stream.0,
                        source,
                    })?;
                let mut released = Vec::new();
                queue.apply_recovered(&command, &mut released);
                self.bury(released);
            }
        }
        Ok(())
    }

    /// What the last checkpoint says.
    fn state(&mut self, bytes: Bytes) -> Result<(), StartError> {
        let state = state::decode(bytes, self.seed)?;
        self.catalog = state.catalog;
        match (state.owner, self.is_member) {
            (Owner::Member(member), true) => {
                let (identity, group) = *member;
                self.catalog_group = Some(CatalogRebuild::from_state(group).0);
                self.identity = Some(identity);
            }
            (Owner::Forgotten(identity), true) => {
                self.catalog_group = Some(CatalogRebuild::forgotten());
                self.identity = Some(identity);
            }
            (Owner::Lost, true) => self.is_lost = true,
            (Owner::Alone, false) | (Owner::Nobody, true) => {}
            (Owner::Alone, true) => return Err(StartError::StoodAlone),
            (Owner::Member(_) | Owner::Forgotten(_) | Owner::Nobody | Owner::Lost, false) => {
                return Err(StartError::WasMember);
            }
        }
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
        if self.is_member && !is_members {
            return Err(StartError::StoodAlone);
        }
        if self.is_member {
            let record = CatalogRecord::decode(payload.clone());
            let record = record.map_err(|source| StartError::Catalog(source.into()))?;
            match (record, &mut self.identity) {
                (CatalogRecord::Identity(identity), None) => {
                    self.identify(identity);
                    return Ok(());
                }
                (CatalogRecord::Identity(found), Some(identity)) => {
                    identity.is_removed |= found.is_removed;
                    return Ok(());
                }
                (
                    CatalogRecord::Entry { .. }
                    | CatalogRecord::HardState(_)
                    | CatalogRecord::Forgotten,
                    known,
                ) => {
                    if known.is_none() {
                        return Err(StartError::NoIdentity);
                    }
                }
            }
        }
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
        for id in &applied.queues_moved {
            self.follow_placement(*id);
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
            KeptQueue::Left(parting) => {
                self.left.insert(id, parting);
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
        let is_here = self.me().is_none_or(|me| placement.members.contains(&me));
        if !is_here {
            return;
        }
        if placement.is_replicated {
            let members = Members::of(placement.members.iter().copied());
            let members = members.expect("a placement names its members once");
            let stream = StreamId(entry.id.0);
            let settings = settings_of(entry);
            let left = &mut self.left;
            self.groups.entry(entry.id).or_insert_with(|| {
                if placement.changes == 0 {
                    Rebuild::founding(stream, members, &settings)
                } else {
                    Rebuild::joining(stream, left.remove(&entry.id), &settings)
                }
            });
        } else if is_logged(entry) {
            self.queues
                .entry(entry.id)
                .or_insert_with(|| Queue::recovering(&settings_of(entry)));
        }
    }

    /// A queue is to be kept by other nodes. What this node has of a group that goes on without it
    /// stays until the log says otherwise.
    fn follow_placement(&mut self, id: QueueId) {
        let Some(entry) = self.catalog.queue_by_id(id).cloned() else {
            return;
        };
        if !entry.placement.is_replicated {
            self.remove(id);
        }
        self.begin(&entry);
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

    /// The node has left a group. The catalog may be ahead of the log, and want it there again.
    fn leave(&mut self, id: QueueId, parting: Parting) {
        self.remove(id);
        self.left.insert(id, parting);
        if let Some(entry) = self.catalog.queue_by_id(id).cloned() {
            self.begin(&entry);
        }
    }

    fn remove(&mut self, id: QueueId) {
        self.left.remove(&id);
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
}
