//! The store alone, without a disk.

use super::*;

fn message(size: usize) -> Message {
    Message::copied(b"", b"q", b"\0\0", &vec![7; size])
}

fn store() -> Store {
    let mut store = Store::new(Config::tiny());
    store.start(Start {
        file: FileId(1),
        last_chunk: ChunkId(0),
        next_chunk: ChunkId(1),
    });
    store
}

fn write(store: &mut Store) -> usize {
    let job = store.poll_write().expect("something waits");
    let (last, size_bytes) = (job.last, job.size_bytes);
    assert!(store.poll_write().is_none(), "one write at a time");
    store.handle_written(&WriteDone { last, size_bytes });
    store.check_invariants();
    size_bytes
}

fn append(store: &mut Store, index: u64, size: usize) -> (BodyRef, u32) {
    let message = message(size);
    let body = store.append_message(StreamId(1), index, RecordMeta::default(), &message);
    (body, narrow(message.stored_size_bytes()))
}

#[test]
fn chunks_gather_while_a_write_is_under_way() {
    let mut store = store();
    let marker = store.poll_write().unwrap();
    for index in 0..3 {
        append(&mut store, index, 100);
        assert!(store.seal().is_some());
    }
    assert!(store.seal().is_none(), "nothing was appended since");
    assert!(store.poll_write().is_none());
    store.handle_written(&WriteDone {
        last: marker.last,
        size_bytes: marker.size_bytes,
    });
    assert_eq!(write(&mut store), 3 * 512);
    assert_eq!(store.persisted(), ChunkId(4));
    assert_eq!(store.unwritten_size_bytes(), 0);
}

#[test]
fn bodies_are_there_from_append_to_eviction() {
    let mut store = store();
    let (body, size) = append(&mut store, 0, 100);
    let mut stored = Vec::new();
    message(100).put_stored(&mut stored);
    assert_eq!(store.body(body, size).unwrap(), stored, "in the open chunk");
    store.seal();
    assert_eq!(store.body(body, size).unwrap(), stored, "sealed");
    store.set_cache_size_bytes(0);
    assert!(
        store.body(body, size).is_some(),
        "not evicted before it is written"
    );
    write(&mut store);
    assert_eq!(store.body(body, size), None, "evicted");
    assert_eq!(store.cached_size_bytes(), 0);
}

#[test]
fn a_dead_chunk_gives_its_memory_back_at_once() {
    let mut store = store();
    let first = append(&mut store, 0, 100);
    let second = append(&mut store, 1, 100);
    store.seal();
    write(&mut store);
    store.release(first.0, first.1);
    assert!(store.cached_size_bytes() > 0);
    store.release(second.0, second.1);
    assert_eq!(store.cached_size_bytes(), 0);
    store.check_invariants();
}

#[test]
fn a_write_never_spans_two_files() {
    let mut store = store();
    store.housekeeping.prepared_up_to(FileId(9));
    for index in 0..40 {
        append(&mut store, index, 3000);
        store.seal();
    }
    let mut total = 0;
    while !store.unwritten.is_empty() {
        let size = write(&mut store);
        assert!(size <= store.config.write_size_bytes_max as usize);
        total += size;
    }
    assert!(total > 40 * 3000);
    assert!(store.facts().young_files >= 2);
}

#[test]
fn the_largest_record_fits() {
    let mut store = store();
    store.housekeeping.prepared_up_to(FileId(9));
    let overhead = message(0).stored_size_bytes();
    let size = store.config().payload_size_bytes_max() - overhead;
    for index in 0..3 {
        append(&mut store, index, size);
        append(&mut store, index + 10, 10);
    }
    store.seal();
    while !store.unwritten.is_empty() {
        write(&mut store);
    }
}

#[test]
#[should_panic(expected = "released twice")]
fn a_second_release_is_our_bug() {
    let mut store = store();
    let (body, size) = append(&mut store, 0, 1);
    store.release(body, size);
    store.release(body, size);
}

#[test]
#[should_panic(expected = "every live message")]
fn a_tenure_that_leaves_a_message_out_is_our_bug() {
    let mut store = store();
    store.housekeeping.prepared_up_to(FileId(9));
    for index in 0..200 {
        append(&mut store, index, 1000);
    }
    store.seal();
    while !store.unwritten.is_empty() {
        write(&mut store);
    }
    let retiring = store
        .retire_due()
        .expect("there are more files than the limit");
    store.tenure(retiring, Vec::new());
}

#[test]
fn a_file_is_not_retired_before_it_is_written() {
    let mut store = store();
    store.housekeeping.prepared_up_to(FileId(9));
    for index in 0..200 {
        append(&mut store, index, 1000);
    }
    store.seal();
    assert!(store.retire_due().is_none());
    while !store.unwritten.is_empty() {
        write(&mut store);
    }
    assert!(store.retire_due().is_some());
}
