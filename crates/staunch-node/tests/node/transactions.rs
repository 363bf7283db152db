//! Transactions: what is held back, and what a commit promises.

use staunch_node::NodeConfig;

use crate::{
    script::{Script, check},
    world::roomy,
};

#[test]
fn nothing_is_seen_before_the_commit_and_all_of_it_after() {
    check(
        "a connect
         a open 1
         a/1 tx
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2
         a/1 queue q passive
         > a/1 queue: 0 ready, 0 consumers
         a/1 commit
         > a/1 committed
         a/1 get q
         > a/1 got m1, 1 more
         a/1 rollback
         a/1 publish q m3
         a/1 rollback
         a/1 publish q m4
         a/1 commit m1
         > a/1 committed
         a/1 get q no-ack
         > a/1 got m2, 1 more
         a/1 get q no-ack
         > a/1 got m4, 0 more",
    );
}

#[test]
fn a_commit_waits_for_the_disk_and_survives() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         a/1 tx
         a/1 get q
         > a/1 got m1, 0 more
         a/1 publish q m2..m3
         manual
         a/1 commit m1
         write
         > a/1 committed
         crash 4
         auto
         b connect
         b open 1
         b/1 get q
         > b/1 got m2 again, 1 more",
    );
}

#[test]
fn what_was_not_committed_is_gone_after_a_crash_and_a_close() {
    check(
        "a connect
         a open 1
         a open 2
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 tx
         a/1 publish q m1
         a/1 close
         > a/1 closed
         a/2 tx
         a/2 publish q m2
         crash 2
         b connect
         b open 1
         b/1 get q
         > b/1 got nothing",
    );
}

#[test]
fn returns_come_with_the_commit_and_before_it() {
    check(
        "a connect
         a open 1
         a/1 queue gone
         > a/1 queue: 0 ready, 0 consumers
         a/1 tx
         a/1 publish nowhere m1 mandatory
         a/1 publish gone m2 mandatory
         a/1 publish nowhere m3
         a/1 delete-queue gone
         > a/1 queue deleted with 0
         a/1 commit
         > a/1 returned m1
         > a/1 returned m2
         > a/1 committed",
    );
}

#[test]
fn a_wrong_publish_is_refused_at_once() {
    check(
        "a connect
         a open 1
         a/1 tx
         a/1 publish missing/k m1
         > a/1 Publish refused: no exchange 'missing' in vhost '/'
         a/1 commit",
    );
}

#[test]
fn a_transaction_is_bounded_in_count_and_size() {
    // So much memory that one transaction may hold all that one may.
    let mut script = Script::new(NodeConfig {
        memory_limit_size_bytes: 1024 * 1024 * 1024,
        ..roomy()
    });
    script.check(
        "a connect
         a open 1
         a open 2
         a/1 tx
         a/1 publish nowhere m1..m65536
         > a proceeds
         a/1 publish nowhere n
         > a/1 Publish refused: transaction is larger than 65536 messages or 67108864 bytes
         a/1 close
         > a/1 closed
         a/2 tx",
    );
    script.padding = 1024 * 1024;
    script.check(
        "a/2 publish nowhere m1..m63
         > a proceeds
         a/2 rollback
         a/2 publish nowhere m1..m63
         > a proceeds
         a/2 publish nowhere m64
         > a/2 Publish refused: transaction is larger than 65536 messages or 67108864 bytes
         > a proceeds
         a/2 close
         > a/2 closed",
    );
}

#[test]
fn a_commit_outside_a_transaction_is_refused() {
    check(
        "a connect
         a open 1
         a/1 commit
         > a/1 Commit refused: channel is not transactional",
    );
}

#[test]
fn a_commit_into_a_full_queue_that_refuses_is_partial() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-max-length=1 x-overflow=reject-publish
         > a/1 queue: 0 ready, 0 consumers
         a/1 tx
         a/1 publish q m1..m3
         a/1 commit
         > a/1 Commit refused: partial tx completion
         a/1 close
         > a/1 closed
         a open 1
         a/1 get q no-ack
         > a/1 got m1, 0 more",
    );
}

/// What is small when it is held may be large when it is committed.
#[test]
fn a_transaction_is_bounded_in_the_copies_it_makes() {
    let mut script = Script::new(NodeConfig {
        memory_limit_size_bytes: 64 * 1024 * 1024,
        ..roomy()
    });
    for line in ["a connect", "a open 1", "a/1 exchange x fanout"] {
        script.line(line);
    }
    for n in 0..16 {
        script.line(&format!("a/1 queue q{n}"));
        script.line(&format!("a/1 bind x q{n}"));
    }
    script.line("a/1 tx");
    script.padding = 1024 * 1024;
    for line in [
        "a/1 publish x/k m1..m3",
        "a/1 commit",
        "a/1 publish x/k m4..m6",
    ] {
        let told = script.line(line);
        assert!(
            !told.iter().any(|told| told.contains("refused")),
            "{told:?}"
        );
    }
    let told = script.line("a/1 publish x/k m7");
    assert_eq!(
        told[0],
        "a/1 Publish refused: transaction makes more than 67108864 bytes of copies"
    );
}
