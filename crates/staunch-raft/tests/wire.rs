//! Peer messages survive the wire; anything else is refused, never a panic.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use staunch_raft::{
    Body, Change, ChangeStep, Entry, LogPosition, Members, Message, Payload, SnapshotMeta,
    message::{Append, AppendAnswer, Candidacy, VoteAnswer},
    wire::{self, WireError},
};
use staunch_types::{GroupId, LogIndex, NodeId, Term};

const FROM: NodeId = NodeId(3);
const TO: NodeId = NodeId(4);

fn index() -> impl Strategy<Value = LogIndex> {
    (0..u64::MAX / 2).prop_map(LogIndex)
}

fn position() -> impl Strategy<Value = LogPosition> {
    (index(), any::<u64>()).prop_map(|(index, term)| LogPosition {
        index,
        term: Term(term),
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    let step = (0..4_u8, 1..100_u64).prop_map(|(kind, node)| match kind {
        0 => ChangeStep::AddLearner(NodeId(node)),
        1 => ChangeStep::Promote(NodeId(node)),
        2 => ChangeStep::Demote(NodeId(node)),
        _ => ChangeStep::Remove(NodeId(node)),
    });
    prop_oneof![
        Just(Payload::Blank),
        vec(any::<u8>(), 0..2_000).prop_map(|data| Payload::Data(data.into())),
        vec(step, 0..5).prop_map(|steps| Payload::Change(Change { steps })),
    ]
}

fn append() -> impl Strategy<Value = Body> {
    let entries = vec((any::<u64>(), payload()), 0..6);
    (position(), index(), entries).prop_map(|(previous, commit, entries)| {
        let mut index = previous.index;
        let entries = entries.into_iter().map(|(term, payload)| {
            index = index.next();
            Entry {
                index,
                term: Term(term),
                payload,
            }
        });
        Body::Append(Append {
            previous,
            commit,
            entries: entries.collect(),
        })
    })
}

fn snapshot() -> impl Strategy<Value = Body> {
    (position(), proptest::collection::btree_set(1..40_u64, 2..9)).prop_map(|(last, nodes)| {
        let nodes: Vec<_> = nodes.into_iter().map(NodeId).collect();
        let (voters, learners) = nodes.split_at(1);
        Body::Snapshot(SnapshotMeta {
            last,
            members: Members {
                voters: voters.to_vec(),
                learners: learners.to_vec(),
                ..Members::default()
            },
        })
    })
}

fn body() -> impl Strategy<Value = Body> {
    let candidacy = || {
        (position(), position(), any::<bool>()).prop_map(|(last, commit, is_transfer)| Candidacy {
            last,
            commit,
            is_transfer,
        })
    };
    let vote = || {
        (position(), any::<bool>())
            .prop_map(|(commit, is_granted)| VoteAnswer { commit, is_granted })
    };
    prop_oneof![
        candidacy().prop_map(Body::PreVote),
        candidacy().prop_map(Body::Vote),
        vote().prop_map(Body::PreVoteAnswer),
        vote().prop_map(Body::VoteAnswer),
        append(),
        (index(), index())
            .prop_map(|(last, commit)| Body::AppendAnswer(AppendAnswer::Accepted { last, commit })),
        (index(), position(), index()).prop_map(|(previous, hint, commit)| {
            Body::AppendAnswer(AppendAnswer::Rejected {
                previous,
                hint,
                commit,
            })
        }),
        index().prop_map(|commit| Body::Heartbeat { commit }),
        index().prop_map(|commit| Body::HeartbeatAnswer { commit }),
        snapshot(),
        Just(Body::TimeoutNow),
        index().prop_map(|commit| Body::Sleep { commit }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u64>(), any::<u64>(), body()).prop_map(|(group, term, body)| Message {
        group: GroupId(group),
        from: FROM,
        to: TO,
        term: Term(term),
        body,
    })
}

fn joined(segments: &[Bytes]) -> Bytes {
    segments.concat().into()
}

proptest! {
    #[test]
    fn what_is_written_is_read(messages in vec(message(), 0..20)) {
        let read: Vec<_> = wire::encode(&messages)
            .iter()
            .flat_map(|segments| wire::decode(&joined(segments)).expect("valid"))
            .collect();
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn a_truncated_batch_is_refused(messages in vec(message(), 1..4), cut in 1..100_usize) {
        let batch = joined(&wire::encode(&messages)[0]);
        let short = batch.slice(..batch.len().saturating_sub(cut));
        prop_assert!(wire::decode(&short).is_err());
    }

    #[test]
    fn a_flipped_bit_never_panics(
        messages in vec(message(), 1..4),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut batch = wire::encode(&messages)[0].concat();
        let at = at.index(batch.len());
        batch[at] ^= 1 << bit;
        // In a body it goes unnoticed here: bodies have the link's checksum.
        let _read = wire::decode(&batch.into());
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(wire::decode(&bytes.into()).is_err());
    }

    /// As above, and past the checks of version and checksum.
    #[test]
    fn random_heads_never_panic(
        head in vec(prop_oneof![4 => 0..13_u8, 1 => any::<u8>()], 0..300),
        count in 0..4_u16,
        bodies in vec(any::<u8>(), 0..40),
    ) {
        let mut batch = vec![wire::VERSION, 0];
        batch.extend(count.to_be_bytes());
        batch.extend(u32::try_from(head.len()).expect("short").to_be_bytes());
        batch.extend(crc32c::crc32c(&head).to_be_bytes());
        batch.extend(head);
        batch.extend(bodies);
        let _read = wire::decode(&batch.into());
    }
}

fn heartbeat(group: u64) -> Message {
    Message {
        group: GroupId(group),
        from: FROM,
        to: TO,
        term: Term(1),
        body: Body::Heartbeat {
            commit: LogIndex(1),
        },
    }
}

fn with_data(size_bytes: usize) -> Message {
    Message {
        body: Body::Append(Append {
            previous: LogPosition::default(),
            commit: LogIndex(0),
            entries: vec![Entry {
                index: LogIndex(1),
                term: Term(1),
                payload: Payload::Data(vec![7; size_bytes].into()),
            }],
        }),
        ..heartbeat(1)
    }
}

#[test]
fn groups_share_a_batch_until_it_is_full() {
    let messages: Vec<_> = (0..10_000).map(heartbeat).collect();
    let batches = wire::encode(&messages);
    assert_eq!(batches.len(), 10_000_usize.div_ceil(wire::MESSAGES_MAX));
    let large = vec![with_data(wire::BATCH_SIZE_BYTES_TARGET); 3];
    assert_eq!(wire::encode(&large).len(), 3);
    assert!(wire::encode(&[]).is_empty());
}

#[test]
fn large_bodies_are_not_copied() {
    let message = with_data(100_000);
    let Body::Append(append) = &message.body else {
        panic!("an append");
    };
    let Payload::Data(data) = &append.entries[0].payload else {
        panic!("data");
    };
    let batches = wire::encode(std::slice::from_ref(&message));
    let written = |segment: &Bytes| segment.as_ptr() == data.as_ptr();
    assert!(batches[0].iter().any(written));

    let batch = joined(&batches[0]);
    let read = wire::decode(&batch).unwrap();
    let Body::Append(append) = &read[0].body else {
        panic!("an append");
    };
    let Payload::Data(data) = &append.entries[0].payload else {
        panic!("data");
    };
    assert!(batch.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn limits_hold() {
    let batch = joined(&wire::encode(&[heartbeat(1)])[0]);
    let other_version: Bytes = [&[wire::VERSION + 1], &batch[1..]].concat().into();
    assert_eq!(
        wire::decode(&other_version),
        Err(WireError::Version {
            version: wire::VERSION + 1
        })
    );
    let trailing: Bytes = [&batch[..], &[0]].concat().into();
    assert_eq!(
        wire::decode(&trailing),
        Err(WireError::Trailing { size_bytes: 1 })
    );
    let mut many = batch.to_vec();
    many[2..4].copy_from_slice(&u16::MAX.to_be_bytes());
    assert_eq!(
        wire::decode(&many.into()),
        Err(WireError::TooMany {
            count: usize::from(u16::MAX),
            max: wire::MESSAGES_MAX
        })
    );
}

/// Nothing that a peer sends is read by protobuf: its reader can be made to recurse without end
/// (RUSTSEC-2024-0437).
#[test]
fn protobuf_reads_nothing() {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![sources];
    let mut files = 0;
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for reader in [
                "merge_from",
                "parse_from",
                "CodedInputStream",
                "check_initialized",
            ] {
                assert!(!text.contains(reader), "{reader} in {}", path.display());
            }
        }
    }
    assert!(files > 10);
}

fn at(index: u64, term: u64) -> LogPosition {
    LogPosition {
        index: LogIndex(index),
        term: Term(term),
    }
}

fn every_kind_of_message() -> Vec<Message> {
    let candidacy = Candidacy {
        last: at(9, 2),
        commit: at(8, 1),
        is_transfer: true,
    };
    let vote = VoteAnswer {
        is_granted: true,
        commit: at(8, 1),
    };
    let change = Change::of([
        ChangeStep::AddLearner(NodeId(5)),
        ChangeStep::Promote(NodeId(6)),
        ChangeStep::Demote(NodeId(7)),
        ChangeStep::Remove(NodeId(8)),
    ]);
    let payloads = [
        Payload::Blank,
        Payload::Data(Bytes::from_static(b"abc")),
        Payload::Change(change),
    ];
    let entries = (10..).zip(payloads).map(|(index, payload)| Entry {
        index: LogIndex(index),
        term: Term(2),
        payload,
    });
    let members = Members {
        voters: vec![NodeId(1), NodeId(2)],
        learners: vec![NodeId(5)],
        outgoing: vec![NodeId(1), NodeId(6)],
        learners_next: vec![NodeId(6)],
    };
    let commit = LogIndex(8);
    let bodies = [
        Body::PreVote(candidacy),
        Body::PreVoteAnswer(vote),
        Body::Vote(candidacy),
        Body::VoteAnswer(vote),
        Body::Append(Append {
            previous: at(9, 2),
            commit,
            entries: entries.collect(),
        }),
        Body::AppendAnswer(AppendAnswer::Accepted {
            last: LogIndex(9),
            commit,
        }),
        Body::AppendAnswer(AppendAnswer::Rejected {
            previous: LogIndex(9),
            hint: at(7, 1),
            commit,
        }),
        Body::Heartbeat { commit },
        Body::HeartbeatAnswer { commit },
        Body::Snapshot(SnapshotMeta {
            last: at(9, 2),
            members,
        }),
        Body::TimeoutNow,
        Body::Sleep { commit },
    ];
    (bodies.into_iter())
        .map(|body| Message {
            term: Term(3),
            body,
            ..heartbeat(258)
        })
        .collect()
}

/// Every byte of version 1. A change here is another version.
#[test]
fn version_1_stays_as_it_is() {
    let messages = every_kind_of_message();
    let batch = joined(&wire::encode(&messages)[0]);
    let golden: String = include_str!("golden/peer-messages-1.hex")
        .split_whitespace()
        .collect();
    assert_eq!(format!("{batch:x}"), golden);
    assert_eq!(wire::decode(&batch).unwrap(), messages);
}
