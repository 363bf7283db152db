//! What must hold at every moment, whatever happens.

use std::collections::BTreeMap;

use staunch_raft::{Body, Entry, Group, LogPosition, Message};
use staunch_types::{LogIndex, NodeId, Term};

use crate::disk::Disk;

/// Everything that was ever seen, over all nodes and crashes.
#[derive(Default)]
pub(crate) struct Checks {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// Each entry that was ever written, with the term of the one before.
    entries: BTreeMap<(LogIndex, Term), (Entry, Option<Term>)>,
    /// Terms of the committed entries, and the terms in which they were committed.
    committed: BTreeMap<LogIndex, (Term, Term)>,
    hashes: BTreeMap<LogIndex, u64>,
    committed_last: LogIndex,
}

impl Checks {
    /// Election safety, leader completeness.
    pub(crate) fn leads(&mut self, group: &Group) {
        let (me, term) = (group.me(), group.role_now().term);
        let other = *self.leaders.entry(term).or_insert(me);
        assert_eq!(other, me, "two leaders in term {term}");
        for (&index, &(committed, during)) in self.committed.range(group.compacted().index..) {
            // A leader whose votes came late has been overtaken by a later term.
            let has = group.term_at(index) == Some(committed);
            assert!(
                has || during >= term,
                "leader {me} of term {term} lacks entry {index}, committed in term {during}"
            );
        }
    }

    /// One vote in a term.
    pub(crate) fn sent(&mut self, message: &Message) {
        let candidate = match &message.body {
            Body::Vote(_) => message.from,
            Body::VoteAnswer(answer) if answer.is_granted => message.to,
            _ => return,
        };
        let key = (message.from, message.term);
        let other = *self.votes.entry(key).or_insert(candidate);
        assert_eq!(
            other, candidate,
            "node {} voted twice in term {}",
            message.from, message.term
        );
    }

    /// A member forgets: it may vote again in a term in which it has voted, once that does no harm.
    pub(crate) fn forgets(&mut self, node: NodeId) {
        self.votes.retain(|(voter, _), _| *voter != node);
    }

    /// Log matching: an index and a term mean one entry and one entry before it. Who keeps no data
    /// is looked at for the terms only.
    pub(crate) fn appended(&mut self, entry: &Entry, before: Option<Term>, keeps_data: bool) {
        if !keeps_data {
            let known = self.entries.get(&(entry.index, entry.term));
            let agrees = known.is_some_and(|(_, known)| known.is_none() || *known == before);
            assert!(agrees, "a witness is told of {}", entry.position());
            return;
        }
        let (known, known_before) = self
            .entries
            .entry((entry.index, entry.term))
            .or_insert_with(|| (entry.clone(), before));
        assert_eq!(known, entry, "two entries at {}", entry.position());
        let agree = before.is_none() || known_before.is_none() || before == *known_before;
        assert!(agree, "two entries before {}", entry.position());
        *known_before = known_before.or(before);
    }

    /// Committed entries are on a majority of disks the moment anybody knows them committed.
    pub(crate) fn commits<'a>(
        &mut self,
        group: &Group,
        witness: Option<NodeId>,
        disk_of: impl Fn(NodeId) -> Option<&'a Disk>,
    ) {
        let commit = group.committed_index();
        if commit <= self.committed_last {
            return;
        }
        let members = group.members();
        for index in self.committed_last.0 + 1..=commit.0 {
            let index = LogIndex(index);
            let Some(term) = group.term_at(index) else {
                continue;
            };
            let at = LogPosition { index, term };
            let holds = |node| disk_of(node).is_some_and(|disk| disk.held(at));
            assert!(
                members.has_quorum(holds),
                "entry {at} is committed by node {} and not on a majority of disks of {members:?}",
                group.me()
            );
            let mut with_data = members.voters.iter().filter(|it| Some(**it) != witness);
            assert!(with_data.any(|node| holds(*node)), "no data of entry {at}");
            self.committed.insert(index, (term, group.role_now().term));
        }
        self.committed_last = commit;
    }

    /// State machine safety: everybody applies the same, in the same order.
    pub(crate) fn applied(&mut self, entry: &Entry, hash: u64) {
        if let Some((term, _)) = self.committed.get(&entry.index) {
            assert_eq!(
                *term, entry.term,
                "entry {} was committed twice",
                entry.index
            );
        }
        let known = *self.hashes.entry(entry.index).or_insert(hash);
        assert_eq!(known, hash, "different states after entry {}", entry.index);
    }
}
