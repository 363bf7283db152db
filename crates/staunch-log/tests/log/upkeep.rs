//! Space and memory come back.

use staunch_log::disk::Operation;
use staunch_log::{Config, Disk};

use crate::node::Node;

#[test]
fn a_consumed_log_stays_small() {
    let mut node = Node::new(Config::tiny());
    for _ in 0..3000 {
        let key = node.append(1, 1000);
        node.write_all().unwrap();
        node.settle(key);
        node.settle_down().unwrap();
    }
    let facts = node.log.store.facts();
    assert!(facts.young_files <= 4, "{facts:?}");
    assert_eq!(facts.segments, 0, "{facts:?}");
    assert!(
        node.disk.used_bytes() < 12 * 64 * 1024,
        "{} bytes",
        node.disk.used_bytes()
    );
    assert!(facts.cached_size_bytes < 64 * 1024);
}

#[test]
fn a_backlog_moves_to_segments_and_comes_back_in_order() {
    let mut node = Node::new(Config::tiny());
    for n in 0..2000 {
        node.append(1 + n % 2, 500);
        node.settle_down().unwrap();
    }
    let facts = node.log.store.facts();
    assert!(facts.segments > 5 && facts.young_files <= 4, "{facts:?}");
    assert!(facts.cached_size_bytes <= 64 * 1024, "{facts:?}");
    node.check_bodies();
    node.crash(3);
    while let Some(key) = node.live_at(0) {
        node.settle(key);
        node.settle_down().unwrap();
    }
    node.checkpoint().unwrap();
    node.settle_down().unwrap();
    assert_eq!(node.log.store.facts().segments, 0);
    let names = node.disk.list().unwrap();
    assert!(
        !names.iter().any(|name| name.starts_with("segment")),
        "{names:?}"
    );
    node.crash(4);
}

#[test]
fn many_small_queues_share_segments() {
    let mut node = Node::new(Config::tiny());
    for n in 0..3000 {
        node.append(1 + n % 1000, 100);
        if n % 50 == 0 {
            node.settle_down().unwrap();
        }
    }
    node.settle_down().unwrap();
    let facts = node.log.store.facts();
    assert!(facts.segments < 40, "{facts:?}");
    node.check_bodies();
    node.crash(5);
}

#[test]
fn a_file_being_read_is_not_taken_away() {
    let mut node = Node::new(Config::tiny());
    let keys: Vec<_> = (0..40).map(|_| node.append(1, 1000)).collect();
    node.write_all().unwrap();
    node.log.store.set_cache_size_bytes(0);
    let wanted: Vec<_> = keys.iter().map(|key| (key.1, node.place(*key))).collect();
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(i, (body, size))| (*i, *body, *size))
        .collect();
    let job = node.log.store.fetch(&wanted);
    for key in keys {
        node.settle(key);
    }
    for _ in 0..1000 {
        let key = node.append(2, 1000);
        node.settle(key);
        node.settle_down().unwrap();
    }
    assert!(
        node.log.store.facts().retired_files > 0,
        "the file waits for its reader"
    );
    let done = node.log.reader.run(job).expect("the file is still there");
    assert_eq!(done.records.len(), 40);
    node.log.store.handle_fetched(&done);
    node.settle_down().unwrap();
    assert_eq!(node.log.store.facts().fetches, 0);
    assert_eq!(Operation::Read.to_string(), "read");
}

#[test]
fn restarts_cost_no_file_each() {
    let mut node = Node::new(Config::tiny());
    for seed in 0..30 {
        node.append(1, 100);
        node.settle_down().unwrap();
        node.crash(seed);
    }
    node.settle_down().unwrap();
    let files = node.disk.list().unwrap().len();
    assert!(files < 14, "{files} files after 30 restarts");
}
