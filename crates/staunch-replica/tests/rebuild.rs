//! What a restart makes of a log in which the same message index stands more than once.

use bytes::Bytes;
use staunch_broker::{Arrival, EntryHead, META_SIZE_BYTES, Queue, QueueSettings};
use staunch_log::StreamId;
use staunch_raft::{Config, HardState, LogPosition, Members, SnapshotMeta};
use staunch_replica::{Content, Kept, Parting, Rebuild, Record, ReplicaState};
use staunch_types::{BodyRef, GroupId, LogIndex, MessageIndex, NodeId, Term};

const STREAM: StreamId = StreamId(1);
const SIZE_BYTES: u32 = 8;
const STORED: &[u8; 8] = b"12345678";

fn position(index: u64, term: u64) -> LogPosition {
    LogPosition {
        index: LogIndex(index),
        term: Term(term),
    }
}

fn arrival(body: u64) -> Arrival {
    Arrival {
        body: BodyRef(body),
        size_bytes: SIZE_BYTES,
        body_size_bytes: SIZE_BYTES,
        expires_at: None,
        priority: 0,
        redelivered: false,
    }
}

fn meta() -> [u8; META_SIZE_BYTES] {
    arrival(0).meta()
}

/// What a checkpoint has of a queue with one message, which entry 17 of term 5 is the last to
/// know.
fn state() -> ReplicaState {
    let mut queue = Queue::following(&QueueSettings::default());
    let head = EntryHead {
        message_count: 1,
        ..EntryHead::default()
    };
    queue.apply_entry(&head, &[arrival(1)], &mut Vec::new());
    let mut snapshot = Vec::new();
    queue.encode_snapshot(&mut snapshot);
    ReplicaState {
        meta: SnapshotMeta {
            last: position(17, 5),
            members: Members::of([NodeId(1), NodeId(2), NodeId(3)]).expect("valid"),
        },
        hard_state: HardState {
            term: Term(5),
            vote: None,
            commit: LogIndex(17),
        },
        pledged: LogPosition::default(),
        queue: snapshot.into(),
    }
}

fn control(rebuild: &mut Rebuild, record: &Record) {
    let payload = Bytes::from(record.encode());
    rebuild.control(payload, true).expect("it can be read");
}

fn message(rebuild: &mut Rebuild, body: u64) {
    let place = (BodyRef(body), SIZE_BYTES);
    let taken = rebuild.message(MessageIndex(0), place, meta(), Some(STORED));
    taken.expect("it can be read");
}

/// The entry that was cut off, and its message.
fn stale_entry(rebuild: &mut Rebuild, body: u64) {
    let head = EntryHead {
        message_count: 1,
        ..EntryHead::default()
    };
    let record = Record::Entry {
        position: position(8, 2),
        content: Content::Data(head),
    };
    control(rebuild, &record);
    message(rebuild, body);
}

fn body_after(found: impl FnOnce(&mut Rebuild)) -> BodyRef {
    let settings = QueueSettings::default();
    let mut rebuild = Rebuild::from_state(STREAM, state(), &settings).expect("it is whole");
    found(&mut rebuild);
    let whole = rebuild.finish(Config::new(GroupId(1), NodeId(1), 1), &settings);
    assert_eq!(whole.damage, None);
    assert_eq!(whole.dead.len(), 1);
    let (_, body, _) = whole.queue.message(MessageIndex(0)).expect("it lives");
    body
}

#[test]
fn a_body_that_came_from_another_member_is_not_replaced_by_one_that_was_never_committed() {
    let came = |rebuild: &mut Rebuild| {
        control(rebuild, &Record::HardState(HardState::default()));
        message(rebuild, 10);
    };
    let before = body_after(|rebuild| {
        stale_entry(rebuild, 20);
        came(rebuild);
    });
    assert_eq!(before, BodyRef(10));
    // As a checkpoint has it that is taken while the queue comes: the entry is written again.
    let after = body_after(|rebuild| {
        came(rebuild);
        stale_entry(rebuild, 20);
    });
    assert_eq!(after, BodyRef(10));
}

#[test]
fn a_body_in_a_segment_is_not_replaced_by_one_that_was_never_committed() {
    let body = body_after(|rebuild| {
        let place = (BodyRef(10), SIZE_BYTES);
        let taken = rebuild.message(MessageIndex(0), place, meta(), None);
        taken.expect("it can be read");
        stale_entry(rebuild, 20);
    });
    assert_eq!(body, BodyRef(10));
}

/// What it had promised is found in the log, and in a checkpoint from before it has got anything.
#[test]
fn who_joins_again_keeps_to_what_it_had_promised_after_a_restart() {
    let settings = QueueSettings::default();
    let config = Config::new(GroupId(1), NodeId(1), 1);
    let mut before = Rebuild::from_state(STREAM, state(), &settings).expect("it is whole");
    let left = Parting::At(position(20, 6));
    let kept = before.control(Record::Left(left).encode().into(), false);
    assert_eq!(kept, Ok(Kept::No(left)));
    let again = Rebuild::joining(STREAM, Some(left), &settings).finish(config, &settings);
    assert_eq!(again.replica.group().pledged(), position(20, 6));
    assert_eq!(again.replica.group().role_now().term, Term(6));
    let mut bytes = Vec::new();
    again.replica.state_now(&again.queue).encode(&mut bytes);
    let found = ReplicaState::decode(bytes.into()).expect("it is whole");
    let found = Rebuild::from_state(STREAM, found, &settings).expect("it is whole");
    let again = found.finish(config, &settings);
    assert_eq!(again.replica.group().pledged(), position(20, 6));
    assert_eq!(again.replica.group().role_now().term, Term(6));
}
