//! What a member makes of a whole queue that comes from several leaders, one after the other.

use staunch_broker::{Arrival, EntryHead, Queue, QueueSettings};
use staunch_log::{Config as LogConfig, MemoryDisk, Store, StreamId, recover};
use staunch_raft::{Body, Config, HardState, LogPosition, Members, Message, SnapshotMeta};
use staunch_replica::{Effects, Rebuild, ReplicaState};
use staunch_types::{BodyRef, GroupId, LogIndex, MessageIndex, NodeId, Term};

const STREAM: StreamId = StreamId(1);
const LEADER: NodeId = NodeId(1);
const MEMBER: NodeId = NodeId(4);
const STORED: &[u8; 8] = b"12345678";

fn arrival(body: u64) -> Arrival {
    Arrival {
        body: BodyRef(body),
        size_bytes: 8,
        body_size_bytes: 8,
        expires_at: None,
        priority: 0,
        redelivered: false,
    }
}

/// The state of a leader that has applied entry 2, and with it two messages.
fn state() -> ReplicaState {
    let mut queue = Queue::following(&QueueSettings::default());
    let head = EntryHead {
        message_count: 2,
        ..EntryHead::default()
    };
    queue.apply_entry(&head, &[arrival(1), arrival(2)], &mut Vec::new());
    let mut snapshot = Vec::new();
    queue.encode_snapshot(&mut snapshot);
    ReplicaState {
        meta: SnapshotMeta {
            last: LogPosition {
                index: LogIndex(2),
                term: Term(1),
            },
            members: Members::of([LEADER, NodeId(2), NodeId(3), MEMBER]).expect("valid"),
        },
        hard_state: HardState {
            term: Term(2),
            vote: None,
            commit: LogIndex(2),
        },
        pledged: LogPosition::default(),
        queue: snapshot.into(),
    }
}

fn store() -> Store {
    let mut recovery = recover(MemoryDisk::new(), LogConfig::tiny()).expect("it is empty");
    while recovery.next().expect("it is empty").is_some() {}
    recovery.finish().expect("the disk takes it").store
}

#[test]
fn what_a_leader_sent_that_was_further_than_the_next_one_comes_with_its_entries() {
    let (mut store, settings) = (store(), QueueSettings::default());
    let rebuild = Rebuild::joining(STREAM, None, &settings);
    let founded = rebuild.finish(Config::new(GroupId(1), MEMBER, 1), &settings);
    let (mut replica, mut queue) = (founded.replica, founded.queue);
    replica.begin_staging(&mut store, &queue);
    for index in 0..3 {
        let staged = replica.stage(&mut store, MessageIndex(index), arrival(0).meta(), STORED);
        assert_eq!(staged, Ok(Some(MessageIndex(index + 1))));
    }
    let meta = replica.stage_state(&mut store, &state(), &settings);
    let offer = Message {
        group: GroupId(1),
        from: LEADER,
        to: MEMBER,
        term: Term(2),
        body: Body::Snapshot(meta.expect("nothing is missing")),
    };
    replica.take(offer).expect("it was staged");
    let mut effects = Effects::default();
    replica.advance(&mut store, &mut queue, &mut effects);
    assert!(effects.adopted);
    assert_eq!(queue.next_index(), MessageIndex(2));
    assert_eq!(queue.live_from(MessageIndex(0)).count(), 2);
}

/// Two leaders that do not know of each other send at the same time.
#[test]
fn nothing_of_two_transfers_at_once_stays_in_the_log_that_no_queue_knows() {
    let (mut store, settings) = (store(), QueueSettings::default());
    let rebuild = Rebuild::joining(STREAM, None, &settings);
    let founded = rebuild.finish(Config::new(GroupId(1), MEMBER, 1), &settings);
    let (mut replica, queue) = (founded.replica, founded.queue);
    let body = arrival(0).meta();
    replica.begin_staging(&mut store, &queue);
    for index in 0..2 {
        let staged = replica.stage(&mut store, MessageIndex(index), body, STORED);
        assert_eq!(staged, Ok(Some(MessageIndex(index + 1))));
    }
    let whole = replica.stage_state(&mut store, &state(), &settings);
    assert!(whole.is_ok());
    let late = replica.stage(&mut store, MessageIndex(2), body, STORED);
    assert_eq!(late, Ok(None), "it is whole");
    let again = replica.stage_state(&mut store, &state(), &settings);
    assert!(again.is_err(), "its bodies were not sent");
    replica.bury(&mut store);
    store.seal();
    assert_eq!(store.facts().young_live_count, 0);
}
