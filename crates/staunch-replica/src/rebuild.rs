//! From what a restart finds in the log back to a replica and its queue.
//!
//! The last checkpoint's [`ReplicaState`] comes first, or the group is founded anew; then the
//! messages of the segments, then records and messages of the young files in log order. Entries
//! that are known to be committed are applied at once, so that only the last few are held in
//! memory with their bodies. What the young files say from before the checkpoint is known by the
//! indexes: entries up to the state's are in it.
//!
//! An entry is found twice where it was written again because its file was to go: same index, same
//! term, and what follows it stays. One of another term replaces it and all that follows. The last entry
//! may lack messages, if the write that brought it was torn; nobody was told of it.
//!
//! An entry that the state has passed may be one of those that were committed, or one that another
//! took the place of. As long as entries replace each other, what is found last is right. It is not
//! where the whole queue came from another member: an entry that was never committed may have been
//! written again behind the bodies that came. So a message that lies in a segment, or came without
//! an entry, is believed; nobody moves or sends one that is not committed.
//!
//! A replica that lacks something which it had promised to keep has forgotten everything, and must
//! be built anew from the others.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use staunch_broker::{Arrival, DecodeError, EntryHead, META_SIZE_BYTES, Queue, QueueSettings};
use staunch_log::{FileId, StreamId};
use staunch_raft::{
    Config, Group, HardState, LogPosition, Members, Payload, Restored as RestoredGroup,
    RestoredEntry, SnapshotMeta, state::RestoreError,
};
use staunch_types::{BodyRef, LogIndex, MessageIndex};

use crate::catalog::{BatchError, CatalogRecordError};
use crate::data::{EntryData, EntryMessage};
use crate::record::{Content, Parting, Record, RecordError};
use crate::replica::{Logged, Replica};
use crate::state::{ReplicaState, StateError};

/// A replica that is being rebuilt.
#[derive(Debug)]
pub struct Rebuild {
    stream: StreamId,
    hard_state: HardState,
    members: Members,
    /// The last entry in `queue`.
    applied: LogPosition,
    queue: Queue,
    /// Messages below it are in the checkpoint's state or gone.
    base: MessageIndex,
    /// Entries after `applied`.
    found: VecDeque<Found>,
    /// Where the entry stands in `found` whose messages come next.
    open: Option<usize>,
    /// The messages that come next belong to an entry.
    follows_entry: bool,
    /// Messages that were committed for certain.
    believed: Indexes,
    /// A second copy of a whole entry, and where that stands, until the copy is whole too.
    copy: Option<(usize, Found)>,
    dead: Vec<(BodyRef, u32)>,
    has_forgotten: bool,
    /// Of one that joins the group again.
    pledged: LogPosition,
}

/// Whether a node has still something of a queue after a record of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It has.
    Yes,
    /// It has left the group: the caller [buries](Rebuild::bury) what was found.
    No(Parting),
}

#[derive(Debug)]
struct Found {
    position: LogPosition,
    content: Content,
    messages: Vec<(Arrival, EntryMessage)>,
}

/// A set of indexes, small where they follow each other: the first of each run, and its end.
#[derive(Debug, Default)]
struct Indexes(BTreeMap<u64, u64>);

impl Indexes {
    fn contains(&self, index: MessageIndex) -> bool {
        let run = self.0.range(..=index.0).next_back();
        run.is_some_and(|(_, end)| index.0 < *end)
    }

    fn insert(&mut self, index: MessageIndex) {
        if self.contains(index) {
            return;
        }
        let end = self.0.remove(&(index.0 + 1)).unwrap_or(index.0 + 1);
        let before = self.0.range_mut(..index.0).next_back();
        match before.filter(|(_, end)| **end == index.0) {
            Some((_, its_end)) => *its_end = end,
            None => {
                self.0.insert(index.0, end);
            }
        }
    }
}

impl Found {
    fn is_whole(&self) -> bool {
        self.messages.len() == self.content.message_count() as usize
    }
}

/// A replica as it was.
pub struct Rebuilt {
    /// The group and its log.
    pub replica: Replica,
    /// The queue, as a follower.
    pub queue: Queue,
    /// Messages in the log that nothing refers to: to be released.
    pub dead: Vec<(BodyRef, u32)>,
    /// What is missing, or wrong: the replica has forgotten everything ([`Replica::forget`]).
    pub damage: Option<RebuildError>,
}

/// Why a replica cannot go on from what is on its disk: it must be built anew from the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// The checkpoint's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A record of the log.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A record of the catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogRecordError),
    /// An entry of the catalog.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// What is kept beside a message.
    #[error("message: {0}")]
    Message(#[from] DecodeError),
    /// What was found cannot have been written by a group.
    #[error("{0}")]
    Group(String),
    /// It was found to be damaged before.
    #[error("it was damaged before, and is not repaired yet")]
    Forgotten,
    /// Bodies are missing.
    #[error("{count} messages from index {first} are missing")]
    Missing {
        /// The first.
        first: MessageIndex,
        /// How many in a row.
        count: u64,
    },
}

impl From<RestoreError> for RebuildError {
    fn from(error: RestoreError) -> Self {
        Self::Group(error.to_string())
    }
}

impl Rebuild {
    /// A group that no checkpoint knows: it begins with these members.
    pub fn founding(stream: StreamId, members: Members, settings: &QueueSettings) -> Self {
        let RestoredGroup {
            hard_state,
            compacted,
            ..
        } = RestoredGroup::founding(members.clone());
        Self::with_queue(
            stream,
            hard_state,
            (compacted, members),
            Queue::following(settings),
        )
    }

    /// A group that exists, of which this node is to become a member: it knows nothing yet. If it
    /// was one before, it keeps to what it had promised.
    pub fn joining(stream: StreamId, before: Option<Parting>, settings: &QueueSettings) -> Self {
        let restored = match before {
            None => RestoredGroup::joining(),
            Some(Parting::At(left)) => RestoredGroup::rejoining(left),
            Some(Parting::Forgotten) => return Self::forgotten(stream, settings),
        };
        let mut rebuild = Self::with_queue(
            stream,
            restored.hard_state,
            (restored.compacted, restored.members),
            Queue::following(settings),
        );
        rebuild.pledged = restored.pledged;
        rebuild
    }

    /// A group as a checkpoint has it.
    ///
    /// # Errors
    /// [`RebuildError::State`].
    pub fn from_state(
        stream: StreamId,
        state: ReplicaState,
        settings: &QueueSettings,
    ) -> Result<Self, RebuildError> {
        let queue = state.queue(settings)?;
        let SnapshotMeta { last, members } = state.meta;
        let mut rebuild = Self::with_queue(stream, state.hard_state, (last, members), queue);
        rebuild.pledged = state.pledged;
        Ok(rebuild)
    }

    fn with_queue(
        stream: StreamId,
        hard_state: HardState,
        (applied, members): (LogPosition, Members),
        queue: Queue,
    ) -> Self {
        Self {
            stream,
            hard_state,
            members,
            applied,
            base: queue.next_index(),
            queue,
            found: VecDeque::new(),
            open: None,
            follows_entry: false,
            believed: Indexes::default(),
            copy: None,
            dead: Vec::new(),
            has_forgotten: false,
            pledged: LogPosition::default(),
        }
    }

    /// A replica that has forgotten everything, as a checkpoint says.
    #[must_use]
    pub fn forgotten(stream: StreamId, settings: &QueueSettings) -> Self {
        let nothing = (LogPosition::default(), Members::default());
        let queue = Queue::following(settings);
        let mut rebuild = Self::with_queue(stream, HardState::default(), nothing, queue);
        rebuild.has_forgotten = true;
        rebuild
    }

    /// A control record of the stream. `in_state`: the log says that the checkpoint was taken
    /// after it.
    ///
    /// # Errors
    /// [`RebuildError::Record`].
    pub fn control(&mut self, payload: Bytes, in_state: bool) -> Result<Kept, RebuildError> {
        // An entry's messages follow it at once; what lacks some was torn.
        self.open = None;
        self.drop_copy();
        let record = Record::decode(payload)?;
        self.follows_entry = matches!(record, Record::Entry { .. });
        match record {
            Record::Forgotten => {
                for old in std::mem::take(&mut self.found) {
                    self.discard(old);
                }
                self.has_forgotten |= !in_state;
            }
            Record::HardState(_) | Record::Left(_) if in_state => {}
            Record::Left(parting) => return Ok(Kept::No(parting)),
            _ if self.has_forgotten => {}
            Record::HardState(state) => {
                self.hard_state = state;
                self.apply_committed();
            }
            Record::Entry { position, content } => self.entry(position, content),
        }
        Ok(Kept::Yes)
    }

    fn entry(&mut self, position: LogPosition, content: Content) {
        let Some(at) = position.index.0.checked_sub(self.applied.index.0 + 1) else {
            // It is in the state, and cut off whatever followed the one it replaced: terms never
            // descend in a log.
            let stale = (self.found.iter()).position(|found| found.position.term < position.term);
            for old in self.found.split_off(stale.unwrap_or(self.found.len())) {
                self.discard(old);
            }
            return;
        };
        if position.term < self.applied.term {
            return;
        }
        let at = usize::try_from(at).expect("a log in memory is small");
        let messages = Vec::new();
        let entry = Found {
            position,
            content,
            messages,
        };
        let same = self.found.get(at).filter(|it| it.position == position);
        if same.is_some_and(Found::is_whole) {
            if !entry.is_whole() {
                self.copy = Some((at, entry));
            }
            return;
        }
        if at <= self.found.len() {
            for old in self.found.split_off(at) {
                self.discard(old);
            }
            self.found.push_back(entry);
        } else {
            // It follows entries in a file that is gone; it will be found again, written anew with
            // them.
            return;
        }
        self.open = (!self.found[at].is_whole()).then_some(at);
    }

    fn drop_copy(&mut self) {
        if let Some((_, copy)) = self.copy.take() {
            self.discard(copy);
        }
    }

    fn discard(&mut self, entry: Found) {
        let bodies = entry.messages.into_iter();
        self.dead
            .extend(bodies.map(|(arrival, _)| (arrival.body, arrival.size_bytes)));
    }

    /// A message of the stream; `stored` is its stored form, if the log has it at hand.
    ///
    /// # Errors
    /// [`RebuildError::Message`].
    ///
    /// # Panics
    /// On a bug in this module only.
    pub fn message(
        &mut self,
        index: MessageIndex,
        (body, size_bytes): (BodyRef, u32),
        meta: [u8; META_SIZE_BYTES],
        stored: Option<&[u8]>,
    ) -> Result<(), RebuildError> {
        let arrival = Arrival::from_meta(body, size_bytes, meta)?;
        if self.has_forgotten {
            self.dead.push((body, size_bytes));
            return Ok(());
        }
        if let (Some((_, copy)), Some(stored)) = (&mut self.copy, stored) {
            let stored = Bytes::copy_from_slice(stored);
            copy.messages.push((arrival, EntryMessage { meta, stored }));
            if copy.is_whole() {
                let (at, copy) = self.copy.take().expect("it is there");
                let old = std::mem::replace(&mut self.found[at], copy);
                self.discard(old);
            }
            return Ok(());
        }
        if let (Some(at), Some(stored)) = (self.open, stored) {
            let entry = &mut self.found[at];
            let stored = Bytes::copy_from_slice(stored);
            entry
                .messages
                .push((arrival, EntryMessage { meta, stored }));
            if entry.is_whole() {
                self.open = None;
                self.apply_committed();
            }
            return Ok(());
        }
        let is_doubtful = self.follows_entry && stored.is_some();
        if index >= self.base || (is_doubtful && self.believed.contains(index)) {
            self.dead.push((body, size_bytes));
            return Ok(());
        }
        if !is_doubtful {
            self.believed.insert(index);
        }
        if let Some((_, body, size_bytes)) = self.queue.restore_over(index, arrival) {
            self.dead.push((body, size_bytes));
        }
        Ok(())
    }

    /// Applies what is known to be committed, up to a change of the members, which is the
    /// group's to apply.
    fn apply_committed(&mut self) {
        while let Some(entry) = self.found.front() {
            let is_due = entry.position.index <= self.hard_state.commit
                && entry.is_whole()
                && !matches!(entry.content, Content::Change(_))
                && self.copy.is_none();
            if !is_due {
                return;
            }
            let entry = self.found.pop_front().expect("it is there");
            self.open = self.open.map(|at| at - 1);
            self.applied = entry.position;
            if let Content::Data(head) = &entry.content {
                let arrivals: Vec<_> = entry.messages.iter().map(|(arrival, _)| *arrival).collect();
                let mut released = Vec::new();
                self.queue.apply_entry(head, &arrivals, &mut released);
                let bodies = released.into_iter();
                self.dead
                    .extend(bodies.map(|(_, body, size_bytes)| (body, size_bytes)));
            }
        }
    }

    /// Everything was found. If this disk does not hold what its node had promised, it is a replica
    /// that has forgotten all, and [`Rebuilt::damage`] says why.
    pub fn finish(mut self, config: Config, settings: &QueueSettings) -> Rebuilt {
        self.drop_copy();
        if let Some(torn) = self.found.iter().position(|entry| !entry.is_whole()) {
            for old in self.found.split_off(torn) {
                self.discard(old);
            }
        }
        self.apply_committed();
        let mut next_message = self.queue.next_index();
        let mut logged = VecDeque::new();
        for entry in std::mem::take(&mut self.found) {
            next_message = MessageIndex(next_message.0 + entry.messages.len() as u64);
            logged.push_back(entry.into_logged());
        }
        match self.group(config, &logged) {
            Ok(group) => Rebuilt {
                replica: Replica::with_parts(group, self.stream, logged, next_message),
                queue: self.queue,
                dead: self.dead,
                damage: None,
            },
            Err(damage) => {
                let messages = logged.iter().flat_map(|entry| &entry.messages);
                let messages = messages.map(|arrival| (arrival.body, arrival.size_bytes));
                self.dead.extend(messages);
                let (replica, queue) = Replica::forgotten(config, self.stream, settings);
                Rebuilt {
                    replica,
                    queue,
                    dead: self.bury(),
                    damage: Some(damage),
                }
            }
        }
    }

    fn group(&self, config: Config, logged: &VecDeque<Logged>) -> Result<Group, RebuildError> {
        if self.has_forgotten {
            return Err(RebuildError::Forgotten);
        }
        if let Some((first, count)) = self.queue.missing().first() {
            let (first, count) = (*first, *count);
            return Err(RebuildError::Missing { first, count });
        }
        let restored = RestoredGroup {
            hard_state: self.hard_state,
            members: self.members.clone(),
            compacted: self.applied,
            entries: logged.iter().map(restored_entry).collect(),
            applied: self.applied.index,
            pledged: self.pledged,
        };
        Ok(Group::new(config, restored)?)
    }

    /// The queue is gone: all that was found of it.
    pub fn bury(mut self) -> Vec<(BodyRef, u32)> {
        self.drop_copy();
        for found in std::mem::take(&mut self.found) {
            self.discard(found);
        }
        let live = self.queue.live_from(MessageIndex(0));
        self.dead
            .extend(live.map(|(_, body, size_bytes)| (body, size_bytes)));
        self.dead
    }

    /// The last entry that was applied so far.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied.index
    }
}

impl Found {
    fn into_logged(self) -> Logged {
        let (arrivals, messages): (Vec<_>, Vec<_>) = self.messages.into_iter().unzip();
        let (payload, head) = match self.content {
            Content::Blank => (Payload::Blank, None),
            Content::Change(change) => (Payload::Change(change), None),
            Content::Data(head) => payload_of(head, messages),
        };
        Logged {
            position: self.position,
            payload,
            head,
            messages: arrivals,
            file: FileId::default(),
        }
    }
}

fn payload_of(head: EntryHead, messages: Vec<EntryMessage>) -> (Payload, Option<EntryHead>) {
    let data = EntryData { head, messages };
    (Payload::Data(data.encode()), Some(data.head))
}

fn restored_entry(logged: &Logged) -> RestoredEntry {
    RestoredEntry {
        term: logged.position.term,
        payload: Some(logged.payload.clone()),
    }
}
