//! Changes of the members.
//!
//! A member that a change has let go must stay until nobody needs it: a member that has the change
//! and does not know it to be committed still asks the old ones for their votes. So the leader
//! says [farewell](Group::farewell) by an entry that it appended after it had applied the change:
//! whoever is elected from then on has that entry, and has learnt with it that the change counts.
//! Who has left for good is free of what it had promised. One that may come back is not: it keeps
//! the position of the farewell ([`Restored::rejoining`](crate::Restored::rejoining)).
//! `docs/replication.md` has the argument.

use bytes::Bytes;
use staunch_types::{LogIndex, NodeId};

use crate::{
    convert,
    entry::LogPosition,
    members::{Change, ChangeStep, MEMBERS_MAX, Members},
};

use super::{Group, ProposeError};

/// Why a change of members was not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// As for any proposal.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// Another one is not applied yet, or the group is joint.
    #[error("another change of members is under way")]
    UnderWay,
    /// There is nothing in it.
    #[error("a change of members without a step")]
    Empty,
    /// A node is named twice.
    #[error("node {0} is named twice")]
    Repeated(NodeId),
    /// To be added, and there already.
    #[error("node {0} is a member already")]
    IsMember(NodeId),
    /// To be changed, and not there; or to be promoted, and not a learner.
    #[error("node {0} is not a member in the role that the change names")]
    NotInRole(NodeId),
    /// The leader hands over before it leaves or is demoted.
    #[error("node {0} leads: hand leadership over first")]
    Leads(NodeId),
    /// Somebody must vote.
    #[error("no voters would be left")]
    NoVoters,
    /// More than [`MEMBERS_MAX`].
    #[error("more than {MEMBERS_MAX} members")]
    TooMany,
}

impl Group {
    /// Proposes a change of members. It takes effect on each member when that applies it, by
    /// [`Group::apply_change`].
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn propose_change(&mut self, change: &Change) -> Result<(), ChangeError> {
        self.check_change(change)?;
        Ok(self.propose_entry(convert::change_to_proposal(change))?)
    }

    fn check_change(&self, change: &Change) -> Result<(), ChangeError> {
        let members = self.members();
        if !self.is_leader() {
            let leader = self.role_now().leader;
            return Err(ProposeError::NotLeader { leader }.into());
        }
        if self.node.raft.has_pending_conf() || members.is_joint() {
            return Err(ChangeError::UnderWay);
        }
        if change.steps.is_empty() {
            return Err(ChangeError::Empty);
        }
        let mut voters = members.voters.len();
        let mut total = voters + members.learners.len();
        for (position, step) in change.steps.iter().enumerate() {
            let node = step.node();
            if change.steps[..position]
                .iter()
                .any(|other| other.node() == node)
            {
                return Err(ChangeError::Repeated(node));
            }
            self.check_step(&members, *step)?;
            match step {
                ChangeStep::AddLearner(_) => total += 1,
                ChangeStep::Promote(_) => voters += 1,
                ChangeStep::Demote(_) => voters -= 1,
                ChangeStep::Remove(_) => {
                    total -= 1;
                    voters -= usize::from(members.is_voter(node));
                }
            }
        }
        if voters == 0 {
            return Err(ChangeError::NoVoters);
        }
        if total > MEMBERS_MAX || change.steps.len() > MEMBERS_MAX {
            return Err(ChangeError::TooMany);
        }
        Ok(())
    }

    fn check_step(&self, members: &Members, step: ChangeStep) -> Result<(), ChangeError> {
        let node = step.node();
        let fits = match step {
            ChangeStep::AddLearner(_) if members.contains(node) || node == NodeId(0) => {
                return Err(ChangeError::IsMember(node));
            }
            ChangeStep::Demote(_) | ChangeStep::Remove(_) if node == self.config.me => {
                return Err(ChangeError::Leads(node));
            }
            ChangeStep::AddLearner(_) => true,
            ChangeStep::Promote(_) => members.learners.contains(&node),
            ChangeStep::Demote(_) => members.voters.contains(&node),
            ChangeStep::Remove(_) => members.contains(node),
        };
        if fits {
            Ok(())
        } else {
            Err(ChangeError::NotInRole(node))
        }
    }

    /// Applies a committed change of members: the entry at `index`, all before it being applied.
    /// It counts as applied from then on. Returns the members.
    ///
    /// # Panics
    /// If the entry was not handed out yet: a bug of the driver.
    pub fn apply_change(&mut self, index: LogIndex, change: &Change) -> Members {
        if index > self.applied_index() && !self.is_deaf() {
            // A change that does not fit is refused by every member alike: it depends on the log
            // alone. Proposals are checked, so this concerns ends of joint states that are over.
            let _refused = self
                .node
                .apply_conf_change(&convert::change_to_library(change));
            self.node.raft.maybe_free_inflight_buffers();
            self.changed_at = self.last_index();
            let members = self.members();
            self.suspected.retain(|node| members.contains(*node));
            self.rouse();
        }
        self.applied(index);
        self.leave_if_removed();
        self.members()
    }

    /// What members that were let go are told by a leader: its last applied entry, if it has
    /// appended that after it had applied the change. Else it proposes one, and gives nothing.
    pub fn farewell(&mut self) -> Option<LogPosition> {
        if !self.is_serving() || self.members().is_joint() {
            return None;
        }
        if self.applied_index() > self.changed_at {
            return Some(self.snapshot_meta().last);
        }
        if self.last_index() == self.changed_at {
            // If it is not taken, it is asked again.
            let _refused = self.propose(Bytes::new());
        }
        None
    }

    /// Whether this member may drop what it has, because it was let go before `left`. If it has
    /// more it was added again, or has entries that will never be committed.
    #[must_use]
    pub fn may_leave(&self, left: LogPosition) -> bool {
        left.is_up_to_date_with(self.last()) && left.is_up_to_date_with(self.pledged)
    }

    /// Where the log ended that this member had before it left the group and joined it again.
    #[must_use]
    pub fn pledged(&self) -> LogPosition {
        self.pledged
    }

    /// Whether a candidate whose log ends at `last` is to get no answer, because this member votes
    /// as if it still had what it had before it left.
    pub(super) fn is_pledged_against(&self, last: LogPosition) -> bool {
        !last.is_up_to_date_with(self.pledged) && !self.last().is_up_to_date_with(self.pledged)
    }

    /// A leader that has no vote any more commits what is needed for others to take over, which
    /// it has done by now, and leaves (Raft thesis, section 4.2.2). The library would go on. No
    /// leader proposes this for itself, but it may inherit it from one before.
    fn leave_if_removed(&mut self) {
        if !self.is_leader() || self.members().is_voter(self.config.me) {
            return;
        }
        if let Some(to) = self.successor(|_| true) {
            self.node.raft.send_timeout_now(to.0);
        }
        self.step_down();
    }
}
