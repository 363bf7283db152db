//! Files are emptied, checkpointed away and used again.

use crate::{
    script::{Script, check_with},
    world::tiny,
};

/// Bytes the log keeps whatever happens: files ready, spares, the ballast, a checkpoint.
fn at_rest_size_bytes_max() -> u64 {
    let log = tiny().log;
    let files = 2 + log.prepared_files + log.young_files_max + log.retired_files_max;
    u64::from(log.file_size_bytes) * files as u64 + log.ballast_size_bytes + 16 * 1024
}

#[test]
fn space_comes_back_when_everything_is_settled() {
    let mut script = Script::new(tiny());
    script.padding = 500;
    script.line("a connect");
    script.line("a open 1");
    for queue in ["q", "r", "s"] {
        script.line(&format!("a/1 queue {queue} durable"));
    }
    for round in 0..100 {
        for queue in ["q", "r", "s"] {
            let (first, last) = (round * 20 + 1, round * 20 + 20);
            script.line(&format!(
                "a/1 publish {queue} {queue}{first}..{queue}{last}"
            ));
        }
        script.world.node.check_invariants();
    }
    let full_size_bytes = script.world.disk.used_bytes();
    assert!(full_size_bytes > 3_000_000, "{full_size_bytes}");
    for queue in ["q", "r", "s"] {
        let told = script.line(&format!("a/1 consume {queue} as c{queue}"));
        assert_eq!(told.len(), 2001);
        script.line(&format!("a/1 ack {queue}1..{queue}2000"));
        script.world.node.check_invariants();
    }
    script.world.rest(50);
    let empty_size_bytes = script.world.disk.used_bytes();
    assert!(
        empty_size_bytes <= at_rest_size_bytes_max(),
        "{empty_size_bytes}"
    );
    script.line("crash 3");
    assert_eq!(script.world.node.message_count(), 0);
    assert_eq!(script.world.node.queue_count(), 3);
}

#[test]
fn one_message_left_behind_does_not_hold_the_log() {
    let mut script = Script::new(tiny());
    script.padding = 500;
    script.line("a connect");
    script.line("a open 1");
    script.line("a/1 queue q durable");
    script.line("a/1 queue stuck durable");
    script.line("a/1 publish stuck s1");
    script.line("a/1 consume q as c no-ack");
    for round in 0..200 {
        let told = script.line(&format!(
            "a/1 publish q q{}..q{}",
            round * 20 + 1,
            round * 20 + 20
        ));
        assert_eq!(told.len(), 20);
    }
    script.world.rest(20);
    let size_bytes = script.world.disk.used_bytes();
    assert!(size_bytes <= at_rest_size_bytes_max(), "{size_bytes}");
    script.check(
        "a/1 get stuck
         > a/1 got s1, 0 more
         crash 1
         b connect
         b open 1
         b/1 get stuck
         > b/1 got s1 again, 0 more",
    );
}

#[test]
fn an_idle_node_asks_for_nothing() {
    let mut script = check_with(
        tiny(),
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m10 #1
         > a/1 confirmed 1..10",
    );
    script.world.rest(20);
    let before = script.world.disk.counts();
    script.world.rest(100);
    assert_eq!(
        script.world.disk.counts(),
        before,
        "no write, no sync, no read"
    );
}
