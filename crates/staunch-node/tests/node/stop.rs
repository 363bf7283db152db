//! A clean stop.

use std::time::Duration;

use staunch_node::Input;
use staunch_types::{ChannelNumber, ConnectionId};

use crate::{
    script::{Script, check, publish},
    world::roomy,
};

#[test]
fn a_clean_stop_marks_only_what_was_handed_out() {
    check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         a/1 publish q m1..m4
         a/1 consume q as c prefetch=2
         > a/1 c consumes
         > a/1 c gets m1
         > a/1 c gets m2
         a/1 ack m1
         > a/1 c gets m3
         stop
         > a shutdown
         a close
         > a closed
         tick 3
         > stopped
         crash 1
         b connect
         b open 1
         b/1 consume q as c
         > b/1 c consumes
         > b/1 c gets m2 again
         > b/1 c gets m3 again
         > b/1 c gets m4",
    );
}

#[test]
fn a_node_without_connections_stops_by_itself() {
    check(
        "stop
         > stopped
         tick 5",
    );
}

#[test]
fn whoever_connects_while_it_stops_is_told() {
    check(
        "a connect
         stop
         > a shutdown
         b connect
         > b shutdown",
    );
}

#[test]
fn a_client_that_does_not_close_cannot_keep_the_node_from_stopping() {
    let mut script = Script::new(roomy());
    script.check(
        "a connect
         a open 1
         a/1 queue q durable
         > a/1 queue: 0 ready, 0 consumers
         stop
         > a shutdown
         manual",
    );
    // It publishes with every write that ends, so that there is always something to write.
    for _ in 0..60 {
        let publish = |channel| publish(channel, "", "q", "m");
        let again = Input::Requests(ConnectionId(1), vec![publish(ChannelNumber(1))]);
        let world = &mut script.world;
        world.node.handle(again, world.now);
        world.now = world.now + Duration::from_millis(200);
        world.give(Input::Tick);
        while world.background() {}
        if let Some(done) = world.writes.pop_front().map(|job| world.run_write(job)) {
            world.node.handle(Input::Written(done), world.now);
        }
        if world.is_stopped {
            return;
        }
    }
    panic!("12 s have passed");
}
