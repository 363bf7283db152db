//! The queue itself, for a member that needs entries which are gone.
//!
//! Bodies go first, in the order of their indexes, a few at a time ([`Replica::bodies_from`]).
//! When there are none left the leader's state is taken ([`Replica::state_now`]): what it says is
//! live has been sent by then, and what has died meanwhile it does not list. So nothing is held
//! fast on the leader, and a transfer that breaks off goes on where it was.
//!
//! When another leads meanwhile, it goes on from there, too. It may not have applied yet what the one
//! before had sent: messages behind those that its state knows of are dropped, and come again with
//! their entries.
//!
//! A member that has missed something has what is live of the messages before: it asks for those
//! behind its last, and takes its own for the rest when it adopts the state.
//!
//! The receiver puts bodies into its log as they come ([`Replica::stage`]). When the state has
//! come too ([`Replica::stage_state`]) it tells the leader, who offers the snapshot to the group;
//! when the group takes it the queue is replaced, and the next checkpoint of the node makes that
//! durable ([`Effects::adopted`](crate::Effects), [`Replica::checkpointed`]).

use staunch_broker::{
    Arrival, DecodeError, META_SIZE_BYTES, Queue, QueueSettings, Released, Restored,
};
use staunch_log::{Live, RecordMeta, Retiring, Store};
use staunch_raft::SnapshotMeta;
use staunch_types::{BodyRef, MessageIndex};

use crate::record::Record;
use crate::replica::Replica;
use crate::state::{ReplicaState, StateError};

/// What a member has got of the queue so far.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    /// Messages below it are in the member's queue already, if they live.
    first: MessageIndex,
    messages: Vec<(MessageIndex, Arrival)>,
    /// The whole of it, when the state has come.
    pub(crate) whole: Option<(SnapshotMeta, Box<Queue>)>,
}

impl Staging {
    fn live_in(&self, retiring: &Retiring) -> Vec<Live> {
        if let Some((_, queue)) = &self.whole {
            let live = Replica::bodies_from(queue, MessageIndex(0));
            return live
                .filter(|((_, body, _), _)| retiring.contains(*body))
                .map(|((index, body, size_bytes), meta)| Live {
                    index: index.0,
                    body,
                    size_bytes,
                    meta: RecordMeta(meta),
                })
                .collect();
        }
        let staged = self.messages.iter();
        staged
            .filter(|(_, arrival)| retiring.contains(arrival.body))
            .map(|(index, arrival)| Live {
                index: index.0,
                body: arrival.body,
                size_bytes: arrival.size_bytes,
                meta: RecordMeta(arrival.meta()),
            })
            .collect()
    }

    fn relocate(&mut self, index: MessageIndex, from: BodyRef, to: BodyRef) -> bool {
        if let Some((_, queue)) = &mut self.whole {
            return queue.relocate(index, from, to);
        }
        let at = (self.messages).binary_search_by_key(&index, |(index, _)| *index);
        let staged = at.ok().map(|at| &mut self.messages[at].1);
        staged.is_some_and(|arrival| {
            let is_there = arrival.body == from;
            if is_there {
                arrival.body = to;
            }
            is_there
        })
    }
}

/// Why a state that was sent is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// It cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Bodies that should have come before it did not.
    #[error("{count} messages from index {first} were not sent")]
    Missing {
        /// The first.
        first: MessageIndex,
        /// How many in a row.
        count: u64,
    },
}

impl Replica {
    /// Live messages from `first` on, for a member that gets the whole queue.
    pub fn bodies_from(
        queue: &Queue,
        first: MessageIndex,
    ) -> impl Iterator<Item = (Released, [u8; META_SIZE_BYTES])> {
        let live = queue.live_from(first);
        live.map(|message| (message, queue.meta_of(message.0)))
    }

    /// The state as a witness has it: how far it is, and no messages.
    #[must_use]
    pub fn witness_state_now(&self, settings: &QueueSettings) -> ReplicaState {
        self.state_now(&Queue::following(settings))
    }

    /// The state as it is now; to be sent when all live bodies have been.
    #[must_use]
    pub fn state_now(&self, queue: &Queue) -> ReplicaState {
        let mut snapshot = Vec::new();
        queue.encode_snapshot(&mut snapshot);
        let adopting = self.adopting.as_ref().map(|it| it.meta.clone());
        let meta = adopting.unwrap_or_else(|| self.group.snapshot_meta());
        let mut hard_state = self.group.hard_state();
        hard_state.commit = hard_state.commit.max(meta.last.index);
        ReplicaState {
            meta,
            hard_state,
            pledged: self.group.pledged(),
            queue: snapshot.into(),
        }
    }

    /// Begins to take the queue from another member; what was staged before is forgotten. From
    /// where on messages are wanted: those before are in `queue`.
    pub fn begin_staging(&mut self, store: &mut Store, queue: &Queue) -> MessageIndex {
        self.drop_staging(store);
        // So that no torn entry before it takes the messages that follow for its own.
        self.append_record(store, &Record::HardState(self.persisted_state));
        let first = queue.next_index();
        self.staging = Some(Box::new(Staging {
            first,
            ..Staging::default()
        }));
        first
    }

    /// Where a transfer that has begun is to go on; none if there is none.
    #[must_use]
    pub fn staged_next(&self) -> Option<MessageIndex> {
        let staging = self.staging.as_ref().filter(|it| it.whole.is_none())?;
        let last = staging.messages.last();
        Some(last.map_or(staging.first, |(last, _)| last.next()))
    }

    /// A body has come; the index after it, from which to go on. None if it belongs to no transfer
    /// that has begun here: none has, or another leader's has ended.
    ///
    /// # Errors
    /// [`DecodeError`] if what is kept beside it cannot be read.
    ///
    /// # Panics
    /// If it has 4 GiB or more.
    pub fn stage(
        &mut self,
        store: &mut Store,
        index: MessageIndex,
        meta: [u8; META_SIZE_BYTES],
        stored: &[u8],
    ) -> Result<Option<MessageIndex>, DecodeError> {
        let size = u32::try_from(stored.len()).expect("messages are below 4 GiB");
        Arrival::from_meta(BodyRef(0), size, meta)?;
        let staging = self.staging.as_mut().filter(|it| it.whole.is_none());
        let Some(staging) = staging else {
            return Ok(None);
        };
        let is_new = staging
            .messages
            .last()
            .map_or(index >= staging.first, |(last, _)| *last < index);
        if is_new {
            let body = store.append_stored(self.stream, index.0, RecordMeta(meta), stored);
            let arrival = Arrival::from_meta(body, size, meta)?;
            staging.messages.push((index, arrival));
        }
        let last = staging.messages.last();
        Ok(Some(last.map_or(staging.first, |(last, _)| last.next())))
    }

    /// What is staged and lies in files of the log that are about to go, in order: to be moved
    /// with the queue's own, of which it may have the same indexes.
    #[must_use]
    pub fn staged_in(&self, retiring: &Retiring) -> Vec<Live> {
        let staging = self.staging.as_ref();
        staging.map_or_else(Vec::new, |staging| staging.live_in(retiring))
    }

    /// A body was moved. Whether it is one that is staged.
    pub fn relocate_staged(&mut self, index: MessageIndex, from: BodyRef, to: BodyRef) -> bool {
        let staging = self.staging.as_mut();
        staging.is_some_and(|staging| staging.relocate(index, from, to))
    }

    /// The state has come, after the bodies.
    ///
    /// # Errors
    /// [`StageError`]; the transfer must begin anew.
    pub fn stage_state(
        &mut self,
        store: &mut Store,
        state: &ReplicaState,
        settings: &QueueSettings,
    ) -> Result<SnapshotMeta, StageError> {
        let mut queue = state.queue(settings)?;
        if self.staged_next().is_none() {
            // What is whole came from a leader before this one.
            self.drop_staging(store);
        }
        let mut staging = self.staging.take().unwrap_or_default();
        let end = queue.next_index();
        for (index, arrival) in std::mem::take(&mut staging.messages) {
            let released = if index < end {
                queue.restore_over(index, arrival)
            } else {
                // A leader before this one was further when it sent it: it comes with its entry.
                Some((index, arrival.body, arrival.size_bytes))
            };
            if let Some((_, body, size_bytes)) = released {
                store.release(body, size_bytes);
            }
        }
        let lacks = |(from, count): &(MessageIndex, u64)| from.0 + count > staging.first.0;
        if let Some((first, count)) = queue.missing().into_iter().find(lacks) {
            release_all(&queue, store);
            return Err(StageError::Missing { first, count });
        }
        staging.whole = Some((state.meta.clone(), Box::new(queue)));
        self.staging = Some(staging);
        Ok(state.meta.clone())
    }

    /// Whether everything of this snapshot has come, and is waiting to be adopted.
    #[must_use]
    pub fn has_staged(&self, meta: &SnapshotMeta) -> bool {
        let whole = self.staging.as_ref().and_then(|it| it.whole.as_ref());
        whole.is_some_and(|(staged, _)| staged == meta)
    }

    /// The queue is replaced by the one that was staged.
    pub(crate) fn adopt(&mut self, meta: &SnapshotMeta, store: &mut Store, queue: &mut Queue) {
        let staging = self.staging.take();
        let (staged, whole) = staging.and_then(|it| it.whole).expect("it was staged");
        assert_eq!(&staged, meta, "what was offered is what was staged");
        let mut whole = *whole;
        for ((index, body, size_bytes), kept) in Self::bodies_from(queue, MessageIndex(0)) {
            let arrival = Arrival::from_meta(body, size_bytes, kept);
            let restored = whole.restore_message(index, arrival.expect("it came from a queue"));
            if restored != Restored::Live {
                store.release(body, size_bytes);
            }
        }
        assert!(
            whole.missing().is_empty(),
            "a member has what lives of all that it has applied"
        );
        *queue = whole;
        self.bury_logged(store);
        self.next_message = queue.next_index();
    }

    pub(crate) fn drop_staging(&mut self, store: &mut Store) {
        let Some(staging) = self.staging.take() else {
            return;
        };
        for (_, arrival) in staging.messages {
            store.release(arrival.body, arrival.size_bytes);
        }
        if let Some((_, queue)) = staging.whole {
            release_all(&queue, store);
        }
    }
}

pub(crate) fn release_all(queue: &Queue, store: &mut Store) {
    for (_, body, size_bytes) in queue.live_from(MessageIndex(0)) {
        store.release(body, size_bytes);
    }
}
