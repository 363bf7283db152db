//! What a group wants done.
//!
//! The library hands out one *ready* after another, each with what it wants persisted and the
//! messages that depend on it. It lets a leader send before its own disk has the entries, which
//! are safe once a majority has them. One case it leaves to its driver: the only voter of a group
//! becomes leader in the same ready that carries its vote for itself, and may have learners. Its
//! entries must not leave before that vote is persisted, or another log could get the same term
//! after a crash. So nothing leaves while a vote is not persisted.

use staunch_types::{LogIndex, NodeId, Term};

use crate::{
    convert,
    entry::{Entry, LogPosition},
    log::Fetch,
    message::{Body, Message},
    state::{HardState, SnapshotMeta},
};

use super::{Group, RoleChange};

/// Names a [`Persist`]; ascends within a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyNumber(pub u64);

/// What a group wants done, in any order but for what each field says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// To be written.
    pub persist: Option<Persist>,
    /// To be sent now. May be lost.
    pub send: Vec<Message>,
    /// To be applied in order: committed, and on this node's disk.
    pub committed: Vec<Entry>,
    /// Role, term or leader have changed.
    pub role: Option<RoleChange>,
    /// Cold entries that a member needs; answered by [`Group::fetched`], when it suits.
    pub fetch: Option<Fetch>,
    /// A member that needs the whole state: its entries are gone. The node transfers it and then
    /// calls [`Group::offer_snapshot`]. Repeated while it is needed.
    pub needs_snapshot: Option<NodeId>,
}

/// What must be on disk. Written in the order in which it was handed out; reported by
/// [`Group::persisted`].
#[derive(Debug, PartialEq, Eq)]
pub struct Persist {
    /// For [`Group::persisted`].
    pub number: ReadyNumber,
    /// Replaces the one before. To be written together with the rest, or before it. A crash may
    /// keep it and lose the rest.
    pub hard_state: Option<HardState>,
    /// The state under this name, which the node has got already, replaces the queue's state and
    /// the whole log.
    pub install: Option<SnapshotMeta>,
    /// Entries without a gap. The first may exist already: it and all after it are replaced.
    pub append: Vec<Entry>,
}

/// A ready that was handed out, or one that had nothing to write and waits behind such.
#[derive(Debug)]
pub(super) struct Held {
    number: u64,
    is_written: bool,
    is_vote: bool,
    messages: Vec<Message>,
}

impl Group {
    /// What is to be done next; `None` if nothing is. Called until then after every input.
    pub fn poll(&mut self) -> Option<Ready> {
        if self.is_quarantined {
            return None;
        }
        let mut ready = Ready {
            send: std::mem::take(&mut self.released),
            ..Ready::default()
        };
        if self.installing.is_none() {
            if self.node.has_ready() {
                self.take_ready(&mut ready);
            }
            self.take_wishes(&mut ready);
        }
        self.hold_back(&mut ready.send);
        (ready != Ready::default()).then_some(ready)
    }

    /// Whether [`Group::poll`] may have something to hand out.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.released.is_empty() || self.node.has_ready() || self.node.store().has_wanted()
    }

    fn take_ready(&mut self, ready: &mut Ready) {
        let mut library = self.node.ready();
        let number = library.number();
        let append = convert::entries_from_library(library.take_entries());
        let snapshot = library.snapshot();
        let install = (!snapshot.is_empty()).then(|| convert::snapshot_from_library(snapshot));
        let is_leader = self.is_leader();
        let group = self.config.group;
        let messages: Vec<Message> = (library.take_messages().into_iter())
            .chain(library.take_persisted_messages())
            .filter_map(|message| convert::message_from_library(group, message))
            .filter_map(|message| self.in_step(message))
            .map(|message| self.without_data(message))
            .flat_map(Message::split)
            .collect();
        ready.committed = convert::entries_from_library(library.take_committed_entries());
        let store = self.node.mut_store();
        if let Some(meta) = &install {
            store.install(meta.last);
        }
        store.append(&append);
        self.node.advance_append_async(library);

        if let Some(meta) = &install {
            self.installing = Some(meta.last);
            self.handed_out = meta.last.index;
            self.changed_at = meta.last.index;
            self.fetching = None;
        }
        if let Some(last) = ready.committed.last() {
            self.handed_out = last.index;
        }
        let role = self.role_now();
        if role != self.reported_role {
            self.reported_role = role;
            ready.role = Some(role);
        }
        let state = self.hard_state_before(install.as_ref(), &append);
        let reported = self.reported_state;
        let is_vote = (state.term, state.vote) != (reported.term, reported.vote);
        if is_vote || install.is_some() || !append.is_empty() {
            let hard_state = (state != reported).then_some(state);
            self.reported_state = state;
            ready.persist = Some(Persist {
                number: ReadyNumber(number),
                hard_state,
                install,
                append,
            });
        }
        self.hold_or_send(ready, number, (is_vote, is_leader), messages);
    }

    /// An append that names the entry before its first. The library adds entries for a member to an
    /// append that is still to be sent to it, also to one without entries that ends elsewhere (raft
    /// 0.7, `Raft::try_batching`); they would be taken for those behind it. None if the entry
    /// before is forgotten: the member asks again.
    fn in_step(&self, mut message: Message) -> Option<Message> {
        if let Body::Append(append) = &mut message.body
            && let Some(first) = append.entries.first()
            && first.index != append.previous.index.next()
        {
            let index = LogIndex(first.index.0 - 1);
            let term = self.node.raft.raft_log.term(index.0).ok()?;
            append.previous = LogPosition {
                index,
                term: Term(term),
            };
        }
        Some(message)
    }

    /// The hard state, true of the log as it is before `install` and `append`. A crash may keep
    /// one and lose the others; a commit index that counts on them would then point at entries
    /// that they were to replace.
    fn hard_state_before(&self, install: Option<&SnapshotMeta>, append: &[Entry]) -> HardState {
        let mut state = self.hard_state();
        if install.is_some() {
            state.commit = self.reported_state.commit;
        } else if let Some(first) = append.first() {
            state.commit = state.commit.min(LogIndex(first.index.0 - 1));
        }
        state
    }

    fn hold_or_send(
        &mut self,
        ready: &mut Ready,
        number: u64,
        (is_vote, is_leader): (bool, bool),
        mut messages: Vec<Message>,
    ) {
        let is_written = ready.persist.is_some();
        if !is_written && self.held.is_empty() {
            self.node.on_persist_ready(number);
            ready.send.append(&mut messages);
            return;
        }
        let vote_waits = is_vote || self.held.iter().any(|held| held.is_vote);
        if is_leader && !vote_waits {
            ready.send.append(&mut messages);
        }
        self.held.push_back(Held {
            number,
            is_written,
            is_vote,
            messages,
        });
    }

    fn take_wishes(&mut self, ready: &mut Ready) {
        if !self.node.store().has_wanted() {
            return;
        }
        let store = self.node.mut_store();
        let fetch = store.take_wanted();
        ready.needs_snapshot = store.take_snapshot_wanted();
        ready.fetch = fetch.filter(|fetch| self.fetching != Some(fetch.first));
        if let Some(fetch) = ready.fetch {
            self.fetching = Some(fetch.first);
        }
    }

    /// What was handed out up to and with `number` is on disk and survives a power failure. Only
    /// then, and in order. [`Group::poll`] follows: it has messages that waited for this.
    pub fn persisted(&mut self, number: ReadyNumber) {
        if self.is_quarantined {
            return;
        }
        let mut reached = None;
        while let Some(held) = self.held.front() {
            if held.is_written && held.number > number.0 {
                break;
            }
            reached = Some(held.number);
            let held = self.held.pop_front();
            self.released
                .extend(held.into_iter().flat_map(|held| held.messages));
        }
        let Some(reached) = reached else { return };
        self.node.on_persist_ready(reached);
        if let Some(at) = self.installing
            && self.node.raft.raft_log.persisted >= at.index.0
        {
            self.installing = None;
            self.node.advance_apply_to(at.index.0);
        }
        self.settle();
        self.cool();
    }

    /// Whether anything handed out is not reported as persisted.
    #[must_use]
    pub fn is_persisting(&self) -> bool {
        !self.held.is_empty()
    }

    /// The last entry handed out to be applied.
    #[must_use]
    pub fn handed_out_index(&self) -> LogIndex {
        self.handed_out
    }
}
