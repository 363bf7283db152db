//! Resource alarms.

use staunch_node::NodeConfig;

use crate::{
    script::{Script, check_with},
    world::{roomy, tiny},
};

#[test]
fn the_disk_alarm_follows_free_space() {
    let config = NodeConfig {
        disk_free_limit_size_bytes: 1_000_000,
        ..roomy()
    };
    drop(check_with(
        config,
        "a connect
         free 1000000
         free 999999
         > a alarm: disk
         free 1000000
         b connect
         > b alarm: disk
         free 1100000
         > a alarm: none
         > b alarm: none
         c connect",
    ));
}

#[test]
fn the_memory_alarm_follows_what_transient_queues_keep() {
    let config = NodeConfig {
        memory_limit_size_bytes: 8 * 1024 * 1024,
        ..roomy()
    };
    let mut script = Script::new(config);
    script.padding = 1_000_000;
    script.check(
        "a connect
         a open 1
         b connect
         b open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m5
         > a proceeds
         a/1 publish q m6
         > a alarm: memory
         > b alarm: memory
         > a proceeds
         b/1 get q no-ack
         > b/1 got m1, 5 more
         b/1 get q no-ack
         > b/1 got m2, 4 more
         > b alarm: none
         > a alarm: none",
    );
}

#[test]
fn a_full_disk_holds_publishers_and_clears_by_settling() {
    let mut script = Script::new(tiny());
    script.padding = 500;
    script.line("a connect");
    script.line("a open 1");
    script.line("a/1 queue q durable");
    script.line("a/1 consume q as c");
    let used = script.world.disk.used_bytes();
    script.world.disk.set_capacity_bytes(Some(used + 200_000));
    let mut published = 0;
    // It goes off once more while the ballast is given up.
    while script.world.node.alarms() == (false, false) {
        published += 20;
        script.line(&format!("a/1 publish q m{}..m{published}", published - 19));
        assert!(published < 2000, "the disk is full long before");
    }
    assert_eq!(script.world.node.alarms(), (false, true));
    // The client sees the alarm and publishes no more; it settles what it has.
    let told = script.line(&format!("a/1 ack m1..m{published}"));
    let mut heard = told;
    for _ in 0..50 {
        heard.extend(script.line("tick 1"));
    }
    assert!(heard.contains(&"a alarm: none".to_owned()), "{heard:?}");
    script.line("crash 1");
    assert_eq!(script.world.node.message_count(), 0);
}

#[test]
fn transactions_alone_never_raise_the_memory_alarm() {
    // Their clients may wait behind publishes that the alarm holds back, and never come to commit.
    let config = NodeConfig {
        memory_limit_size_bytes: 8 * 1024 * 1024,
        ..roomy()
    };
    let mut script = Script::new(config);
    script.padding = 1_000_000;
    script.check(
        "a connect
         a open 1
         a open 2
         a/1 tx
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2
         > a proceeds
         a/2 tx
         a/2 publish q m3
         > a/2 Publish refused: transactions hold 2621440 bytes together at most
         > a proceeds
         a/1 commit
         > a/1 committed",
    );
}
