//! A drain handles many requests and hands out once; it must not show an order of events that
//! handling them one by one could not.

use crate::script::check;

#[test]
fn a_sync_is_answered_in_its_place() {
    check(
        "a connect
         a open 1
         a/1 sync
         > a/1 synced
         a/1 publish nowhere m1 mandatory + sync
         > a/1 returned m1
         > a/1 synced
         a/1 publish x/key m2 + sync
         > a/1 Publish refused: no exchange 'x' in vhost '/'",
    );
}

#[test]
fn a_consumer_gets_what_came_before_its_cancel() {
    for kind in ["", " durable"] {
        check(&format!(
            "a connect
             a open 1
             a/1 queue q{kind}
             > a/1 queue: 0 ready, 0 consumers
             a/1 consume q as c priority=1
             > a/1 c consumes
             a/1 consume q as d
             > a/1 d consumes
             a/1 publish q m1..m2 + cancel c
             > a/1 c gets m1
             > a/1 c gets m2
             > a/1 c cancelled
             a/1 requeue m2
             > a/1 d gets m2 again"
        ));
    }
}

/// Nothing is handed out before the reservation for it is on disk (C8). Who is gone by then leaves
/// everything to the next, as with RabbitMQ's quorum queues.
#[test]
fn a_cancel_ahead_of_the_disk_leaves_messages_to_the_next_consumer() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         manual
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1..m2 + cancel c
         > a/1 c cancelled
         a/1 consume q as d
         > a/1 d consumes
         auto
         > a/1 d gets m1
         > a/1 d gets m2
         a/1 ack m1..m2
         a/1 get q
         > a/1 got nothing",
    );
}

#[test]
fn a_consumer_does_not_get_what_came_before_it_and_was_for_another() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1 + consume q as d priority=1
         > a/1 c gets m1
         > a/1 d consumes
         a/1 publish q m2
         > a/1 d gets m2",
    );
}

#[test]
fn what_must_be_handed_out_at_once_is_not_there_for_who_comes_later() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 expiration=0 + consume q as c
         > a/1 c consumes
         a/1 publish q m2 expiration=0
         > a/1 c gets m2",
    );
}

#[test]
fn what_a_consumer_takes_is_neither_purged_nor_deleted() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c prefetch=1
         > a/1 c consumes
         a/1 publish q m1..m3 + purge q
         > a/1 c gets m1
         > a/1 purged 2
         a/1 ack m1
         a/1 publish q m4..m5 + delete-queue q
         > a/1 c gets m4
         > a/1 c cancelled by the node
         > a/1 queue deleted with 1",
    );
}

#[test]
fn queues_that_share_a_limit_take_turns() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue s
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q q1..q9
         a/1 publish r r1..r9
         a/1 publish s s1..s9
         a/1 limit 1
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets q1
         a/1 consume r as d
         > a/1 d consumes
         a/1 consume s as e
         > a/1 e consumes
         a/1 ack q1
         > a/1 d gets r1
         a/1 ack r1
         > a/1 e gets s1
         a/1 publish s s10 + ack s1
         > a/1 c gets q2
         a/1 publish q q10 + ack q2
         > a/1 d gets r2
         a/1 cancel e
         > a/1 e cancelled
         a/1 ack r2
         > a/1 c gets q3",
    );
}

#[test]
fn queues_that_share_a_connection_take_turns() {
    let mut script = crate::script::Script::new(crate::world::roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers
         a stuck
         a/1 consume q as c no-ack
         > a/1 c consumes
         a/1 consume r as d no-ack
         > a/1 d consumes",
    );
    // Two messages are more than may be on their way to a connection.
    script.padding = 900_000;
    script.check(
        "a/1 publish q q1..q6
         > a/1 c gets q1
         > a/1 c gets q2
         > a proceeds
         a/1 publish r r1..r2
         > a proceeds
         a unstuck
         > a/1 d gets r1
         > a/1 d gets r2
         > a/1 c gets q3
         > a/1 c gets q4
         > a/1 c gets q5
         > a/1 c gets q6",
    );
}
