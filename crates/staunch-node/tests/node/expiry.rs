//! Messages and queues whose time is up.

use crate::script::{Script, check};
use crate::world::roomy;

#[test]
fn of_the_queue_s_time_to_live_and_the_message_s_own_the_shorter_counts() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-message-ttl=100
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q long expiration=5000
         a/1 publish q short expiration=40
         wait-ms 40
         a/1 get q no-ack
         > a/1 got long, 0 more
         a/1 publish q m1..m2
         wait-ms 80
         a/1 queue q passive durable
         > a/1 queue: 2 ready, 0 consumers
         wait-ms 20
         a/1 queue q passive durable
         > a/1 queue: 0 ready, 0 consumers",
    );
}

#[test]
fn the_node_wakes_when_a_message_expires() {
    let mut script = Script::new(roomy());
    for line in [
        "a connect",
        "a open 1",
        "a/1 queue q x-message-ttl=300",
        "a/1 publish q m",
    ] {
        script.line(line);
    }
    let now = script.world.now;
    let left = script.world.node.poll_timeout().unwrap().since(now);
    assert!(left.as_millis() == 299 || left.as_millis() == 300);
    script.line("wait-ms 300");
    assert_eq!(script.world.node.poll_timeout(), None);
}

#[test]
fn what_has_a_time_to_live_of_0_is_delivered_at_once_or_never() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-message-ttl=0
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         a/1 get q
         > a/1 got nothing
         a/1 consume q as c prefetch=1
         > a/1 c consumes
         a/1 publish q m2
         > a/1 c gets m2
         a/1 publish q m3 expiration=9
         a/1 ack m2
         a/1 publish q m4
         > a/1 c gets m4",
    );
}

#[test]
fn what_is_given_back_when_its_time_is_up_is_not_delivered_again() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1 expiration=0
         > a/1 c gets m1
         a/1 requeue m1
         a/1 publish q m2 expiration=50
         > a/1 c gets m2
         a/1 requeue m2
         > a/1 c gets m2 again
         b connect
         b open 1
         b/1 consume q as d
         > b/1 d consumes
         wait-ms 60
         a/1 close
         > a/1 closed
         b/1 queue q passive
         > b/1 queue: 0 ready, 1 consumers",
    );
}

#[test]
fn an_expiration_that_is_no_number_is_refused() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m expiration=soon
         > a/1 Publish refused: invalid expiration 'soon': no_integer",
    );
}

#[test]
fn an_exchange_that_is_missing_is_said_before_what_is_wrong_with_the_message() {
    check(
        "a connect
         a open 1
         a/1 publish no/k m expiration=soon
         > a/1 Publish refused: no exchange 'no' in vhost '/'",
    );
}

#[test]
fn time_goes_on_while_the_node_is_down() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-message-ttl=1000
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 expiration=500
         a/1 publish q m2
         wait-ms 600
         crash 4
         b connect
         b open 1
         b/1 get q no-ack
         > b/1 got m2, 0 more
         b/1 publish q m3
         tick 1
         kill
         c connect
         c open 1
         wait-ms 700
         c/1 queue q durable passive
         > c/1 queue: 1 ready, 0 consumers
         wait-ms 100
         c/1 queue q durable passive
         > c/1 queue: 0 ready, 0 consumers",
    );
}

#[test]
fn what_a_consumer_holds_does_not_expire_until_it_comes_back() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-message-ttl=100
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m1
         > a/1 c gets m2
         wait-ms 200
         a/1 requeue m1
         a/1 ack m2
         a/1 queue q passive durable
         > a/1 queue: 0 ready, 1 consumers",
    );
}

#[test]
fn a_queue_nobody_uses_expires() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-expires=1000
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m
         wait-ms 900
         a/1 get q
         > a/1 got m, 0 more
         a/1 requeue m
         wait-ms 900
         a/1 queue q durable passive
         > a/1 queue: 1 ready, 0 consumers
         wait-ms 900
         a/1 consume q as c
         > a/1 c consumes
         > a/1 c gets m again
         wait-ms 5000
         a/1 cancel c
         > a/1 c cancelled
         wait-ms 990
         a/1 ack m
         wait-ms 10
         a/1 queue q durable passive
         > a/1 DeclareQueue refused: no queue 'q' in vhost '/'",
    );
}

#[test]
fn a_queue_s_time_begins_again_with_the_node() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-expires=1000
         > a/1 queue: 0 ready, 0 consumers
         wait-ms 900
         crash 2
         b connect
         b open 1
         wait-ms 900
         b/1 get q
         > b/1 got nothing
         wait-ms 1000
         crash 3
         c connect
         c open 1
         c/1 get q
         > c/1 Get refused: no queue 'q' in vhost '/'",
    );
}

#[test]
fn a_declaration_is_no_use_to_a_quorum_queue() {
    check(
        "a connect
         a open 1
         a/1 queue q durable x-queue-type=quorum x-expires=1000
         > a/1 queue: 0 ready, 0 consumers
         wait-ms 900
         a/1 queue q durable passive
         > a/1 queue: 0 ready, 0 consumers
         wait-ms 100
         a/1 queue q durable passive
         > a/1 DeclareQueue refused: no queue 'q' in vhost '/'",
    );
}
