//! From what a restart finds of the catalog's stream back to its group.
//!
//! What is known to be committed is handed out to be applied at once, so that what follows in the
//! log finds the catalog as it was when that was written.

use std::collections::VecDeque;

use bytes::Bytes;
use staunch_raft::{
    Change, Config, Group, HardState, LogPosition, Members, Payload, Restored, RestoredEntry,
    SnapshotMeta,
};
use staunch_types::{GroupId, LogIndex, NodeId};

use super::{Batch, CatalogRecord, CatalogReplica, CatalogState};
use crate::rebuild::RebuildError;

/// The catalog's group, being rebuilt.
#[derive(Debug)]
pub struct CatalogRebuild {
    hard_state: HardState,
    members: Members,
    /// The last entry that was handed out.
    applied: LogPosition,
    /// Entries after `applied`.
    found: VecDeque<(LogPosition, Payload)>,
    has_forgotten: bool,
}

impl CatalogRebuild {
    /// A group that no checkpoint knows: it begins with these members.
    #[must_use]
    pub fn founding(members: Members) -> Self {
        let Restored {
            hard_state,
            compacted,
            ..
        } = Restored::founding(members.clone());
        Self {
            hard_state,
            members,
            applied: compacted,
            found: VecDeque::new(),
            has_forgotten: false,
        }
    }

    /// A group that exists, of which this node is to become a member: it knows nothing yet.
    #[must_use]
    pub fn joining() -> Self {
        let Restored {
            hard_state,
            compacted,
            members,
            ..
        } = Restored::joining();
        Self {
            hard_state,
            members,
            applied: compacted,
            found: VecDeque::new(),
            has_forgotten: false,
        }
    }

    /// A group as a checkpoint has it, and its catalog.
    #[must_use]
    pub fn from_state(state: CatalogState) -> (Self, Bytes) {
        let SnapshotMeta { last, members } = state.meta;
        let rebuild = Self {
            hard_state: state.hard_state,
            members,
            applied: last,
            found: VecDeque::new(),
            has_forgotten: false,
        };
        (rebuild, state.catalog)
    }

    /// A group whose member has forgotten everything, as a checkpoint says.
    #[must_use]
    pub fn forgotten() -> Self {
        Self {
            hard_state: HardState::default(),
            members: Members::default(),
            applied: LogPosition::default(),
            found: VecDeque::new(),
            has_forgotten: true,
        }
    }

    /// A control record of the stream. `in_state`: the log says that the checkpoint was taken
    /// after it. Gives back what is known to be committed by now, to be applied at once.
    ///
    /// # Errors
    /// [`RebuildError`] if it cannot be read.
    pub fn control(&mut self, payload: Bytes, in_state: bool) -> Result<Vec<Batch>, RebuildError> {
        match CatalogRecord::decode(payload)? {
            CatalogRecord::Forgotten => {
                self.found.clear();
                self.has_forgotten |= !in_state;
                Ok(Vec::new())
            }
            _ if self.has_forgotten => Ok(Vec::new()),
            CatalogRecord::HardState(_) if in_state => Ok(Vec::new()),
            CatalogRecord::Identity(_) => Ok(Vec::new()),
            CatalogRecord::HardState(state) => {
                self.hard_state = state;
                self.take_committed()
            }
            CatalogRecord::Entry { position, payload } => {
                self.entry(position, payload);
                self.take_committed()
            }
        }
    }

    /// An entry is found twice where a checkpoint had it written again: then what follows stays.
    /// One of another term replaces it and all that follows.
    fn entry(&mut self, position: LogPosition, payload: Payload) {
        if position.term < self.applied.term {
            return;
        }
        let Some(at) = position.index.0.checked_sub(self.applied.index.0 + 1) else {
            // It is in the state, and cut off whatever followed the one it replaced: terms never
            // descend in a log.
            let stale = (self.found.iter()).position(|(found, _)| found.term < position.term);
            self.found.truncate(stale.unwrap_or(self.found.len()));
            return;
        };
        let at = usize::try_from(at).expect("a log in memory is small");
        let is_same = self.found.get(at).is_some_and(|(it, _)| *it == position);
        // Beyond a gap it follows entries that only an older checkpoint's files had; it will be
        // found again, written anew with the checkpoint that dropped them.
        if !is_same && at <= self.found.len() {
            self.found.truncate(at);
            self.found.push_back((position, payload));
        }
    }

    fn take_committed(&mut self) -> Result<Vec<Batch>, RebuildError> {
        let mut batches = Vec::new();
        while let Some((position, payload)) =
            (self.found).pop_front_if(|(position, _)| position.index <= self.hard_state.commit)
        {
            match payload {
                Payload::Blank => {}
                Payload::Data(data) => batches.push(Batch::decode(&data)?),
                Payload::Change(change) => {
                    self.members = self.members_after(position, &change)?;
                }
            }
            self.applied = position;
        }
        Ok(batches)
    }

    /// The members after a change that follows `applied`, as the group itself would find them.
    fn members_after(
        &self,
        position: LogPosition,
        change: &Change,
    ) -> Result<Members, RebuildError> {
        let restored = Restored {
            hard_state: HardState {
                term: self.hard_state.term.max(position.term),
                vote: None,
                commit: position.index,
            },
            members: self.members.clone(),
            compacted: self.applied,
            entries: vec![RestoredEntry {
                term: position.term,
                payload: Some(Payload::Change(change.clone())),
            }],
            applied: self.applied.index,
            pledged: LogPosition::default(),
        };
        let config = Config::new(GroupId::CATALOG, NodeId(1), 0);
        let mut group = Group::new(config, restored)?;
        while group.handed_out_index() < position.index && group.poll().is_some() {}
        Ok(group.apply_change(position.index, change))
    }

    /// Everything was found.
    ///
    /// # Errors
    /// [`RebuildError`]: this disk does not hold what its node had promised.
    pub fn finish(self, config: Config) -> Result<CatalogReplica, RebuildError> {
        if self.has_forgotten {
            return Ok(CatalogReplica::forgotten(config));
        }
        let entry = |(position, payload): &(LogPosition, Payload)| RestoredEntry {
            term: position.term,
            payload: Some(payload.clone()),
        };
        let restored = Restored {
            hard_state: self.hard_state,
            members: self.members,
            compacted: self.applied,
            entries: self.found.iter().map(entry).collect(),
            applied: self.applied.index,
            pledged: LogPosition::default(),
        };
        let group = Group::new(config, restored)?;
        Ok(CatalogReplica::with_parts(group, self.found))
    }

    /// The last entry that was handed out.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied.index
    }
}
