//! `redelivered` never lies, across any end of the process (contract C8).

use std::fmt::Write as _;

use crate::script::check;

#[test]
fn what_was_handed_out_is_marked_after_a_crash() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m3
         a/1 consume q as c prefetch=2
         > a/1 c consumes
         > a/1 c gets m1
         > a/1 c gets m2
         a/1 ack m1
         > a/1 c gets m3
         a/1 publish q m4
         crash 1
         b connect
         b open 1
         b/1 queue q durable passive
         > b/1 queue: 3 ready, 0 consumers
         b/1 consume q as d
         > b/1 d consumes
         > b/1 d gets m2 again
         > b/1 d gets m3 again
         > b/1 d gets m4 again",
    );
}

#[test]
fn what_nobody_saw_is_not_marked_after_a_crash() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2 #1
         > a/1 confirmed 1..2
         crash 1
         b connect
         b open 1
         b/1 consume q as d
         > b/1 d consumes
         > b/1 d gets m1
         > b/1 d gets m2",
    );
}

#[test]
fn nothing_is_delivered_before_its_reservation_is_on_disk() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1
         manual
         a/1 consume q as c
         > a/1 c consumes
         write
         > a/1 c gets m1",
    );
}

#[test]
fn an_acked_message_does_not_return_after_a_kill() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1..m3
         > a/1 c gets m1
         > a/1 c gets m2
         > a/1 c gets m3
         a/1 ack m1..m2
         kill
         b connect
         b open 1
         b/1 consume q as c no-ack
         > b/1 c consumes
         > b/1 c gets m3 again
         crash 9
         b connect
         b open 1
         b/1 get q
         > b/1 got nothing",
    );
}

/// One straggler with a long run of settled messages behind it, then a clean stop: what comes
/// after the restart must not wait for a reservation that nobody asks for.
#[test]
fn a_straggler_does_not_stall_the_queue_after_a_restart() {
    let mut lines = String::from(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m2001
         > a proceeds
         a/1 consume q as c
         > a/1 c consumes\n",
    );
    for n in 1..=2001 {
        writeln!(lines, "> a/1 c gets m{n}").unwrap();
    }
    for n in 2..=2001 {
        writeln!(lines, "a/1 ack m{n}").unwrap();
    }
    lines += "stop
         > a shutdown
         a close
         > a closed
         tick 3
         > stopped
         crash 1
         b connect
         b open 1
         b/1 publish q x1 #1
         > b/1 confirmed 1..1
         b/1 consume q as c
         > b/1 c consumes
         > b/1 c gets m1 again
         > b/1 c gets x1";
    check(&lines);
}

/// A passive declaration says no more than what is on disk (contract C5).
#[test]
fn a_passive_exchange_declare_waits_for_the_disk() {
    check(
        "a connect
         a open 1
         b connect
         b open 1
         manual
         a/1 exchange x fanout durable
         b/1 exchange x fanout durable passive
         write
         > a/1 exchange declared
         > b/1 exchange declared",
    );
}

/// Contract C8: a dead letter can be seen before it is on disk. A crash then takes it, but not the
/// message it was made of, and the next one made of that is not fresh: nor are those made of it.
#[test]
fn a_dead_letter_that_a_crash_took_comes_again_as_redelivered() {
    let died_twice = "died rejected/dead*1 rejected/q*1";
    check(&format!(
        "a connect
         a open 1
         a/1 queue last durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue dead durable x-dead-letter-exchange= x-dead-letter-routing-key=last
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q durable x-dead-letter-exchange= x-dead-letter-routing-key=dead
         > a/1 queue: 0 ready, 0 consumers
         a/1 consume last as l
         > a/1 l consumes
         a/1 consume dead as d
         > a/1 d consumes
         a/1 consume q as c
         > a/1 c consumes
         a/1 publish q m1 #1
         > a/1 c gets m1
         > a/1 confirmed 1..1
         manual
         a/1 discard m1
         > a/1 d gets m1 died rejected/q*1
         a/1 discard m1
         > a/1 l gets m1 {died_twice}
         crash 1
         auto
         b connect
         b open 1
         b/1 consume last as l
         > b/1 l consumes
         b/1 consume dead as d
         > b/1 d consumes
         b/1 consume q as c
         > b/1 c consumes
         > b/1 c gets m1 again
         b/1 discard m1
         > b/1 d gets m1 again died rejected/q*1
         b/1 discard m1
         > b/1 l gets m1 again {died_twice}
         b/1 ack m1
         b/1 publish q m2
         > b/1 c gets m2
         b/1 discard m2
         > b/1 d gets m2 died rejected/q*1"
    ));
}

/// That a message came as a redelivered one is kept in its segment, and by the restarts after.
#[test]
fn what_came_as_redelivered_stays_so() {
    check(
        "a connect
         a open 1
         a/1 queue dead durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 queue q durable x-message-ttl=50 x-dead-letter-exchange= x-dead-letter-routing-key=dead
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1 #1
         > a/1 confirmed 1..1
         kill
         wait-ms 50
         kill
         b connect
         b open 1
         b/1 publish dead m2 #1
         > b/1 confirmed 1..1
         b/1 get dead no-ack
         > b/1 got m1 again died expired/q*1, 1 more
         b/1 get dead no-ack
         > b/1 got m2, 0 more",
    );
}
