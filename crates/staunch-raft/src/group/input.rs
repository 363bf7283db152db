//! Messages and ticks.

use staunch_types::{LogIndex, NodeId};

use crate::{
    config::SNAPSHOT_OFFER_TICKS,
    convert,
    message::{AppendAnswer, Body, Message},
};

use super::Group;

/// Terms and indexes above this are refused, so that adding to them cannot overflow.
pub(crate) const COUNTER_MAX: u64 = 1 << 62;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It is for another group or node, or from this one: a bug of the driver or the sender.
    #[error("a message for another group or node")]
    Misdirected,
    /// A number in it cannot be.
    #[error("a message that no member of this version sends")]
    Malformed,
    /// It cannot be true together with this member's log. The group is out of service on this
    /// node from now on.
    #[error(transparent)]
    Inconsistent(#[from] Inconsistency),
    /// The group is out of service on this node.
    #[error("the group is in quarantine")]
    Quarantined,
}

/// A peer and this member contradict each other: one of them has lost what it had persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// The leader knows that this member had entries which it does not have.
    #[error("the leader knows entry {commit} on this node, whose log ends at {last}")]
    LogLost {
        /// Committed, and once acknowledged by this member.
        commit: LogIndex,
        /// Its last entry.
        last: LogIndex,
    },
    /// A member acknowledges entries that this leader has not got.
    #[error("node {from} acknowledges entry {acknowledged}, this leader's log ends at {last}")]
    LeaderBehind {
        /// Who.
        from: NodeId,
        /// What.
        acknowledged: LogIndex,
        /// This leader's last entry.
        last: LogIndex,
    },
}

impl Group {
    /// Takes a message from a peer.
    ///
    /// Before stepping a [`Body::Snapshot`] the node makes sure that it has the state which the
    /// snapshot names, complete and durable under a provisional name; without it the message is
    /// dropped.
    ///
    /// # Errors
    /// [`StepError`]; nothing has changed but, after an inconsistency, that the group is out of
    /// service.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        if self.is_quarantined {
            return Err(StepError::Quarantined);
        }
        let me = self.config.me;
        if message.group != self.config.group || message.to != me || message.from == me {
            return Err(StepError::Misdirected);
        }
        if !is_well_formed(&message) {
            return Err(StepError::Malformed);
        }
        // Until a snapshot is persisted its index exists nowhere. The peers will repeat.
        if self.installing.is_some() {
            return Ok(());
        }
        if let Body::PreVote(candidacy) | Body::Vote(candidacy) = &message.body
            && self.is_pledged_against(candidacy.last)
        {
            return Ok(());
        }
        let Some(message) = self.as_witness(message) else {
            return Ok(());
        };
        if let Err(inconsistency) = self.check_consistency(&message) {
            self.is_quarantined = true;
            return Err(inconsistency.into());
        }
        if let Body::Sleep { commit } = message.body {
            self.fall_asleep(message.from, message.term, commit);
            return Ok(());
        }
        if self.is_news(&message) {
            self.rouse();
        }
        let before = self.role_now();
        let rival = match &message.body {
            Body::PreVote(candidacy) => {
                self.hear_candidate(&message);
                Some(candidacy.last)
            }
            _ => None,
        };
        let is_asked_for_vote = matches!(message.body, Body::Vote(_));
        if let Some(message) = convert::message_to_library(message) {
            // The library refuses answers of nodes that are no members: they left meanwhile.
            let _not_a_member = self.node.step(message);
        }
        self.review_forgetful();
        self.settle();
        if is_asked_for_vote {
            self.has_voted(before);
        }
        if let Some(rival) = rival {
            self.answer_rival(rival);
        }
        Ok(())
    }

    /// Whether a message is a sign that something happens. An answer to a heartbeat is not, nor
    /// that somebody who left long ago, and was not told, looks for a leader.
    fn is_news(&self, message: &Message) -> bool {
        match message.body {
            Body::HeartbeatAnswer { .. } => false,
            Body::PreVote(_) => self.node.raft.prs().get(message.from.0).is_some(),
            _ => true,
        }
    }

    /// Whether nothing may reach the library now.
    pub(super) fn is_deaf(&self) -> bool {
        self.installing.is_some() || self.is_quarantined
    }

    /// Finds what would make the library panic.
    fn check_consistency(&self, message: &Message) -> Result<(), Inconsistency> {
        let last = self.last_index();
        let raft = &self.node.raft;
        let is_current = message.term.0 == raft.term;
        match &message.body {
            Body::Heartbeat { commit } if message.term.0 >= raft.term && *commit > last => {
                Err(Inconsistency::LogLost {
                    commit: *commit,
                    last,
                })
            }
            Body::AppendAnswer(AppendAnswer::Accepted {
                last: acknowledged, ..
            }) if is_current && self.is_leader() && *acknowledged > last => {
                Err(Inconsistency::LeaderBehind {
                    from: message.from,
                    acknowledged: *acknowledged,
                    last,
                })
            }
            _ => Ok(()),
        }
    }

    /// Time passes: one [`TICK`](crate::config::TICK). Does nothing while the group sleeps.
    pub fn tick(&mut self) {
        if self.is_asleep || self.is_deaf() || self.is_alone_and_persisting() {
            return;
        }
        self.turned_away_ticks = self.turned_away_ticks.saturating_sub(1);
        if self.hurry_tick() {
            return;
        }
        self.stay_witness();
        self.node.tick();
        self.settle();
        self.look_after_witnesses();
        self.sleep_tick();
        self.offer_ticks += 1;
        if self.offer_ticks >= SNAPSHOT_OFFER_TICKS {
            self.offer_ticks = 0;
            self.repeat_offers();
        }
    }
}

/// Whether the library's arithmetic and its assumptions about a message hold. Term 0 would make
/// it a local message, which is not checked against the term.
fn is_well_formed(message: &Message) -> bool {
    let is_small = |counter: u64| counter < COUNTER_MAX;
    let numbers = match &message.body {
        Body::PreVote(candidacy) | Body::Vote(candidacy) => {
            [candidacy.last.index.0, candidacy.commit.index.0]
        }
        Body::PreVoteAnswer(answer) | Body::VoteAnswer(answer) => [answer.commit.index.0, 0],
        Body::Append(append) => {
            let mut previous = append.previous;
            for entry in &append.entries {
                if entry.index != previous.index.next() || entry.term < previous.term {
                    return false;
                }
                previous = entry.position();
            }
            if previous.term > message.term {
                return false;
            }
            [previous.index.0, append.commit.0]
        }
        Body::AppendAnswer(AppendAnswer::Accepted { last, commit }) => [last.0, commit.0],
        Body::AppendAnswer(AppendAnswer::Rejected { previous, hint, .. }) => {
            [previous.0, hint.index.0]
        }
        Body::Heartbeat { commit } | Body::HeartbeatAnswer { commit } | Body::Sleep { commit } => {
            [commit.0, 0]
        }
        Body::Snapshot(meta) => {
            if meta.members.check().is_err() || meta.last.term > message.term {
                return false;
            }
            [meta.last.index.0, 0]
        }
        Body::TimeoutNow => [0, 0],
    };
    message.term.0 > 0 && is_small(message.term.0) && numbers.into_iter().all(is_small)
}
