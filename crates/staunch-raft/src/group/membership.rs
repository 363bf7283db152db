//! Changes of the members.

use staunch_types::{LogIndex, NodeId};

use crate::{
    convert,
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
            let members = self.members();
            self.suspected.retain(|node| members.contains(*node));
            self.rouse();
        }
        self.applied(index);
        self.leave_if_removed();
        self.members()
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
