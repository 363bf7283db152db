//! What the library reads of a group's log.
//!
//! The log on disk is the node's. Here are the terms of all entries that are kept, as runs, and
//! the payloads of the last ones: always those that are not applied yet, and of the applied ones
//! as many as the cache allows. An older entry is *cold*: the library asks for it, is told to
//! wait, and the group asks the node ([`Fetch`]).

use std::{cell::Cell, collections::VecDeque};

use raft::{
    Error, GetEntriesContext, RaftState, Result, Storage, StorageError,
    eraftpb::{self, Snapshot},
};
use staunch_types::{LogIndex, NodeId, Term};

use crate::{
    config::FETCH_SIZE_BYTES_MAX,
    convert,
    entry::{Entry, LogPosition, Payload},
    members::MEMBERS_MAX,
    state::{Restored, SnapshotMeta},
};

/// Memory of an entry beside its payload.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

/// A wish for entries that are no longer in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The first one.
    pub first: LogIndex,
    /// The last one of use.
    pub last: LogIndex,
    /// Bytes of payloads after which to stop; the first entry is wanted whatever its size.
    pub size_bytes_max: u64,
}

/// A snapshot whose state a member has got and only needs to adopt.
#[derive(Debug)]
struct Offer {
    to: NodeId,
    meta: SnapshotMeta,
}

/// See the module's description.
pub(crate) struct Log {
    compacted: LogPosition,
    last: u64,
    /// First index and term of each run of entries of one term after `compacted`.
    terms: VecDeque<(u64, u64)>,
    /// Index of `hot[0]`; `last + 1` when there is none.
    hot_first: u64,
    hot: VecDeque<HotEntry>,
    hot_bytes: u64,
    /// Cold entries that the node has read, the first with this index.
    fetched_first: u64,
    fetched: Vec<Entry>,
    /// The first cold entry asked for since last looked, and the last of use.
    wanted: Cell<Option<(u64, u64)>>,
    offers: Vec<Offer>,
    /// The last member for which a snapshot was asked; others ask again with their next answer.
    snapshot_wanted: Cell<Option<NodeId>>,
    /// Only for the library's start.
    initial: Option<Box<RaftState>>,
}

struct HotEntry {
    term: u64,
    payload: Payload,
}

impl HotEntry {
    fn size_bytes(&self) -> u64 {
        self.payload.size_bytes() as u64 + ENTRY_OVERHEAD_BYTES
    }
}

impl Log {
    /// `restored` has been checked.
    pub(crate) fn new(restored: Restored, initial: RaftState) -> Self {
        let mut log = Self {
            compacted: restored.compacted,
            last: restored.compacted.index.0,
            terms: VecDeque::new(),
            hot_first: restored.compacted.index.0 + 1,
            hot: VecDeque::new(),
            hot_bytes: 0,
            fetched_first: 0,
            fetched: Vec::new(),
            wanted: Cell::new(None),
            offers: Vec::new(),
            snapshot_wanted: Cell::new(None),
            initial: Some(Box::new(initial)),
        };
        for entry in restored.entries {
            log.push_term(entry.term.0);
            match entry.payload {
                Some(payload) => log.push_hot(entry.term.0, payload),
                None => log.drop_hot(),
            }
        }
        log
    }

    /// The library has started and needs no initial state any more.
    pub(crate) fn forget_initial_state(&mut self) {
        self.initial = None;
    }

    pub(crate) fn compacted(&self) -> LogPosition {
        self.compacted
    }

    pub(crate) fn hot_bytes(&self) -> u64 {
        self.hot_bytes
    }

    /// Appends entries; those with an index that exists already cut the log there.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.compacted.index && first.index.0 <= self.last + 1);
        self.truncate(first.index.0);
        for entry in entries {
            self.push_term(entry.term.0);
            assert_eq!(self.last, entry.index.0);
            self.push_hot(entry.term.0, entry.payload.clone());
        }
    }

    /// Begins anew after a snapshot.
    pub(crate) fn install(&mut self, at: LogPosition) {
        self.compacted = at;
        self.last = at.index.0;
        self.terms.clear();
        self.fetched = Vec::new();
        self.offers = Vec::new();
        self.drop_hot();
    }

    /// Forgets entries up to `index`, which exist.
    pub(crate) fn compact(&mut self, index: u64) {
        let Some(term) = self.term_at(index) else {
            return;
        };
        self.compacted = LogPosition {
            index: LogIndex(index),
            term: Term(term),
        };
        while self.terms.get(1).is_some_and(|run| run.0 <= index + 1) {
            self.terms.pop_front();
        }
        if index == self.last {
            self.terms.clear();
        } else if let Some(run) = self.terms.front_mut() {
            run.0 = run.0.max(index + 1);
        }
        while self.hot_first <= index && self.pop_hot() {}
        self.hot_first = self.hot_first.max(index + 1);
        if self.fetched_first <= index {
            self.fetched = Vec::new();
        }
    }

    /// Drops payloads up to `index` until at most `bytes_max` are in memory.
    pub(crate) fn cool(&mut self, index: u64, bytes_max: u64) {
        while self.hot_bytes > bytes_max && self.hot_first <= index && self.pop_hot() {}
    }

    /// Gives back memory that only a busy group needs.
    pub(crate) fn shrink(&mut self) {
        self.hot.shrink_to_fit();
        self.terms.shrink_to_fit();
        self.fetched = Vec::new();
    }

    /// Takes the wish for cold entries.
    pub(crate) fn take_wanted(&mut self) -> Option<Fetch> {
        self.wanted.take().map(|(first, last)| Fetch {
            first: LogIndex(first),
            last: LogIndex(last),
            size_bytes_max: FETCH_SIZE_BYTES_MAX,
        })
    }

    pub(crate) fn has_wanted(&self) -> bool {
        self.wanted.get().is_some() || self.snapshot_wanted.get().is_some()
    }

    /// Keeps cold entries that the node has read, in place of those it read before. Entries that
    /// are not of this log any more are refused.
    pub(crate) fn keep_fetched(&mut self, entries: Vec<Entry>) -> bool {
        let Some(first) = entries.first() else {
            return false;
        };
        let mut index = first.index;
        for entry in &entries {
            if entry.index != index || self.term_at(index.0) != Some(entry.term.0) {
                return false;
            }
            index = index.next();
        }
        self.fetched_first = first.index.0;
        self.fetched = entries;
        true
    }

    /// First and last index of the fetched entries.
    pub(crate) fn fetched_range(&self) -> Option<(u64, u64)> {
        let count = self.fetched.len() as u64;
        (count > 0).then(|| (self.fetched_first, self.fetched_first + count - 1))
    }

    pub(crate) fn drop_fetched(&mut self) {
        self.fetched = Vec::new();
    }

    /// The member for which a snapshot was asked since last looked.
    pub(crate) fn take_snapshot_wanted(&mut self) -> Option<NodeId> {
        self.snapshot_wanted.take()
    }

    /// The member has the state of `meta` and shall be told to adopt it.
    pub(crate) fn offer(&mut self, to: NodeId, meta: SnapshotMeta) {
        self.withdraw_offer(to);
        assert!(self.offers.len() < MEMBERS_MAX);
        self.offers.push(Offer { to, meta });
    }

    pub(crate) fn withdraw_offer(&mut self, to: NodeId) {
        self.offers.retain(|offer| offer.to != to);
    }

    pub(crate) fn drop_offers(&mut self) {
        self.offers = Vec::new();
    }

    /// Members and snapshot indexes of the offers.
    pub(crate) fn offers(&self) -> impl Iterator<Item = (NodeId, LogIndex)> {
        self.offers
            .iter()
            .map(|offer| (offer.to, offer.meta.last.index))
    }

    /// Term of the entry, or of the last compacted one.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.compacted.index.0 {
            return Some(self.compacted.term.0);
        }
        if index < self.compacted.index.0 || index > self.last {
            return None;
        }
        let after = self.terms.partition_point(|run| run.0 <= index);
        Some(self.terms[after - 1].1)
    }

    fn push_term(&mut self, term: u64) {
        self.last += 1;
        if self.terms.back().is_none_or(|run| run.1 != term) {
            self.terms.push_back((self.last, term));
        }
    }

    fn push_hot(&mut self, term: u64, payload: Payload) {
        let entry = HotEntry { term, payload };
        self.hot_bytes += entry.size_bytes();
        self.hot.push_back(entry);
    }

    fn pop_hot(&mut self) -> bool {
        let Some(entry) = self.hot.pop_front() else {
            return false;
        };
        self.hot_first += 1;
        self.hot_bytes -= entry.size_bytes();
        true
    }

    fn drop_hot(&mut self) {
        self.hot.clear();
        self.hot_bytes = 0;
        self.hot_first = self.last + 1;
    }

    /// Cuts the log before `index`.
    fn truncate(&mut self, index: u64) {
        while self.last >= index {
            if let Some(entry) = self.hot.pop_back() {
                self.hot_bytes -= entry.size_bytes();
            }
            self.last -= 1;
        }
        while self.terms.back().is_some_and(|run| run.0 > self.last) {
            self.terms.pop_back();
        }
        self.hot_first = self.hot_first.min(self.last + 1);
        if self
            .fetched_range()
            .is_some_and(|(_, last)| last > self.last)
        {
            self.fetched = Vec::new();
        }
    }

    /// The entry if it is in memory, and its size.
    fn in_memory(&self, index: u64) -> Option<(eraftpb::Entry, u64)> {
        if index >= self.hot_first {
            let at = usize::try_from(index - self.hot_first).ok()?;
            let entry = self.hot.get(at)?;
            let converted = convert::entry_to_library(index, entry.term, &entry.payload);
            return Some((converted, entry.size_bytes()));
        }
        let at = usize::try_from(index.checked_sub(self.fetched_first)?).ok()?;
        let entry = self.fetched.get(at)?;
        let converted = convert::entry_to_library(index, entry.term.0, &entry.payload);
        let size_bytes = entry.payload.size_bytes() as u64 + ENTRY_OVERHEAD_BYTES;
        Some((converted, size_bytes))
    }
}

impl Storage for Log {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.initial.as_deref().cloned().unwrap_or_default())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        size_bytes_max: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        if low <= self.compacted.index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let size_bytes_max = size_bytes_max.into().unwrap_or(u64::MAX);
        let mut entries = Vec::new();
        let mut size_bytes = 0;
        for index in low..high {
            let Some((entry, entry_bytes)) = self.in_memory(index) else {
                break;
            };
            size_bytes += entry_bytes;
            if size_bytes > size_bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        if !entries.is_empty() {
            return Ok(entries);
        }
        if context.can_async() {
            self.wanted.set(Some((low, self.hot_first - 1)));
            return Err(Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        Err(Error::Store(StorageError::Unavailable))
    }

    fn term(&self, index: u64) -> Result<u64> {
        self.term_at(index)
            .ok_or(Error::Store(if index < self.compacted.index.0 {
                StorageError::Compacted
            } else {
                StorageError::Unavailable
            }))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.compacted.index.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, _request_index: u64, to: u64) -> Result<Snapshot> {
        let offer = self.offers.iter().find(|offer| offer.to.0 == to);
        match offer {
            Some(offer) if offer.meta.last.index >= self.compacted.index => {
                Ok(convert::snapshot_to_library(&offer.meta))
            }
            Some(_) | None => {
                self.snapshot_wanted.set(Some(NodeId(to)));
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
