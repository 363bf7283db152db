//! Between this crate's types and the library's.
//!
//! A change of members is kept and sent in this crate's own form. The library parses its own form
//! of it once, when it is proposed, from bytes made a moment before in the same call; so the
//! proposal carries both (`data` the library's, `context` ours). Protobuf therefore never reads
//! a byte from the network or the disk.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{self, ConfChangeSingle, ConfChangeType, ConfChangeV2, EntryType, MessageType};
use staunch_types::{GroupId, LogIndex, NodeId, Term};

use crate::{
    entry::{Entry, LogPosition, Payload},
    members::{Change, ChangeStep, Members},
    message::{Append, AppendAnswer, Body, Candidacy, Message, VoteAnswer},
    state::{HardState, SnapshotMeta},
};

pub(crate) fn entry_to_library(index: u64, term: u64, payload: &Payload) -> eraftpb::Entry {
    let mut entry = eraftpb::Entry {
        index,
        term,
        ..eraftpb::Entry::default()
    };
    match payload {
        Payload::Blank => {}
        Payload::Data(data) => entry.data = data.clone(),
        Payload::Change(change) => {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            entry.context = change.encode();
        }
    }
    entry
}

pub(crate) fn entry_from_library(entry: eraftpb::Entry) -> Entry {
    let payload = match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => Payload::Blank,
        EntryType::EntryNormal => Payload::Data(entry.data),
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            Payload::Change(change_from_library(&entry.context))
        }
    };
    Entry {
        index: LogIndex(entry.index),
        term: Term(entry.term),
        payload,
    }
}

/// The library itself proposes the end of a joint state, with nothing in it.
fn change_from_library(context: &Bytes) -> Change {
    if context.is_empty() {
        return Change::default();
    }
    Change::decode(context).expect("only this module writes the context, from a change")
}

pub(crate) fn entries_from_library(entries: Vec<eraftpb::Entry>) -> Vec<Entry> {
    entries.into_iter().map(entry_from_library).collect()
}

pub(crate) fn change_to_library(change: &Change) -> ConfChangeV2 {
    let mut library = ConfChangeV2::default();
    for step in &change.steps {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(match step {
            ChangeStep::Promote(_) => ConfChangeType::AddNode,
            ChangeStep::AddLearner(_) | ChangeStep::Demote(_) => ConfChangeType::AddLearnerNode,
            ChangeStep::Remove(_) => ConfChangeType::RemoveNode,
        });
        single.node_id = step.node().0;
        library.mut_changes().push(single);
    }
    library
}

/// The entry that proposes a change, in both forms.
pub(crate) fn change_to_proposal(change: &Change) -> eraftpb::Entry {
    let mut entry = eraftpb::Entry {
        context: change.encode(),
        ..eraftpb::Entry::default()
    };
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry.data = change_to_library(change)
        .write_to_bytes()
        .expect("writing to memory cannot fail")
        .into();
    entry
}

pub(crate) fn members_to_library(members: &Members) -> eraftpb::ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    eraftpb::ConfState {
        voters: ids(&members.voters),
        learners: ids(&members.learners),
        voters_outgoing: ids(&members.outgoing),
        learners_next: ids(&members.learners_next),
        auto_leave: members.is_joint(),
        ..eraftpb::ConfState::default()
    }
}

pub(crate) fn members_from_library(state: &eraftpb::ConfState) -> Members {
    let nodes = |ids: &[u64]| {
        let mut nodes: Vec<_> = ids.iter().map(|id| NodeId(*id)).collect();
        nodes.sort_unstable();
        nodes
    };
    Members {
        voters: nodes(&state.voters),
        learners: nodes(&state.learners),
        outgoing: nodes(&state.voters_outgoing),
        learners_next: nodes(&state.learners_next),
    }
}

pub(crate) fn hard_state_to_library(state: &HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term.0,
        vote: state.vote.map_or(raft::INVALID_ID, |node| node.0),
        commit: state.commit.0,
        ..eraftpb::HardState::default()
    }
}

pub(crate) fn hard_state_from_library(state: &eraftpb::HardState) -> HardState {
    HardState {
        term: Term(state.term),
        vote: node_from_library(state.vote),
        commit: LogIndex(state.commit),
    }
}

pub(crate) fn node_from_library(id: u64) -> Option<NodeId> {
    (id != raft::INVALID_ID).then_some(NodeId(id))
}

pub(crate) fn snapshot_to_library(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let library = snapshot.mut_metadata();
    library.index = meta.last.index.0;
    library.term = meta.last.term.0;
    library.set_conf_state(members_to_library(&meta.members));
    snapshot
}

pub(crate) fn snapshot_from_library(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    SnapshotMeta {
        last: position(meta.index, meta.term),
        members: members_from_library(meta.get_conf_state()),
    }
}

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition {
        index: LogIndex(index),
        term: Term(term),
    }
}

/// What the library has to say, in this crate's words. `None` for what never leaves a node: none
/// of that is caused by anything this crate calls.
pub(crate) fn message_from_library(group: GroupId, message: eraftpb::Message) -> Option<Message> {
    let commit = LogIndex(message.commit);
    let envelope = (message.from, message.to, message.term);
    let candidacy = |message: &eraftpb::Message| Candidacy {
        last: position(message.index, message.log_term),
        commit: position(message.commit, message.commit_term),
        is_transfer: message.context == raft::CAMPAIGN_TRANSFER,
    };
    let vote = |message: &eraftpb::Message| VoteAnswer {
        is_granted: !message.reject,
        commit: position(message.commit, message.commit_term),
    };
    let body = match message.get_msg_type() {
        MessageType::MsgRequestPreVote => Body::PreVote(candidacy(&message)),
        MessageType::MsgRequestPreVoteResponse => Body::PreVoteAnswer(vote(&message)),
        MessageType::MsgRequestVote => Body::Vote(candidacy(&message)),
        MessageType::MsgRequestVoteResponse => Body::VoteAnswer(vote(&message)),
        MessageType::MsgAppend => Body::Append(Append {
            previous: position(message.index, message.log_term),
            commit,
            entries: entries_from_library(message.entries.into_vec()),
        }),
        MessageType::MsgAppendResponse => Body::AppendAnswer(answer_from_library(&message)),
        MessageType::MsgHeartbeat => Body::Heartbeat { commit },
        MessageType::MsgHeartbeatResponse => Body::HeartbeatAnswer { commit },
        MessageType::MsgSnapshot => Body::Snapshot(snapshot_from_library(message.get_snapshot())),
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => return None,
    };
    Some(Message {
        group,
        from: NodeId(envelope.0),
        to: NodeId(envelope.1),
        term: Term(envelope.2),
        body,
    })
}

fn answer_from_library(message: &eraftpb::Message) -> AppendAnswer {
    let commit = LogIndex(message.commit);
    if message.reject {
        AppendAnswer::Rejected {
            previous: LogIndex(message.index),
            hint: position(message.reject_hint, message.log_term),
            commit,
        }
    } else {
        AppendAnswer::Accepted {
            last: LogIndex(message.index),
            commit,
        }
    }
}

/// A peer's message for the library; `None` for what the library does not know.
pub(crate) fn message_to_library(message: Message) -> Option<eraftpb::Message> {
    let mut library = eraftpb::Message {
        from: message.from.0,
        to: message.to.0,
        term: message.term.0,
        ..eraftpb::Message::default()
    };
    library.set_msg_type(message_type(&message.body)?);
    match message.body {
        Body::PreVote(candidacy) | Body::Vote(candidacy) => {
            library.index = candidacy.last.index.0;
            library.log_term = candidacy.last.term.0;
            library.commit = candidacy.commit.index.0;
            library.commit_term = candidacy.commit.term.0;
            if candidacy.is_transfer {
                library.context = Bytes::from_static(raft::CAMPAIGN_TRANSFER);
            }
        }
        Body::PreVoteAnswer(answer) | Body::VoteAnswer(answer) => {
            library.reject = !answer.is_granted;
            library.commit = answer.commit.index.0;
            library.commit_term = answer.commit.term.0;
        }
        Body::Append(append) => {
            library.index = append.previous.index.0;
            library.log_term = append.previous.term.0;
            library.commit = append.commit.0;
            let entries = append.entries.iter();
            library.entries = entries
                .map(|entry| entry_to_library(entry.index.0, entry.term.0, &entry.payload))
                .collect();
        }
        Body::AppendAnswer(answer) => answer_to_library(&mut library, answer),
        Body::Heartbeat { commit } | Body::HeartbeatAnswer { commit } => {
            library.commit = commit.0;
        }
        Body::Snapshot(meta) => library.set_snapshot(snapshot_to_library(&meta)),
        Body::TimeoutNow | Body::Sleep { .. } => {}
    }
    Some(library)
}

fn answer_to_library(library: &mut eraftpb::Message, answer: AppendAnswer) {
    match answer {
        AppendAnswer::Accepted { last, commit } => {
            library.index = last.0;
            library.commit = commit.0;
        }
        AppendAnswer::Rejected {
            previous,
            hint,
            commit,
        } => {
            library.reject = true;
            library.index = previous.0;
            library.reject_hint = hint.index.0;
            library.log_term = hint.term.0;
            library.commit = commit.0;
        }
    }
}

fn message_type(body: &Body) -> Option<MessageType> {
    Some(match body {
        Body::PreVote(_) => MessageType::MsgRequestPreVote,
        Body::PreVoteAnswer(_) => MessageType::MsgRequestPreVoteResponse,
        Body::Vote(_) => MessageType::MsgRequestVote,
        Body::VoteAnswer(_) => MessageType::MsgRequestVoteResponse,
        Body::Append(_) => MessageType::MsgAppend,
        Body::AppendAnswer(_) => MessageType::MsgAppendResponse,
        Body::Heartbeat { .. } => MessageType::MsgHeartbeat,
        Body::HeartbeatAnswer { .. } => MessageType::MsgHeartbeatResponse,
        Body::Snapshot(_) => MessageType::MsgSnapshot,
        Body::TimeoutNow => MessageType::MsgTimeoutNow,
        Body::Sleep { .. } => return None,
    })
}
