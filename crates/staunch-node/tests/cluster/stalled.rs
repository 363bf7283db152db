//! A queue without a majority, and what its members have in their logs that is not committed.

use std::time::Duration;

use staunch_log::{Config, Disk as _, MemoryDisk};

use crate::{
    client::{Client, publish},
    edges::{declare, got, quorum, server, wait_for_answers},
    world::World,
};

/// What waits for the majority is many times what the young files may hold.
const MESSAGES: u64 = 200;
const SIZE_BYTES: usize = 10 * 1024;

/// The number of the file that the log has come to.
fn log_position(disk: &MemoryDisk) -> u64 {
    let files = disk.list().unwrap();
    let numbers = files.iter().filter_map(|file| file.strip_prefix("young-"));
    numbers.map(|number| number.parse().unwrap()).max().unwrap()
}

#[test]
fn a_log_full_of_what_is_not_committed_stands_still() {
    let mut world = World::with(3, |config| config.log = Config::tiny());
    let client = Client::connect(&mut world, 1);
    declare(&mut world, client, "q", quorum());
    let leader = server(&mut world, "q");
    let others: Vec<_> = world.numbers().filter(|it| *it != leader).collect();
    let client = Client::connect(&mut world, leader);
    for number in &others {
        world.kill(*number);
    }
    let body = "x".repeat(SIZE_BYTES);
    for seq in 1..=MESSAGES {
        client.send(&mut world, publish("", "q", &body, Some(seq)));
    }
    world.run(Duration::from_secs(5));
    let before = log_position(world.disk(leader));
    world.run(Duration::from_secs(20));
    let files = log_position(world.disk(leader)) - before;
    assert!(files <= 2, "the log went on by {files} files");
    // Nor is anything forgotten: a crash finds what was not committed, and so do the others.
    world.crash(leader, 7);
    world.start(leader);
    for number in others {
        world.start(number);
    }
    let client = Client::connect(&mut world, leader);
    let mut found = 0;
    while got(&mut world, client, "q").is_some() {
        found += 1;
    }
    assert!(found > MESSAGES / 2, "the log had {found}");
    client.send(&mut world, publish("", "q", &body, Some(1)));
    assert_eq!(wait_for_answers(&mut world, client, 1), [0_u64; 0]);
    world.check_invariants();
}
