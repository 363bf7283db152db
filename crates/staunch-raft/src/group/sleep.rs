//! Sleep: a group in which nothing happens costs no time and sends nothing.
//!
//! The leader decides: when every member that is not suspected has the whole log and knows that
//! all of it is committed, and that has been so for a while, it says so and stops ticking; they
//! stop too. A member that does not hear it wakes everybody with its next election timeout. Any
//! message, proposal or change of the failure detector's mind wakes a group.

use raft::ProgressState;
use staunch_types::{LogIndex, NodeId, Term};

use crate::{
    config::{ELECTION_TICKS, SLEEP_AFTER_TICKS},
    message::{Body, Message},
};

use super::{Group, Role};

impl Group {
    /// Whether the group sleeps: ticks do nothing, and need not be given.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.is_asleep
    }

    /// Whether this member leads and nothing is left to do: every member that is not suspected
    /// has all entries and knows them committed.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let raft = &self.node.raft;
        let log = &raft.raft_log;
        let last = log.last_index();
        let settled = [log.committed, log.persisted, log.applied]
            .iter()
            .all(|at| *at == last);
        if !self.is_leader() || !settled || raft.lead_transferee.is_some() {
            return false;
        }
        let is_here = |node: &NodeId| !self.suspected.contains(node);
        let is_idle = self.held.is_empty() && self.released.is_empty();
        let all_know = raft.prs().iter().all(|(id, progress)| {
            *id == self.config.me.0
                || !is_here(&NodeId(*id))
                || progress.state != ProgressState::Snapshot
                    && progress.matched == last
                    && progress.committed_index == last
        });
        if !is_idle || !all_know {
            return false;
        }
        let members = self.members();
        !members.is_joint() && members.has_quorum(|node| is_here(&node))
    }

    /// Ends the sleep. A leader wakes the others, so that they expect its heartbeats again.
    pub fn wake(&mut self) {
        if self.is_asleep && self.is_leader() {
            self.rouse();
            self.node.ping();
            self.settle();
        } else {
            self.rouse();
        }
    }

    /// Ends the sleep without telling anybody.
    pub(super) fn rouse(&mut self) {
        self.quiet_ticks = 0;
        if !std::mem::take(&mut self.is_asleep) || !self.is_leader() {
            return;
        }
        // Nobody spoke while the group slept. The leader counts anew who is there.
        self.node.raft.election_elapsed = 0;
        for (_, progress) in self.node.raft.mut_prs().iter_mut() {
            progress.recent_active = true;
        }
    }

    /// A leader sends the group to sleep when nothing happened for long enough.
    pub(super) fn sleep_tick(&mut self) {
        // Who never asks for votes ticks for nothing.
        let raft = &self.node.raft;
        let may_stand = raft.promotable() && !self.config.is_witness;
        if !may_stand && !self.is_leader() && raft.election_elapsed > ELECTION_TICKS {
            self.doze();
            return;
        }
        if !self.is_quiet() {
            self.quiet_ticks = 0;
            return;
        }
        self.quiet_ticks = self.quiet_ticks.saturating_add(1);
        // Heartbeats that leave with the good night would wake the others again.
        if self.quiet_ticks < SLEEP_AFTER_TICKS || !self.node.raft.msgs.is_empty() {
            return;
        }
        let commit = self.last_index();
        let members = self.members();
        let term = self.role_now().term;
        for to in members.voters.iter().chain(&members.learners).copied() {
            if to != self.config.me && !self.suspected.contains(&to) {
                self.released.push(Message {
                    group: self.config.group,
                    from: self.config.me,
                    to,
                    term,
                    body: Body::Sleep { commit },
                });
            }
        }
        self.doze();
    }

    /// A follower is told that nothing happens.
    pub(super) fn fall_asleep(&mut self, leader: NodeId, term: Term, commit: LogIndex) {
        let now = self.role_now();
        let agrees = now.role == Role::Follower
            && now.term == term
            && now.leader == Some(leader)
            && self.last_index() == commit
            && self.committed_index() == commit
            && !self.suspected.contains(&leader);
        if agrees {
            self.node.raft.election_elapsed = 0;
            self.hurry = None;
            self.doze();
        }
    }

    fn doze(&mut self) {
        self.is_asleep = true;
        self.quiet_ticks = 0;
        let applied = self.applied_index().min(self.persisted_index());
        let store = self.node.mut_store();
        store.cool(applied.0, 0);
        store.shrink();
        self.held.shrink_to_fit();
        self.node.raft.maybe_free_inflight_buffers();
    }
}
