//! The catalog's group on one node.
//!
//! Like a queue's [`Replica`](crate::Replica), but the state is the caller's: the catalog of its
//! node, which applies what [`CatalogEffects::events`] says, in order. Its entries are
//! [`Batch`]es; there are no messages, so that a record of the log holds all of an entry.
//!
//! What a batch makes, such as a queue, gets records of its own in the same log. So that a restart
//! finds the queue before it finds what is in it, the log says that a batch is committed before
//! the batch is handed out to be applied, and a restart applies what it knows to be committed when
//! it reads that ([`CatalogRebuild::control`]).

mod batch;
mod rebuild;
mod record;
mod state;

pub use batch::{BATCH_SIZE_BYTES_MAX, Batch, BatchError, OnRefusal};
pub use rebuild::CatalogRebuild;
pub use record::{CatalogRecord, CatalogRecordError, Identity, is_catalog_record};
pub use state::CatalogState;

use std::collections::VecDeque;

use bytes::Bytes;
use staunch_log::{ChunkId, Store, StreamId};
use staunch_raft::{
    Body, Config, Entry, Group, HardState, LogPosition, Message, Payload, Persist, ProposeError,
    ReadyNumber, Restored, RoleChange, SnapshotMeta,
};
use staunch_types::{LogIndex, NodeId};

use crate::order::{Written, in_order};
use crate::replica::TakeError;

/// The catalog's group. See the module's description.
pub struct CatalogReplica {
    group: Group,
    /// Entries that are in the log and not applied, without a gap.
    logged: VecDeque<(LogPosition, Payload)>,
    /// The hard state that was written last.
    persisted_state: HardState,
    /// The catalog as another member has sent it.
    staged: Option<(SnapshotMeta, Bytes)>,
    /// The group has been offered it, and may be about to adopt it.
    is_offered: bool,
    adopting: Option<Adopting>,
    /// What waits for the disk.
    writing: VecDeque<(ChunkId, ReadyNumber)>,
    /// The last that was appended and is not sealed.
    unsealed: Option<ReadyNumber>,
}

/// A snapshot that is not durable.
#[derive(Debug)]
struct Adopting {
    number: ReadyNumber,
    meta: SnapshotMeta,
    /// A checkpoint under way contains it.
    is_covered: bool,
}

/// What happens to the catalog.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogEvent {
    /// It was agreed on.
    Apply(Batch),
    /// The catalog is to be replaced by this one, which another member has sent
    /// ([`staunch_broker::Catalog::decode_whole`]): a checkpoint is due, and until it is on disk
    /// the group is deaf.
    Adopt(Bytes),
}

/// What came of driving the group, for the caller to take.
#[derive(Debug, Default)]
pub struct CatalogEffects {
    /// To be sent; may be lost.
    pub send: Vec<Message>,
    /// Role, term or leader have changed: the last change.
    pub role: Option<RoleChange>,
    /// To be done to the catalog, in order, before anything else.
    pub events: Vec<CatalogEvent>,
    /// A member that needs the whole catalog.
    pub needs_snapshot: Option<NodeId>,
}

impl CatalogReplica {
    fn with_parts(group: Group, logged: VecDeque<(LogPosition, Payload)>) -> Self {
        Self {
            persisted_state: group.hard_state(),
            group,
            logged,
            staged: None,
            is_offered: false,
            adopting: None,
            writing: VecDeque::new(),
            unsealed: None,
        }
    }

    /// A member that remembers nothing: until it has got the whole catalog from a leader who knows
    /// that ([`Group::member_forgot`]) it is out of service.
    pub(crate) fn forgotten(config: Config) -> Self {
        let group = Group::new(config, Restored::joining()).expect("nothing is sound");
        let mut replica = Self::with_parts(group, VecDeque::new());
        replica.group.forget();
        replica
    }

    /// The log cannot be trusted: the member forgets everything, and says so in the log.
    ///
    /// # Panics
    /// If it leads and is in service.
    pub fn forget(&mut self, store: &mut Store) {
        self.group.forget();
        self.logged.clear();
        self.persisted_state = HardState::default();
        (self.staged, self.is_offered) = (None, false);
        self.adopting = None;
        self.writing.clear();
        self.unsealed = None;
        append(store, &CatalogRecord::Forgotten);
    }

    /// Whether it has forgotten everything, or is out of service for another reason.
    #[must_use]
    pub fn has_forgotten(&self) -> bool {
        self.group.is_quarantined()
    }

    /// The group: roles, members, progress.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The group, for what needs no catalog: ticks, suspicions, sleep, handing over. Call
    /// [`CatalogReplica::advance`] afterwards.
    pub fn group_mut(&mut self) -> &mut Group {
        &mut self.group
    }

    /// Takes a message of a peer.
    ///
    /// # Errors
    /// [`TakeError`]; the message has had no effect, or the group is out of service. A member that
    /// cannot read an entry takes nothing from it on: better to lag than to differ.
    pub fn take(&mut self, message: Message) -> Result<(), TakeError> {
        if let Body::Snapshot(meta) = &message.body
            && self
                .staged
                .as_ref()
                .is_none_or(|(staged, _)| staged != meta)
        {
            return Err(TakeError::NotStaged);
        }
        self.is_offered |= matches!(message.body, Body::Snapshot(_));
        if self.has_forgotten() {
            return match message.body {
                Body::Snapshot(_) => Ok(self.group.relearn(message)?),
                _ => Ok(()),
            };
        }
        if let Body::Append(append) = &message.body {
            for entry in &append.entries {
                if let Payload::Data(data) = &entry.payload {
                    Batch::decode(data)?;
                }
            }
        }
        Ok(self.group.step(message)?)
    }

    /// Proposes a batch.
    ///
    /// # Errors
    /// [`ProposeError`]; it has had no effect.
    pub fn propose(&mut self, batch: &Batch) -> Result<(), ProposeError> {
        self.group.propose(batch.encode())
    }

    /// Does what is due, until nothing is.
    ///
    /// # Panics
    /// On a bug.
    pub fn advance(&mut self, store: &mut Store, effects: &mut CatalogEffects) {
        while let Some(ready) = self.group.poll() {
            effects.role = ready.role.or(effects.role);
            if let Some(persist) = ready.persist {
                self.persist(persist, store, effects);
            }
            effects.send.extend(ready.send);
            self.note_commit(&ready.committed, store);
            for entry in &ready.committed {
                self.apply(entry, effects);
            }
            if let Some(fetch) = ready.fetch {
                // What is not in memory any more is not read back: the member gets the catalog.
                self.group.compact(fetch.last);
            }
            effects.needs_snapshot = ready.needs_snapshot.or(effects.needs_snapshot);
        }
        self.is_offered = false;
    }

    /// What was appended to the store is in this chunk and those before it.
    pub fn sealed(&mut self, chunk: ChunkId) {
        if let Some(number) = self.unsealed.take() {
            self.writing.push_back((chunk, number));
        }
    }

    /// Whether something was appended that is not sealed.
    #[must_use]
    pub fn has_unsealed(&self) -> bool {
        self.unsealed.is_some()
    }

    /// The store's chunks up to `chunk` are on disk. [`CatalogReplica::advance`] follows.
    pub fn persisted(&mut self, chunk: ChunkId) {
        let mut reached = None;
        while let Some((_, number)) = self.writing.pop_front_if(|(of, _)| *of <= chunk) {
            reached = Some(number);
        }
        if let Some(number) = reached {
            self.group.persisted(number);
        }
    }

    /// Whether a call of [`CatalogReplica::persisted`] is waited for.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.writing.is_empty()
    }

    /// Whether a checkpoint is waited for.
    #[must_use]
    pub fn awaits_checkpoint(&self) -> bool {
        self.adopting.is_some()
    }

    /// What a checkpoint says of it, beside the catalog. Entries that are not applied are appended
    /// once more before, for the files that hold them may go; the caller seals afterwards.
    pub fn checkpoint(&mut self, store: &mut Store) {
        for (position, payload) in &self.logged {
            let (position, payload) = (*position, payload.clone());
            append(store, &CatalogRecord::Entry { position, payload });
        }
        if let Some(adopting) = &mut self.adopting {
            adopting.is_covered = true;
        }
    }

    /// The state as it is now; `catalog` is all of it
    /// ([`staunch_broker::Catalog::encode_whole`]).
    #[must_use]
    pub fn state_now(&self, catalog: Bytes) -> CatalogState {
        let adopting = self.adopting.as_ref().map(|it| it.meta.clone());
        let meta = adopting.unwrap_or_else(|| self.group.snapshot_meta());
        let mut hard_state = self.group.hard_state();
        hard_state.commit = hard_state.commit.max(meta.last.index);
        CatalogState {
            meta,
            hard_state,
            catalog,
        }
    }

    /// The checkpoint is on disk: entries up to `applied` will not be found by a restart.
    pub fn compact(&mut self, applied: LogIndex) {
        self.group.compact(applied);
    }

    /// The checkpoint is on disk for which [`CatalogReplica::checkpoint`] was called last.
    pub fn checkpointed(&mut self) {
        if let Some(adopting) = self.adopting.take_if(|it| it.is_covered) {
            self.group.persisted(adopting.number);
        }
    }

    /// The whole catalog has come from another member, who may offer it to the group now. The
    /// caller has found that it can be read.
    pub fn stage(&mut self, state: CatalogState) {
        // Another will be asked for if this is not what the group adopts.
        if !self.is_offered {
            self.staged = Some((state.meta, state.catalog));
        }
    }

    fn persist(&mut self, persist: Persist, store: &mut Store, effects: &mut CatalogEffects) {
        let Persist {
            number,
            hard_state,
            install,
            append: entries,
        } = persist;
        self.persisted_state = hard_state.unwrap_or(self.persisted_state);
        if let Some(meta) = install {
            assert!(entries.is_empty(), "a group that adopts a state is deaf");
            let (staged, catalog) = self.staged.take().expect("it was staged");
            assert_eq!(staged, meta, "what was offered is what was staged");
            self.logged.clear();
            effects.events.push(CatalogEvent::Adopt(catalog));
            let is_covered = false;
            self.adopting = Some(Adopting {
                number,
                meta,
                is_covered,
            });
            return;
        }
        for written in in_order(hard_state, entries) {
            match written {
                Written::HardState(state) => append(store, &CatalogRecord::HardState(state)),
                Written::Entry(entry) => self.append_entry(entry, store),
            }
        }
        self.unsealed = Some(number);
    }

    fn append_entry(&mut self, entry: Entry, store: &mut Store) {
        let is_replaced = |position: &LogPosition| position.index >= entry.index;
        while (self.logged)
            .pop_back_if(|(position, _)| is_replaced(position))
            .is_some()
        {}
        if let Some((last, _)) = self.logged.back() {
            assert_eq!(last.index.next(), entry.index, "no gaps");
        }
        let position = entry.position();
        let payload = entry.payload;
        self.logged.push_back((position, payload.clone()));
        append(store, &CatalogRecord::Entry { position, payload });
    }

    /// Says in the log that entries are committed that are about to be applied.
    fn note_commit(&mut self, committed: &[Entry], store: &mut Store) {
        let changes = |entry: &Entry| !matches!(entry.payload, Payload::Blank);
        if let Some(last) = committed.last()
            && last.index > self.persisted_state.commit
            && committed.iter().any(changes)
        {
            self.persisted_state.commit = last.index;
            append(store, &CatalogRecord::HardState(self.persisted_state));
        }
    }

    fn apply(&mut self, entry: &Entry, effects: &mut CatalogEffects) {
        let (position, payload) = (self.logged)
            .pop_front()
            .expect("what is committed is in the log");
        assert_eq!(position, entry.position(), "entries are applied in order");
        match &payload {
            Payload::Change(change) => {
                self.group.apply_change(entry.index, change);
            }
            Payload::Blank => self.group.applied(entry.index),
            Payload::Data(data) => {
                let batch = Batch::decode(data).expect("it was checked");
                effects.events.push(CatalogEvent::Apply(batch));
                self.group.applied(entry.index);
            }
        }
    }
}

fn append(store: &mut Store, record: &CatalogRecord) {
    store.append_control(StreamId::CATALOG, &record.encode());
}
