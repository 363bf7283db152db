//! `basic.get`.

use crate::script::check;

#[test]
fn gets_take_the_next_message() {
    check(
        "a connect
         a open 1
         a/1 queue q
         > a/1 queue: 0 ready, 0 consumers
         a/1 get q
         > a/1 got nothing
         a/1 publish q m1..m3
         a/1 get q
         > a/1 got m1, 2 more
         a/1 get q no-ack
         > a/1 got m2, 1 more
         a/1 requeue m1
         a/1 get q
         > a/1 got m1 again, 1 more
         a/1 ack m1
         a/1 get missing
         > a/1 Get refused: no queue 'missing' in vhost '/'",
    );
}

#[test]
fn a_get_reserves_without_waiting_for_a_tick() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 #1
         > a/1 confirmed 1..1
         manual
         a/1 get q
         write
         > a/1 got m1, 0 more",
    );
}

#[test]
fn a_get_that_waits_is_answered_when_its_queue_goes() {
    check(
        "a connect
         a open 1
         b connect
         b open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         manual
         a/1 get q
         b/1 delete-queue q
         > a/1 Get refused: no queue 'q' in vhost '/'
         disk
         > b/1 queue deleted with 1",
    );
}

#[test]
fn a_get_that_waits_is_forgotten_with_its_channel() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         manual
         a/1 get q
         a/1 close
         disk
         > a/1 closed
         a open 1
         disk
         auto
         a/1 get q
         > a/1 got m1, 0 more",
    );
}

#[test]
fn a_channel_keeps_nothing_of_what_it_has_got() {
    // `check_invariants` looks at the keys after every line.
    check(
        "a connect
         a open 1
         a/1 queue q exclusive
         > a/1 queue: 0 ready, 0 consumers
         a/1 get q
         > a/1 got nothing
         a/1 publish q m1..m3
         a/1 get q no-ack
         > a/1 got m1, 2 more
         a/1 get q
         > a/1 got m2, 1 more
         a/1 get q
         > a/1 got m3, 0 more
         a/1 ack m3
         a/1 delete-queue q
         > a/1 queue deleted with 0
         a/1 ack m2
         a/1 queue q exclusive
         > a/1 queue: 0 ready, 0 consumers",
    );
}
