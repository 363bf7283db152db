//! Drives one group: entries to the log and, committed, to the queue.
//!
//! The queue and the node's store are the caller's and lent for each call. A call of
//! [`Replica::advance`] follows every input; what it appended to the store is on disk when the
//! chunk is that the caller names in [`Replica::sealed`].

use std::collections::VecDeque;

use staunch_broker::{Arrival, EntryHead, Origin, Queue, QueueSettings};
use staunch_log::{ChunkId, FileId, RecordMeta, Retiring, Store, StreamId};
use staunch_raft::{
    Body, Change, ChangeError, Config, Entry, Group, HardState, LogPosition, Message, Payload,
    Persist, ProposeError, ReadyNumber, Restored, RoleChange, SnapshotMeta, StepError,
};
use staunch_types::{BodyRef, LogIndex, MessageIndex, NodeId, Term};

use crate::catalog::BatchError;
use crate::data::{DataError, EntryData};
use crate::order::{Written, in_order};
use crate::record::{Content, Parting, Record};
use crate::state::ReplicaState;
use crate::transfer::{Staging, release_all};

/// A queue's group on this node. See the module's description.
pub struct Replica {
    pub(crate) group: Group,
    pub(crate) stream: StreamId,
    /// Entries that are in the log and not applied, without a gap.
    logged: VecDeque<Logged>,
    /// Index of the first message of the next entry.
    pub(crate) next_message: MessageIndex,
    /// The hard state that was written last.
    pub(crate) persisted_state: HardState,
    /// The queue as it comes from another member.
    pub(crate) staging: Option<Box<Staging>>,
    /// A snapshot was adopted, and is durable with the next checkpoint.
    pub(crate) adopting: Option<Adopting>,
    /// What waits for the disk.
    writing: VecDeque<(ChunkId, ReadyNumber)>,
    /// The last that was appended and is not sealed.
    unsealed: Option<ReadyNumber>,
    /// The term in which the queue leads.
    led_term: Option<Term>,
}

/// A snapshot that is not durable.
#[derive(Debug)]
pub(crate) struct Adopting {
    number: ReadyNumber,
    /// What the queue's state is, which the group does not call applied yet.
    pub(crate) meta: SnapshotMeta,
    /// A checkpoint under way contains it.
    is_covered: bool,
}

/// An entry in the log.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) position: LogPosition,
    pub(crate) payload: Payload,
    /// Of data.
    pub(crate) head: Option<EntryHead>,
    /// Its messages, where the log has them.
    pub(crate) messages: Vec<Arrival>,
    /// The file of the log in which it begins, or one before that.
    pub(crate) file: FileId,
}

/// What came of driving a replica, for the caller to take.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "events that may come together, in any combination"
)]
pub struct Effects {
    /// To be sent; may be lost.
    pub send: Vec<Message>,
    /// Role, term or leader have changed: the last change.
    pub role: Option<RoleChange>,
    /// The queue began to lead: its consumers may be told so.
    pub began_to_lead: bool,
    /// Committed and applied: messages of these origins up to these numbers.
    pub heard: Vec<(Origin, u64)>,
    /// Entries were applied.
    pub applied: bool,
    /// The members have changed.
    pub members_changed: bool,
    /// A member that needs the queue's whole state.
    pub needs_snapshot: Option<NodeId>,
    /// The queue was replaced by what another member had sent: a checkpoint is due, and until it
    /// is on disk the group is deaf.
    pub adopted: bool,
}

/// Why a message of a peer was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    /// The group refuses it.
    #[error(transparent)]
    Step(#[from] StepError),
    /// An entry makes no sense.
    #[error(transparent)]
    Data(#[from] DataError),
    /// An entry of the catalog's group makes no sense.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A snapshot is offered that this member has not got, or has lost: the leader is to
    /// [withdraw](Group::withdraw_snapshot) it.
    #[error("the state that is offered is not here")]
    NotStaged,
}

impl Replica {
    pub(crate) fn with_parts(
        group: Group,
        stream: StreamId,
        logged: VecDeque<Logged>,
        next_message: MessageIndex,
    ) -> Self {
        Self {
            persisted_state: group.hard_state(),
            group,
            stream,
            logged,
            next_message,
            staging: None,
            adopting: None,
            writing: VecDeque::new(),
            unsealed: None,
            led_term: None,
        }
    }

    /// A replica that remembers nothing, and its queue.
    pub(crate) fn forgotten(
        config: Config,
        stream: StreamId,
        settings: &QueueSettings,
    ) -> (Self, Queue) {
        let group = Group::new(config, Restored::joining()).expect("nothing is sound");
        let queue = Queue::following(settings);
        let mut replica = Self::with_parts(group, stream, VecDeque::new(), queue.next_index());
        replica.group.forget();
        (replica, queue)
    }

    /// The log cannot be trusted: the replica forgets everything, and says so in the log. It is out
    /// of service until it has got the queue from a leader who knows that
    /// ([`Group::member_forgot`]); as long as it has not, a restart finds it as it is now.
    ///
    /// # Panics
    /// If it leads and is in service.
    pub fn forget(&mut self, store: &mut Store, queue: &mut Queue, settings: &QueueSettings) {
        self.group.forget();
        self.drop_staging(store);
        self.bury_logged(store);
        release_all(queue, store);
        *queue = Queue::following(settings);
        self.next_message = queue.next_index();
        self.persisted_state = HardState::default();
        self.adopting = None;
        self.writing.clear();
        self.unsealed = None;
        self.led_term = None;
        self.append_record(store, &Record::Forgotten);
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

    /// The group, for what needs no queue: ticks, suspicions, sleep, handing over. Call
    /// [`Replica::advance`] afterwards.
    pub fn group_mut(&mut self) -> &mut Group {
        &mut self.group
    }

    /// Takes a message of a peer.
    ///
    /// # Errors
    /// [`TakeError`]; the message has had no effect, or the group is out of service.
    pub fn take(&mut self, message: Message) -> Result<(), TakeError> {
        // A snapshot is offered to whoever has it; it may have been lost since.
        if let Body::Snapshot(meta) = &message.body {
            if !self.has_staged(meta) {
                return Err(TakeError::NotStaged);
            }
            if self.has_forgotten() {
                return Ok(self.group.relearn(message)?);
            }
        }
        if let Body::Append(append) = &message.body {
            for entry in &append.entries {
                if let Payload::Data(data) = &entry.payload {
                    check(&EntryData::decode(data)?)?;
                }
            }
        }
        Ok(self.group.step(message)?)
    }

    /// Proposes what happened to the queue.
    ///
    /// # Errors
    /// [`ProposeError`]; it has had no effect.
    pub fn propose(&mut self, data: &EntryData) -> Result<(), ProposeError> {
        self.group.propose(data.encode())
    }

    /// Proposes other members.
    ///
    /// # Errors
    /// [`ChangeError`]; it has had no effect.
    pub fn propose_change(&mut self, change: &Change) -> Result<(), ChangeError> {
        self.group.propose_change(change)
    }

    /// Does what is due, until nothing is, or the queue leads and should not any more: the caller
    /// is to [let it follow](Replica::depose) and to call again.
    ///
    /// # Panics
    /// If it [is deposed](Replica::is_deposed), or on a bug.
    pub fn advance(&mut self, store: &mut Store, queue: &mut Queue, effects: &mut Effects) {
        assert!(!self.is_deposed(), "who leads no longer follows first");
        while !self.is_deposed()
            && let Some(ready) = self.group.poll()
        {
            effects.role = ready.role.or(effects.role);
            if let Some(persist) = ready.persist {
                self.persist(persist, store, queue, effects);
            }
            effects.send.extend(ready.send);
            for entry in ready.committed {
                self.apply(&entry, store, queue, effects);
            }
            if let Some(fetch) = ready.fetch {
                // What is not in memory any more is not read back: the member gets the state.
                self.group.compact(fetch.last);
            }
            effects.needs_snapshot = ready.needs_snapshot.or(effects.needs_snapshot);
            self.lead_if_due(queue, effects);
        }
        self.lead_if_due(queue, effects);
    }

    /// Makes a queue follow that leads and should not: consumers and what they held are forgotten
    /// by it, and everything that was not committed is back in its place.
    ///
    /// # Panics
    /// If it leads nothing.
    pub fn depose(&mut self, queue: &mut Queue) {
        assert!(self.led_term.take().is_some(), "it leads");
        queue.follow();
    }

    /// The term in which the queue leads.
    #[must_use]
    pub fn led_term(&self) -> Option<Term> {
        self.led_term
    }

    /// Whether the queue leads and the group has found another leader, or none, or leads in
    /// another term: a queue leads within one term only.
    #[must_use]
    pub fn is_deposed(&self) -> bool {
        let serves = self.group.is_serving();
        let term = self.group.role_now().term;
        self.led_term.is_some_and(|led| !serves || led != term)
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

    /// The store's chunks up to `chunk` are on disk. [`Replica::advance`] follows.
    pub fn persisted(&mut self, chunk: ChunkId) {
        let mut reached = None;
        while let Some((_, number)) = self.writing.pop_front_if(|(of, _)| *of <= chunk) {
            reached = Some(number);
        }
        if let Some(number) = reached {
            self.group.persisted(number);
        }
    }

    /// Whether a call of [`Replica::persisted`] is waited for, and of which chunk.
    #[must_use]
    pub fn awaits(&self) -> Option<ChunkId> {
        self.writing.front().map(|(chunk, _)| *chunk)
    }

    /// Gives back memory that only a busy group needs.
    pub fn shrink(&mut self) {
        self.logged.shrink_to_fit();
        self.writing.shrink_to_fit();
    }

    /// What a checkpoint says of it. Entries that are not applied are found in the files that stay
    /// ([`Replica::vacate`]).
    pub fn checkpoint(&mut self, queue: &Queue) -> ReplicaState {
        if let Some(adopting) = &mut self.adopting {
            adopting.is_covered = true;
        }
        self.state_now(queue)
    }

    /// Files of the log are about to go. The caller moves the queue's own live messages, which do
    /// not lie there in the order of their indexes, for some may have come from another member, and
    /// those that are [staged](Replica::staged_in). Entries that are not applied are appended once
    /// more if some of them may lie there: all of them, for an entry that is found cuts the log.
    pub fn vacate(&mut self, retiring: &Retiring, store: &mut Store) {
        let first = self.logged.front();
        if first.is_some_and(|first| retiring.reaches(first.file)) {
            self.append_unapplied(store);
        }
    }

    /// Size of the entries that are in the log and not applied, in bytes of payload: what
    /// [`Replica::vacate`] has to append at most.
    #[must_use]
    pub fn unapplied_size_bytes(&self) -> u64 {
        let sizes = self.logged.iter().map(|entry| entry.payload.size_bytes());
        sizes.sum::<usize>() as u64
    }

    /// The checkpoint is on disk: entries up to `applied` will not be found by a restart.
    pub fn compact(&mut self, applied: LogIndex) {
        self.group.compact(applied);
    }

    /// The checkpoint is on disk for which [`Replica::checkpoint`] was called last, or one from
    /// before it. One is under way at a time.
    pub fn checkpointed(&mut self) {
        if let Some(adopting) = self.adopting.take_if(|it| it.is_covered) {
            self.group.persisted(adopting.number);
        }
    }

    /// Whether a checkpoint is waited for.
    #[must_use]
    pub fn awaits_checkpoint(&self) -> bool {
        self.adopting.is_some()
    }

    /// This node has left the group: a restart is not to find what it had of the queue. The caller
    /// releases the queue's messages, and keeps the parting.
    pub fn drop_out(self, store: &mut Store, parting: Parting) {
        self.append_record(store, &Record::Left(parting));
        self.bury(store);
    }

    /// The queue is deleted, and its log with it: bodies of entries that were not applied.
    pub fn bury(mut self, store: &mut Store) {
        self.drop_staging(store);
        self.bury_logged(store);
    }

    pub(crate) fn bury_logged(&mut self, store: &mut Store) {
        for logged in std::mem::take(&mut self.logged) {
            release(store, &logged.messages);
        }
    }

    fn persist(
        &mut self,
        persist: Persist,
        store: &mut Store,
        queue: &mut Queue,
        effects: &mut Effects,
    ) {
        let Persist {
            number,
            hard_state,
            install,
            append,
        } = persist;
        self.persisted_state = hard_state.unwrap_or(self.persisted_state);
        if let Some(meta) = install {
            assert!(append.is_empty(), "a group that adopts a state is deaf");
            assert!(self.led_term.is_none(), "a leader is offered nothing");
            self.adopt(&meta, store, queue);
            let is_covered = false;
            self.adopting = Some(Adopting {
                number,
                meta,
                is_covered,
            });
            effects.adopted = true;
            return;
        }
        for written in in_order(hard_state, append) {
            match written {
                Written::HardState(state) => {
                    self.append_record(store, &Record::HardState(state));
                }
                Written::Entry(entry) => {
                    self.truncate(entry.index, store);
                    self.append_entry(entry, store);
                }
            }
        }
        self.unsealed = Some(number);
    }

    /// Entries from `index` on are not the group's.
    fn truncate(&mut self, index: LogIndex, store: &mut Store) {
        while let Some(logged) = self.logged.pop_back_if(|it| it.position.index >= index) {
            let count = logged.messages.len() as u64;
            self.next_message = MessageIndex(self.next_message.0 - count);
            release(store, &logged.messages);
        }
    }

    fn append_entry(&mut self, entry: Entry, store: &mut Store) {
        if let Some(last) = self.logged.back() {
            assert_eq!(last.position.index.next(), entry.index, "no gaps");
        }
        let data = match &entry.payload {
            Payload::Data(data) => Some(EntryData::decode(data).expect("it was checked")),
            Payload::Blank | Payload::Change(_) => None,
        };
        let file = store.appends_to();
        let content = Content::of(&entry.payload, data.as_ref().map(|data| &data.head));
        let position = entry.position();
        self.append_record(store, &Record::Entry { position, content });
        let (head, messages) = match data {
            None => (None, Vec::new()),
            Some(data) => {
                let messages = append_messages(self.stream, self.next_message, &data, store);
                (Some(data.head), messages)
            }
        };
        self.next_message = MessageIndex(self.next_message.0 + messages.len() as u64);
        self.logged.push_back(Logged {
            position,
            payload: entry.payload,
            head,
            messages,
            file,
        });
    }

    fn append_unapplied(&mut self, store: &mut Store) {
        let mut next = self.next_message.0;
        next -= self
            .logged
            .iter()
            .map(|it| it.messages.len() as u64)
            .sum::<u64>();
        let mut logged = std::mem::take(&mut self.logged);
        for entry in &mut logged {
            let content = Content::of(&entry.payload, entry.head.as_ref());
            let position = entry.position;
            entry.file = store.appends_to();
            self.append_record(store, &Record::Entry { position, content });
            if let Payload::Data(data) = &entry.payload {
                let data = EntryData::decode(data).expect("it was checked");
                let again = append_messages(self.stream, MessageIndex(next), &data, store);
                next += again.len() as u64;
                release(store, &std::mem::replace(&mut entry.messages, again));
            }
        }
        self.logged = logged;
    }

    pub(crate) fn append_record(&self, store: &mut Store, record: &Record) {
        store.append_control(self.stream, &record.encode());
    }

    fn apply(
        &mut self,
        entry: &Entry,
        store: &mut Store,
        queue: &mut Queue,
        effects: &mut Effects,
    ) {
        let logged = self
            .logged
            .pop_front()
            .expect("what is committed is in the log");
        assert_eq!(
            logged.position,
            entry.position(),
            "entries are applied in order"
        );
        effects.applied = true;
        match &logged.payload {
            Payload::Change(change) => {
                self.group.apply_change(entry.index, change);
                effects.members_changed = true;
            }
            Payload::Blank => self.group.applied(entry.index),
            Payload::Data(_) => {
                let head = logged.head.as_ref().expect("data has a head");
                let mut released = Vec::new();
                queue.apply_entry(head, &logged.messages, &mut released);
                for (_, body, size_bytes) in released {
                    store.release(body, size_bytes);
                }
                effects.heard.extend_from_slice(&head.origins);
                self.group.applied(entry.index);
            }
        }
    }

    fn lead_if_due(&mut self, queue: &mut Queue, effects: &mut Effects) {
        if self.led_term.is_none() && self.group.is_serving() {
            self.led_term = Some(self.group.role_now().term);
            let lost = queue.lead();
            assert_eq!(
                lost, 0,
                "a member that lacks bodies does not stand for election"
            );
            effects.began_to_lead = true;
        }
    }
}

/// Whether every message's meta can be read.
fn check(data: &EntryData) -> Result<(), DataError> {
    for message in &data.messages {
        Arrival::from_meta(BodyRef(0), 0, message.meta)?;
    }
    Ok(())
}

fn append_messages(
    stream: StreamId,
    first: MessageIndex,
    data: &EntryData,
    store: &mut Store,
) -> Vec<Arrival> {
    let messages = data.messages.iter().zip(first.0..);
    messages
        .map(|(message, index)| {
            let meta = RecordMeta(message.meta);
            let body = store.append_stored(stream, index, meta, &message.stored);
            let size = u32::try_from(message.stored.len()).expect("messages are below 4 GiB");
            Arrival::from_meta(body, size, message.meta).expect("it was checked")
        })
        .collect()
}

fn release(store: &mut Store, messages: &[Arrival]) {
    for arrival in messages {
        store.release(arrival.body, arrival.size_bytes);
    }
}
