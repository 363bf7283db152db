//! One Raft group on one node.
//!
//! A [`Group`] is driven: inputs go in by [`step`](Group::step), [`tick`](Group::tick),
//! [`propose`](Group::propose) and so on; after any of them [`poll`](Group::poll) is called until
//! it returns `None`, and says what to write, send and apply. Nothing waits for the disk: what
//! was handed out to be written is reported later by [`persisted`](Group::persisted), and messages
//! that promise something are held back here until then, so that a driver cannot send them early.
//!
//! # When the library panics
//! It asserts its own invariants. [`Group::step`] refuses beforehand what a peer could send to
//! break one ([`StepError::Inconsistent`]), so a panic means a bug or a driver that broke the rules
//! of [`Group::persisted`], [`Group::applied`] or [`Group::fetched`]. It is not contained: what
//! broke shares a lock, a log and memory with everything else, so it ends the process.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{
    RaftState, RawNode, StateRole,
    eraftpb::{self, EntryType, MessageType},
};
use staunch_types::{GroupId, LogIndex, NodeId, Term};

use crate::{
    config::{Config, ENTRY_SIZE_BYTES_MAX},
    convert,
    entry::{Entry, LogPosition},
    log::Log,
    members::Members,
    message::Message,
    state::{HardState, RestoreError, Restored},
};

mod amnesia;
mod election;
mod input;
mod membership;
mod ready;
mod sleep;
mod snapshot;
mod witness;

pub use input::{Inconsistency, StepError};
pub use membership::ChangeError;
pub use ready::{Persist, Ready, ReadyNumber};

use amnesia::Forgetful;
use election::Hurry;
use ready::Held;
use witness::Witnesses;

/// See the module's description.
pub struct Group {
    config: Config,
    node: RawNode<Log>,
    /// What was handed out and is not persisted, or waits behind such.
    held: VecDeque<Held>,
    /// Messages that may go now.
    released: Vec<Message>,
    /// What was last handed out to be persisted.
    reported_state: HardState,
    reported_role: RoleChange,
    /// The last entry handed out to be applied, or put in place by a snapshot.
    handed_out: LogIndex,
    /// The end of the log when the members last changed.
    changed_at: LogIndex,
    /// Where the log ended that this member had before it left the group and joined it again.
    pledged: LogPosition,
    /// A snapshot that is being persisted; until it is, the group is deaf.
    installing: Option<LogPosition>,
    /// Members whose nodes are suspected.
    suspected: Vec<NodeId>,
    /// Members that have forgotten what they had acknowledged, if this one leads.
    forgetful: Vec<Forgetful>,
    /// Other members that keep no data, if there may be any.
    witnesses: Option<Box<Witnesses>>,
    hurry: Option<Hurry>,
    /// Ticks for which it is remembered that a candidate was turned away because of the lease.
    turned_away_ticks: u16,
    /// What that candidate asked, if this member is a witness.
    turned_away: Option<Box<Message>>,
    /// The first of the cold entries that the node is reading.
    fetching: Option<LogIndex>,
    /// Ticks since snapshots on offer were last repeated.
    offer_ticks: u16,
    quiet_ticks: u16,
    is_asleep: bool,
    is_quarantined: bool,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Takes entries from a leader, if there is one.
    #[default]
    Follower,
    /// Asks for votes.
    Candidate,
    /// Decides the order of entries.
    Leader,
}

/// Role, term and leader, when one of them has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleChange {
    /// This member's role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
}

/// Why a proposal was not taken. Nothing of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only the leader can.
    #[error("this member does not lead")]
    NotLeader {
        /// Who might.
        leader: Option<NodeId>,
    },
    /// The leader is handing over.
    #[error("leadership is being handed to node {to}")]
    HandingOver {
        /// To whom.
        to: NodeId,
    },
    /// More than [`UNCOMMITTED_SIZE_BYTES_MAX`](crate::config::UNCOMMITTED_SIZE_BYTES_MAX) would
    /// wait for a majority.
    #[error("too much is waiting to be committed")]
    TooMuchUncommitted,
    /// Larger than [`ENTRY_SIZE_BYTES_MAX`].
    #[error("an entry of {size_bytes} bytes is too large")]
    TooLarge {
        /// Of the proposal.
        size_bytes: usize,
    },
    /// The group is out of service on this node.
    #[error("the group is in quarantine")]
    Quarantined,
}

/// How far a member is, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// Which member.
    pub node: NodeId,
    /// Its log is known to equal the leader's up to here.
    pub matched: LogIndex,
    /// It must be given a snapshot before it can take entries.
    pub needs_snapshot: bool,
}

impl Group {
    /// Goes on from what is on disk; [`Restored::founding`] for a new group.
    ///
    /// Members whose nodes are suspected at this time must be told by [`Group::suspect`].
    ///
    /// # Errors
    /// [`RestoreError`]: what was found cannot have been written by a group.
    ///
    /// # Panics
    /// If `config.me` is 0.
    pub fn new(config: Config, restored: Restored) -> Result<Self, RestoreError> {
        restored.check()?;
        let applied = restored.applied;
        let pledged = restored.pledged;
        let changed_at = restored.last_index();
        let hard_state = HardState {
            commit: restored.committed(),
            ..restored.hard_state
        };
        let initial = RaftState {
            hard_state: convert::hard_state_to_library(&hard_state),
            conf_state: convert::members_to_library(&restored.members),
        };
        let log = Log::new(restored, initial);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut node = RawNode::new(&config.library(applied.0), log, &logger)
            .expect("the configuration is made of checked constants, the members are checked");
        node.mut_store().forget_initial_state();
        node.raft.maybe_free_inflight_buffers();
        let mut group = Self {
            config,
            node,
            held: VecDeque::new(),
            released: Vec::new(),
            reported_state: hard_state,
            reported_role: RoleChange::default(),
            handed_out: applied,
            changed_at,
            pledged,
            installing: None,
            suspected: Vec::new(),
            forgetful: Vec::new(),
            witnesses: None,
            hurry: None,
            turned_away_ticks: 0,
            turned_away: None,
            fetching: None,
            offer_ticks: 0,
            quiet_ticks: 0,
            is_asleep: false,
            is_quarantined: false,
        };
        group.reported_role = group.role_now();
        group.settle();
        Ok(group)
    }

    /// Which group this is.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.config.group
    }

    /// The node this member is on.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.config.me
    }

    /// Role, term and leader.
    #[must_use]
    pub fn role_now(&self) -> RoleChange {
        let raft = &self.node.raft;
        RoleChange {
            role: match raft.state {
                StateRole::Follower => Role::Follower,
                StateRole::PreCandidate | StateRole::Candidate => Role::Candidate,
                StateRole::Leader => Role::Leader,
            },
            term: Term(raft.term),
            leader: convert::node_from_library(raft.leader_id),
        }
    }

    /// Whether this member leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether this member leads and has applied an entry of its own term, and so everything that
    /// any leader before it has committed. Only then does its state say what the group decided.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.is_leader() && self.node.raft.apply_to_current_term() && !self.is_quarantined
    }

    /// The last entry in the log, persisted or not.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.last_index())
    }

    /// The last entry known to be on this node's disk.
    #[must_use]
    pub fn persisted_index(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.persisted)
    }

    /// The last entry known to be committed.
    #[must_use]
    pub fn committed_index(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.committed)
    }

    /// The last entry reported by [`Group::applied`].
    #[must_use]
    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.applied)
    }

    /// The last entry that is not kept any more.
    #[must_use]
    pub fn compacted(&self) -> LogPosition {
        self.node.store().compacted()
    }

    /// Term of an entry that is kept, or of the last compacted one.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        let log = &self.node.raft.raft_log;
        let known = index >= self.compacted().index && index.0 <= log.last_index();
        known.then(|| log.term(index.0).ok().map(Term)).flatten()
    }

    /// What a restart would begin with if everything handed out were persisted.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        convert::hard_state_from_library(&self.node.raft.hard_state())
    }

    /// The members after the last applied entry.
    #[must_use]
    pub fn members(&self) -> Members {
        convert::members_from_library(&self.node.raft.prs().conf().to_conf_state())
    }

    /// How far the members are. Empty unless this one leads.
    #[must_use]
    pub fn progress(&self) -> Vec<MemberProgress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let first = self.compacted().index.next();
        let mut progress: Vec<_> = (self.node.raft.prs().iter())
            .map(|(id, progress)| MemberProgress {
                node: NodeId(*id),
                matched: LogIndex(progress.matched),
                needs_snapshot: progress.next_idx < first.0,
            })
            .collect();
        progress.sort_unstable_by_key(|member| member.node);
        progress
    }

    /// Bytes of entries that this group keeps in memory.
    #[must_use]
    pub fn entry_cache_bytes(&self) -> u64 {
        self.node.store().hot_bytes()
    }

    /// Keeps so many bytes of applied entries in memory from now on.
    pub fn set_entry_cache_bytes_max(&mut self, bytes_max: u64) {
        self.config.entry_cache_bytes_max = bytes_max;
        self.cool();
    }

    /// Puts an entry at the end of the log; it comes back in [`Ready::persist`] with its index,
    /// and in [`Ready::committed`] when a majority has it. It may also never be heard of again, if
    /// leadership is lost. Empty data come back as [`Payload::Blank`](crate::Payload::Blank).
    ///
    /// # Errors
    /// [`ProposeError`].
    pub fn propose(&mut self, data: Bytes) -> Result<(), ProposeError> {
        let size_bytes = data.len();
        if size_bytes > ENTRY_SIZE_BYTES_MAX {
            return Err(ProposeError::TooLarge { size_bytes });
        }
        self.propose_entry(eraftpb::Entry {
            data,
            ..eraftpb::Entry::default()
        })
    }

    fn propose_entry(&mut self, entry: eraftpb::Entry) -> Result<(), ProposeError> {
        if self.is_quarantined {
            return Err(ProposeError::Quarantined);
        }
        if !self.is_leader() {
            let leader = self.role_now().leader;
            return Err(ProposeError::NotLeader { leader });
        }
        if let Some(to) = self.node.raft.lead_transferee {
            return Err(ProposeError::HandingOver { to: NodeId(to) });
        }
        self.rouse();
        debug_assert!(entry.get_entry_type() != EntryType::EntryConfChange);
        let mut proposal = eraftpb::Message::default();
        proposal.set_msg_type(MessageType::MsgPropose);
        proposal.from = self.config.me.0;
        proposal.entries = vec![entry].into();
        let taken = self.node.raft.step(proposal);
        self.settle();
        // The other reasons for which the library drops a proposal were excluded above.
        taken.map_err(|_| ProposeError::TooMuchUncommitted)
    }

    /// The queue's state contains the entries up to `index`.
    ///
    /// A change of members is reported by [`Group::apply_change`] instead.
    ///
    /// # Panics
    /// If an entry was not handed out yet: a bug of the driver.
    pub fn applied(&mut self, index: LogIndex) {
        assert!(
            index <= self.handed_out,
            "group {}: entry {index} applied, only {} were handed out",
            self.config.group,
            self.handed_out
        );
        // After a snapshot came in between, entries below it are of no interest any more.
        if index <= self.applied_index() || self.is_deaf() {
            return;
        }
        self.node.advance_apply_to(index.0);
        self.settle();
        self.cool();
    }

    /// Forgets the entries up to `index`, which a state on disk contains. Followers that need
    /// them will have to take a snapshot.
    pub fn compact(&mut self, index: LogIndex) {
        let index = index.min(self.applied_index());
        if index > self.compacted().index && !self.is_deaf() {
            self.node.mut_store().compact(index.0);
        }
    }

    /// The entries from `first` on that a [`Ready::fetch`] asked for, as many as there were. None
    /// if they cannot be read: the node then [compacts](Group::compact) the log, or lets it be
    /// and is asked again.
    pub fn fetched(&mut self, first: LogIndex, entries: Vec<Entry>) {
        if self.fetching == Some(first) {
            self.fetching = None;
        }
        if self.is_deaf() || !self.node.mut_store().keep_fetched(entries) || !self.is_leader() {
            return;
        }
        for member in self.members_behind_on_fetched() {
            self.node.raft.send_append(member);
        }
        self.settle();
    }

    /// Whom the fetched entries help.
    fn members_behind_on_fetched(&self) -> Vec<u64> {
        let Some((first, last)) = self.node.store().fetched_range() else {
            return Vec::new();
        };
        let mut members: Vec<_> = (self.node.raft.prs().iter())
            .filter(|(id, progress)| {
                **id != self.config.me.0 && (first..=last).contains(&progress.next_idx)
            })
            .map(|(id, _)| *id)
            .collect();
        members.sort_unstable();
        members
    }

    /// Keeps no more applied entries in memory than the cache allows.
    fn cool(&mut self) {
        let log = &self.node.raft.raft_log;
        let up_to = log.applied.min(log.persisted);
        let bytes_max = self.config.entry_cache_bytes_max;
        let store = self.node.mut_store();
        store.cool(up_to, bytes_max);
        if store.fetched_range().is_some() && self.members_behind_on_fetched().is_empty() {
            self.node.mut_store().drop_fetched();
        }
    }

    /// Whether the group is out of service on this node: the log that it has is not the one that it
    /// has told others of, or it has [forgotten](Group::forget) that. They go on; this member must be
    /// rebuilt from them.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.is_quarantined
    }
}
