//! A member's disk: what was written, and what of it survives.

use staunch_raft::{
    Entry, HardState, LogPosition, Members, Persist, ReadyNumber, Restored, RestoredEntry,
    SnapshotMeta, config::FETCH_SIZE_BYTES_MAX,
};
use staunch_types::{LogIndex, Term};

use crate::random::Random;

/// A queue's state: how far, and a hash over everything applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) applied: LogIndex,
    pub(crate) members: Members,
    pub(crate) hash: u64,
}

/// One write. A crash leaves a prefix of those that were not synced.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    HardState(HardState),
    Install(SnapshotMeta, State),
    Append(Vec<Entry>),
    Checkpoint(State),
    Compact(LogPosition),
    /// All of this ready is written.
    End(ReadyNumber),
}

/// What a restart finds.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) hard_state: HardState,
    pub(crate) compacted: LogPosition,
    pub(crate) log: Vec<Entry>,
    pub(crate) checkpoint: State,
    pledged: LogPosition,
}

impl Image {
    pub(crate) fn new(restored: &Restored) -> Self {
        Self {
            hard_state: restored.hard_state,
            compacted: restored.compacted,
            log: Vec::new(),
            checkpoint: State {
                applied: restored.applied,
                members: restored.members.clone(),
                hash: 0,
            },
            pledged: restored.pledged,
        }
    }

    pub(crate) fn write(&mut self, write: &Write) {
        match write {
            Write::HardState(state) => self.hard_state = *state,
            Write::Install(meta, state) => {
                self.compacted = meta.last;
                self.log.clear();
                self.checkpoint = state.clone();
            }
            Write::Append(entries) => {
                let first = entries[0].index;
                self.log.retain(|entry| entry.index < first);
                self.log.extend_from_slice(entries);
            }
            Write::Checkpoint(state) => self.checkpoint = state.clone(),
            Write::Compact(to) => {
                self.compacted = *to;
                self.log.retain(|entry| entry.index > to.index);
            }
            Write::End(_) => {}
        }
    }

    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        let after = index.0.checked_sub(self.compacted.index.0 + 1)?;
        let entry = self.log.get(usize::try_from(after).ok()?)?;
        assert_eq!(entry.index, index);
        Some(entry.term)
    }

    /// Whether a restart would have this entry, or a state that contains it.
    pub(crate) fn holds(&self, at: LogPosition) -> bool {
        at.index < self.compacted.index || self.term_at(at.index) == Some(at.term)
    }

    pub(crate) fn restored(&self, random: &mut Random) -> Restored {
        let cold = random.percent(50);
        let applied = self.checkpoint.applied;
        let entries = self.log.iter();
        Restored {
            hard_state: self.hard_state,
            members: self.checkpoint.members.clone(),
            compacted: self.compacted,
            entries: entries
                .map(|entry| RestoredEntry {
                    term: entry.term,
                    payload: (entry.index > applied || !cold).then(|| entry.payload.clone()),
                })
                .collect(),
            applied,
            pledged: self.pledged,
        }
    }
}

/// What is written and what of it is safe.
pub(crate) struct Disk {
    /// Survives.
    pub(crate) durable: Image,
    /// Everything, safe or not: what the running process reads.
    pub(crate) current: Image,
    pub(crate) unsynced: Vec<Write>,
    /// How many of `unsynced` the running sync covers.
    pub(crate) syncing: Option<usize>,
    /// A state that came from a leader and is not adopted.
    pub(crate) staged: Option<(SnapshotMeta, State)>,
    /// What it held before it was lost: entries whose commit is noticed late were there.
    pub(crate) lost: Option<Image>,
    /// The same of what its member dropped when it had left the group.
    left: Vec<Image>,
}

impl Disk {
    pub(crate) fn new(restored: &Restored) -> Self {
        let image = Image::new(restored);
        Self {
            durable: image.clone(),
            current: image,
            unsynced: Vec::new(),
            syncing: None,
            staged: None,
            lost: None,
            left: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, write: Write) {
        self.current.write(&write);
        self.unsynced.push(write);
    }

    /// In the order that the crate asks for: the hard state before the entries.
    pub(crate) fn persist(&mut self, persist: &Persist, forget_vote: bool) {
        if let Some(mut state) = persist.hard_state {
            if forget_vote {
                state.vote = None;
            }
            self.write(Write::HardState(state));
        }
        if let Some(meta) = &persist.install {
            let (staged, state) = self.staged.clone().expect("checked before the step");
            assert_eq!(&staged, meta);
            self.write(Write::Install(staged, state));
        }
        if !persist.append.is_empty() {
            self.write(Write::Append(persist.append.clone()));
        }
        self.write(Write::End(persist.number));
    }

    /// The running sync is done. The last ready that is safe now.
    pub(crate) fn synced(&mut self) -> Option<ReadyNumber> {
        let count = self.syncing.take().expect("a sync runs");
        let mut number = None;
        for write in self.unsynced.drain(..count) {
            self.durable.write(&write);
            if let Write::End(ended) = write {
                number = Some(ended);
            }
        }
        number
    }

    /// Nothing on it can be read any more; its node does not run.
    pub(crate) fn lose(&mut self) {
        let nothing = Self::new(&Restored::joining());
        let lost = std::mem::replace(self, nothing);
        self.lost = Some(lost.durable);
        self.left = lost.left;
    }

    /// Its member has left the group and drops what it has; `after` is what it begins with when it
    /// joins again.
    pub(crate) fn leave(&mut self, after: &Restored) {
        let left = std::mem::replace(self, Self::new(after));
        self.left = left.left;
        self.left
            .extend([Some(left.durable), left.lost].into_iter().flatten());
    }

    /// Whether it was lost, and nothing is on it since.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_some() && self.durable.compacted == LogPosition::default()
    }

    /// Whether its member has left the group before.
    pub(crate) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether this was on it, perhaps until it was lost.
    pub(crate) fn held(&self, at: LogPosition) -> bool {
        let gone = self.lost.iter().chain(&self.left);
        gone.chain([&self.durable]).any(|image| image.holds(at))
    }

    /// Power is lost.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let survive = random.below(self.unsynced.len() as u64 + 1);
        for write in self
            .unsynced
            .drain(..)
            .take(usize::try_from(survive).expect("small"))
        {
            self.durable.write(&write);
        }
        self.syncing = None;
        self.current = self.durable.clone();
    }

    pub(crate) fn read(&self, first: LogIndex, last: LogIndex) -> Vec<Entry> {
        let mut size_bytes = 0;
        (self.current.log.iter())
            .filter(|entry| entry.index >= first && entry.index <= last)
            .take_while(|entry| {
                size_bytes += entry.payload.size_bytes() as u64;
                size_bytes <= FETCH_SIZE_BYTES_MAX
            })
            .take(8)
            .cloned()
            .collect()
    }
}
