//! The disk fails: nothing is promised that a sync does not stand behind.

use staunch_log::disk::Operation;
use staunch_log::disk::memory::{Fault, FaultKind, Lasting};
use staunch_log::{Config, Disk, MemoryDisk, Note, RecoverError, recover};

use crate::node::Node;

fn fault(operation: Operation, file_prefix: &str, kind: FaultKind, lasting: Lasting) -> Fault {
    Fault {
        operation,
        file_prefix: file_prefix.to_owned(),
        after: 0,
        kind,
        lasting,
    }
}

#[test]
fn a_successful_sync_lies_between_append_and_persisted() {
    let mut node = Node::new(Config::tiny());
    for round in 0..200 {
        node.append(1, 100 + round);
        node.seal();
        let before = (node.disk.counts(), node.log.store.persisted());
        if node.log.store.persisted() == before.1 {
            while !node.write().unwrap() {
                node.upkeep().unwrap();
            }
        }
        assert!(node.log.store.persisted() > before.1);
        let after = node.disk.counts();
        assert!(after.syncs > before.0.syncs && after.writes > before.0.writes);
        node.settle_down().unwrap();
    }
}

#[test]
fn a_failed_sync_persists_nothing_and_is_not_tried_again() {
    let mut node = Node::new(Config::tiny());
    node.append(1, 100);
    node.write_all().unwrap();
    let persisted = node.log.store.persisted();
    node.append(1, 200);
    node.seal();
    node.disk.inject(fault(
        Operation::Sync,
        "young",
        FaultKind::Io,
        Lasting::Once,
    ));
    let before = node.disk.counts();
    assert!(node.write().is_err());
    assert_eq!(node.log.store.persisted(), persisted);
    assert_eq!(node.disk.counts().syncs, before.syncs);
    assert!(
        node.log.store.poll_write().is_none(),
        "the failed write is never handed out again"
    );
}

/// After a failed sync the page cache still shows the write, marked clean. A restart without a
/// reboot reads it; before it may count, it must be on disk.
#[test]
fn what_only_the_page_cache_holds_is_written_again_before_it_counts() {
    let mut node = Node::new(Config::tiny());
    node.append(1, 100);
    node.write_all().unwrap();
    let key = node.append(1, 200);
    node.seal();
    node.disk.inject(fault(
        Operation::Sync,
        "young",
        FaultKind::Io,
        Lasting::Once,
    ));
    assert!(node.write().is_err());
    node.restart();
    assert!(node.known.contains_key(&key), "the page cache still had it");
    for seed in 0..8 {
        node.crash(seed);
        assert!(node.known.contains_key(&key), "now it is on disk");
    }
}

#[test]
fn a_full_disk_is_survived_and_left_again() {
    let mut node = Node::new(Config::tiny());
    node.append(1, 100);
    node.settle_down().unwrap();
    node.disk.set_capacity_bytes(Some(node.disk.used_bytes()));
    let mut written = 0;
    while !node.log.store.is_short_of_files() {
        node.append(1, 1000);
        node.settle_down().unwrap();
        written += 1;
        assert!(written < 1000, "the store notices that the disk is full");
    }
    assert!(
        node.log.store.facts().prepared_files >= 1,
        "there is a file in reserve"
    );
    node.check_bodies();
    while let Some(key) = node.live_at(0) {
        node.settle(key);
        node.write_all().unwrap();
        node.log.store.retry_after_no_space();
        node.settle_down().unwrap();
    }
    node.log.store.retry_after_no_space();
    node.settle_down().unwrap();
    assert!(
        !node.log.store.is_short_of_files(),
        "settling made room on the full disk"
    );
    node.crash(1);
}

#[test]
fn without_any_file_the_write_waits_and_goes_on() {
    let mut node = Node::new(Config {
        ballast_size_bytes: 0,
        ..Config::tiny()
    });
    node.settle_down().unwrap();
    node.disk.set_capacity_bytes(Some(node.disk.used_bytes()));
    for _ in 0..300 {
        node.append(1, 1000);
    }
    node.write_all().unwrap();
    assert!(node.log.store.unwritten_size_bytes() > 0);
    assert!(node.log.store.poll_write().is_none());
    node.disk.set_capacity_bytes(None);
    node.log.store.retry_after_no_space();
    node.settle_down().unwrap();
    assert_eq!(node.log.store.unwritten_size_bytes(), 0);
    node.check_bodies();
    node.crash(2);
}

#[test]
fn a_checkpoint_on_a_full_disk_gives_up_the_ballast() {
    let mut node = Node::new(Config::tiny());
    node.settle_down().unwrap();
    assert!(node.disk.list().unwrap().contains(&"ballast".to_owned()));
    node.disk.set_capacity_bytes(Some(node.disk.used_bytes()));
    assert!(node.checkpoint().unwrap(), "it found room");
    assert!(!node.disk.list().unwrap().contains(&"ballast".to_owned()));
    node.disk.set_capacity_bytes(None);
    node.log.store.retry_after_no_space();
    node.settle_down().unwrap();
    assert!(
        node.disk.list().unwrap().contains(&"ballast".to_owned()),
        "it is made again"
    );
}

#[test]
fn a_torn_tail_is_cut_once_and_noted() {
    let mut seen = 0;
    for seed in 0..40 {
        let mut node = Node::new(Config::tiny());
        node.append(1, 2000);
        node.write_all().unwrap();
        for _ in 0..6 {
            node.append(2, 1500);
            node.seal();
        }
        let job = node.log.store.poll_write().unwrap();
        node.disk.inject(fault(
            Operation::Sync,
            "young",
            FaultKind::Io,
            Lasting::Once,
        ));
        // The sync fails without dropping anything: the crash decides what is kept.
        node.disk.clear_faults();
        let disk = node.disk.clone();
        disk.inject(fault(
            Operation::Write,
            "young",
            FaultKind::Io,
            Lasting::Once,
        ));
        assert!(node.log.writer.run(job).is_err());
        node.crash(seed);
        let cut = |note: &Note| matches!(note, Note::TailCut { .. });
        seen += usize::from(node.log.notes.iter().any(cut));
        node.restart();
        assert!(
            !node.log.notes.iter().any(cut),
            "the next recovery does not meet it again"
        );
    }
    assert!(seen > 5, "some of these crashes tear the tail");
}

#[test]
fn a_newer_format_is_refused_and_nothing_modified() {
    let mut node = Node::new(Config::tiny());
    node.append(1, 2000);
    node.settle_down().unwrap();
    node.checkpoint().unwrap();
    for name in node.disk.list().unwrap() {
        if !name.starts_with("young") && !name.starts_with("checkpoint") {
            continue;
        }
        for (at, value) in [(8, 2), (16, 1)] {
            let disk = node.disk.fork();
            let mut bytes = disk.file(&name);
            bytes[at] = value;
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            disk.put_file(&name, &bytes);
            refused_unmodified(&disk, &name);
        }
    }
}

fn refused_unmodified(disk: &MemoryDisk, name: &str) {
    let before: Vec<_> = disk
        .list()
        .unwrap()
        .into_iter()
        .map(|name| (disk.file(&name), name))
        .collect();
    match recover(disk.clone(), Config::tiny()) {
        Err(RecoverError::Unsupported { file, .. }) => assert_eq!(file, name),
        other => panic!("{name} must be refused, not {other:?}"),
    }
    let after: Vec<_> = disk
        .list()
        .unwrap()
        .into_iter()
        .map(|name| (disk.file(&name), name))
        .collect();
    assert!(before == after);
}

/// A checkpoint whose name may or may not have reached the disk names segments that have.
#[test]
fn a_checkpoint_never_outlives_its_segments() {
    for seed in 0..60 {
        let mut node = Node::new(Config::tiny());
        for _ in 0..250 {
            node.append(1, 1000);
            node.write_all().unwrap();
        }
        assert!(node.retire().unwrap());
        node.disk.inject(fault(
            Operation::SyncDirectory,
            "",
            FaultKind::Io,
            Lasting::Once,
        ));
        assert!(node.checkpoint().is_err());
        node.crash(seed);
    }
}

#[test]
fn a_crash_while_a_start_clears_away_loses_no_file() {
    for seed in 0..60 {
        let mut node = Node::new(Config::tiny());
        node.append(1, 1000);
        node.settle_down().unwrap();
        assert_eq!(node.log.store.facts().prepared_files, 2);
        let failure = fault(Operation::SyncDirectory, "", FaultKind::Io, Lasting::Once);
        node.fail_start(failure, seed);
        node.restart();
    }
}
