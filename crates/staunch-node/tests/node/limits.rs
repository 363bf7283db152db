//! Limits of length and of deliveries, priorities, and what only quorum queues do.

use std::fmt::Write as _;

use crate::script::check;

#[test]
fn the_oldest_make_room() {
    check(
        "a connect
         a open 1
         a/1 queue dead durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q durable x-max-length=2 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m4 #1
         > a/1 confirmed 1..4
         a/1 queue q durable passive
         > a/1 queue: 2 ready, 0 consumers
         a/1 get dead no-ack
         > a/1 got m1 died maxlen/q*1, 1 more
         a/1 get dead no-ack
         > a/1 got m2 died maxlen/q*1, 0 more
         a/1 get q no-ack
         > a/1 got m3, 1 more
         tick 1
         crash 1
         b connect
         b open 1
         b/1 get q
         > b/1 got m4 again, 0 more
         b/1 get dead
         > b/1 got nothing",
    );
}

#[test]
fn what_is_given_back_to_a_full_queue_makes_room_before_it_is_handed_out() {
    check(
        "a connect
         a open 1
         a/1 queue q x-max-length=1
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c prefetch=2
         > a/1 c consumes
         a/1 publish q m1..m3
         > a/1 c gets m1
         > a/1 c gets m2
         a/1 requeue m1 m2
         > a/1 c gets m3",
    );
}

#[test]
fn what_there_is_no_room_for_dies_of_that_even_if_it_may_not_wait() {
    check(
        "a connect
         a open 1
         a/1 queue dead
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q x-max-length=0 x-message-ttl=0 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         a/1 get dead no-ack
         > a/1 got m1 died maxlen/q*1, 0 more",
    );
}

#[test]
fn what_consumers_take_at_once_makes_no_queue_full() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-max-length=1
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c prefetch=2
         > a/1 c consumes
         a/1 publish q m1..m4 #1
         > a/1 c gets m1
         > a/1 c gets m2
         > a/1 confirmed 1..4
         a/1 ack m1
         > a/1 c gets m4",
    );
}

#[test]
fn bytes_of_bodies_are_counted() {
    check(
        "a connect
         a open 1
         a/1 queue q x-max-length-bytes=5
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m3
         a/1 get q no-ack
         > a/1 got m2, 1 more",
    );
}

#[test]
fn a_full_queue_refuses_publishes() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-max-length=2 x-overflow=reject-publish
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m4 #1
         > a/1 nacked 3..4
         > a/1 confirmed 1..2
         a/1 publish q m5
         a/1 get q no-ack
         > a/1 got m1, 1 more
         a/1 publish q m6 #5
         > a/1 confirmed 5..5
         a/1 get q no-ack
         > a/1 got m2, 1 more
         a/1 get q no-ack
         > a/1 got m6, 0 more",
    );
}

#[test]
fn one_queue_that_refuses_is_enough_for_a_nack() {
    check(
        "a connect
         a open 1
         a/1 exchange x fanout
         > a/1 exchange declared
         a/1 queue q durable x-max-length=0 x-overflow=reject-publish
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue r durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind x q
         > a/1 bound
         a/1 bind x r
         > a/1 bound
         a/1 publish x/k m #1
         > a/1 nacked 1..1
         a/1 get r
         > a/1 got m, 0 more",
    );
}

#[test]
fn a_full_queue_may_pass_on_what_it_refuses() {
    check(
        "a connect
         a open 1
         a/1 queue p durable x-max-length=0 x-overflow=reject-publish-dlx x-dead-letter-exchange= x-dead-letter-routing-key=q
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q durable x-max-length=0 x-overflow=reject-publish-dlx x-dead-letter-exchange= x-dead-letter-routing-key=end
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue end durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish p m #1
         > a/1 nacked 1..1
         a/1 get end
         > a/1 got m died maxlen/q*1 maxlen/p*1, 0 more",
    );
}

/// Full queues that all pass on to all others have more ways than a node could go.
#[test]
fn full_queues_that_pass_on_to_each_other_come_to_rest() {
    let mut lines = String::from(
        "a connect
         a open 1
         a/1 exchange x fanout
         > a/1 exchange declared\n",
    );
    for n in 1..=12 {
        let limits = "x-max-length=0 x-overflow=reject-publish-dlx x-dead-letter-exchange=x";
        writeln!(
            lines,
            "a/1 queue q{n} durable {limits}
             > a/1 queue: 0 ready, 0 consumers
             a/1 bind x q{n}
             > a/1 bound"
        )
        .unwrap();
    }
    lines += "a/1 publish x/k m #1
              > a/1 nacked 1..1";
    check(&lines);
}

#[test]
fn a_message_that_comes_back_too_often_dies() {
    check(
        "a connect
         a open 1
         a/1 queue dead durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q durable x-queue-type=quorum x-delivery-limit=2 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m
         a/1 requeue m
         > a/1 c gets m again 1x
         a/1 requeue m
         > a/1 c gets m again 2x
         a/1 requeue m
         a/1 get dead
         > a/1 got m died delivery_limit/q*1, 0 more",
    );
}

#[test]
fn deliveries_are_counted_through_crashes_and_closed_channels() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-queue-type=quorum x-delivery-limit=2
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m
         a/1 requeue m
         > a/1 c gets m again 1x
         a/1 close
         > a/1 closed
         crash 5
         b connect
         b open 1
         b/1 consume q as c
         > b/1 c consumes
         > b/1 c gets m again 2x
         b/1 close
         > b/1 closed
         b open 1
         b/1 queue q durable passive
         > b/1 queue: 0 ready, 0 consumers",
    );
}

#[test]
fn the_highest_priority_goes_first() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-max-priority=5
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q low1..low2
         a/1 publish q mid1..mid2 priority=3
         a/1 publish q top priority=9
         crash 6
         b connect
         b open 1
         b/1 consume q as c
         > b/1 c consumes
         > b/1 c gets top
         > b/1 c gets mid1
         > b/1 c gets mid2
         > b/1 c gets low1
         > b/1 c gets low2",
    );
}

#[test]
fn a_quorum_queue_lets_two_high_ones_go_before_a_normal_one() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-queue-type=quorum
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q n1..n3 priority=4
         a/1 publish q h1..h4 priority=5
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets h1
         > a/1 c gets h2
         > a/1 c gets n1
         > a/1 c gets h3
         > a/1 c gets h4
         > a/1 c gets n2
         > a/1 c gets n3",
    );
}

#[test]
fn one_consumer_at_a_time_and_the_next_takes_over() {
    check(
        "a connect
         a open 1
         a open 2
         a/1 queue q durable x-single-active-consumer=true
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/2 consume q as d
         > a/2 d consumes
         a/1 publish q m1..m2
         > a/1 c gets m1
         > a/1 c gets m2
         a/1 close
         > a/1 closed
         > a/2 d gets m1 again
         > a/2 d gets m2 again",
    );
}

#[test]
fn what_quorum_queues_do_that_they_do_not_elsewhere() {
    check(
        "a connect
         a open 1
         a open 2
         a open 3
         a open 4
         a/1 queue q durable x-queue-type=quorum x-single-active-consumer=true
         > a/1 queue: 0 ready, 0 consumers
         a/1 get q
         > a/1 Get refused: cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not supported by quorum queues with single active consumer
         a/2 limit 5
         a/2 consume q as c
         > a/2 c consumes
         a/3 delete-queue q if-unused
         > a/3 DeleteQueue refused: queue 'q' in vhost '/' in use
         a/2 close
         > a/2 closed
         a/4 publish q m1
         a/4 delete-queue q if-empty
         > a/4 DeleteQueue refused: queue 'q' in vhost '/' not empty",
    );
}

/// What somebody held counts again after a crash, and so does what had died and was not off the
/// disk: the limit holds before anybody touches the queue.
#[test]
fn a_limit_holds_after_a_crash() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-max-length=2
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1..m5 #1
         > a/1 c gets m1
         > a/1 c gets m2
         > a/1 c gets m3
         > a/1 c gets m4
         > a/1 c gets m5
         > a/1 confirmed 1..5
         crash 1
         b connect
         b open 1
         b/1 queue q durable passive
         > b/1 queue: 2 ready, 0 consumers
         b/1 get q
         > b/1 got m4 again, 1 more",
    );
}

/// Else a queue with a limit could grow without one, as long as its dead letters find no way.
#[test]
fn dead_letters_that_must_not_be_lost_count_for_the_limit() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-queue-type=quorum x-max-length=2 x-overflow=reject-publish x-dead-letter-strategy=at-least-once x-dead-letter-exchange=dlx x-message-ttl=50
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2 #1
         > a/1 confirmed 1..2
         wait-ms 60
         a/1 queue q durable passive
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m3 #3
         > a/1 nacked 3..3
         a/1 exchange dlx fanout durable
         > a/1 exchange declared
         a/1 queue dead durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 bind dlx dead k
         > a/1 bound
         tick 6
         a/1 publish q m4 #4
         > a/1 confirmed 4..4",
    );
}
