//! What a group keeps over restarts.

use staunch_types::{LogIndex, NodeId, Term};

use crate::{
    entry::{LogPosition, Payload},
    members::{InvalidMembers, Members},
};

/// What must be on disk before anybody hears of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// Who has this node's vote in it.
    pub vote: Option<NodeId>,
    /// What is known to be committed, of the log as it is before what is persisted with this.
    pub commit: LogIndex,
}

/// What a snapshot of a group's state stands for: the entries up to `last`. The state itself
/// travels on the node's own paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that was applied to the state.
    pub last: LogPosition,
    /// The members after that entry.
    pub members: Members,
}

/// A group as it is found on disk.
#[derive(Clone, Debug)]
pub struct Restored {
    /// As last persisted.
    pub hard_state: HardState,
    /// The members after the entry `applied`.
    pub members: Members,
    /// The last entry that is not kept.
    pub compacted: LogPosition,
    /// Those after `compacted`, without a gap.
    pub entries: Vec<RestoredEntry>,
    /// The last entry that the queue's state contains.
    pub applied: LogIndex,
    /// Nobody whose log ends before this gets its vote, as if its own log ended here.
    pub pledged: LogPosition,
}

/// An entry found on disk.
#[derive(Clone, Debug)]
pub struct RestoredEntry {
    /// Its term.
    pub term: Term,
    /// What it says; may be left on disk if it is applied.
    pub payload: Option<Payload>,
}

/// Where the log of every new group begins. Entry 1 is taken as applied and compacted, so that a
/// member which joins later must take a snapshot and learns who the others are.
pub const FOUNDING: LogPosition = LogPosition {
    index: LogIndex(1),
    term: Term(1),
};

impl Restored {
    /// A new group. Every one of its first members starts with this.
    #[must_use]
    pub fn founding(members: Members) -> Self {
        Self {
            hard_state: HardState {
                term: FOUNDING.term,
                vote: None,
                commit: FOUNDING.index,
            },
            members,
            compacted: FOUNDING,
            entries: Vec::new(),
            applied: FOUNDING.index,
            pledged: LogPosition::default(),
        }
    }

    /// A member that joins a group that exists: it knows nothing, not even the others.
    #[must_use]
    pub fn joining() -> Self {
        Self {
            hard_state: HardState::default(),
            members: Members::default(),
            compacted: LogPosition::default(),
            entries: Vec::new(),
            applied: LogIndex(0),
            pledged: LogPosition::default(),
        }
    }

    /// One that joins a group again which had let it go and has told it so at this position
    /// ([`Group::farewell`](crate::Group::farewell)). It has none of the entries that it had then,
    /// and keeps to what it had promised: it is in that term, and votes as if it had them.
    #[must_use]
    pub fn rejoining(left: LogPosition) -> Self {
        let mut restored = Self::joining();
        restored.hard_state.term = left.term;
        restored.pledged = left;
        restored
    }

    /// What is certainly committed.
    ///
    /// A leader appends a change of members only after it has applied the one before. So whoever
    /// has the later one knows that the earlier one counts, even if the hard state that said so
    /// is lost; otherwise it could stand for election among members of long ago.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        let mut certain = self.hard_state.commit.max(self.applied);
        let mut change_before = None;
        let mut index = self.compacted.index;
        for entry in &self.entries {
            index = index.next();
            if matches!(entry.payload, Some(Payload::Change(_)))
                && let Some(before) = change_before.replace(index)
            {
                certain = certain.max(before);
            }
        }
        certain
    }

    /// Index of the last entry.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.compacted.index.0 + self.entries.len() as u64)
    }

    /// Checks what cannot have been written by a group.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn check(&self) -> Result<(), RestoreError> {
        if self.members != Members::default() || self.compacted != LogPosition::default() {
            self.members.check()?;
        }
        if self.applied < self.compacted.index || self.applied > self.last_index() {
            return Err(RestoreError::AppliedOutsideLog {
                applied: self.applied,
                compacted: self.compacted.index,
                last: self.last_index(),
            });
        }
        let mut term = self.compacted.term;
        let mut index = self.compacted.index;
        for entry in &self.entries {
            index = index.next();
            if entry.term < term {
                return Err(RestoreError::TermsDescend { index });
            }
            term = entry.term;
            if entry.payload.is_none() && index > self.applied {
                return Err(RestoreError::NoPayload { index });
            }
        }
        if self.hard_state.commit > self.last_index().max(self.applied) {
            return Err(RestoreError::CommittedLost {
                commit: self.hard_state.commit,
                last: self.last_index(),
            });
        }
        if self.hard_state.term < term {
            return Err(RestoreError::HardStateBehindLog {
                hard_state: self.hard_state.term,
                log: term,
            });
        }
        Ok(())
    }
}

/// Why a group cannot go on from what was found on disk. Each means damage or lost writes: the
/// member must be given a new state by the others.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The list of members is impossible.
    #[error(transparent)]
    Members(#[from] InvalidMembers),
    /// The queue's state is not within the log that was kept.
    #[error("applied index {applied} is outside the log {compacted}..={last}")]
    AppliedOutsideLog {
        /// Of the state.
        applied: LogIndex,
        /// Where the log begins.
        compacted: LogIndex,
        /// Where it ends.
        last: LogIndex,
    },
    /// Terms never descend in a log.
    #[error("the term of entry {index} is lower than that of the one before")]
    TermsDescend {
        /// Of the entry.
        index: LogIndex,
    },
    /// An entry that must be applied again has no payload.
    #[error("entry {index} is not applied and has no payload")]
    NoPayload {
        /// Of the entry.
        index: LogIndex,
    },
    /// Entries that were on disk are not any more.
    #[error("entry {commit} was committed, and the log ends at {last}")]
    CommittedLost {
        /// Known to be committed.
        commit: LogIndex,
        /// Where the log ends.
        last: LogIndex,
    },
    /// Entries were kept and the term they belong to was not.
    #[error("the hard state is of term {hard_state}, the log of term {log}")]
    HardStateBehindLog {
        /// Term of the hard state.
        hard_state: Term,
        /// Of the last entry.
        log: Term,
    },
}
