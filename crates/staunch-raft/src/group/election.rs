//! Who stands for election, and when.
//!
//! The library waits for a random time after the last word of a leader. Two things are changed.
//! The waits come from the configured seed, the group, the node and the term, so that a run can be
//! repeated. And when the node's failure detector suspects the leader, the wait is cut short: the
//! lease counts as over, so votes are granted, and the voters that are left stand for election in
//! an order that differs from group to group: the first at once, each next one [`RANK_TICKS`]
//! later. A member that is asked for a pre-vote by one with a shorter log asks itself at once, so
//! the longest log does not have to wait for its rank. So does one that suspects the leader just
//! after it was asked and refused because of the lease: the one that asked would have to repeat it.
//! A witness, which cannot stand, answers then what it was asked.

use raft::StateRole;
use staunch_types::NodeId;

use crate::{
    config::{CANDIDACY_RETRY_TICKS, ELECTION_TICKS, HURRY_TICKS_MAX, RANK_TICKS},
    entry::LogPosition,
    message::{AppendAnswer, Body, Message},
};

use super::{Group, ProposeError, Role, RoleChange, witness::WITNESS_TIMEOUT_TICKS};

/// An election that does not wait for the timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hurry {
    /// Ticks until this member asks for votes.
    wait_ticks: u16,
    /// Ticks until the ordinary timeout rules again.
    left_ticks: u16,
}

impl Group {
    /// Asks for votes now, unless this member leads, has no vote or is a witness.
    pub fn campaign(&mut self) {
        let may_stand = self.node.raft.promotable() && !self.config.is_witness;
        let is_idle = self.is_leader() || !may_stand;
        if is_idle || self.is_alone_and_persisting() || self.is_deaf() {
            return;
        }
        self.rouse();
        self.node.raft.election_elapsed = 0;
        // The library refuses while a change of members is committed and not applied.
        let _refused = self.node.campaign();
        self.settle();
    }

    /// Hands leadership to a voter with data. Proposals are refused until it has taken over or an election
    /// timeout has passed.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], also when `to` has no vote.
    pub fn transfer_to(&mut self, to: NodeId) -> Result<(), ProposeError> {
        let leader = self.role_now().leader;
        let can_lead = self.members().voters.contains(&to) && !self.is_witness(to);
        if !self.is_leader() || !can_lead || to == self.config.me {
            return Err(ProposeError::NotLeader { leader });
        }
        self.rouse();
        self.node.transfer_leader(to.0);
        self.settle();
        Ok(())
    }

    /// The voter with data that has the longest log among those for which `is_fit` holds and that are not
    /// suspected; for [`Group::transfer_to`].
    #[must_use]
    pub fn successor(&self, mut is_fit: impl FnMut(NodeId) -> bool) -> Option<NodeId> {
        let mut voters = self.members().voters;
        voters.retain(|voter| !self.is_witness(*voter));
        self.progress()
            .into_iter()
            .filter(|member| member.node != self.config.me && voters.contains(&member.node))
            .filter(|member| !self.suspected.contains(&member.node) && is_fit(member.node))
            .max_by_key(|member| (member.matched, std::cmp::Reverse(member.node)))
            .map(|member| member.node)
    }

    /// The failure detector suspects `node`. If it led, the lease is over and this member stands
    /// for election in its turn. If this member leads and the nodes that are left are no
    /// majority, it steps down.
    ///
    /// A node that was restarted so quickly that nobody suspected it, which its peers see by its
    /// new incarnation, is to be suspected and trusted again: it leads nothing any more, and may
    /// have left groups asleep behind it.
    pub fn suspect(&mut self, node: NodeId) {
        let members = self.members();
        let is_news = node != self.config.me && !self.suspected.contains(&node);
        if !is_news || !members.contains(node) || self.is_quarantined {
            return;
        }
        self.suspected.push(node);
        self.do_not_wait_for(node);
        let now = self.role_now();
        match now.role {
            Role::Leader => {
                if !members.has_quorum(|voter| !self.suspected.contains(&voter)) {
                    self.step_down();
                }
            }
            Role::Follower | Role::Candidate => {
                if now.leader.is_none_or(|leader| leader == node) {
                    self.expire_lease();
                }
            }
        }
    }

    /// The failure detector takes its suspicion back. A leader wakes, to see what the member
    /// missed.
    pub fn trust(&mut self, node: NodeId) {
        let before = self.suspected.len();
        self.suspected.retain(|suspected| *suspected != node);
        if self.suspected.len() != before {
            self.wake();
        }
    }

    /// Leads no longer, in the same term.
    pub fn step_down(&mut self) {
        if !self.is_leader() || self.is_quarantined {
            return;
        }
        self.rouse();
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.settle();
    }

    /// The only voter becomes leader the moment it asks, and the library wants it to have
    /// persisted its whole log by then.
    pub(super) fn is_alone_and_persisting(&self) -> bool {
        self.node.raft.prs().is_singleton() && !self.is_leader() && self.is_persisting()
    }

    /// Does not count on the leader any more.
    fn expire_lease(&mut self) {
        self.rouse();
        let raft = &mut self.node.raft;
        raft.election_elapsed = raft.election_timeout();
        let members = self.members();
        if !members.has_quorum(|voter| !self.suspected.contains(&voter)) {
            return;
        }
        let Some(rank) = self.rank() else {
            return self.answer_turned_away();
        };
        self.hurry = Some(Hurry {
            wait_ticks: rank * RANK_TICKS,
            left_ticks: HURRY_TICKS_MAX,
        });
        if rank == 0 || self.turned_away_ticks > 0 {
            self.stand();
        }
    }

    /// This voter's place among those that are not suspected and may lead; none of a witness.
    fn rank(&self) -> Option<u16> {
        let members = self.members();
        let order = |node: NodeId| (mix(self.config.group.0, node.0), node);
        let me = order(self.config.me);
        let before = (members.voters.iter())
            .filter(|voter| !self.suspected.contains(voter) && !self.is_witness(**voter))
            .filter(|voter| order(**voter) < me)
            .count();
        let may_lead = members.is_voter(self.config.me) && !self.config.is_witness;
        may_lead.then(|| u16::try_from(before).unwrap_or(u16::MAX))
    }

    fn stand(&mut self) {
        let rank = self.rank().unwrap_or_default();
        if let Some(hurry) = &mut self.hurry {
            hurry.wait_ticks = CANDIDACY_RETRY_TICKS + rank * RANK_TICKS;
        }
        self.campaign();
        if !self.is_leader() {
            // The lease stays over for others that ask.
            self.node.raft.election_elapsed = ELECTION_TICKS;
        }
    }

    /// A tick during a hurried election. Whether it was one.
    pub(super) fn hurry_tick(&mut self) -> bool {
        let Some(mut hurry) = self.hurry else {
            return false;
        };
        let now = self.role_now();
        let has_leader = now
            .leader
            .is_some_and(|node| !self.suspected.contains(&node));
        if has_leader || hurry.left_ticks == 0 {
            self.hurry = None;
            return false;
        }
        hurry.left_ticks -= 1;
        hurry.wait_ticks = hurry.wait_ticks.saturating_sub(1);
        self.hurry = Some(hurry);
        if hurry.wait_ticks == 0 {
            self.stand();
        }
        true
    }

    /// A member asks for a pre-vote. A leader that asks leads no longer: it was restarted, and its
    /// lease is over. Others are turned away as long as there is a lease, which is remembered.
    pub(super) fn hear_candidate(&mut self, message: &Message) {
        let now = self.role_now();
        if now.role != Role::Follower || message.term <= now.term || now.leader.is_none() {
            return;
        }
        if now.leader == Some(message.from) {
            self.node.raft.election_elapsed = ELECTION_TICKS;
        } else if self.node.raft.election_elapsed < ELECTION_TICKS {
            self.turned_away_ticks = RANK_TICKS;
            self.turned_away = self.config.is_witness.then(|| Box::new(message.clone()));
            self.tell_leader(now.leader);
        }
    }

    /// This member has voted for another one than the leader that it had, `before`. That one may
    /// not hear of it by the other.
    pub(super) fn has_voted(&mut self, before: RoleChange) {
        if self.role_now().term > before.term {
            self.tell_leader(before.leader);
        }
    }

    /// Tells a leader, who may sleep or have been left, how far this member is: a sleeping one wakes
    /// and is heard again before its lease is over, one of an earlier term steps down.
    fn tell_leader(&mut self, leader: Option<NodeId>) {
        let is_there = |node: &NodeId| *node != self.config.me && !self.suspected.contains(node);
        let Some(leader) = leader.filter(is_there) else {
            return;
        };
        let commit = self.committed_index();
        let last = commit.min(self.persisted_index());
        self.released.push(Message {
            group: self.config.group,
            from: self.config.me,
            to: leader,
            term: self.role_now().term,
            body: Body::AppendAnswer(AppendAnswer::Accepted { last, commit }),
        });
    }

    /// Another member asked for a pre-vote. If its log is behind this member's, it cannot win
    /// this member's vote, and may win nobody's; and if this member asked before, it was too early.
    pub(super) fn answer_rival(&mut self, rival: LogPosition) {
        let is_free = match self.node.raft.state {
            StateRole::Follower | StateRole::PreCandidate => true,
            StateRole::Candidate | StateRole::Leader => false,
        };
        if self.hurry.is_some() && is_free && !rival.is_up_to_date_with(self.last()) {
            self.stand();
        }
    }

    /// Where the log ends.
    pub(super) fn last(&self) -> LogPosition {
        let index = self.last_index();
        LogPosition {
            index,
            term: self.term_at(index).unwrap_or_default(),
        }
    }

    /// After every call into the library: it draws its election timeout at random whenever role
    /// or term change, and this replaces it by one that can be repeated.
    pub(super) fn settle(&mut self) {
        let raft = &mut self.node.raft;
        let mixed = mix(
            mix(self.config.seed, self.config.group.0),
            mix(self.config.me.0, raft.term),
        );
        let span = ELECTION_TICKS as u64;
        let ticks = if self.config.is_witness {
            WITNESS_TIMEOUT_TICKS
        } else {
            ELECTION_TICKS + usize::try_from(mixed % span).unwrap_or(0)
        };
        if raft.randomized_election_timeout() != ticks {
            raft.set_randomized_election_timeout(ticks);
        }
    }
}

/// Two numbers into one that looks random (the finalizer of `SplitMix64`).
fn mix(a: u64, b: u64) -> u64 {
    let mut mixed = a
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(b)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
