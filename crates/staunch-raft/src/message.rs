//! What the members of a group tell each other.
//!
//! Proposals and leader transfers are not among it: they are the node's to forward.

use staunch_types::{GroupId, LogIndex, NodeId, Term};

use crate::{
    config::APPEND_SIZE_BYTES_MAX,
    entry::{Entry, LogPosition},
    state::SnapshotMeta,
};

/// One message of one group, from one node to another. Losing, repeating, delaying or reordering
/// messages is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which group it belongs to.
    pub group: GroupId,
    /// The sender.
    pub from: NodeId,
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's term; in a pre-vote and its grant the term that would begin.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// The same as several messages, none with more entries than fit into
    /// [`APPEND_SIZE_BYTES_MAX`] or one. The library joins what is proposed between two polls.
    pub(crate) fn split(self) -> Vec<Self> {
        let Body::Append(append) = &self.body else {
            return vec![self];
        };
        let size_bytes = |entry: &Entry| entry.payload.size_bytes() as u64;
        if append.entries.iter().map(size_bytes).sum::<u64>() <= APPEND_SIZE_BYTES_MAX {
            return vec![self];
        }
        let mut parts = Vec::new();
        let mut previous = append.previous;
        let mut rest = append.entries.as_slice();
        while let Some(first) = rest.first() {
            let mut bytes = size_bytes(first);
            let more = rest[1..].iter().take_while(|entry| {
                bytes += size_bytes(entry);
                bytes <= APPEND_SIZE_BYTES_MAX
            });
            let (part, after) = rest.split_at(1 + more.count());
            rest = after;
            let body = Body::Append(Append {
                previous,
                commit: append.commit,
                entries: part.to_vec(),
            });
            previous = part.last().map_or(previous, Entry::position);
            parts.push(Self { body, ..self });
        }
        parts
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me? (Raft thesis, section 9.6)
    PreVote(Candidacy),
    /// Answer to it.
    PreVoteAnswer(VoteAnswer),
    /// Vote for me.
    Vote(Candidacy),
    /// Answer to it.
    VoteAnswer(VoteAnswer),
    /// The leader's entries.
    Append(Append),
    /// Answer to it, when the entries are persisted.
    AppendAnswer(AppendAnswer),
    /// The leader is there.
    Heartbeat {
        /// Committed, as far as the leader knows that the receiver has the entries.
        commit: LogIndex,
    },
    /// Answer to it.
    HeartbeatAnswer {
        /// What the sender knows to be committed.
        commit: LogIndex,
    },
    /// Adopt this state, which you have got already, in place of entries that are gone.
    Snapshot(SnapshotMeta),
    /// Stand for election now: the leader hands over.
    TimeoutNow,
    /// Nothing happens: expect no heartbeats until the next message.
    Sleep {
        /// The last index, committed everywhere.
        commit: LogIndex,
    },
}

/// What a candidate says of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidacy {
    /// Where its log ends.
    pub last: LogPosition,
    /// What it knows to be committed.
    pub commit: LogPosition,
    /// The leader asked for it, so its lease does not count.
    pub is_transfer: bool,
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteAnswer {
    /// Whether the candidate has it.
    pub is_granted: bool,
    /// What the voter knows to be committed, if it refuses.
    pub commit: LogPosition,
}

/// Entries for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The entry before the first one.
    pub previous: LogPosition,
    /// What the leader has committed.
    pub commit: LogIndex,
    /// The first has the index after `previous`, and so on without a gap.
    pub entries: Vec<Entry>,
}

/// What a member did with entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendAnswer {
    /// Its log equals the leader's up to here, and that is persisted.
    Accepted {
        /// Up to here.
        last: LogIndex,
        /// What it knows to be committed.
        commit: LogIndex,
    },
    /// It has no such previous entry.
    Rejected {
        /// The previous entry that it was asked for.
        previous: LogIndex,
        /// The last place where its log may equal the leader's.
        hint: LogPosition,
        /// What it knows to be committed.
        commit: LogIndex,
    },
}
