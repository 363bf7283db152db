//! What every group must keep at all times, looked at after every drain of every node.
//!
//! * One leader in a term, and one vote of a member in a term (election safety).
//! * Two logs that have an entry of the same index and term are the same up to it (log matching).
//! * One entry at a place of the committed log, which a majority of the members has on its disks, or
//!   of those from before a change of them, and none of them loses (leader completeness, contract C1).
//! * One state after it (state-machine safety). Encoding a whole queue is dear, so most states are
//!   passed over: which, an entry's index alone decides, so that all members are looked at after
//!   the same entries; [`Consensus::compare`] looks at all.
//!
//! What a member has on its disk is what it says; that it told the truth shows when it comes back.

use std::collections::{BTreeMap, BTreeSet};

use staunch_node::Node;
use staunch_raft::{
    Body, Group, LogPosition, Members, Message, Role, message::AppendAnswer, state::FOUNDING,
};
use staunch_types::{GroupId, LogIndex, NodeId, Term};

use crate::history::Stamp;

/// One state in so many is compared after each drain.
const STATES_PER_LOOK: u64 = 8;
/// Entries of a log that was cut off somewhere which are looked at again.
const REPEATED_ENTRIES_MAX: u64 = 1_000;

/// All that was seen of all groups.
#[derive(Debug, Default)]
pub struct Consensus {
    leaders: BTreeMap<(GroupId, Term), NodeId>,
    votes: BTreeMap<(GroupId, Term, NodeId), NodeId>,
    /// The term before each entry that was seen in a log.
    logs: BTreeMap<(GroupId, LogIndex, Term), Term>,
    committed: BTreeMap<GroupId, Committed>,
    states: BTreeMap<(GroupId, LogIndex), (u64, NodeId)>,
    /// Which node a machine is: one that comes back without its data gets a new id.
    ids: BTreeMap<usize, NodeId>,
    /// What was last seen of a node's members. What a node had whose disk was lost stays as it was:
    /// it may be committed because of that.
    seen: BTreeMap<(NodeId, GroupId), Seen>,
    /// What members had before they forgot everything because of a damaged disk.
    held: BTreeMap<(NodeId, GroupId), Seen>,
    /// Whom a node's group had for members when that was last seen.
    members: BTreeMap<(NodeId, GroupId), Members>,
    /// The last entries that members have told their leaders to have on disk.
    told: BTreeMap<(NodeId, GroupId), LogPosition>,
    /// Groups that have told of a fault: one is enough.
    broken: BTreeSet<GroupId>,
    /// When the catalog's last applied entry rose on the node that was ahead.
    catalog_heads: Vec<(LogIndex, Stamp)>,
    /// Each node's last applied entry of the catalog.
    catalog_applied: BTreeMap<usize, LogIndex>,
    /// States of two nodes that were compared.
    pub compared: u64,
    /// Leaders that there have been.
    pub elections: u64,
}

/// Which groups of a node are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// All.
    AtAll,
    /// That of the catalog alone: there are thousands.
    AtCatalog,
}

/// What is known to be committed in a group.
#[derive(Debug, Default)]
struct Committed {
    last: LogIndex,
    terms: BTreeMap<LogIndex, Term>,
}

/// What was last seen of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Seen {
    term: Term,
    is_leader: bool,
    committed: LogIndex,
    applied: LogIndex,
    persisted: LogIndex,
    last: LogIndex,
    last_term: Term,
    /// Of a process that is no more.
    is_over: bool,
    /// It is no member any more, or its queue was deleted: what it did last was not looked at.
    is_gone: bool,
    /// It is out of service until it has got everything from the others.
    is_out: bool,
}

/// What is wrong, and with which group.
type Wrong = Vec<(GroupId, String)>;

impl Consensus {
    /// Looks at a node after a drain; what is wrong.
    pub fn look(&mut self, number: usize, node: &Node, looked: Looked) -> Vec<String> {
        let mut wrong = Wrong::new();
        let Some(me) = node.id() else {
            return Vec::new();
        };
        self.ids.insert(number, me);
        let count = match looked {
            Looked::AtAll => usize::MAX,
            Looked::AtCatalog => 1,
        };
        for group in node.groups().take(count) {
            let key = (me, group.id());
            let now = see(group);
            let before = self.seen.get(&key).copied().unwrap_or_default();
            if now == before {
                continue;
            }
            if now.is_out && !before.is_out {
                self.forgets(key);
            } else if before.is_over {
                self.look_at_return(group, &mut wrong);
            }
            self.look_at_leader(group, &mut wrong);
            if (now.last, now.last_term) != (before.last, before.last_term) {
                self.look_at_log(group, before, &mut wrong);
            }
            self.seen.insert(key, now);
            if now.committed > before.committed || before.is_over {
                self.look_at_commit(group, &mut wrong);
            }
            if now.applied != before.applied || before.is_over {
                self.members.insert(key, group.members());
            }
            if group.id() == GroupId::CATALOG {
                self.catalog_applied.insert(number, now.applied);
            }
            let is_new = now.applied != before.applied || before.is_over;
            if is_new && is_chosen(group.id(), now.applied) {
                self.look_at_state(node, group, &mut wrong);
            }
        }
        if looked == Looked::AtAll {
            self.note_gone(me, node);
        }
        self.tell(wrong)
    }

    /// Notes which members are no more.
    fn note_gone(&mut self, me: NodeId, node: &Node) {
        let there = node.groups().count();
        let seen = self.seen.range(of_node(me));
        if seen.filter(|(_, seen)| !seen.is_gone).count() == there {
            return;
        }
        let there: BTreeSet<GroupId> = node.groups().map(Group::id).collect();
        let seen = self.seen.range(of_node(me));
        let gone = seen.filter(|((_, group), seen)| !seen.is_gone && !there.contains(group));
        let gone: Vec<_> = gone.map(|(key, _)| *key).collect();
        for key in gone {
            self.forgets(key);
            if let Some(seen) = self.seen.get_mut(&key) {
                seen.is_gone = true;
                seen.is_over = false;
            }
        }
    }

    /// A member promises nothing any more of what it has promised: it is none any more, or it has
    /// forgotten that because its disk is damaged and is out of service until it has got everything
    /// from the others. It may vote again in a term in which it has voted, once that does no harm.
    fn forgets(&mut self, (me, id): (NodeId, GroupId)) {
        self.told.remove(&(me, id));
        self.votes
            .retain(|(group, _, voter), _| (*group, *voter) != (id, me));
        if let Some(seen) = self.seen.get(&(me, id)) {
            self.held.insert((me, id), *seen);
        }
    }

    /// Compares the states of a node with those of others after the same entries.
    pub fn compare(&mut self, node: &Node) -> Vec<String> {
        let mut wrong = Wrong::new();
        for group in node.groups() {
            self.look_at_state(node, group, &mut wrong);
        }
        self.tell(wrong)
    }

    /// A node sends a message; what is wrong.
    pub fn hear(&mut self, message: &Message) -> Vec<String> {
        let mut wrong = Wrong::new();
        let (group, from) = (message.group, message.from);
        match &message.body {
            Body::VoteAnswer(answer) if answer.is_granted => {
                let vote = (group, message.term, from);
                let known = *self.votes.entry(vote).or_insert(message.to);
                if known != message.to {
                    let (term, to) = (message.term, message.to);
                    let text = format!("{from} votes for {known} and for {to} in {term}");
                    wrong.push((group, text));
                }
            }
            Body::AppendAnswer(AppendAnswer::Accepted { last, .. }) => {
                let log = self.seen.get(&(from, group)).copied().unwrap_or_default();
                if let Some(term) = self.term_below(group, log.end(), *last) {
                    let told = self.told.entry((from, group)).or_default();
                    let position = LogPosition { index: *last, term };
                    if (told.term, told.index) < (term, *last) {
                        *told = position;
                    }
                }
            }
            Body::VoteAnswer(_)
            | Body::AppendAnswer(AppendAnswer::Rejected { .. })
            | Body::PreVote(_)
            | Body::PreVoteAnswer(_)
            | Body::Vote(_)
            | Body::Append(_)
            | Body::Heartbeat { .. }
            | Body::HeartbeatAnswer { .. }
            | Body::Snapshot(_)
            | Body::TimeoutNow
            | Body::Sleep { .. } => {}
        }
        self.tell(wrong)
    }

    /// A voter in whose name a member that only learns could speak to its leader, and its machine.
    pub fn voter_beside(&self, message: &Message) -> Option<(NodeId, usize)> {
        let members = self.members.get(&(message.to, message.group))?;
        let is_other = |voter: &&NodeId| ![message.from, message.to].contains(voter);
        let voter = *members.voters.iter().find(is_other)?;
        let machine = self.ids.iter().find(|(_, node)| **node == voter)?.0;
        members
            .learners
            .contains(&message.from)
            .then_some((voter, *machine))
    }

    /// A node's process is gone: what it comes back with is looked at anew.
    pub fn forget(&mut self, number: usize) {
        if let Some(me) = self.ids.get(&number) {
            for (_, seen) in self.seen.range_mut(of_node(*me)) {
                seen.is_over = true;
            }
        }
    }

    /// A machine's disk is lost: if it comes back, then as another node.
    pub fn disk_lost(&mut self, number: usize) {
        self.ids.remove(&number);
        self.catalog_applied.remove(&number);
    }

    fn tell(&mut self, mut wrong: Wrong) -> Vec<String> {
        wrong.retain(|(group, _)| self.broken.insert(*group));
        let tell = |(group, what): (GroupId, String)| format!("group {group}: {what}");
        wrong.into_iter().map(tell).collect()
    }

    fn look_at_leader(&mut self, group: &Group, wrong: &mut Wrong) {
        let me = group.me();
        let role = group.role_now();
        if role.role != Role::Leader {
            return;
        }
        let elections = &mut self.elections;
        let leader = *self
            .leaders
            .entry((group.id(), role.term))
            .or_insert_with(|| {
                *elections += 1;
                me
            });
        if leader != me {
            let text = format!("{leader} and {me} both lead in {}", role.term);
            wrong.push((group.id(), text));
        }
    }

    /// Looks at what is new in a log, or all of it where it was cut off.
    fn look_at_log(&mut self, group: &Group, before: Seen, wrong: &mut Wrong) {
        let (id, me) = (group.id(), group.me());
        let was_cut = group.term_at(before.last) != Some(before.last_term);
        let looked = if was_cut {
            LogIndex(group.last_index().0.saturating_sub(REPEATED_ENTRIES_MAX))
        } else {
            before.last
        };
        let mut index = group.last_index();
        while index > looked
            && let Some(term) = group.term_at(index)
            && let Some(previous) = group.term_at(LogIndex(index.0 - 1))
        {
            let known = *self.logs.entry((id, index, term)).or_insert(previous);
            if known != previous {
                let text = format!(
                    "before entry {index} of {term} there is one of {previous} on {me}, \
                     and one of {known} elsewhere"
                );
                return wrong.push((id, text));
            }
            index = LogIndex(index.0 - 1);
        }
    }

    fn look_at_commit(&mut self, group: &Group, wrong: &mut Wrong) {
        let (id, me, index) = (group.id(), group.me(), group.committed_index());
        let Some(term) = group.term_at(index) else {
            return;
        };
        let committed = self.committed.entry(id).or_default();
        let known = *committed.terms.entry(index).or_insert(term);
        if known != term {
            let text = format!("entry {index} was committed in {known} and is of {term} on {me}");
            wrong.push((id, text));
        }
        // Where a group begins is not in its log.
        if index > committed.last.max(FOUNDING.index) {
            committed.last = index;
            let position = LogPosition { index, term };
            // A change of the members, and what stands right behind it, is committed by those from
            // before it.
            let before = self.members.get(&(me, id));
            let is_safe = self.is_on_majority(id, position, &group.members())
                || before.is_some_and(|before| self.is_on_majority(id, position, before));
            if !is_safe {
                let of_group = self.seen.iter().filter(|((_, of), _)| *of == id);
                let seen: Vec<_> = of_group.map(|((node, _), seen)| (node, seen)).collect();
                let text = format!(
                    "entry {index} of {term} is committed on {me} and not on the disks \
                     of a majority: {seen:?}"
                );
                wrong.push((id, text));
            }
        }
    }

    fn is_on_majority(&self, id: GroupId, position: LogPosition, members: &Members) -> bool {
        members.has_quorum(|member| {
            let key = (member, id);
            let logs = [self.seen.get(&key), self.held.get(&key)];
            let mut logs = logs.into_iter().flatten();
            logs.any(|seen| self.has(id, *seen, position))
        })
    }

    /// Whether a member's log on disk contains an entry, as far as is known.
    fn has(&self, id: GroupId, seen: Seen, position: LogPosition) -> bool {
        if seen.is_gone {
            return true;
        }
        if seen.persisted < position.index {
            return false;
        }
        // If nobody knows, it is in a state that was adopted whole.
        let term = self.term_below(id, seen.end(), position.index);
        term.is_none_or(|term| term == position.term)
    }

    /// Term of the entry with an index in the log that ends at `last`.
    fn term_below(&self, id: GroupId, last: LogPosition, index: LogIndex) -> Option<Term> {
        let mut at = last;
        while at.index > index {
            let term = *self.logs.get(&(id, at.index, at.term))?;
            at = LogPosition {
                index: LogIndex(at.index.0 - 1),
                term,
            };
        }
        (at.index == index).then_some(at.term)
    }

    /// What a member told its leaders and was committed is there again after a restart.
    fn look_at_return(&self, group: &Group, wrong: &mut Wrong) {
        let (id, me) = (group.id(), group.me());
        let told = self.told.get(&(me, id)).copied().unwrap_or_default();
        let Some(committed) = self.committed.get(&id) else {
            return;
        };
        let Some(term) = committed.terms.get(&committed.last).copied() else {
            return;
        };
        let index = committed.last;
        let (due, last) = (told.index.min(index), group.last_index());
        let of_told = self.term_below(id, told, due);
        let of_committed = self.term_below(id, LogPosition { index, term }, due);
        if of_told.is_some() && of_told == of_committed && last < due {
            let text = format!(
                "{me} had acknowledged entry {due}, which is committed, and comes back \
                 with {last}"
            );
            wrong.push((id, text));
        }
    }

    fn look_at_state(&mut self, node: &Node, group: &Group, wrong: &mut Wrong) {
        let (id, me, applied) = (group.id(), group.me(), group.applied_index());
        // Who is to join knows nothing yet.
        if applied == LogIndex(0) {
            return;
        }
        let Some(state) = node.group_state(id) else {
            return;
        };
        let hash = hash_of(&state);
        let (known, other) = *self.states.entry((id, applied)).or_insert((hash, me));
        self.compared += u64::from(other != me);
        if known != hash {
            let text = format!("{other} and {me} differ after entry {applied}");
            wrong.push((id, text));
        }
    }

    /// Up to when each node knows all that was defined; none: up to now.
    ///
    /// Whoever was told of a definition was told by a node that had applied it, so that a node
    /// which has applied entries up to some index knows all that was answered before any node was
    /// ahead of that.
    pub fn catalog_known(&mut self, now: Stamp) -> Vec<(usize, Option<Stamp>)> {
        let head = self.catalog_applied.values().max().copied();
        let head = head.unwrap_or_default();
        if self
            .catalog_heads
            .last()
            .is_none_or(|(last, _)| *last < head)
        {
            self.catalog_heads.push((head, now));
        }
        let known = |applied: LogIndex| {
            let after = self
                .catalog_heads
                .partition_point(|(head, _)| *head <= applied);
            self.catalog_heads.get(after).map(|(_, stamp)| *stamp)
        };
        let all = self.catalog_applied.iter();
        all.map(|(node, applied)| (*node, known(*applied)))
            .collect()
    }
}

fn see(group: &Group) -> Seen {
    let role = group.role_now();
    let last = group.last_index();
    Seen {
        term: role.term,
        is_leader: role.role == Role::Leader,
        committed: group.committed_index(),
        applied: group.applied_index(),
        persisted: group.persisted_index(),
        last,
        last_term: group.term_at(last).unwrap_or_default(),
        is_over: false,
        is_gone: false,
        is_out: group.is_quarantined(),
    }
}

impl Seen {
    /// Where its log ends.
    fn end(&self) -> LogPosition {
        LogPosition {
            index: self.last,
            term: self.last_term,
        }
    }
}

/// All groups of a node.
fn of_node(node: NodeId) -> std::ops::RangeInclusive<(NodeId, GroupId)> {
    (node, GroupId(0))..=(node, GroupId(u64::MAX))
}

/// Whether the state after an entry is compared after each drain.
fn is_chosen(group: GroupId, applied: LogIndex) -> bool {
    let mixed = (applied.0 ^ group.0 << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32).is_multiple_of(STATES_PER_LOOK)
}

/// FNV-1a over words; nobody attacks it.
fn hash_of(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder().iter();
    let words = chunks
        .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("the chunk has eight bytes")));
    let words = words.chain(rest.map(|byte| u64::from(*byte)));
    words.fold(0xcbf2_9ce4_8422_2325 ^ bytes.len() as u64, mix)
}
