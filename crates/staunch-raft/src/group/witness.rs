//! Witnesses: voters that keep no data.
//!
//! A witness has the terms of all entries and the changes of members; where others have data it
//! has blank entries. It votes as any voter does, by its log, and never stands for election. So
//! whoever leads has all that is committed, data included: that is Raft's own argument, which
//! speaks of positions only.
//!
//! What a witness acknowledges counts, so with two members that have data it can make the leader's
//! copy the only one; and nobody with less can be elected then. That is meant to happen if the
//! other is away, and only then. So a leader *holds back* from witnesses
//!
//! * what is not on its own disk. Else, after a loss of power, a witness could know of an entry that
//!   no member has, and vote for nobody;
//! * what a member with data that keeps up has not acknowledged. Else, as a witness is the faster
//!   one, whenever a leader dies the other would lack something that the witness has.
//!
//! A member keeps up as long as it is not suspected and gets in [`KEEPING_UP_TICKS`] what the leader
//! had at their beginning. One that does not is waited for again when it is within
//! [`CAUGHT_UP_TICKS`] of the leader.
//!
//! Rejected: to let a witness lead for a moment, so that it can bring the others up to what it has
//! (braft). It has nothing to bring: entries that it knows of and they do not are lost, or somebody
//! has them who will be back.

use std::collections::VecDeque;

use staunch_types::{LogIndex, NodeId, Term};

use crate::{
    config::{
        CAUGHT_UP_TICKS, ELECTION_TICKS, FIRST_KEEPING_UP_TICKS, HELD_BACK_MESSAGES_MAX,
        KEEPING_UP_TICKS,
    },
    convert,
    entry::{Entry, Payload},
    message::{Append, Body, Message},
};

use super::Group;

/// A witness's election timeout: the longest that there is. It never passes.
pub(super) const WITNESS_TIMEOUT_TICKS: usize = 2 * ELECTION_TICKS - 1;

/// What a member knows of others that are witnesses.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    nodes: Vec<NodeId>,
    /// The term in which this member leads; what follows is of that term.
    led_term: Term,
    /// Entries for witnesses that must wait.
    held_back: VecDeque<Message>,
    /// How the voters with data keep up.
    rounds: Vec<Round>,
}

/// A member is to get what its leader had when the round began.
#[derive(Debug)]
struct Round {
    node: NodeId,
    goal: LogIndex,
    ticks: u16,
    keeps_up: bool,
}

impl Group {
    /// Says which nodes are witnesses, members or not. Nodes do not change in that.
    pub fn know_witnesses(&mut self, nodes: &[NodeId]) {
        if nodes.is_empty() {
            self.witnesses = None;
            return;
        }
        let witnesses = self.witnesses.get_or_insert_default();
        nodes.clone_into(&mut witnesses.nodes);
    }

    /// Whether the node is known to be a witness.
    #[must_use]
    pub fn is_witness(&self, node: NodeId) -> bool {
        if node == self.config.me {
            return self.config.is_witness;
        }
        let known = self.witnesses.as_ref();
        known.is_some_and(|known| known.nodes.contains(&node))
    }

    /// Whether this member leads, has a witness among its voters, and no other member is known to
    /// have the data of all committed entries.
    #[must_use]
    pub fn has_only_copy(&self) -> bool {
        let voters = self.members().voters;
        let committed = self.committed_index();
        let is_copy = |node: NodeId| node != self.config.me && !self.is_witness(node);
        let progress = self.progress();
        let mut copies = progress.iter().filter(|member| is_copy(member.node));
        self.is_leader()
            && voters.iter().any(|voter| self.is_witness(*voter))
            && !copies.any(|member| member.matched >= committed)
    }

    /// What this member makes of a message: a witness takes no data, and is not asked to lead.
    pub(super) fn as_witness(&self, mut message: Message) -> Option<Message> {
        if self.config.is_witness {
            if message.body == Body::TimeoutNow {
                return None;
            }
            if let Body::Append(append) = &mut message.body {
                drop_data(append);
            }
        }
        Some(message)
    }

    /// Before a tick: a witness waits for a leader for as long as it takes. Its lease ends all the
    /// same.
    pub(super) fn stay_witness(&mut self) {
        if self.config.is_witness {
            let elapsed = &mut self.node.raft.election_elapsed;
            *elapsed = (*elapsed).min(WITNESS_TIMEOUT_TICKS - 2);
        }
    }

    /// The leader is suspected: who was turned away because of its lease is answered.
    pub(super) fn answer_turned_away(&mut self) {
        let asked = self
            .turned_away
            .take()
            .filter(|_| self.turned_away_ticks > 0);
        if let Some(message) = asked.and_then(|asked| convert::message_to_library(*asked)) {
            let _not_a_member = self.node.step(message);
            self.settle();
        }
    }

    /// The message as its receiver gets it.
    pub(super) fn without_data(&self, mut message: Message) -> Message {
        if self.witnesses.is_some()
            && self.is_witness(message.to)
            && let Body::Append(append) = &mut message.body
        {
            drop_data(append);
        }
        message
    }

    /// Takes out what must not reach witnesses yet, and adds what may by now.
    pub(super) fn hold_back(&mut self, send: &mut Vec<Message>) {
        let Some(mut witnesses) = self.witnesses.take() else {
            return;
        };
        let is_held = |message: &Message| {
            matches!(message.body, Body::Append(_)) && witnesses.nodes.contains(&message.to)
        };
        let (appends, others): (Vec<_>, Vec<_>) =
            std::mem::take(send).into_iter().partition(is_held);
        *send = others;
        if self.is_leader() {
            self.begin_rounds(&mut witnesses);
            for append in appends {
                witnesses.hold(append);
            }
            if !witnesses.held_back.is_empty() {
                witnesses.release(self.witness_limit(&witnesses), self.committed_index(), send);
            }
        } else {
            witnesses.led_term = Term::default();
            witnesses.held_back = VecDeque::new();
            witnesses.rounds = Vec::new();
        }
        self.witnesses = Some(witnesses);
    }

    /// A leader does not know yet how its members keep up.
    fn begin_rounds(&self, witnesses: &mut Witnesses) {
        let term = self.role_now().term;
        if witnesses.led_term != term {
            witnesses.led_term = term;
            witnesses.held_back.clear();
            witnesses.rounds.clear();
        }
    }

    /// Up to where witnesses may have what this leader has.
    fn witness_limit(&self, witnesses: &Witnesses) -> LogIndex {
        let mut limit = self.persisted_index();
        for (node, matched) in self.other_copies(witnesses) {
            if self.keeps_up(witnesses, node) {
                limit = limit.min(matched);
            }
        }
        limit
    }

    /// Other members that vote and have data, and up to where.
    fn other_copies(&self, witnesses: &Witnesses) -> impl Iterator<Item = (NodeId, LogIndex)> {
        let progress = self.node.raft.prs();
        let is_other = |node: u64| {
            node != self.config.me.0
                && !progress.conf().learners().contains(&node)
                && !witnesses.nodes.contains(&NodeId(node))
        };
        let others = progress.iter().filter(move |(id, _)| is_other(**id));
        others.map(|(id, progress)| (NodeId(*id), LogIndex(progress.matched)))
    }

    fn keeps_up(&self, witnesses: &Witnesses, node: NodeId) -> bool {
        let round = witnesses.rounds.iter().find(|round| round.node == node);
        !self.suspected.contains(&node) && round.is_none_or(|round| round.keeps_up)
    }

    /// A member is away, or has forgotten what it had: witnesses do not wait for it any more.
    pub(super) fn do_not_wait_for(&mut self, node: NodeId) {
        if self.is_leader()
            && let Some(witnesses) = &mut self.witnesses
        {
            witnesses.rounds.retain(|round| round.node != node);
            witnesses.rounds.push(Round {
                node,
                goal: LogIndex(u64::MAX),
                ticks: 0,
                keeps_up: false,
            });
        }
    }

    /// A tick of a leader: looks who keeps up.
    pub(super) fn look_after_witnesses(&mut self) {
        let Some(mut witnesses) = self.witnesses.take() else {
            return;
        };
        if self.is_leader() {
            self.begin_rounds(&mut witnesses);
            let last = self.last_index();
            let copies: Vec<_> = self.other_copies(&witnesses).collect();
            let is_copy = |round: &Round| copies.iter().any(|(node, _)| *node == round.node);
            witnesses.rounds.retain(is_copy);
            for (node, matched) in copies {
                let is_suspected = self.suspected.contains(&node);
                witnesses
                    .round_of(node, last)
                    .tick(matched, last, is_suspected);
            }
        }
        self.witnesses = Some(witnesses);
    }
}

impl Witnesses {
    fn round_of(&mut self, node: NodeId, last: LogIndex) -> &mut Round {
        let at = self.rounds.iter().position(|round| round.node == node);
        let at = at.unwrap_or_else(|| {
            self.rounds.push(Round {
                node,
                goal: last,
                ticks: KEEPING_UP_TICKS - FIRST_KEEPING_UP_TICKS,
                keeps_up: true,
            });
            self.rounds.len() - 1
        });
        &mut self.rounds[at]
    }

    /// Keeps a message until it may go. One that begins where others do, or before, was sent anew.
    fn hold(&mut self, message: Message) {
        let Body::Append(append) = &message.body else {
            return;
        };
        let previous = append.previous.index;
        let is_blank = append.entries.is_empty();
        let is_same = |held: &Message| held.to == message.to;
        if is_blank && self.held_back.iter().any(is_same) {
            return;
        }
        self.held_back
            .retain(|held| !is_same(held) || begins_at(held) < previous);
        if self.held_back.len() < HELD_BACK_MESSAGES_MAX {
            self.held_back.push_back(message);
        }
    }

    /// Lets go what a witness may have.
    fn release(&mut self, limit: LogIndex, commit: LogIndex, send: &mut Vec<Message>) {
        self.held_back.retain_mut(|message| {
            let Body::Append(append) = &mut message.body else {
                return false;
            };
            let is_free = |entry: &&Entry| entry.index <= limit;
            let free = append.entries.iter().take_while(is_free).count();
            let is_whole = free == append.entries.len() && append.previous.index <= limit;
            if free == 0 && !is_whole {
                return true;
            }
            let later = append.entries.split_off(free);
            let end = append.entries.last().map(Entry::position);
            let part = Append {
                previous: append.previous,
                commit,
                entries: std::mem::replace(&mut append.entries, later),
            };
            append.previous = end.unwrap_or(append.previous);
            send.push(Message {
                body: Body::Append(part),
                ..*message
            });
            !is_whole
        });
    }
}

impl Round {
    fn tick(&mut self, matched: LogIndex, last: LogIndex, is_suspected: bool) {
        self.ticks = self.ticks.saturating_add(1);
        if is_suspected {
            self.keeps_up = false;
        } else if matched >= self.goal {
            self.keeps_up |= self.ticks <= CAUGHT_UP_TICKS;
        } else if self.ticks > KEEPING_UP_TICKS {
            self.keeps_up = false;
        }
        if matched >= self.goal || self.goal > last {
            self.goal = last;
            self.ticks = 0;
        }
    }
}

fn begins_at(message: &Message) -> LogIndex {
    if let Body::Append(append) = &message.body {
        append.previous.index
    } else {
        LogIndex::default()
    }
}

fn drop_data(append: &mut Append) {
    for entry in &mut append.entries {
        if matches!(entry.payload, Payload::Data(_)) {
            entry.payload = Payload::Blank;
        }
    }
}
