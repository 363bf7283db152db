//! Who gets what: turns, prefetch, limits of connections, and the ends of consumers.

use staunch_node::OUTBOUND_SIZE_BYTES_MAX;

use crate::{
    script::{Script, check},
    world::{roomy, tiny},
};

#[test]
fn consumers_take_turns() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 consume q as d
         > a/1 d consumes
         a/1 publish q m1..m4
         > a/1 c gets m1
         > a/1 d gets m2
         > a/1 c gets m3
         > a/1 d gets m4",
    );
}

#[test]
fn prefetch_of_a_consumer_and_of_its_channel() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 limit 3
         a/1 consume q as c prefetch=2
         > a/1 c consumes
         a/1 publish q m1..m6
         > a/1 c gets m1
         > a/1 c gets m2
         a/1 consume q as d
         > a/1 d consumes
         > a/1 d gets m3
         a/1 ack m3
         > a/1 d gets m4
         a/1 limit 0
         > a/1 d gets m5
         > a/1 d gets m6
         a/1 limit 1
         a/1 publish q m7
         a/1 ack m1 m2 m4 m5
         a/1 ack m6
         > a/1 c gets m7",
    );
}

#[test]
fn the_prefetch_of_consumers_that_run_may_change() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c prefetch=1
         > a/1 c consumes
         a/1 publish q m1..m6
         > a/1 c gets m1
         a/1 limit-consumers 3
         > a/1 c gets m2
         > a/1 c gets m3
         a/1 limit-consumers 1
         a/1 ack m1 m2
         a/1 ack m3
         > a/1 c gets m4",
    );
}

#[test]
fn a_channel_limit_spans_queues() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 limit 1
         a/1 consume q as c
         > a/1 c consumes
         a/1 consume r as d
         > a/1 d consumes
         a/1 publish q m1
         > a/1 c gets m1
         a/1 publish r n1
         a/1 ack m1
         > a/1 d gets n1
         a/1 publish q m2
         a/1 requeue n1
         > a/1 c gets m2
         a/1 ack m2
         > a/1 d gets n1 again",
    );
}

#[test]
fn what_is_requeued_goes_back_to_its_place() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c prefetch=3
         > a/1 c consumes
         a/1 publish q m1..m5
         > a/1 c gets m1
         > a/1 c gets m2
         > a/1 c gets m3
         a/1 requeue m2
         > a/1 c gets m2 again
         a/1 limit 1
         a/1 requeue m3 m1 m2
         > a/1 c gets m1 again
         a/1 discard m1
         > a/1 c gets m2 again
         a/1 ack m2
         > a/1 c gets m3 again
         a/1 ack m3
         > a/1 c gets m4",
    );
}

#[test]
fn a_channel_that_closes_gives_back_what_it_holds() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m4
         a/1 get q
         > a/1 got m1, 3 more
         a/1 consume q as c prefetch=1
         > a/1 c consumes
         > a/1 c gets m2
         a/1 cancel c
         > a/1 c cancelled
         b connect
         b open 1
         b/1 consume q as d prefetch=3
         > b/1 d consumes
         > b/1 d gets m3
         > b/1 d gets m4
         a/1 close
         > a/1 closed
         > b/1 d gets m1 again
         b/1 ack m1
         > b/1 d gets m2 again
         b close
         > b closed
         a open 1
         a/1 consume q as e
         > a/1 e consumes
         > a/1 e gets m2 again
         > a/1 e gets m3 again
         > a/1 e gets m4 again",
    );
}

#[test]
fn a_consumer_without_acks_gets_a_whole_backlog() {
    // More than the watermark reserves at a time: each reservation must lead to the next.
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m10000
         > a proceeds",
    );
    let told = script.line("a/1 consume q as c no-ack");
    assert_eq!(told.len(), 10_001);
    assert_eq!(told[0], "a/1 c consumes");
    assert_eq!(told[10_000], "a/1 c gets m10000");
}

#[test]
fn a_consumer_that_never_acks_gets_a_whole_backlog() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m10000
         > a proceeds",
    );
    assert_eq!(script.line("a/1 consume q as c").len(), 10_001);
}

#[test]
fn a_stuck_connection_gets_no_more_than_its_limit() {
    let mut script = Script::new(roomy());
    script.padding = 100_000;
    script.check(
        "a connect
         a open 1
         a open 2
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/2 consume r as d
         > a/2 d consumes
         a stuck",
    );
    let told = script.line("a/1 publish q m1..m30");
    let delivered = told.iter().filter(|told| told.contains("gets")).count();
    let limit = usize::try_from(OUTBOUND_SIZE_BYTES_MAX).unwrap() / 100_000;
    assert_eq!(
        delivered,
        limit + 1,
        "the one that crosses the limit is the last: {told:?}"
    );
    assert_eq!(
        script.line("a/1 publish r n1"),
        ["a proceeds"],
        "another channel waits as well"
    );
    let told = script.line("a unstuck");
    assert_eq!(told.len(), 30 - delivered + 1, "all the rest: {told:?}");
}

#[test]
fn a_get_that_crosses_the_outbound_limit_stops_the_consumers_too() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume r as c
         > a/1 c consumes
         a stuck",
    );
    script.padding = 2 * 1024 * 1024;
    script.line("a/1 publish q big");
    script.padding = 0;
    script.check(
        "a/1 get q
         > a/1 got big, 0 more
         a/1 publish r m1
         a unstuck
         > a/1 c gets m1",
    );
}

#[test]
fn a_consumer_that_comes_to_a_stuck_connection_waits() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a stuck",
    );
    script.padding = 2 * 1024 * 1024;
    script.line("a/1 publish q big1..big2");
    script.check(
        "a/1 get q
         > a/1 got big1, 1 more
         a/1 consume q as c
         > a/1 c consumes
         a unstuck
         > a/1 c gets big2",
    );
}

#[test]
fn a_deleted_queue_cancels_its_consumers() {
    check(
        "a connect
         a open 1
         b connect
         b open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c prefetch=1
         > a/1 c consumes
         b/1 consume q as d prefetch=1
         > b/1 d consumes
         b/1 publish q m1..m3
         > a/1 c gets m1
         > b/1 d gets m2
         b/1 delete-queue q if-unused
         > b/1 DeleteQueue refused: queue 'q' in vhost '/' in use
         b/1 close
         > b/1 closed
         b open 1
         b/1 delete-queue q if-empty
         > b/1 DeleteQueue refused: queue 'q' in vhost '/' not empty
         b/1 close
         > b/1 closed
         b open 1
         b/1 delete-queue q
         > a/1 c cancelled by the node
         > b/1 queue deleted with 2
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 ack m1
         a/1 publish q m4
         a/1 get q
         > a/1 got m4, 0 more",
    );
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    check(
        "a connect
         a open 1
         a open 2
         a/1 queue q durable auto-delete
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/2 consume q as d
         > a/2 d consumes
         a/1 cancel c
         > a/1 c cancelled
         a/1 queue q passive
         > a/1 queue: 0 ready, 1 consumers
         a/2 close
         > a/2 closed
         a/1 queue q passive
         > a/1 DeclareQueue refused: no queue 'q' in vhost '/'",
    );
}

#[test]
fn an_exclusive_queue_goes_with_its_connection() {
    check(
        "a connect
         a open 1
         a/1 queue q exclusive durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1 #1
         > a/1 confirmed 1..1
         > a/1 c gets m1
         b connect
         b open 1
         b/1 consume q as d
         > b/1 Consume refused: cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.
         b/1 close
         > b/1 closed
         b open 1
         a close
         > a closed
         b/1 queue q passive
         > b/1 DeclareQueue refused: no queue 'q' in vhost '/'",
    );
}

#[test]
fn exclusive_consumers_and_priorities() {
    check(
        "a connect
         a open 1
         a open 2
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c exclusive
         > a/1 c consumes
         a/2 consume q as d
         > a/2 Consume refused: queue 'q' in vhost '/' in exclusive use
         a/2 close
         > a/2 closed
         a/1 cancel c
         > a/1 c cancelled
         a/1 consume q as low
         > a/1 low consumes
         a/1 consume q as high priority=5 prefetch=1
         > a/1 high consumes
         a/1 publish q m1..m2
         > a/1 high gets m1
         > a/1 low gets m2",
    );
}

#[test]
fn publishers_into_a_lagging_queue_are_held_back_but_not_for_long() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         b connect
         b open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         b/1 consume q as c prefetch=1
         > b/1 c consumes
         a/1 publish q m0
         > b/1 c gets m0",
    );
    script.padding = 1024;
    script.line("manual");
    assert_eq!(
        script.line("a/1 publish q m1..m100"),
        ["a proceeds"],
        "nobody lags yet"
    );
    assert_eq!(
        script.line("a/1 publish q m1..m6000"),
        [""; 0],
        "the consumer lags"
    );
    let since = script.world.now;
    assert_eq!(
        script
            .world
            .node
            .poll_timeout()
            .unwrap()
            .since(since)
            .as_millis(),
        5
    );
    assert_eq!(script.line("wait-ms 4"), [""; 0]);
    assert_eq!(script.line("wait-ms 1"), ["a proceeds"]);
    assert_eq!(script.world.node.poll_timeout(), None);
    assert_eq!(script.line("a/1 publish q m1..m100"), [""; 0]);
    // Whoever goes takes the reason to wait along.
    assert_eq!(script.line("b close"), ["b closed", "a proceeds"]);
}

#[test]
fn a_queue_of_the_smallest_log_serves_as_well() {
    let mut script = Script::new(tiny());
    script.padding = 300;
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c prefetch=1
         > a/1 c consumes
         a/1 publish q m1..m3 #1
         > a/1 c gets m1
         > a/1 confirmed 1..3",
    );
    for n in 2..=3 {
        let told = script.line(&format!("a/1 ack m{}", n - 1));
        assert_eq!(told, [format!("a/1 c gets m{n}")]);
    }
}
